"""What a Pod asks of a node: the sums that scheduler and kubelet compare with Allocatable, and that its cgroup is made of.

Knowledge: component-helpers' resource package (PodRequests, PodLimits), pkg/scheduler/framework/types.go. CPU in millicores,
everything else in units (bytes, pieces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.podspec.container_kinds import is_sidecar
from labkit.podspec.quantity import milli, whole

Manifest = Mapping[str, Any]
OF_WHOLE_POD = ("cpu", "memory")
"""Resources that `spec.resources` of a Pod may name; hugepages-* too."""


@dataclass(frozen=True)
class Lack:
    """A resource of which a node has too little: what a Pod requests, what others use, what there is."""

    name: str
    requested: int
    used: int
    capacity: int


def amounts(quantities: Manifest | None) -> Counter[str]:
    """{"cpu": "250m", "memory": "1Gi"} → {"cpu": 250, "memory": 1073741824}. Raises ValueError."""
    return Counter({name: milli(text) if name == "cpu" else whole(text) for name, text in (quantities or {}).items()})


def pod_requests(pod: Manifest) -> Counter[str]:
    """What a Pod (with defaults) asks of its node; only what is named."""
    return added([pod_total(pod, "requests"), amounts(pod["spec"].get("overhead"))])


def pod_total(pod: Manifest, kind: str) -> Counter[str]:
    """Requests or limits (`kind`) of a Pod without its overhead: what the Pod itself names, else its containers' together."""
    total = of_containers(pod["spec"], kind)
    own = amounts((pod["spec"].get("resources") or {}).get(kind))
    total.update({n: own[n] - total[n] for n in own if n in OF_WHOLE_POD or n.startswith("hugepages-")})
    return total


def of_containers(spec: Manifest, kind: str) -> Counter[str]:
    """The containers' sum with the sidecars', or an init container's peak with the sidecars before it, where that is more."""
    total = added(_named(container, kind) for container in spec.get("containers") or ())
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        now = added([sidecars, _named(container, kind)])
        peak.update({name: now[name] - peak[name] for name in now if now[name] >= peak[name]})
        if is_sidecar(container):
            sidecars = now
    total.update(sidecars)
    total.update({name: peak[name] - total[name] for name in peak if peak[name] >= total[name]})
    return total


def lacking(wanted: Counter[str], used: Counter[str], pods: int, allocatable: Counter[str]) -> list[Lack]:
    """What a node has too little of for a Pod that requests `wanted`, beside `pods` others that use `used` (NodeResourcesFit)."""
    first = ("cpu", "memory", "ephemeral-storage")
    names = sorted(wanted, key=lambda name: (first.index(name) if name in first else len(first), name))
    asked = [("pods", 1, pods), *((name, wanted[name], used[name]) for name in names if wanted[name] > 0)]
    return [Lack(name, new, taken, allocatable[name]) for name, new, taken in asked if new + taken > allocatable[name]]


def added(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _named(container: Manifest, kind: str) -> Counter[str]:
    """Requests or limits of one container; a limit stands for a request that is missing (the API server's default)."""
    resources = container.get("resources") or {}
    return amounts({**((resources.get("limits") or {}) if kind == "requests" else {}), **(resources.get(kind) or {})})
