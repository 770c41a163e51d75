"""What TF Serving's clients see of it, on the C++ loader it uses: gRPC and REST on the loopback.

Usage: python serving_stand_in.py MODELS_CONFIG FOLDER, with the folder of the versions. It prints
the ports for gRPC and REST. It shows the artefact, the messages, and the rules of versions and
labels; not the server's batching or its metrics.
"""

import base64
import concurrent.futures
import http.server
import json
import re
import sys
import urllib.parse

import grpc
import numpy as np
import tensorflow as tf  # for its protocol buffers
from served_versions import Refused, ServedVersions, run
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(:predict)?")
STATUS = {"NOT_FOUND": 404, "INVALID_ARGUMENT": 400}


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, versions):
        self.versions = versions

    def Predict(self, request, context):
        asked = request.model_spec
        number = asked.version.value if asked.HasField("version") else None
        try:
            version, model = self.versions.find(asked.name, number, asked.version_label or None)
        except Refused as error:
            context.abort(getattr(grpc.StatusCode, error.code), str(error))
        try:
            outputs = run(model, request)
        except (KeyError, ValueError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.version.value = asked.name, version
        for name, array in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return response


class RestServer(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, versions):
        self.versions = versions
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = PATH.fullmatch(self.path)
        if path is None or path[1] != self.server.versions.name:
            return self._answer(404, {"error": "Could not find any versions of model"})
        states = [
            {
                "version": str(version),
                "state": state,
                "status": {"error_code": "UNKNOWN" if error else "OK", "error_message": error},
            }
            for version, (state, error) in self.server.versions.status.copy().items()
        ]
        return self._answer(200, {"model_version_status": states})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = PATH.fullmatch(self.path)
        if path is None:
            return self._answer(404, {"error": "Malformed request"})
        name, version, label = (part and urllib.parse.unquote(part) for part in path.groups()[:3])
        try:
            _, model = self.server.versions.find(name, version and int(version), label)
        except Refused as error:
            return self._answer(STATUS[error.code], {"error": str(error)})
        asked = json.loads(body)
        (value,) = asked["inputs"].values()
        if isinstance(value[0], dict):
            value = [base64.b64decode(each["b64"]) for each in value]
        try:
            outputs = model.run(asked["signature_name"], value)
        except (KeyError, ValueError) as error:
            return self._answer(400, {"error": str(error)})
        lists = {name: np.asarray(array).tolist() for name, array in outputs.items()}
        return self._answer(200, {"outputs": lists})

    def _answer(self, code, values):
        body = json.dumps(values, indent=1).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main(config, folder):
    versions = ServedVersions(config, folder)
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(8),
        options=[("grpc.max_receive_message_length", 1 << 28)],
    )
    service = Predictions(versions)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    rest = RestServer(versions)
    print("serving", grpc_port, rest.server_port, flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
