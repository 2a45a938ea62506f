"""Reads the Pods of a node: the runtime's answers, joined with the kernel's view."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.cri.pods.pod_kernel import PodKernel, pod_processes
from labkit.cri.pods.pod_snapshot import PodContainer, PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.kernel import Process, Snapshot

CONTAINER_STATES = {
    api_pb2.CONTAINER_CREATED: "Created",
    api_pb2.CONTAINER_RUNNING: "Running",
    api_pb2.CONTAINER_EXITED: "Exited",
}


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
