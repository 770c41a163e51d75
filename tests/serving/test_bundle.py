"""The files of `serving/`: each is what its program reads, and they fit together."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import promql_parser
import pytest
import tensorflow
import yaml
from conftest import ROOT, free_ports
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from rest_stand_in import sending
from tensorflow_serving.config import model_server_config_pb2

from sit_keras.serving import limits

BUNDLE = ROOT / "serving"
KUBERNETES = "1.33"
SERVING_FLAGS = {
    "port", "rest_api_port", "model_config_file", "model_config_file_poll_wait_seconds",
    "allow_version_labels_for_unavailable_models", "enable_batching", "batching_parameters_file",
    "monitoring_config_file",
}  # fmt: skip


def text(name):
    return (BUNDLE / name).read_text("utf-8")


def read_yaml(name):
    (found,) = yaml.safe_load_all(text(name))
    return found


def messages(package, **fields_of):
    """Messages of TF Serving that its package of messages lacks, with the numbers of its .proto."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
    file.syntax = "proto3"
    file.dependency.append("google/protobuf/wrappers.proto")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in fields_of.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if "." in kind:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind}")
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in fields_of
    }


NUMBER, TEXT = "google.protobuf.Int64Value", "google.protobuf.StringValue"
MESSAGES = messages(
    "serving_bundle",
    BatchingParameters={
        "max_batch_size": NUMBER,
        "batch_timeout_micros": NUMBER,
        "max_enqueued_batches": NUMBER,
        "num_batch_threads": NUMBER,
        "thread_pool_name": TEXT,
    },
    PrometheusConfig={"enable": "BOOL", "path": "STRING"},
    MonitoringConfig={"prometheus_config": "serving_bundle.PrometheusConfig"},
)


def batching():
    return text_format.Parse(text("batching.config"), MESSAGES["BatchingParameters"]())


def compose():
    return read_yaml("compose.yml")["services"]["serving"]


