"""Where a Pod goes, or why it goes nowhere: the scheduler's decision as one function of what it knows.

The wording is kube-scheduler's (framework/types.go, FitError; plugins/defaultpreemption), checked against recorded events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.apiserver.controllers.filters import ClusterSnapshot, FilterRejection, NodeInfo, first_no, refused_for_all
from labkit.podspec.matching import named_nodes
from labkit.podspec.requests import pod_requests

Manifest = Mapping[str, Any]


@dataclass(frozen=True)
class Assigned:
    node: str


@dataclass(frozen=True)
class Unschedulable:
    """`message` is that of the event FailedScheduling and of the condition PodScheduled."""

    message: str


def place(pod: Manifest, known: ClusterSnapshot) -> Assigned | Unschedulable:
    """Filter every node, then take the one that has most room left (NodeResourcesFit's LeastAllocated; by name among equals)."""
    if not known.nodes:
        return Unschedulable("no nodes available to schedule pods")
    available = f"0/{len(known.nodes)} nodes are available"
    try:
        if reason := refused_for_all(pod, known):
            # What comes after the full stop is what the plugin for device claims says of a Pod that it never saw.
            return Unschedulable(f"{available}: {reason}. not found")
        refused = refusals(pod, known)
    except ValueError as error:
        return Unschedulable(f'running PreFilter plugin "NodeResourcesFit": {error}')
    if free := [info for info in known.nodes if info.name not in refused]:
        return Assigned(max(sorted(free, key=lambda i: i.name), key=lambda i: room_left(pod, i)).node["metadata"]["name"])
    reasons = histogram(reason for no in refused.values() for reason in no.reasons)
    return Unschedulable(f"{available}: {reasons}. {after(pod, refused, available)}")


def refusals(pod: Manifest, known: ClusterSnapshot) -> dict[str, FilterRejection]:
    """Node → why not."""
    only = named_nodes(pod)
    outside = FilterRejection(("node(s) didn't satisfy plugin(s) [NodeAffinity]",), helpless=True)
    found = {info.name: first_no(pod, info, known) if only is None or info.name in only else outside for info in known.nodes}
    return {name: no for name, no in found.items() if no}


def after(pod: Manifest, refused: Mapping[str, FilterRejection], available: str) -> str:
    """What the plugins say that are asked when no node is left: device claims, then preemption, which never happens here."""
    if pod["spec"].get("preemptionPolicy") == "Never":
        return "no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never."
    helpless, hopeless = "Preemption is not helpful for scheduling", "No preemption victims found for incoming pod"
    reasons = histogram(helpless if no.helpless else hopeless for no in refused.values())
    return f"no new claims to deallocate, preemption: {available}: {reasons}."


def histogram(reasons: Iterable[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in Counter(reasons).items()))


def room_left(pod: Manifest, info: NodeInfo) -> float:
    """Mean free share of CPU and memory if the Pod ran there, 0 to 1."""
    wanted = pod_requests(pod)
    shares = [1 - (info.requested[r] + wanted[r]) / info.allocatable[r] for r in ("cpu", "memory") if info.allocatable[r]]
    return sum(shares) / len(shares) if shares else 0.0
