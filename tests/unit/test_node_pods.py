"""Pods by CRI calls alone: what is asked of the runtime, in which order, and what comes back."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from labkit.cli.pod_commands import pod_json
from labkit.cri import CriError
from labkit.cri.pods import PodContainer, PodKernel, PodProcess, PodSnapshot, pod_processes
from labkit.cri.v1 import api_pb2 as pb
from labkit.figures.namespaces.groups import rows
from labkit.figures.pods.process_tree import process_tree
from labkit.figures.pods.terminal import pod_tree
from labkit.kernel import Process, assemble
from labkit.node.pods.operations import remove_sandbox, wait_exit
from labkit.node.registry.course_images import Images
from labkit.util.showable import Absent

GONE = CriError("StopContainer", "NOT_FOUND", "no such container", "")
BROKEN = CriError("StopPodSandbox", "UNKNOWN", "the network plugin failed", "")


class Cri:
    """A runtime with one running and one ended container. `refused`: method → the error that it answers with."""

    def __init__(self, **refused: CriError) -> None:
        self.refused, self.asked = refused, []

    def list_containers(self, *, filter: dict[str, str]) -> Any:
        states = {"running": pb.CONTAINER_RUNNING, "ended": pb.CONTAINER_EXITED}
        return SimpleNamespace(containers=[SimpleNamespace(id=id, state=state) for id, state in states.items()])

    def __getattr__(self, method: str) -> Any:
        def call(**fields: Any) -> None:
            self.asked.append((method, *fields.values()))
            if method in self.refused:
                raise self.refused[method]

        return call


REMOVAL = [
    ("stop_container", "running", 0),
    ("stop_pod_sandbox", "box"),
    ("remove_container", "running"),
    ("remove_container", "ended"),
    ("remove_pod_sandbox", "box"),
]


@pytest.mark.parametrize("gone", ["", "stop_container", "stop_pod_sandbox", "remove_container", "remove_pod_sandbox"])
def test_a_pod_is_removed_whole_also_where_a_part_of_it_is_gone(gone: str) -> None:
    cri: Any = Cri(**({gone: GONE} if gone else {}))
    remove_sandbox(cri, "box")
    assert cri.asked == REMOVAL


def test_a_sandbox_that_cannot_be_stopped_is_an_error() -> None:
    cri: Any = Cri(stop_pod_sandbox=BROKEN)
    with pytest.raises(CriError, match="the network plugin failed"):
        remove_sandbox(cri, "box")


def status(state: int, exit_code: int = 0) -> Any:
    answer = SimpleNamespace(status=SimpleNamespace(state=state, exit_code=exit_code))
    return SimpleNamespace(container_status=lambda container_id: answer)


@pytest.mark.parametrize("code", [0, 3, 137])
def test_the_exit_code_of_a_container_is_its_own(code: int) -> None:
    assert wait_exit(status(pb.CONTAINER_EXITED, code), "c", 10) == code


def test_a_container_that_goes_on_is_waited_for_no_longer_than_asked() -> None:
    with pytest.raises(TimeoutError):
        wait_exit(status(pb.CONTAINER_RUNNING), "c", 0.05)


def test_a_name_that_is_not_there_is_answered_with_those_that_are() -> None:
    pod = PodSnapshot("shop", "default", "u", "id", "Ready", "", (), containers=(PodContainer("web", "c", "Running", 0, "", 7),))
    with pytest.raises(Absent, match="The Pod shop has no container nginx; it has web"):
        pod.container("nginx")
    with pytest.raises(Absent, match="The course has no image 'nginx'; it has busybox"):
        Images(busybox="registry.lab/busybox:1")["nginx"]


def process(pid: int, ppid: int, state: str, threads: int = 1, cgroup: str = "/") -> Process:
    return Process(pid, ppid, "app", ("app",), state, pid, 0, 0, (pid,), {}, {"": cgroup}, "/app", threads)


def test_a_zombie_without_a_cgroup_is_its_parents_and_said_to_be_one() -> None:
    box, own = "a" * 64, f"/pod/{'b' * 64}"
    living = [process(2, 1, "S", cgroup=f"/pod/{box}"), process(3, 1, "S", cgroup=own), process(4, 3, "Z"),
              process(5, 3, "Z", 2, own), process(6, 1, "Z")]
    container = PodContainer("web", "b" * 64, "Running", 0, "i", 3)
    found = pod_processes(box, 2, [container], PodKernel(assemble(0, living)))
    assert [(p.pid, p.role, p.ended) for p in found] == [
        (2, "pause", ""), (3, "application", ""), (4, "application", "zombie"), (5, "application", "main thread ended"),
    ]


def test_views_say_what_is_left_of_a_process_that_has_ended() -> None:
    shim = PodProcess(7, 1, "shim", "containerd-shim", None, {"net": 1, "pid": 1}, ("/containerd-shim-runc-v2",))
    inside = [PodProcess(8, 7, "application", "web", "web", {"net": 2}, ("web", "-x")),
              PodProcess(9, 8, "application", "cgi", "web", {}, (), "zombie")]
    pod = PodSnapshot("p", "default", "u", "s" * 64, "Ready", "10.0.0.5", (shim, *inside))
    console = Console(file=io.StringIO(), width=120)
    console.print(pod_tree("node", "containerd", [pod]))
    assert "cgi" in console.file.getvalue() and "zombie" in console.file.getvalue()
    assert "web (cgi), zombie" in process_tree(pod.processes, [pod]).alt
    assert "web (zombie)" in [row.name for row in rows(pod)]
    assert [p.get("ended") for p in pod_json(pod, {})["processes"]] == [None, None, "zombie"]