def kubernetes():
    found = {each["kind"]: each for each in yaml.safe_load_all(text("kubernetes.yaml"))}
    (container,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found, container


def flags(arguments):
    return dict(each.removeprefix("--").split("=", 1) for each in arguments)


def test_every_label_is_of_a_version_that_is_loaded():
    config = text_format.Parse(text("models.config"), model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("sit", "/models/sit")
    assert set(model.version_labels) == {"stable", "canary"}
    assert set(model.version_labels.values()) <= set(model.model_version_policy.specific.versions)


def test_a_batch_stays_within_what_the_model_takes():
    assert 8 <= batching().max_batch_size.value <= limits.MAX_IMAGES
    assert batching().num_batch_threads.value == float(
        compose()["deploy"]["resources"]["limits"]["cpus"]
    )


def test_metrics_are_asked_for_where_they_are():
    config = text_format.Parse(text("monitoring.config"), MESSAGES["MonitoringConfig"]())
    path = config.prometheus_config.path
    (job,) = read_yaml("monitoring/prometheus.yml")["scrape_configs"]
    annotations = kubernetes()[0]["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert config.prometheus_config.enable
    assert path == job["metrics_path"] == annotations["prometheus.io/path"]


@pytest.mark.parametrize("where", ["compose", "kubernetes"])
def test_the_server_is_told_of_the_files_that_it_is_given(where):
    service, container = compose(), kubernetes()[1]
    told = flags(service["command"] if where == "compose" else container["args"])
    assert set(told) <= SERVING_FLAGS
    assert told["allow_version_labels_for_unavailable_models"] == "true"  # or it does not start
    assert (told["port"], told["rest_api_port"]) == ("8500", "8501")
    generated = read_yaml("kustomization.yaml")["configMapGenerator"][0]["files"]
    for name, value in told.items():
        if name.endswith("_file"):
            file = value.removeprefix("/config/")
            assert (BUNDLE / file).is_file() and file in generated


def test_compose_is_valid_and_serves_this_machine_alone():
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*check, BUNDLE / "compose.yml"], check=True, capture_output=True)
    service = compose()
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+\$\{SERVING_DIGEST:-\}", service["image"])
    assert all(port.startswith("${SERVING_ADDRESS:-127.0.0.1}:") for port in service["ports"])
    assert service["restart"] == "unless-stopped"
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    models, config = service["volumes"]
    assert models.startswith("${MODEL:?") and models.endswith(":/models/sit:ro")
    assert config == ".:/config:ro"  # a file alone would stay the one that an editor replaced
    assert service["healthcheck"]["test"] == ["CMD", "bash", "/config/health.sh"]


def test_the_manifests_of_kubernetes_are_valid():
    found, container = kubernetes()
    for manifest in found.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    deployment = found["Deployment"]["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert container["readinessProbe"]["exec"]["command"] == ["bash", "/config/health.sh"]
    assert container["resources"]["limits"]["cpu"] == str(batching().num_batch_threads.value)
    assert "type" not in found["Service"]["spec"]  # ClusterIP
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        found["Service"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    volumes = {each["name"] for each in deployment["template"]["spec"]["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == volumes


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_the_files_and_the_tag_into_the_manifests():
    command = ["kubectl", "kustomize", BUNDLE]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {each["kind"]: each for each in yaml.safe_load_all(built)}
    for manifest in found.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (config,) = (each["configMap"] for each in pod["volumes"] if "configMap" in each)
    assert config["name"] == found["ConfigMap"]["metadata"]["name"] != "sit-config"
    assert found["ConfigMap"]["data"]["models.config"] == text("models.config")
    assert ":" in pod["containers"][0]["image"]


def test_all_servers_are_of_the_tensorflow_that_was_tried():
    (image,) = read_yaml("kustomization.yaml")["images"]
    tag = image["newTag"]
    predictor = read_yaml("kserve.yaml")["spec"]["predictor"]["model"]
    assert compose()["image"].startswith(f"tensorflow/serving:{tag}$")
    assert (image["name"], predictor["runtimeVersion"]) == ("tensorflow/serving", tag)
    assert kubernetes()[1]["image"] == "tensorflow/serving"
    assert f"tensorflow=={tag}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_kserve_is_asked_for_tensorflow_without_batches_that_are_too_large():
    manifest = read_yaml("kserve.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == (
        "serving.kserve.io/v1beta1", "InferenceService",
    )  # fmt: skip
    model = manifest["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": "tensorflow"}
    assert model["storageUri"].startswith("pvc://sit-exports/")
    assert "args" not in model
    assert manifest["metadata"]["name"] == "sit"  # under which KServe serves it


def listed_metrics():
    """The metrics of the README's table, with their labels."""
    rows = re.findall(r"^\| `([\w:]+)` \| (.*?) \|", text("README.md"), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def expressions():
    """Every expression in PromQL, of the alerts and of the dashboard."""
    (group,) = read_yaml("monitoring/alerts.yml")["groups"]
    found = {rule["alert"]: rule["expr"] for rule in group["rules"]}
    for panel in json.loads(text("monitoring/dashboard.json"))["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "1m")
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


@pytest.mark.parametrize("expression", expressions().values(), ids=expressions())
def test_an_expression_is_promql_over_metrics_and_labels_that_are_listed(expression):
    parsed = str(promql_parser.parse(expression))
    known = listed_metrics()
    selectors = re.findall(r"((?:up|:tensorflow[\w:]*))(?:\{(.*?)\})?", parsed)
    assert selectors
    labels = set(re.findall(r"by \((.*?)\)", parsed))
    grouped = {label.strip() for each in labels for label in each.split(",")}
    allowed = {"instance", "job", "le"}
    for metric, matchers in selectors:
        name = re.sub(r"_(bucket|sum|count)$", "", metric)
        name = metric if metric in known else name
        assert name in known, name
        allowed |= known[name]
        assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= known[name] | {"instance"}
    assert grouped <= allowed


def test_what_prometheus_keeps_is_what_is_listed():
    (job,) = read_yaml("monitoring/prometheus.yml")["scrape_configs"]
    (rule,) = job["metric_relabel_configs"]
    assert rule["action"] == "keep"
    for name in listed_metrics():
        assert name == "up" or re.fullmatch(rule["regex"], name)
    assert not re.fullmatch(rule["regex"], ":tensorflow:core:graph_runs")
    assert read_yaml("monitoring/prometheus.yml")["rule_files"] == ["alerts.yml"]


def test_the_metric_of_loads_is_one_of_tensorflow():
    library = pathlib.Path(tensorflow.__file__).parent / "libtensorflow_framework.so.2"
    names = [name for name in listed_metrics() if name.startswith(":tensorflow:cc:")]
    content = library.read_bytes()
    assert names and all(name.replace(":", "/").encode() in content for name in names)


STATES = {
    "loading": ('"state": "LOADING"', 1),
    "failed": ('"state": "END", "status": {"error_code": "UNAVAILABLE"}', 1),
    "answering": ('"state": "AVAILABLE"', 0),
}


@pytest.mark.parametrize("state", STATES)
def test_the_health_check_waits_for_a_version_that_is_available(state):
    body, expected = STATES[state]
    reply = f'HTTP/1.1 200 OK\r\n\r\n{{"model_version_status": [{{{body}}}]}}'
    with sending(reply.encode()) as address:
        assert health(address.split(":")[1]) == expected


def test_a_server_that_is_not_there_is_not_healthy():
    assert health(free_ports(1)[0]) != 0


def health(port):
    command = ["bash", BUNDLE / "health.sh"]
    environment = {"PATH": "/usr/bin:/bin", "PORT": str(port)}
    return subprocess.run(command, env=environment, capture_output=True, timeout=30).returncode
