"""What a Pod asks of a node: the sums that the scheduler compares with Allocatable.

Knowledge: component-helpers' resource package (PodRequests), pkg/scheduler/framework/types.go. CPU in millicores, everything else
in units (bytes, pieces).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.kubeapi.quantity import milli, whole

Manifest = Mapping[str, Any]
OF_WHOLE_POD = ("cpu", "memory")
"""Resources that `spec.resources` of a Pod may name; hugepages-* too."""


def amounts(quantities: Mapping[str, Any] | None) -> Counter[str]:
    """{"cpu": "250m", "memory": "1Gi"} → {"cpu": 250, "memory": 1073741824}. Raises ValueError."""
    return Counter({name: milli(text) if name == "cpu" else whole(text) for name, text in (quantities or {}).items()})


def pod_requests(pod: Manifest) -> Counter[str]:
    """The containers' sum with the sidecars', or an init container's peak where that is more; what the Pod itself requests in
    their place; overhead on top."""
    spec = pod["spec"]
    total = added(requested(c) for c in spec["containers"])
    sidecars: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            sidecars.update(requested(container))
            peak |= sidecars
        else:
            peak |= added([sidecars, requested(container)])
    total = added([total, sidecars]) | peak
    own = amounts((spec.get("resources") or {}).get("requests"))
    total.update({n: own[n] - total[n] for n in own if n in OF_WHOLE_POD or n.startswith("hugepages-")})
    return added([total, amounts(spec.get("overhead"))])


def host_ports(pod: Manifest) -> set[tuple[str, str, int]]:
    """(address, protocol, port) of each port that the Pod takes of the node itself."""
    spec = pod["spec"]
    lasting = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    ports = [port for c in [*lasting, *spec["containers"]] for port in c.get("ports") or []]
    taken = [(p, p.get("hostPort") or (p["containerPort"] if spec.get("hostNetwork") else 0)) for p in ports]
    return {(p.get("hostIP") or "0.0.0.0", p.get("protocol") or "TCP", number) for p, number in taken if number}


def requested(container: Manifest) -> Counter[str]:
    """Requests of one container; a limit stands for a request that is missing (the API server's default)."""
    resources = container.get("resources") or {}
    return amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def added(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return total
