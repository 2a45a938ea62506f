"""May this Pod run on this node? What the scheduler did not look at, or could not know. Pure.

Knowledge: kubelet's lifecycle/predicate.go, component-helpers' nodeaffinity and scheduler's noderesources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.cri.quantity import milli, whole
from labkit.cri.resources import pod_requests

AFFINITY_WORDS = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Rejection:
    """`reason` for the status and the event (OutOfcpu, NodeAffinity …), `message` in the kubelet's words."""

    reason: str
    message: str


def admit(pod: Mapping[str, Any], others: Iterable[Mapping[str, Any]], labels: Mapping[str, str],
          allocatable: Mapping[str, str]) -> Rejection | None:  # fmt: skip
    """Why the node rejects a Pod, None if it does not. `others`: the Pods that run here already."""
    selector = pod["spec"].get("nodeSelector", {})
    if any(labels.get(key) != value for key, value in selector.items()):
        return Rejection("NodeAffinity", AFFINITY_WORDS)
    running = [other for other in others if (other.get("status") or {}).get("phase") not in ENDED]
    if allocatable and len(running) + 1 > int(allocatable.get("pods", 110)):
        return Rejection("OutOfpods", f"Node didn't have enough resource: pods, requested: 1, used: {len(running)}, "
                                      f"capacity: {allocatable.get('pods', 110)}")  # fmt: skip
    asked, used = pod_requests(pod), [pod_requests(other) for other in running]
    for name, read in (("cpu", milli), ("memory", whole)):
        if name not in allocatable or not asked.get(name):
            continue
        taken, capacity = sum(one.get(name, 0) for one in used), read(allocatable[name])
        if taken + asked[name] > capacity:
            words = f"Node didn't have enough resource: {name}, requested: {asked[name]}, used: {taken}, capacity: {capacity}"
            return Rejection(f"OutOf{name}", words)
    taken_ports = set().union(*(host_ports(other) for other in running)) if running else set()
    if host_ports(pod) & taken_ports:
        return Rejection("NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports")
    return None


def host_ports(pod: Mapping[str, Any]) -> set[tuple[str, int]]:
    """(protocol, port) of the node that a Pod takes."""
    containers = pod["spec"]["containers"]
    return {(p.get("protocol", "TCP"), p["hostPort"]) for c in containers for p in c.get("ports", ()) if p.get("hostPort")}
