"""The contract of today against runtimes of today and of yesterday, over real gRPC: every RPC, and what an old one lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from cri_api.v1 import api_pb2 as old
from cri_api.v1 import api_pb2_grpc as old_grpc

from labkit.cri import CriClient, CriError, answered_rpcs, services
from labkit.cri.text import to_dict
from labkit.cri.v1 import api_pb2 as pb
from labkit.node.observe.proxy import RecordingProxy
from labkit.recording.calls.log import CallLog

NEW = {
    "StreamPodSandboxes", "StreamContainers", "StreamContainerStats", "StreamPodSandboxStats", "StreamPodSandboxMetrics",
    "StreamImages",
}


class Today(grpc.GenericRpcHandler):
    """A server of every RPC of the contract: answers empty messages, two in each stream, and keeps the requests' bytes."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.requests: dict[str, bytes] = {}
        self.answers: dict[str, Any] = {}

    def service(self, details: Any) -> Any:
        service, _, method = details.method.removeprefix("/").partition("/")
        rpc = next((each for each in services() if (f"runtime.v1.{each.service}", each.rpc) == (service, method)), None)
        if rpc is None:
            return None

        def answer(request: bytes) -> bytes:
            self.requests[method] = request
            return bytes(self.answers.get(method, rpc.response_class()()).SerializeToString())

        if rpc.streaming:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([answer(request)] * 2))
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(request))


@contextlib.contextmanager
def served(directory: Path, *handlers: grpc.GenericRpcHandler, add: Any = None) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=handlers)
    if add:
        add(server)
    server.add_insecure_port(f"unix:{directory}/s")
    server.start()
    yield f"unix://{directory}/s"
    server.stop(None).wait()


@pytest.fixture
def today(tmp_path: Path) -> Iterator[Today]:
    runtime = Today()
    with served(tmp_path, runtime) as runtime.endpoint:
        yield runtime


def test_every_rpc_can_be_called(today: Today) -> None:
    with CriClient(today.endpoint) as cri:
        for rpc in services():
            answer = getattr(cri, rpc.method)()
            answers = list(answer) if rpc.streaming else [answer]
            assert answers == [rpc.response_class()()] * (2 if rpc.streaming else 1)
        assert answered_rpcs(cri) == {rpc.rpc: True for rpc in services()}
    assert {rpc.rpc for rpc in services()} - {rpc.rpc for rpc in old_rpcs()} == NEW
    assert today.requests.keys() == {rpc.rpc for rpc in services()}


def old_rpcs() -> list[Any]:
    """The methods of the contract that the stubs of an older release have."""
    names = {m.name for service in old.DESCRIPTOR.services_by_name.values() for m in service.methods}
    return [rpc for rpc in services() if rpc.rpc in names]


def test_the_fields_of_today(today: Today) -> None:
    today.answers["Status"] = pb.StatusResponse(features=pb.RuntimeFeatures(user_namespaces_host_network=True))
    today.answers["StreamImages"] = pb.StreamImagesResponse(images=[pb.Image(id="sha256:1")])
    with CriClient(today.endpoint) as cri:
        assert cri.status().features.user_namespaces_host_network
        assert [image.id for each in cri.stream_images() for image in each.images] == ["sha256:1", "sha256:1"]
        config = {"image": {"image": "a", "image_ref": "sha256:1"}, "envs": [{"key": "A", "value": b"\xff"}]}
        cri.create_container(pod_sandbox_id="s", config=config)
    sent = pb.CreateContainerRequest.FromString(today.requests["CreateContainer"])
    assert (sent.config.image.image_ref, sent.config.envs[0].value) == ("sha256:1", b"\xff")


class Yesterday(old_grpc.RuntimeServiceServicer):
    def Version(self, request: Any, context: Any) -> Any:
        return old.VersionResponse(runtime_api_version="v1")


def test_an_older_runtime_says_what_it_lacks(tmp_path: Path) -> None:
    def add(server: Any) -> None:
        old_grpc.add_RuntimeServiceServicer_to_server(Yesterday(), server)

    with served(tmp_path, add=add) as endpoint, CriClient(endpoint) as cri:
        for name in ("stream_containers", "stream_pod_sandboxes"):
            with pytest.raises(CriError) as lacking:
                list(getattr(cri, name)())
            assert lacking.value.code == "UNIMPLEMENTED"
            assert "The RPC came with cri-api 0.36, and this runtime is older: call the List… RPC" in str(lacking.value)
        assert not any(answered_rpcs(cri, timeout=60)[name] for name in NEW)


class Foreign(grpc.GenericRpcHandler):
    """Serves a service that the contract does not have, and sends back each message that comes, twice."""

    def service(self, details: Any) -> Any:
        if details.method == "/vendor.v3.Extras/Twice":
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([request] * 2))
        if details.method in ("/runtime.v1.RuntimeService/CreateContainer", "/runtime.v1.RuntimeService/NotYetInvented"):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request)
        return None


def test_the_proxy_passes_on_what_it_does_not_know(tmp_path: Path) -> None:
    """Services, RPCs, fields, and bytes in what is, or was, a string: byte for byte."""
    binary = pb.ContainerConfig(envs=[pb.KeyValue(key="A", value=b"\xff\xfe")], metadata={"name": "web"})
    unknown_field = b"\xfa\x3f\x03new"  # field 1023, of a release to come
    not_utf8 = b"\x0a\x02\xff\xfe"  # pod_sandbox_id, a string
    request = pb.CreateContainerRequest(config=binary).SerializeToString() + unknown_field
    log = CallLog()
    with (
        served(tmp_path, Foreign()) as endpoint,
        RecordingProxy(endpoint, log) as proxy,
        grpc.insecure_channel(f"unix:{proxy.path}") as channel,
    ):
        for sent in (request, request + not_utf8, b"\xff\xff no message"):
            assert channel.unary_unary("/runtime.v1.RuntimeService/CreateContainer")(sent) == sent
        assert channel.unary_unary("/runtime.v1.RuntimeService/NotYetInvented")(b"\xff") == b"\xff"
        assert list(channel.unary_stream("/vendor.v3.Extras/Twice")(b"\x00\xff")) == [b"\x00\xff"] * 2
    assert [(call.method, call.code) for call in log.records()] == [
        *[("CreateContainer", "OK")] * 3, ("NotYetInvented", "OK"), ("Twice", "OK")
    ]
    whole, readable, unreadable, *_ = [call.request for call in log.records()]
    assert whole is not None and whole.SerializeToString() == request
    assert readable is not None and to_dict(readable)["pod_sandbox_id"] == "\ufffd\ufffd"
    assert unreadable is None


def test_the_contract_that_is_named_is_the_one_that_is_used() -> None:
    assert {rpc.contract for rpc in services()} == {pb.CONTRACT} and len(services()) == 41
    assert not {rpc.rpc for rpc in services() if rpc.streaming} - NEW - {"GetContainerEvents"}
