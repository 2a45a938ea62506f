"""A Pod at one moment: what CRI says of it, joined with what the kernel shows of its processes.

CRI knows names, states and the pid of each container's first process; the kernel knows every process, its parent and
its namespaces. Neither alone answers "which processes are this Pod, and what do they share?".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cri_api.v1 import api_pb2

from labkit.cri import CriClient, CriError, verbose
from labkit.kernel import Process, Snapshot
from labkit.showable import Absent

ROLES = ("host", "kubelet", "containerd", "shim", "runc", "cni", "pause", "application", "exec", "other")
"""Each process of a figure, a table or a JSON answer has one of these roles."""

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")

RUNC = ("runc", "crun")

CONTAINER_STATES = {
    api_pb2.CONTAINER_CREATED: "Created",
    api_pb2.CONTAINER_RUNNING: "Running",
    api_pb2.CONTAINER_EXITED: "Exited",
}


@dataclass(frozen=True)
class PodProcess:
    """One process, seen from the node's own (initial) namespaces.

    `role` is one of ROLES. `container` is the container's name in the Pod, None for the pause, the shim and the node's
    own processes. `namespaces` maps a type ("net", "pid", …) to its inode number. `ended` is what `labkit.kernel.Process.ended`
    says: "" for a process that runs, else "zombie" or "main thread ended".
    """

    pid: int
    ppid: int
    role: str
    comm: str
    container: str | None
    namespaces: Mapping[str, int]
    cmdline: tuple[str, ...] = ()
    ended: str = ""


@dataclass(frozen=True)
class PinnedNamespace:
    """A namespace of a Pod that a bind mount holds, whoever else is in it (source: /proc/PID/mountinfo, type nsfs)."""

    type: str
    inode: int
    path: str


@dataclass(frozen=True)
class PodContainer:
    """One container as the runtime tells of it. `created_ns` is ns since 1970. `state` is "Created", "Running",
    "Exited" or "Unknown"; `pid` is its
    first process,
    seen from the node, 0 where none runs; `attempt` counts its restarts."""

    name: str
    id: str
    state: str
    attempt: int
    image: str
    pid: int
    exit_code: int | None = None
    created_ns: int = 0


@dataclass(frozen=True)
class PodSnapshot:
    """One Pod sandbox: identity, state ("Ready" or "NotReady"), address, processes (shim first, then pause, then those of the
    containers), the namespaces that a bind mount holds, and its containers, in the order in which they were first created."""

    name: str
    namespace: str
    uid: str
    id: str
    state: str
    ip: str
    processes: tuple[PodProcess, ...]
    pinned: tuple[PinnedNamespace, ...] = ()
    containers: tuple[PodContainer, ...] = ()
    labels: Mapping[str, str] | None = None

    def container(self, name: str) -> PodContainer:
        """The newest attempt of the container of that name. Raises Absent, naming those there are."""
        for container in reversed(self.containers):
            if container.name == name:
                return container
        there = sorted({c.name for c in self.containers})
        raise Absent(f"The Pod {self.name} has no container {name}; it has {', '.join(there) or 'none'}.")


def read_pods(cri: CriClient, snapshot: Snapshot, labels: Mapping[str, str] | None = None) -> tuple[PodSnapshot, ...]:
    """Every Pod sandbox that carries `labels`, joined with the processes of `snapshot`, sorted by namespace and name.

    A Pod that is removed meanwhile is left out. Raises CriError when the runtime cannot be asked at all.
    """
    wanted = {"label_selector": dict(labels or {})}
    containers: dict[str, list[PodContainer]] = {}
    for container in cri.list_containers(filter=wanted).containers:
        try:
            containers.setdefault(container.pod_sandbox_id, []).append(read_container(cri, container.id))
        except CriError as error:
            if not error.gone:
                raise
    members = by_container(snapshot)
    pods = []
    for sandbox in cri.list_pod_sandbox(filter=wanted).items:
        try:
            pods.append(read_pod(cri, sandbox.id, containers.get(sandbox.id, []), snapshot, members))
        except CriError as error:
            if not error.gone:
                raise
    return tuple(sorted(pods, key=lambda p: (p.namespace, p.name)))


def read_container(cri: CriClient, container_id: str) -> PodContainer:
    """One container; its pid is in the verbose answer's JSON (containerd and CRI-O both say it there)."""
    answer = cri.container_status(container_id=container_id, verbose=True)
    status = answer.status
    state = CONTAINER_STATES.get(status.state, "Unknown")
    pid = verbose.pid(verbose.info(answer)) if state in ("Created", "Running") else 0
    return PodContainer(
        status.metadata.name,
        status.id,
        state,
        status.metadata.attempt,
        status.image.image,
        pid,
        status.exit_code if state == "Exited" else None,
        status.created_at,
    )


