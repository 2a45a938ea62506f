"""What a Kubernetes API says of Pods and nodes, as plain data: made by `labkit.node`, drawn by `labkit.figures`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PodRequest:
    """What one Pod requests of a resource, in the resource's unit."""

    pod: str
    amount: int


@dataclass(frozen=True)
class Resource:
    """One resource of a node: "cpu" in millicores, "memory" and "ephemeral-storage" in bytes, "pods" counted.

    capacity: what the machine has. allocatable: what Pods may have; the difference is reserved. requests: of the Pods bound to
    the node. waiting: those of Pods bound to none.
    """

    name: str
    capacity: int
    allocatable: int
    requests: tuple[PodRequest, ...] = ()
    waiting: tuple[PodRequest, ...] = ()

    @property
    def free(self) -> int:
        """Allocatable less all requests; what the scheduler compares with."""
        return self.allocatable - sum(r.amount for r in self.requests)


@dataclass(frozen=True)
class StatusChange:
    """The STATUS of a Pod, as `kubectl get pods` shows it, from `at_ns` (CLOCK_MONOTONIC) on."""

    at_ns: int
    pod: str
    status: str


@dataclass(frozen=True)
class EventLine:
    """One event as `kubectl describe pod` shows it. at: seconds since 1970 of its last occurrence, whole
    ones. count: how often."""

    at: float
    type: str
    reason: str
    source: str
    message: str
    pod: str
    count: int = 1
    container: str | None = None


@dataclass(frozen=True)
class CgroupLine:
    """One cgroup of Pods, by depth-first order.

    depth: 0 for kubepods. name: "kubepods", "burstable", a Pod's or a container's name. role: "kubepods", "qos", "pod", "pause"
    or "container". cpu_weight: as the file says, cpu.shares or, with cgroup v2, cpu.weight. cpu_limit: millicores, None without.
    memory_limit: bytes, None without. memory_used: bytes, None where not told. path: in the hierarchy.
    """

    depth: int
    name: str
    role: str
    cpu_weight: int | None = None
    cpu_limit: int | None = None
    memory_limit: int | None = None
    memory_used: int | None = None
    path: str = ""


def amount(resource: str, value: int) -> str:
    """An amount in words: 1500 millicores → "1500m", 67108864 bytes → "64 MiB"."""
    if resource == "cpu":
        return f"{value}m"
    if resource == "pods":
        return str(value)
    return size(value)


def size(value: int) -> str:
    """Bytes as people write them: 67108864 → "64 MiB"."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if abs(value) >= 1024**power:
            return f"{value / 1024**power:.3g} {unit}"
    return f"{value} B"


def statuses(changes: Sequence[StatusChange], pod: str) -> tuple[str, ...]:
    """The statuses of one Pod in their order, each once in a row."""
    found: list[str] = []
    for change in changes:
        if change.pod == pod and (not found or found[-1] != change.status):
            found.append(change.status)
    return tuple(found)
