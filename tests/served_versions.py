"""Which versions of a model a server has loaded, and which one a request is for.

The rules are those that TF Serving publishes (server_core.cc, availability_preserving_policy.cc,
file_system_storage_path_source.cc, saved_model_warmup.cc), written anew for one model, with one
attempt to load a version where TF Serving makes six, a minute apart. The loading is TensorFlow's
own.
"""

import pathlib
import threading
import time

import tensorflow as tf  # for its protocol buffers and files
from c_loader import CModel
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

POLL = 0.1  # seconds between two looks at the settings and at the folder
AVAILABLE, LOADING, END = "AVAILABLE", "LOADING", "END"


class Refused(Exception):
    """A request that names what is not there: gRPC's code for it, and what the server says."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def run(model, request):
    """The outputs of a model for a PredictRequest.

    Raises:
        KeyError, ValueError: if it is refused.
    """
    (value,) = (tf.make_ndarray(each) for each in request.inputs.values())
    value = list(value) if value.dtype == object else value
    return model.run(request.model_spec.signature_name, value)


def warm_up(model, folder):
    """Runs the requests that lie beside a model. If one fails, the version does not load."""
    requests = folder / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(requests)).as_numpy_iterator():
        run(model, prediction_log_pb2.PredictionLog.FromString(record).predict_log.request)


class ServedVersions:
    """The loaded versions of a model.

    Args:
        config: the file models.config, which is read again and again.
        folder: the folder of versions that stands for its `base_path`.
    """

    def __init__(self, config, folder):
        self._file, self._folder = pathlib.Path(config), pathlib.Path(folder)
        self._policy = None
        self.name = None
        self.labels = {}
        self._loaded = {}  # replaced and never changed, so that requests need no lock
        self.status = {}  # of each version: its state, and why it did not load
        self._look()
        threading.Thread(target=self._keep_looking, daemon=True).start()

    def find(self, name, version=None, label=None):
        """Returns the number of the version that a request is for, and the version.

        Raises:
            Refused: if it is not there.
        """
        loaded = self._loaded
        if name != self.name:
            raise Refused("NOT_FOUND", f"Servable not found for request: Latest({name})")
        if label is not None:
            if label not in self.labels:
                raise Refused("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = self.labels[label]
        if version is None and loaded:
            version = max(loaded)  # the newest that is loaded, whatever the labels say
        if version not in loaded:
            raise Refused(
                "NOT_FOUND", f"Servable not found for request: Specific({name}, {version})"
            )
        return version, loaded[version]

    def _keep_looking(self):
        while True:
            time.sleep(POLL)
            self._look()

    def _look(self):
        self._read_settings()
        there = {int(path.name) for path in self._folder.iterdir() if path.name.isdecimal()}
        wanted = self._wanted(there)
        for version in sorted(wanted - set(self.status), reverse=True):
            self._load(version)
        for version in [v for v, (state, _) in self.status.items() if state == END]:
            if version not in wanted:
                del self.status[version]  # so that it is tried when it is wanted again
        if not wanted or wanted & set(self._loaded):  # or the old one goes on answering
            for version in set(self._loaded) - wanted:
                self._loaded = {v: x for v, x in self._loaded.items() if v != version}
                del self.status[version]

    def _read_settings(self):
        try:
            settings = text_format.Parse(
                self._file.read_text(), model_server_config_pb2.ModelServerConfig()
            )
            (model,) = settings.model_config_list.config
        except (text_format.ParseError, ValueError):
            return  # it is being written
        for label, version in model.version_labels.items():
            # As with --allow_version_labels_for_unavailable_models: a label that is in use moves to
            # a version that is loaded, or all of the file is refused.
            if self.labels.get(label, version) != version and version not in self._loaded:
                return
        self.name, self.labels = model.name, dict(model.version_labels)
        self._policy = model.model_version_policy

    def _wanted(self, there):
        if self._policy.HasField("specific"):
            return there & set(self._policy.specific.versions)
        if self._policy.HasField("all"):
            return there
        newest = max(self._policy.latest.num_versions, 1)
        return set(sorted(there)[-newest:])

    def _load(self, version):
        self.status[version] = LOADING, ""
        try:
            model = CModel(self._folder / str(version))
            warm_up(model, self._folder / str(version))
        except ValueError as error:
            self.status[version] = END, str(error)
        else:
            self._loaded = {**self._loaded, version: model}
            self.status[version] = AVAILABLE, ""
