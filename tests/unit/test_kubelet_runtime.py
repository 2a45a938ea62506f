"""What the kubelet makes of a container's status in the runtime."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.core.runtime import Runtime, container
from labkit.kubelet.pod.pod_runtime import CREATED, EXITED
from labkit.kubelet.pod.termination_message import tail

CREATE = "failed to create containerd task: "
START = 'failed to start containerd task "app": '


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (CREATE + "failed to start shim: start failed: : signal: killed: unknown", CREATED),
        (CREATE + "failed to create shim task: context canceled: unknown", CREATED),
        (START + "context canceled", EXITED),
        (CREATE + 'failed to create shim task: OCI runtime create failed: exec: "/absent": no such file: unknown', EXITED),
        (CREATE + "failed to create shim task: OCI runtime create failed: runc create failed: signal: killed", EXITED),
        ("", EXITED),
    ],
)
def test_a_start_that_broke_off_before_the_program_ran_is_no_end_of_it(message: str, state: str) -> None:
    status = pb.ContainerStatus(id="c", state=pb.CONTAINER_EXITED, reason="StartError", exit_code=128, message=message)
    assert container(status).state == state


def test_what_ran_has_ended_whatever_it_says() -> None:
    message = CREATE + "failed to create shim task: context canceled: unknown"
    assert container(pb.ContainerStatus(id="c", state=pb.CONTAINER_EXITED, started_at=1, message=message)).state == EXITED


class Cri:
    """Lists what it holds, and counts how often it is asked for the status of each item."""

    def __init__(self) -> None:
        self.ip, self.boxes, self.containers, self.asked = "", [], [], []

    def list_pod_sandbox(self, filter):
        return SimpleNamespace(items=self.boxes)

    def list_containers(self, filter):
        return SimpleNamespace(containers=self.containers)

    def pod_sandbox_status(self, pod_sandbox_id):
        self.asked.append(pod_sandbox_id)
        return pb.PodSandboxStatusResponse(status=pb.PodSandboxStatus(network=pb.PodSandboxNetworkStatus(ip=self.ip)))

    def container_status(self, container_id):
        self.asked.append(container_id)
        state = next(c.state for c in self.containers if c.id == container_id)
        return pb.ContainerStatusResponse(status=pb.ContainerStatus(id=container_id, state=state))


def test_the_address_of_a_sandbox_that_is_only_being_made_is_asked_for_again():
    cri = Cri()
    runtime = Runtime(cri)
    cri.boxes = [pb.PodSandbox(id="box", state=pb.SANDBOX_NOTREADY)]
    assert runtime.pod("u1").sandboxes[0].ips == ()
    cri.boxes, cri.ip = [pb.PodSandbox(id="box", state=pb.SANDBOX_READY)], "10.88.0.9"
    assert [runtime.pod("u1").ips, runtime.pod("u1").ips] == [("10.88.0.9",), ("10.88.0.9",)]
    assert cri.asked == ["box", "box"]


def test_only_what_changed_is_asked_for_and_what_is_gone_is_forgotten():
    cri = Cri()
    runtime = Runtime(cri)
    for number in range(50):  # a container that crashes and crashes, of which the kubelet keeps the last two attempts
        started = pb.Container(id=f"c{number}", state=pb.CONTAINER_RUNNING, created_at=number)
        ended = [pb.Container(id=c.id, state=pb.CONTAINER_EXITED, created_at=c.created_at) for c in cri.containers[:1]]
        cri.containers = [started, *ended]
        assert [c.id for c in runtime.pod("u1").containers] == [c.id for c in cri.containers]
    assert cri.asked == ["c0", *(id for number in range(1, 50) for id in (f"c{number}", f"c{number - 1}"))]
    assert len(runtime._known["u1"].containers) == 2
    runtime.forget("u1")
    assert runtime._known == {}


def test_last_words_are_read_from_a_regular_file_alone(tmp_path):
    """A link is not followed, and nobody waits for the writer of a pipe."""
    (tmp_path / "log").write_text("because")
    (tmp_path / "link").symlink_to("log")
    os.mkfifo(tmp_path / "pipe")
    read = {name: tail(tmp_path / name, 4) for name in ("log", "link", "pipe", "absent", ".")}
    assert read == {"log": "ause", "link": "", "pipe": "", "absent": "", ".": ""}
