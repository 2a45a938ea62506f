"""The processes of a node and its Pods, joined with what CRI says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from labkit.cri.pods import RUNC_INIT, PodProcess, PodReader, PodSnapshot
from labkit.cri.pods.pod_kernel import as_member
from labkit.kernel import Process, Snapshot
from labkit.node.host.access import Kernel, ObservedNode
from labkit.util.progress import attempts

SETTLED_WITHIN_S = 2.0


class RuntimeMatcher(Protocol):
    """`node.sources`, as far as it is needed here."""

    def is_runtime(self, process: Process) -> bool: ...


class ProcessesNode(ObservedNode, Protocol):
    """A node, as far as it is needed here."""

    @property
    def sources(self) -> RuntimeMatcher: ...


def settled(kernel: Kernel, reader: PodReader) -> tuple[Snapshot, tuple[PodSnapshot, ...]]:
    """The kernel's view, but for what was done to programs' files, and the Pods in it, when no container is between two programs.

    StartContainer answers when runc has let the container's process go; that process, still `runc init`, becomes the
    application a moment later. SETTLED_WITHIN_S is waited for it, no longer, and not at all for one that was not started.
    """
    for _ in attempts(SETTLED_WITHIN_S):
        snapshot = kernel.snapshot(fds=False, programs=False)
        pods = reader.read(snapshot)
        if not any(map(starts, pods)):
            break
    return snapshot, pods


def starts(pod: PodSnapshot) -> bool:
    """Whether the pause or a container that runs, as the runtime says, is not its program yet."""
    running = {container.pid for container in pod.containers if container.state == "Running"}
    return any(p.comm.startswith(RUNC_INIT) for p in pod.processes if p.role == "pause" or p.pid in running)


def tree(node: ProcessesNode, snapshot: Snapshot, pods: Sequence[PodSnapshot]) -> tuple[PodProcess, ...]:
    """The node's part of the process tree: init, the runtime, each shim and all below it, as in `settled`."""
    runtime = node.kernel.unix_listener(node.socket_path)  # of several containerds of a machine this node's
    in_pods = {p.pid: p for pod in pods for p in pod.processes}
    shown = dict(in_pods)
    for process in snapshot.processes.values():
        if process.pid not in shown and runtime in (None, process.pid) and node.sources.is_runtime(process):
            shown[process.pid] = as_member(process, "containerd", None)
    for member in list(shown.values()):
        ancestor = snapshot.processes.get(member.ppid)
        while ancestor and ancestor.pid not in shown:
            shown[ancestor.pid] = as_member(ancestor, "host", None)
            ancestor = snapshot.processes.get(ancestor.ppid)
    return tuple(sorted(shown.values(), key=lambda p: (snapshot.processes[p.pid].start_ns, p.pid)))


def is_running(kernel: Kernel, pid: int) -> bool:
    """Whether there is a process of this pid that has not ended; one that waits to be collected has."""
    process = kernel.snapshot(fds=False).processes.get(pid)
    return process is not None and process.state not in "ZX"


def host_namespaces(kernel: Kernel, runtime: Process) -> Mapping[str, int]:
    """The node's own namespaces, type → inode: those of its process 1, and where these may not be read (a process 1 with more
    capabilities than root has here) those of the runtime, which stays in them."""
    processes = kernel.snapshot(fds=False).processes
    return {**runtime.namespaces, **(processes[1].namespaces if 1 in processes else {})}
