"""docs/how_to/roll_back.md, step by step: which version answers, while requests go on."""

import contextlib
import itertools
import json
import re
import shlex
import shutil
import threading
import time
import urllib.request

import numpy as np
import pytest
from conftest import ROOT
from google.protobuf import text_format
from PIL import Image
from serving_case import build_backbone
from stand_in_process import stand_in
from tensorflow_serving.config import model_server_config_pb2

from sit_keras.cli.main import call
from sit_keras.serving.by_grpc import predict_grpc
from sit_keras.serving.by_rest import predict_rest
from sit_keras.serving.contract import Parts, keras_outputs
from sit_keras.serving.export import export
from sit_keras.serving.replies import WrongServer

PAGE = (ROOT / "docs" / "how_to" / "roll_back.md").read_text("utf-8")
SETTINGS = (ROOT / "serving" / "models.config").read_text("utf-8")
# Which version the page means, by the file that its command writes.
ANSWERS = {"before.npz": 1, "canary.npz": 2, "after.npz": 2, "still.npz": 2, "back.npz": 1}
LONGEST = 180.0  # seconds in which a step must have its effect


def steps():
    """The steps of the page: lines for models.config, none at first, and commands of the client."""
    found = [("", [])]
    for lines, commands in re.findall(
        r"((?:^    [^\n]*\n)+)|^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
    ):
        if lines:
            found.append((lines, []))
        found[-1][1].extend(re.findall(r"^sit-keras client .*$", commands, re.MULTILINE))
    return found


@pytest.fixture(scope="module")
def two_versions(exported, tmp_path_factory):
    """A folder of two versions, and the encoder of the second."""
    folder = tmp_path_factory.mktemp("two") / "versions"
    shutil.copytree(exported, folder / "1")
    encoder = build_backbone()
    encoder.save(folder.parent / "encoder.keras")
    assert export(folder.parent / "encoder.keras", folder, check=False).name == "2"
    return folder, encoder


class Server:
    """The stand-in on a copy of the versions, with settings that can be changed."""

    def __init__(self, folder, config, addresses, embeddings):
        self.folder, self.config = folder, config
        self.grpc, self.rest = addresses
        self._embeddings = embeddings

    def set(self, lines):
        changed, count = re.subn(
            r"( *model_version_policy.*\n)( *version_labels.*\n)*", lines, SETTINGS
        )
        assert count == 1
        aside = self.config.with_suffix(".new")
        aside.write_text(changed)
        aside.replace(self.config)

    def states(self):
        with urllib.request.urlopen(f"http://{self.rest}/v1/models/sit") as response:
            found = json.load(response)["model_version_status"]
        return {int(each["version"]): each["state"] for each in found}

    def wait_for(self, **states):
        expected = {int(version.strip("v")): state for version, state in states.items()}
        until(lambda: expected.items() <= self.states().items())

    def version_of(self, embedding):
        """The version that gives this embedding of the first picture, or of several."""
        fits = [
            version
            for version, known in self._embeddings.items()
            if np.allclose(embedding, known[: len(embedding)], atol=1e-5)
        ]
        return fits[0] if len(fits) == 1 else None

    def ask(self, file, by_grpc=False, label=None):
        predict, address = (predict_grpc, self.grpc) if by_grpc else (predict_rest, self.rest)
        outputs = predict(address, "sit", "serving_bytes", [file], label=label)
        return self.version_of(outputs["embedding"])


def until(condition):
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.fixture
def server(two_versions, expected_outputs, unit_pictures, tmp_path):
    folder, encoder = two_versions
    shutil.copytree(folder, tmp_path / "versions")
    config = tmp_path / "models.config"
    config.write_text(SETTINGS)
    second = keras_outputs(Parts(encoder, None, (), None, {}), unit_pictures)
    embeddings = {
        1: expected_outputs["serving_default"]["embedding"],
        2: second["serving_default"]["embedding"],
    }
    with stand_in(config, tmp_path / "versions") as (_, *addresses):
        yield Server(tmp_path / "versions", config, addresses, embeddings)