def read_pod(
    cri: CriClient, sandbox_id: str, containers: list[PodContainer], snapshot: Snapshot, members: Mapping[str, list[Process]]
) -> PodSnapshot:
    """One sandbox, joined with the kernel's view: its processes are those in its containers' cgroups, and the shim above them."""
    answer = cri.pod_sandbox_status(pod_sandbox_id=sandbox_id, verbose=True)
    status, info = answer.status, verbose.info(answer)
    ready = status.state == api_pb2.SANDBOX_READY
    first = {c.name: c.created_ns for c in sorted(containers, key=lambda c: c.created_ns, reverse=True)}
    containers = sorted(containers, key=lambda c: (first[c.name], c.name, c.attempt))
    processes = pod_processes(sandbox_id, verbose.pid(info) if ready else 0, containers, snapshot, members)
    return PodSnapshot(
        status.metadata.name,
        status.metadata.namespace,
        status.metadata.uid,
        status.id,
        "Ready" if ready else "NotReady",
        status.network.ip,
        processes,
        pinned_namespaces(info, snapshot),
        tuple(containers),
        dict(status.labels),
    )


def pod_processes(
    sandbox_id: str, pause: int, containers: list[PodContainer], snapshot: Snapshot, members: Mapping[str, list[Process]]
) -> tuple[PodProcess, ...]:
    """The Pod's processes with their roles, from cgroup membership and the tree. `members`: see `by_container`."""
    found = [as_member(process, "pause", None) for process in members.get(sandbox_id, ())]
    for container in containers:
        own = members.get(container.id, ())
        first_pid = container.pid
        if not first_pid and container.state == "Running":  # the runtime does not tell: the oldest in its cgroup
            first_pid = next((p.pid for p in own if not p.comm.startswith(RUNC)), 0)
        first = snapshot.processes.get(first_pid)
        waits = first is not None and first.comm.startswith(("runc:", "crun"))
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
    parents = {p.ppid for p in found if p.pid in firsts}
    shims = [p for p in snapshot.processes.values() if is_shim(p) and (p.pid in parents or sandbox_id in p.cmdline)]
    return (*(as_member(shim, "shim", None) for shim in shims), *found)


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
    return {found for path in set(process.cgroups.values()) for found in CONTAINER_ID.findall(path)}


def is_shim(process: Process) -> bool:
    """containerd's shim, or conmon, which stands in its place with CRI-O."""
    return bool(process.cmdline) and process.cmdline[0].rpartition("/")[2].startswith(("containerd-shim", "conmon"))


def descends(process: Process, ancestor: int, snapshot: Snapshot) -> bool:
    while process.ppid and process.ppid in snapshot.processes:
        if process.ppid == ancestor:
            return True
        process = snapshot.processes[process.ppid]
    return False


def as_member(process: Process, role: str, container: str | None) -> PodProcess:
    known = process.namespaces, process.cmdline, process.ended
    return PodProcess(process.pid, process.ppid, role, process.comm, container, *known)


def pinned_namespaces(info: dict[str, Any], snapshot: Snapshot) -> tuple[PinnedNamespace, ...]:
    """The sandbox's namespaces that a bind mount holds: their paths are in the verbose status (containerd: the runtime
    spec's network path)."""
    wanted = set(verbose.namespace_paths(info).values())
    found = [
        PinnedNamespace(n.type, n.inode, path)
        for n in snapshot.namespaces.values()
        for path in n.mounts
        if path in wanted or path.replace("/run/", "/var/run/", 1) in wanted
    ]
    return tuple(sorted(found, key=lambda n: n.type))
