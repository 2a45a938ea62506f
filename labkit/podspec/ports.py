"""The ports of a node that a Pod takes. Knowledge: pkg/scheduler/util (GetHostPorts) and framework/types.go (HostPortInfo)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labkit.podspec.container_kinds import sidecars

Manifest = Mapping[str, Any]
EVERYWHERE = "0.0.0.0"


def host_ports(pod: Manifest) -> set[tuple[str, str, int]]:
    """(address, protocol, port) of each port that a Pod takes of the node itself: on its network every port."""
    spec = pod["spec"]
    ports = [port for c in (*sidecars(spec), *spec["containers"]) for port in c.get("ports") or ()]
    taken = [(p, p.get("hostPort") or (p["containerPort"] if spec.get("hostNetwork") else 0)) for p in ports]
    return {(p.get("hostIP") or EVERYWHERE, p.get("protocol") or "TCP", number) for p, number in taken if number}


def ports_are_free(pod: Manifest, others: Iterable[Manifest]) -> bool:
    """Whether none of the other Pods has a host port that this one wants: of one address, or one of them of all addresses."""
    taken = {port for other in others for port in host_ports(other)}
    return not any(_conflict(wanted, port) for wanted in host_ports(pod) for port in taken)


def _conflict(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or EVERYWHERE in (one[0], other[0]))
