"""What many clients at once, large messages and clients that say nothing do to the recording proxy and the owner's socket."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1

from labkit.cri.v1 import api_pb2 as pb
from labkit.node import Home
from labkit.node.lab import control
from labkit.node.lab.control import Control
from labkit.node.observe import proxy
from labkit.node.observe.proxy import RecordingProxy
from labkit.recording.calls.log import CallLog

LARGE = 20 << 20
STREAMS = 300
ANY_SIZE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


class Runtime(v1.RuntimeServiceServicer):
    def __init__(self) -> None:
        self.over = threading.Event()

    def Version(self, request: Any, context: Any) -> Any:
        return pb.VersionResponse(runtime_name="double")

    def ExecSync(self, request: Any, context: Any) -> Any:
        return pb.ExecSyncResponse(stdout=request.cmd[0].encode())

    def GetContainerEvents(self, request: Any, context: Any) -> Any:
        context.add_callback(self.over.set)
        yield pb.ContainerEventResponse(container_id="one")
        self.over.wait(60)


@pytest.fixture
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gRPC server's endpoint."""
    path = tmp_path_factory.mktemp("r") / "cri.sock"
    double = Runtime()
    server = grpc.server(ThreadPoolExecutor(STREAMS + 20), options=ANY_SIZE)
    v1.add_RuntimeServiceServicer_to_server(double, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    yield f"unix://{path}"
    double.over.set()
    server.stop(None)


@contextlib.contextmanager
def client(endpoint: str) -> Iterator[Any]:
    with grpc.insecure_channel(endpoint.replace("unix://", "unix:"), options=ANY_SIZE) as channel:
        yield v1.RuntimeServiceStub(channel)


def test_event_streams_keep_no_call_from_being_answered(runtime: str) -> None:
    with contextlib.ExitStack() as stack:
        through = stack.enter_context(RecordingProxy(runtime, CallLog()))
        stubs = [stack.enter_context(client(through.endpoint)) for _ in range(30)]
        streams = [stubs[number % 30].GetContainerEvents(pb.GetEventsRequest()) for number in range(STREAMS)]
        assert [next(stream).container_id for stream in streams] == ["one"] * STREAMS
        assert stubs[0].Version(pb.VersionRequest(), timeout=20).runtime_name == "double"
        for stream in streams:
            stream.cancel()


def test_a_call_beyond_the_limit_is_refused_and_not_kept_waiting(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "THREADS", 2)
    with RecordingProxy(runtime, CallLog()) as through, client(through.endpoint) as stub:
        streams = [stub.GetContainerEvents(pb.GetEventsRequest()) for _ in range(2)]
        assert [next(stream).container_id for stream in streams] == ["one", "one"]
        with pytest.raises(grpc.RpcError) as refused:
            stub.Version(pb.VersionRequest(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for stream in streams:
            stream.cancel()


def test_a_message_longer_than_the_kubelet_takes_passes_both_ways(runtime: str) -> None:
    with RecordingProxy(runtime, CallLog()) as through, client(through.endpoint) as stub:
        assert len(stub.ExecSync(pb.ExecSyncRequest(cmd=["x" * LARGE]), timeout=60).stdout) == LARGE


def test_the_proxy_serves_on_when_files_are_free_again(runtime: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with RecordingProxy(runtime, CallLog()) as through, contextlib.ExitStack() as stack:
        with client(through.endpoint) as stub:
            assert stub.Version(pb.VersionRequest(), timeout=20).runtime_name == "double"
        waiting = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(20)]
        used = max(socket.fileno() for socket in waiting) + 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
        try:
            for each in waiting:
                each.connect(str(through.path))
        finally:
            stack.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with client(through.endpoint) as stub:
            assert stub.Version(pb.VersionRequest(), timeout=20).runtime_name == "double"


def test_a_client_is_served_late_and_not_dropped_where_files_are_short_meanwhile(runtime: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with RecordingProxy(runtime, CallLog()) as through, socket.socket(socket.AF_UNIX) as waiting:
        waiting.settimeout(20)
        free = sorted(set(range(500)) - {int(fd) for fd in os.listdir("/proc/self/fd")})
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[1], hard))  # enough to accept it, and no more
        try:
            waiting.connect(str(through.path))
            time.sleep(3 * proxy.PAUSE_S)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        waiting.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert waiting.recv(100), "the server's settings"


def test_who_asks_nothing_keeps_nobody_from_the_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SENT_WITHIN_S", 30.0)
    home = Home(tmp_path, tmp_path, tmp_path)
    owner = Control(home)
    with contextlib.ExitStack() as stack:
        stack.callback(owner.close)
        for _ in range(50):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(home.control))
        answering = threading.Thread(target=lambda: (owner.next(20) or pytest.fail("no request came")).done(what="done"))
        answering.start()
        assert control.ask(home, lambda text: None, do="look") == {"what": "done"}
        answering.join()
