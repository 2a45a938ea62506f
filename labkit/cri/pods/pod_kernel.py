"""What the kernel shows of Pods: which processes are in their containers' cgroups, their shims, and the namespaces that stay."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache

from labkit.cri.pods.pod_snapshot import PinnedNamespace, PodContainer, PodProcess
from labkit.kernel import Process, Snapshot

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
RUNC = ("runc", "crun", "youki")
"""Programs that make containers."""
RUNC_INIT = ("runc:", "crun", "youki:")
"""How the comm begins of one that waits to become a container's program."""


class PodKernel:
    """A snapshot, as the Pods look into it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @cached_property
    def members(self) -> dict[str, list[Process]]:
        return by_container(self.snapshot)

    @cached_property
    def shims(self) -> dict[int, Process]:
        return {process.pid: process for process in self.snapshot.processes.values() if is_shim(process)}

    @cached_property
    def shims_of(self) -> dict[str, list[int]]:
        """A word of a shim's command line, such as its sandbox's id, → pids."""
        found: dict[str, list[int]] = {}
        for shim in self.shims.values():
            for word in shim.cmdline:
                found.setdefault(word, []).append(shim.pid)
        return found

    @cached_property
    def pins(self) -> dict[str, list[PinnedNamespace]]:
        found: dict[str, list[PinnedNamespace]] = {}
        for namespace in self.snapshot.namespaces.values():
            for path in namespace.mounts:
                # /var/run is a symbolic link to /run, and a runtime may say either.
                for name in {path, path.replace("/run/", "/var/run/", 1)}:
                    found.setdefault(name, []).append(PinnedNamespace(namespace.type, namespace.inode, path))
        return found

    def start_ns(self, pid: int) -> int | None:
        """Which process of that number it is; None where there is none."""
        process = self.snapshot.processes.get(pid)
        return process.start_ns if process else None

    def mounted(self, paths: Iterable[str]) -> tuple[PinnedNamespace, ...]:
        """The namespaces that are bind-mounted at these paths."""
        return tuple(sorted((pin for path in paths for pin in self.pins.get(path, ())), key=lambda pin: (pin.type, pin.path)))


def pod_processes(sandbox_id: str, pause: int, containers: list[PodContainer], kernel: PodKernel) -> tuple[PodProcess, ...]:
    """The Pod's processes with their roles, from cgroup membership and the tree."""
    snapshot, members = kernel.snapshot, kernel.members
    found = [as_member(process, "pause", None) for process in members.get(sandbox_id, ())]
    for container in containers:
        own = members.get(container.id, ())
        first_pid = container.pid
        if not first_pid and container.state == "Running":  # the runtime does not tell: the oldest in its cgroup
            first_pid = next((p.pid for p in own if not p.comm.startswith(RUNC)), 0)
        first = snapshot.processes.get(first_pid)
        waits = first is not None and first.comm.startswith(RUNC_INIT)
        for process in own:
            below = process.pid == first_pid or descends(process, first_pid, snapshot)
            if process.comm.startswith(RUNC) and (waits or not below):
                role = "runc"
            elif below:
                role = "other" if waits else "application"  # what `runc init` forks before it becomes the program: OCI hooks
            else:
                role = "exec"
            found.append(as_member(process, role, container.name))
    firsts = {pause, *(c.pid for c in containers)} - {0}
    parents = {p.ppid for p in found if p.pid in firsts} & kernel.shims.keys()
    shims = sorted(parents.union(kernel.shims_of.get(sandbox_id, ())))
    return (*(as_member(kernel.shims[pid], "shim", None) for pid in shims), *found)


def by_container(snapshot: Snapshot) -> dict[str, list[Process]]:
    """Container id → processes in its cgroup, the oldest first. Runtimes name a container's cgroup after its id (64
    hexadecimal digits). A zombie has no cgroup (v1) or that of its end (v2): without one it counts as its parent's."""
    found: dict[str, list[Process]] = {}
    for process in sorted(snapshot.processes.values(), key=lambda p: (p.start_ns, p.pid)):
        parent = snapshot.processes.get(process.ppid)
        for container_id in containers_of(process) or (containers_of(parent) if parent and process.ended == "zombie" else ()):
            found.setdefault(container_id, []).append(process)
    return found


def containers_of(process: Process) -> set[str]:
    """The ids in the names of a process's cgroups."""
    return {found for path in process.cgroups.values() for found in container_ids(path)}


@lru_cache(maxsize=4096)
def container_ids(path: str) -> tuple[str, ...]:
    return tuple(CONTAINER_ID.findall(path))


def is_shim(process: Process) -> bool:
    """containerd's shim, or conmon, which stands in its place with CRI-O."""
    return process.program.startswith(("containerd-shim", "conmon"))


def descends(process: Process, ancestor: int, snapshot: Snapshot) -> bool:
    while process.ppid and process.ppid in snapshot.processes:
        if process.ppid == ancestor:
            return True
        process = snapshot.processes[process.ppid]
    return False


def as_member(process: Process, role: str, container: str | None) -> PodProcess:
    known = process.namespaces, process.cmdline, process.ended
    return PodProcess(process.pid, process.ppid, role, process.comm, container, *known)
