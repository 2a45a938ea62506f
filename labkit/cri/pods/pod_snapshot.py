"""A Pod at one moment, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labkit.util.showable import Absent

ROLES = ("host", "kubelet", "containerd", "shim", "runc", "cni", "pause", "application", "exec", "other")
"""Each process of a figure, a table or a JSON answer has one of these roles."""


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