@contextlib.contextmanager
def requests_all_the_time(server, file, labels):
    """Clients that ask again and again. Yields the versions that answer, by protocol and label."""
    stop = threading.Event()
    answers = {(by_grpc, label): [] for by_grpc in (False, True) for label in labels}

    def ask(by_grpc, label):
        while not stop.is_set():
            try:
                answer = server.ask(file, by_grpc, label)
            except OSError as error:
                answer = str(error)
            answers[by_grpc, label].append(answer)

    threads = [threading.Thread(target=ask, args=client) for client in answers]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_each_step_gives_labels_to_versions_that_are_loaded_except_for_the_refused_one():
    loaded, labels, refused = {1}, {"stable": 1, "canary": 1}, 0
    for lines, _ in steps()[1:]:
        config = text_format.Parse(lines, model_server_config_pb2.ModelConfig())
        asked = dict(config.version_labels)
        if 3 in asked.values():
            refused += 1
            continue
        assert {asked[name] for name in asked if asked[name] != labels[name]} <= loaded
        loaded, labels = set(config.model_version_policy.specific.versions), asked
        assert set(labels.values()) <= loaded
    assert refused == 1 and labels == {"stable": 1, "canary": 2}


def changes(answers):
    return [version for version, _ in itertools.groupby(answers)]


def broken(folder, version, whole):
    """A copy of a version that broke off, under its number at once."""
    shutil.copytree(whole, folder / "copy")
    model = folder / "copy" / "saved_model.pb"
    model.write_bytes(model.read_bytes()[: model.stat().st_size // 2])
    (folder / "copy").rename(folder / str(version))


@pytest.mark.slow
def test_the_page_rolls_out_and_back_and_no_request_fails(
    server, pictures, picture_files, tmp_path, monkeypatch, capsys
):
    (tmp_path / "my" / "photos").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(pictures[i]).save(tmp_path / "my" / "photos" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    saved, before = {}, {}
    with requests_all_the_time(server, picture_files[0], ("stable", "canary", None)) as answers:
        for lines, commands in steps():
            labels = {name: int(n) for name, n in re.findall(r'key: "(\w+)" value: (\d)', lines)}
            if "versions: 3" in lines and 3 not in server.states():
                broken(server.folder, 3, server.folder / "2")
            if lines:
                server.set(lines)
            if labels.get("canary") == 3:  # is refused, so that nothing changes
                time.sleep(1.5)
                labels = before
            for version in re.findall(r"versions: (\d)", lines):
                state = "END" if version == "3" else "AVAILABLE"
                server.wait_for(**{f"v{version}": state})
            for label, version in labels.items():
                until(lambda: server.ask(picture_files[0], label=label) == version)  # noqa: B023
            for command in commands:
                verb, *arguments = shlex.split(command)[1:]
                call(verb, [*arguments, f"--server={server.rest}"])
                name = arguments[-1].removeprefix("--output=")
                with np.load(name) as file:
                    saved[name] = server.version_of(file["embedding"])
            before = labels
    assert saved == ANSWERS
    for (_, label), versions in answers.items():
        assert changes(versions) == {"stable": [1, 2, 1], "canary": [1, 2], None: [1, 2]}[label]
        assert len(versions) > 20
    for by_grpc in (False, True):
        with pytest.raises(WrongServer, match="version label: next.*check --label"):
            server.ask(picture_files[0], by_grpc, label="next")


def cut_variables(version):
    data = next((version / "variables").glob("*.data-*"))
    data.write_bytes(data.read_bytes()[:-1000])


BREAKS = {
    "the model is cut off": lambda version: cut(version / "saved_model.pb"),
    "the model is empty": lambda version: (version / "saved_model.pb").write_bytes(b""),
    "the model is missing": lambda version: (version / "saved_model.pb").unlink(),
    "the variables are cut off": cut_variables,
    "the variables are missing": lambda version: shutil.rmtree(version / "variables"),
}


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.slow
def test_the_newest_version_is_served_unless_it_does_not_load(server, picture_files):
    server.wait_for(v1="AVAILABLE")
    with requests_all_the_time(server, picture_files[0], (None,)) as answers:
        server.set("    model_version_policy { latest { num_versions: 1 } }\n")
        until(lambda: server.states() == {2: "AVAILABLE"})
        for number, spoil in enumerate(BREAKS.values(), 3):
            shutil.copytree(server.folder / "1", server.folder / "copy")
            spoil(server.folder / "copy")
            (server.folder / "copy").rename(server.folder / str(number))
            until(lambda: server.states().get(number) == "END")  # noqa: B023
            assert server.states()[2] == "AVAILABLE"
        shutil.copytree(server.folder / "1", server.folder / "copy")
        (server.folder / "copy").rename(server.folder / "9")
        until(lambda: server.states() == {9: "AVAILABLE"})
        until(lambda: server.ask(picture_files[0]) == 1)
    for versions in answers.values():
        assert changes(versions) == [1, 2, 1]
