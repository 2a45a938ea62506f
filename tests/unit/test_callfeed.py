"""Calls told from one process to another over a real socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.recording.calls import feed as callfeed
from labkit.recording.calls.log import CallLog, recorded
from tests.waits import wait_for

MAY_END = threading.Event()
"""Set when StopContainer may answer."""


class Runtime(v1.RuntimeServiceServicer):
    def Version(self, request, context):
        return pb.VersionResponse(version="0.1.0", runtime_name="double", runtime_version="1", runtime_api_version="v1")

    def RunPodSandbox(self, request, context):
        return pb.RunPodSandboxResponse(pod_sandbox_id=f"id of {request.config.metadata.name}")

    def StopPodSandbox(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox")

    def ListContainers(self, request, context):
        return pb.ListContainersResponse(containers=[pb.Container(id="c" * 64)] * 1000)

    def StopContainer(self, request, context):
        MAY_END.wait()
        return pb.StopContainerResponse()


@pytest.fixture
def cri(tmp_path: Path) -> Iterator[CriClient]:
    server = grpc.server(ThreadPoolExecutor(8))
    v1.add_RuntimeServiceServicer_to_server(Runtime(), server)
    server.add_insecure_port(f"unix:{tmp_path}/cri.sock")
    server.start()
    with CriClient(f"unix://{tmp_path}/cri.sock") as client:
        client.version()
        yield client
    server.stop(None)


@pytest.fixture
def feed(cri: CriClient, tmp_path: Path) -> Iterator[callfeed.CallFeed]:
    with callfeed.serve(callfeed.path_in(tmp_path, "kubelet"), cri, caller="kubelet") as served:
        yield served


def test_calls_arrive_with_their_messages(cri: CriClient, feed: callfeed.CallFeed, tmp_path: Path) -> None:
    assert os.stat(feed.path).st_mode & 0o777 == 0o600 and callfeed.paths_in(tmp_path) == [feed.path]
    cri.run_pod_sandbox(config={"metadata": {"name": "before"}})
    changes: list[tuple[str, bool]] = []
    log = CallLog(lambda record: changes.append((record.method, record.to_ns is None)))
    with callfeed.subscribe(feed.path, log) as subscription:
        cri.run_pod_sandbox(config={"metadata": {"name": "web"}})
        with pytest.raises(CriError):
            cri.stop_pod_sandbox(pod_sandbox_id="x")
        cri.list_containers()
    cri.run_pod_sandbox(config={"metadata": {"name": "after"}})
    run, stop, listed = log.records()
    assert (run.service, run.method, run.caller, run.code, run.source) == (
        "RuntimeService", "RunPodSandbox", "kubelet", "OK", "interceptor",
    )  # fmt: skip
    assert run.request.config.metadata.name == "web" and run.response.pod_sandbox_id == "id of web"
    assert run.from_ns < run.to_ns < stop.from_ns
    assert (stop.code, stop.request.pod_sandbox_id, stop.response) == ("NOT_FOUND", "x", None)
    assert (listed.code, listed.response) == ("OK", None)  # what a list holds is not told
    assert changes == [(each.method, begins) for each in (run, stop, listed) for begins in (True, False)]
    assert not subscription.ended


def test_credentials_are_not_told(feed: callfeed.CallFeed, cri: CriClient) -> None:
    log = CallLog()
    with callfeed.subscribe(feed.path, log), pytest.raises(CriError):
        cri.pull_image(image={"image": "x"}, auth={"username": "learner", "password": "container"})
    assert log.records()[0].request.auth.password == "(not recorded)"


def test_nobody_listens_and_nothing_is_done(feed: callfeed.CallFeed, cri: CriClient) -> None:
    bare = cri._channel
    with callfeed.subscribe(feed.path, CallLog()), callfeed.subscribe(feed.path, CallLog()):
        assert feed.listened_to and cri._channel is not bare
    wait_for(lambda: not feed.listened_to)
    wait_for(lambda: cri._channel is bare)


def test_several_listen_and_labkit_records_besides(feed: callfeed.CallFeed, cri: CriClient) -> None:
    logs = [CallLog() for _ in range(3)]
    with (
        callfeed.subscribe(feed.path, logs[0]),
        callfeed.subscribe(feed.path, logs[1]),
        recorded(cri, logs[2]),
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda n: cri.run_pod_sandbox(config={"metadata": {"name": f"web{n}"}}), range(200)))
    for log in logs:
        assert {r.response.pod_sandbox_id for r in log.records()} == {f"id of web{n}" for n in range(200)}
        assert all(r.to_ns for r in log.records())
    assert {r.caller for r in logs[0].records()} == {"kubelet"} and {r.caller for r in logs[2].records()} == {"labkit"}


def test_a_call_under_way_at_the_end(feed: callfeed.CallFeed, cri: CriClient) -> None:
    log = CallLog()
    MAY_END.clear()
    with callfeed.subscribe(feed.path, log):
        late = threading.Thread(target=cri.stop_container, kwargs={"container_id": "c"})
        late.start()
        wait_for(lambda: log.records())
    MAY_END.set()
    late.join()
    assert [(r.method, r.to_ns, r.code) for r in log.records()] == [("StopContainer", None, "")]


def test_the_feed_ends_in_the_middle(cri: CriClient, tmp_path: Path) -> None:
    path, log = callfeed.path_in(tmp_path, "kubelet"), CallLog()
    feed = callfeed.serve(path, cri, caller="kubelet")
    with callfeed.subscribe(path, log) as subscription:
        cri.version()
        wait_for(lambda: log.records() and log.records()[0].to_ns)
        feed.close()
        wait_for(lambda: subscription.ended)
        cri.version()
    assert len(log.records()) == 1 and not path.exists()
    with pytest.raises(OSError), callfeed.subscribe(path, log):
        pass


def test_the_socket_of_a_killed_process_is_replaced(cri: CriClient, tmp_path: Path) -> None:
    path = callfeed.path_in(tmp_path, "kubelet")
    path.write_text("left")
    with callfeed.serve(path, cri, caller="kubelet"), callfeed.subscribe(path, log := CallLog()):
        cri.version()
    assert [r.method for r in log.records()] == ["Version"]


def test_a_listener_that_does_not_read_is_left(cri: CriClient, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(callfeed, "WAITING", 5)
    path = callfeed.path_in(tmp_path, "kubelet")
    with callfeed.serve(path, cri, caller="kubelet") as feed, socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(path))
        wait_for(lambda: feed.listened_to)
        for _ in range(30):
            cri.run_pod_sandbox(config={"metadata": {"name": "n" * 100_000}})
        wait_for(lambda: not feed.listened_to)
