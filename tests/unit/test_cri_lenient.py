"""What is not UTF-8: variables reach the runtime byte for byte; what a runtime says can be read."""

from __future__ import annotations

import base64
from concurrent import futures
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from cri_api.v1 import api_pb2 as old
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from labkit.cri import CriClient, lenient, services
from labkit.cri.client import build_request
from labkit.cri.text import to_dict
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import NodeImage
from labkit.kubelet.volumes.objects import Objects
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo, container_config
from labkit.recording.calls.log import CallLog, recorded
from tests.unit.kubelet_pods import container, pod

BINARY = b"\xfe\xf8"
SECRETS = {"s": {"key": BINARY, "text": "日本".encode()}}
FROM_KEY = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}


def config(*env: dict[str, Any], **fields: Any) -> Any:
    return container_config(pod(container(env=list(env), **fields)), "app", secrets=SECRETS, machine=MachineInfo(1 << 30, 2))


def test_a_binary_variable_is_on_the_wire_as_it_is() -> None:
    made = config(FROM_KEY, {"name": "B", "value": "<$(A)>"}, envFrom=[{"secretRef": {"name": "s"}, "prefix": "P_"}])
    assert lenient.variables_of(made)["B"] == b"<\xfe\xf8>".decode(errors="surrogateescape")
    wire = made.SerializeToString()
    for value in (b"\x0a\x01A\x12\x02" + BINARY, b"\x12\x04<" + BINARY + b">", b"P_key\x12\x02" + BINARY, "日本".encode()):
        assert value in wire
    again = pb.ContainerConfig.FromString(wire)
    assert {variable.key: variable.value for variable in again.envs}["A"] == BINARY
    with pytest.raises(DecodeError):  # an older release of the contract, in which the value is a string
        old.ContainerConfig.FromString(wire)


def test_a_value_is_taken_in_each_form_that_a_caller_may_have() -> None:
    """A str for bytes, as the contract had it before; messages of other stubs; mappings and lists of them."""
    create = next(rpc for rpc in services() if rpc.rpc == "CreateContainer")
    wanted = pb.ContainerConfig(metadata={"name": "app"}, envs=[{"key": "A", "value": b"\xc3\xa9"}], labels={"a": "b"})
    forms: list[Any] = [
        wanted,
        {"metadata": {"name": "app"}, "envs": [{"key": "A", "value": "é"}], "labels": {"a": "b"}},
        {"metadata": old.ContainerMetadata(name="app"), "envs": (old.KeyValue(key="A", value="é"),), "labels": {"a": "b"}},
        old.ContainerConfig(metadata={"name": "app"}, envs=[{"key": "A", "value": "é"}], labels={"a": "b"}),
    ]
    for form in forms:
        assert build_request(create, None, {"config": form}) == pb.CreateContainerRequest(config=wanted)
    whole = old.CreateContainerRequest(config=forms[-1])
    assert build_request(create, whole, {}) == pb.CreateContainerRequest(config=wanted)
    with pytest.raises(TypeError, match="create_container"):
        build_request(create, None, {"config": {"envs": [{"key": "A", "value": 5}]}})


@pytest.mark.parametrize("fields", [{"command": ["$(A)"]}, {"args": ["x$(A)"]}])
def test_where_cri_takes_text_only_it_is_said(fields: dict[str, Any]) -> None:
    with pytest.raises(CreateContainerConfigError, match="is not UTF-8 once its variables are filled in"):
        config(FROM_KEY, **fields)


def test_the_kubelet_configures_a_container_with_binary_variables_and_sub_paths(tmp_path: Path) -> None:
    objects = {
        "/api/v1/namespaces/default/secrets/s": {"kind": "Secret", "data": {"key": base64.b64encode(BINARY).decode()}},
        "/api/v1/namespaces/default/configmaps/c": {"kind": "ConfigMap", "data": {"k": "v"}, "binaryData": {"b": "/v9h"}},
    }
    api: Any = SimpleNamespace(get=objects.__getitem__)
    here = MachineInfo(1 << 30, 2)
    volumes = Volumes(tmp_path, Objects(api), api, here, ())
    configuration = Configuration(tmp_path, tmp_path / "logs", "", "10.0.0.1", here, volumes.objects, volumes)
    both = [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]
    manifest = pod(container(envFrom=both, env=[FROM_KEY]))
    made = configuration.container(manifest, manifest["spec"]["containers"][0], 0, NodeImage("ref", 0), [])
    assert lenient.variables_of(made) == {"key": "\udcfe\udcf8", "k": "v", "A": "\udcfe\udcf8"}  # of a ConfigMap the text alone


@given(st.dictionaries(st.text(min_size=1).filter(str.isprintable), st.binary()))
def test_any_bytes_come_back(values: dict[str, bytes]) -> None:
    variables = {key: value.decode(errors="surrogateescape") for key, value in values.items()}
    create = next(rpc for rpc in services() if rpc.rpc == "CreateContainer")
    given = {"envs": [{"key": key, "value": value} for key, value in variables.items()]}
    made: Any = build_request(create, None, {"config": given})
    assert lenient.variables_of(pb.ContainerConfig.FromString(made.config.SerializeToString())) == variables


@given(st.binary(max_size=40))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        message = lenient.parse(pb.ListPodSandboxResponse, data)
    except DecodeError:
        return
    assert pb.ListPodSandboxResponse.FromString(message.SerializeToString()) == message


class Runtime(grpc.GenericRpcHandler):
    """Answers as one written in Go: whatever bytes there are go into strings."""

    def __init__(self) -> None:
        self.got = b""

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        box = pb.PodSandbox(id="b", labels={"LABEL": "LABEL"}, runtime_handler="LABEL").SerializeToString()
        answers = {
            "Version": pb.VersionResponse(version="0.1.0").SerializeToString(),
            "ListPodSandbox": pb.ListPodSandboxResponse(items=[pb.PodSandbox.FromString(box)]).SerializeToString(),
            "CreateContainer": pb.CreateContainerResponse(container_id="c").SerializeToString(),
            "ExecSync": pb.ExecSyncResponse(stdout=b"\xff\xfe").SerializeToString(),
        }

        def answer(request: bytes, context: Any) -> bytes:
            self.got = request
            return answers[method].replace(b"LABEL", b"\xffABEL")

        return grpc.unary_unary_rpc_method_handler(answer)


def test_a_runtime_of_any_bytes_is_spoken_with(tmp_path: Path) -> None:
    runtime, path = Runtime(), f"unix://{tmp_path}/s"
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(runtime,))
    server.add_insecure_port(path)
    server.start()
    log = CallLog()
    with CriClient(path) as cri, recorded(cri, log):
        (box,) = cri.list_pod_sandbox().items
        assert box.labels == {"\ufffdABEL": "\ufffdABEL"} and box.runtime_handler == "\ufffdABEL"
        assert cri.exec_sync(container_id="c", cmd=["x"]).stdout == b"\xff\xfe"
        sandbox = pb.PodSandboxConfig(hostname="web")
        assert cri.create_container(pod_sandbox_id="b", config=config(FROM_KEY), sandbox_config=sandbox).container_id == "c"
        assert BINARY in runtime.got and b"web" in runtime.got
    server.stop(None)
    (request,) = [record.request for record in log.records() if record.method == "CreateContainer"]
    assert to_dict(request)["config"]["envs"] == [{"key": "A", "value": "\ufffd\ufffd"}]  # type: ignore[arg-type]
