"""A Pod at one moment: what CRI says of it, joined with what the kernel shows of its processes.

CRI knows names, states and the pid of each container's first process; the kernel knows every process, its parent and
its namespaces. Neither alone answers "which processes are this Pod, and what do they share?".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.cri.v1 import api_pb2
from labkit.kernel import Process, Snapshot
from labkit.util.showable import Absent

ROLES = ("host", "kubelet", "containerd", "shim", "runc", "cni", "pause", "application", "exec", "other")
"""Each process of a figure, a table or a JSON answer has one of these roles."""

CONTAINER_ID = re.compile(r"[0-9a-f]{64}")

RUNC = ("runc", "crun", "youki")
"""Programs that make containers."""
RUNC_INIT = ("runc:", "crun", "youki:")
"""How the comm begins of one that waits to become a container's program."""

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
    """One container as the runtime tells of it. `created_ns` is ns since 1970. `state` is "Created", "Running", "Exited" or
    "Unknown"; `pid` is its first process, seen from the node, 0 where none runs; `attempt` counts its restarts."""

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


class PodReader:
    """Reads the Pods of a node, again and again.

    The runtime is asked for its lists each time, and for a status only where lists or kernel show a change, or cannot rule one
    out. What is used of a status changes only with these: the state of the sandbox or container, its first process, the names of
    the images, and the bind mounts of the sandbox's namespaces (a runtime tells no address of a network that is gone).
    """

    def __init__(self, cri: CriClient) -> None:
        self._cri = cri
        self._containers: dict[str, _Container] = {}
        self._sandboxes: dict[str, _Sandbox] = {}
        self._pods: tuple[PodSnapshot, ...] = ()
        self._joined: tuple[Any, ...] = ()
        self._processes: Mapping[int, Process] = {}

    def read(self, snapshot: Snapshot, labels: Mapping[str, str] | None = None) -> tuple[PodSnapshot, ...]:
        """Every Pod sandbox that carries `labels`, joined with the processes of `snapshot`, sorted by namespace and name.

        A Pod that is removed meanwhile is left out. Raises CriError when the runtime cannot be asked at all.
        """
        wanted = {"label_selector": dict(labels or {})}
        kernel = PodKernel(snapshot)
        self._containers = self._read_containers(wanted, kernel)
        self._sandboxes = self._read_sandboxes(wanted, kernel)
        joined = self._containers, self._sandboxes, snapshot.namespaces
        if joined != self._joined or not _same_to_pods(self._processes, snapshot.processes):
            containers: dict[str, list[PodContainer]] = {}
            for each in self._containers.values():
                containers.setdefault(each.sandbox, []).append(each.container)
            pods = (_join(each, containers.get(id, []), kernel) for id, each in self._sandboxes.items())
            self._pods = tuple(sorted(pods, key=lambda p: (p.namespace, p.name)))
        self._joined, self._processes = joined, snapshot.processes
        return self._pods

    def _read_containers(self, wanted: Mapping[str, Any], kernel: PodKernel) -> dict[str, _Container]:
        listed = self._cri.list_containers(filter=wanted).containers
        images = self._images() if listed else None
        found = {}
        for each in listed:
            known = self._containers.get(each.id)
            key = (each.state, images)
            settled = images is not None and each.state in CONTAINER_STATES
            if known and settled and known.key == key and known.start_ns == kernel.start_ns(known.container.pid):
                found[each.id] = known
                continue
            with _gone_is_left_out():
                container = read_container(self._cri, each.id)
                found[each.id] = _Container(key, kernel.start_ns(container.pid), each.pod_sandbox_id, container)
        return found

    def _images(self) -> frozenset[tuple[str, ...]] | None:
        """The names of all images: a container's status has one of its image's. None where the runtime does not tell."""
        try:
            listed = self._cri.unrecorded().list_images().images
        except CriError:
            return None
        return frozenset((image.id, *image.repo_tags, *image.repo_digests) for image in listed)

    def _read_sandboxes(self, wanted: Mapping[str, Any], kernel: PodKernel) -> dict[str, _Sandbox]:
        found = {}
        for each in self._cri.list_pod_sandbox(filter=wanted).items:
            known = self._sandboxes.get(each.id)
            if (
                known
                and known.key == (each.state, kernel.mounted(known.paths))
                and known.start_ns == kernel.start_ns(known.pause)
            ):
                found[each.id] = known
                continue
            with _gone_is_left_out():
                answer = self._cri.pod_sandbox_status(pod_sandbox_id=each.id, verbose=True)
                pod, paths = read_sandbox(answer), frozenset(verbose.namespace_paths(verbose.info(answer)).values())
                pause = verbose.pid(verbose.info(answer)) if pod.state == "Ready" else 0
                found[each.id] = _Sandbox((each.state, kernel.mounted(paths)), kernel.start_ns(pause), pause, paths, pod)
        return found


def _same_to_pods(before: Mapping[int, Process], now: Mapping[int, Process]) -> bool:
    """Whether they are the same processes, and the same in all that a Pod shows. Whether one sleeps is nothing to a Pod."""
    if before.keys() != now.keys():
        return False
    return all(old is new or _shown(old) == _shown(new) for old, new in zip(before.values(), now.values(), strict=True))


def _shown(process: Process) -> tuple[Any, ...]:
    known = process.comm, process.cmdline, process.namespaces, process.cgroups, process.ended
    return process.pid, process.ppid, process.start_ns, *known


@contextlib.contextmanager
def _gone_is_left_out() -> Iterator[None]:
    try:
        yield
    except CriError as error:
        if not error.gone:
            raise


@dataclass(frozen=True)
class _Container:
    """What a runtime told of a container. It holds as long as the key, what lists show, and the start of its process are so."""

    key: tuple[Any, ...]
    start_ns: int | None
    sandbox: str
    container: PodContainer


@dataclass(frozen=True)
class _Sandbox:
    """The same of a sandbox. paths: of the namespaces that it joined. pod: without what others know of it."""

    key: tuple[Any, ...]
    start_ns: int | None
    pause: int
    paths: frozenset[str]
    pod: PodSnapshot


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


def read_sandbox(answer: api_pb2.PodSandboxStatusResponse) -> PodSnapshot:
    """What the runtime alone knows of a Pod: without its processes, pins and containers."""
    status = answer.status
    state = "Ready" if status.state == api_pb2.SANDBOX_READY else "NotReady"
    metadata = status.metadata
    return PodSnapshot(
        metadata.name, metadata.namespace, metadata.uid, status.id, state, status.network.ip, (), labels=dict(status.labels)
    )


def _join(sandbox: _Sandbox, containers: list[PodContainer], kernel: PodKernel) -> PodSnapshot:
    """A sandbox with the kernel's view: its processes are those in its containers' cgroups, and the shim above them."""
    first: dict[str, int] = {}
    for container in containers:
        first[container.name] = min(container.created_ns, first.get(container.name, container.created_ns))
    containers = sorted(containers, key=lambda c: (first[c.name], c.name, c.attempt))
    processes = pod_processes(sandbox.pod.id, sandbox.pause, containers, kernel)
    return replace(sandbox.pod, processes=processes, pinned=kernel.mounted(sandbox.paths), containers=tuple(containers))


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
