"""`node.pods()` asked again and again relies on what it read before, and shows each change in the very next call."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import labkit as lab
from labkit.cri.pods import PodReader
from labkit.cri.v1 import api_pb2
from labkit.kernel import LocalKernel
from labkit.node import Node
from tests.waits import wait_for

LOOP = {"name": "loop", "image": "registry.lab/busybox:1", "command": ["sh", "-c", "trap : TERM; while :; do sleep 1000; done"]}


def stat(pid: int) -> str:
    """The state of a process, "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_each_change_is_seen_in_the_next_call(node: Node) -> None:
    started = node.start_pod({"metadata": {"name": "changing"}, "spec": {"containers": [LOOP]}})

    def seen() -> lab.PodSnapshot:
        """The Pod by the next call, as a reader sees it that has never looked."""
        pods = node.pods()
        anew = PodReader(node.cri).read(LocalKernel().snapshot(fds=False))
        (pod,) = (pod for pod in pods if pod.id == started.id)
        assert [pod] == [pod for pod in anew if pod.id == started.id]
        return pod

    (main,) = (c.pid for c in started.containers)
    wait_for(lambda: any(p.comm == "sleep" for p in seen().processes), "the container's shell starts sleep")
    for _ in range(4):
        before = seen()
    (sleep,) = (p.pid for p in before.processes if p.comm == "sleep")
    container = before.container("loop")

    # A process that ends and is reaped, and the one that its parent starts after it.
    os.kill(sleep, signal.SIGKILL)
    wait_for(lambda: not stat(sleep) and len(children(main)) == 1)
    assert {p.pid for p in seen().processes if p.ppid == main} == children(main)

    # One that exec starts, and that becomes a zombie while the container's process 1, its parent by then, is held.
    others = {p.pid for p in seen().processes}
    node.cri.exec_sync(container_id=container.id, cmd=["sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &"])
    (by_exec,) = (p.pid for p in seen().processes if p.pid not in others)
    os.kill(main, signal.SIGSTOP)
    wait_for(lambda: stat(main) == "T", "process 1 is held: until then it may still take a child in that has ended")
    os.kill(by_exec, signal.SIGKILL)
    wait_for(lambda: stat(by_exec) == "Z")
    assert [p.ended for p in seen().processes if p.pid == by_exec] == ["zombie"]
    os.kill(main, signal.SIGCONT)

    # One of the machine's that is moved into the container's cgroups from outside, and never runs meanwhile.
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            wait_for(lambda: stat(stranger.pid) == "S")
            for _ in range(3):
                assert stranger.pid not in {p.pid for p in seen().processes}
            for cgroup in node.kernel.cgroups(container.pid):
                if container.id in cgroup.path:
                    (Path(cgroup.directory) / "cgroup.procs").write_text(str(stranger.pid))
            assert stranger.pid in {p.pid for p in seen().processes}
        finally:
            stranger.kill()

    # The container, by its first process; then the Pod.
    os.kill(container.pid, signal.SIGKILL)
    wait_for(lambda: node.cri.list_containers(filter={"id": container.id}).containers[0].state == api_pb2.CONTAINER_EXITED)
    assert (seen().container("loop").state, seen().container("loop").exit_code) == ("Exited", 137)
    node.remove_pod(started)
    assert started.id not in {pod.id for pod in node.pods()}


def children(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
