"""What TF Serving's clients see of it, on the C++ loader it uses: gRPC and REST on the loopback.

Usage: python serving_stand_in.py VERSION GRPC_PORT REST_PORT. It shows the artefact and the
messages, not the server's batching, its change of versions or its warm-up.
"""

import base64
import concurrent.futures
import http.server
import json
import sys

import grpc
import numpy as np
import tensorflow as tf  # for its protocol buffers
from c_loader import CModel
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, model):
        self.model = model

    def Predict(self, request, context):
        (value,) = (tf.make_ndarray(each) for each in request.inputs.values())
        value = list(value) if value.dtype == object else value
        try:
            outputs = self.model.run(request.model_spec.signature_name, value)
        except (KeyError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


def rest_handler(model):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            (value,) = asked["inputs"].values()
            if isinstance(value[0], dict):
                value = [base64.b64decode(each["b64"]) for each in value]
            try:
                outputs = model.run(asked["signature_name"], value)
            except (KeyError, ValueError) as error:
                self._answer(400, {"error": str(error)})
            else:
                self._answer(
                    200, {"outputs": {n: np.asarray(x).tolist() for n, x in outputs.items()}}
                )

        def _answer(self, code, values):
            body = json.dumps(values).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


def main(version, grpc_port, rest_port):
    model = CModel(version)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(2),
        options=[("grpc.max_receive_message_length", 1 << 28)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(model), server)
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", int(rest_port)), rest_handler(model))
    print("serving", flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
