"""Check of lesson 06, What may my Pod have?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from labkit.course.verdict import Check, exercise, passed, refused
from labkit.figures.pods.cluster_model import Resource
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

FIT = "notebook 06, “What the node reports about itself”"
CLASS = "notebook 06, “The same numbers in the kernel”"


@exercise("06.1")
def exact_fit(node: Node) -> Check:
    """06.1: a Pod `exact` of class Guaranteed takes all CPU that was free when it was made."""
    try:
        status = node.cluster.status("exact")
    except NodeError:
        return refused(
            "there is no Pod called exact.",
            "a Pod exact, made through the API.",
            "The function `pod` of this notebook makes a manifest, and cluster.apply hands it to the API server.",
            "The scheduler must see the Pod. It does not see one that node.start_pod makes.",
            taught=FIT,
        )
    cpu = next(r for r in node.cluster.capacity(others=True) if r.name == "cpu")
    asked = next((w.amount for w in cpu.waiting if w.pod == "exact"), 0)
    if asked > cpu.free:
        return refused(
            f"the Pod exact waits: it requests {asked}m of CPU, and {cpu.free}m are free.",
            "a request that fits.",
            "Has another Pod taken CPU since you looked? The number changes with each Pod.",
            "cluster.capacity() knows how much is free, to the millicore.",
            taught=FIT,
        )
    if status != "Running":
        hint = "`kubectl describe pod exact` says in its Events what it waits for, or why it has ended."
        return refused(f"the Pod exact is {status}.", "a Pod exact that runs.", hint, taught=FIT)
    pod: Any = node.kube.read_namespaced_pod("exact", "default")
    if pod.status.qos_class != "Guaranteed":
        return refused(
            f"the Pod exact runs, and is of class {pod.status.qos_class}.",
            "the class Guaranteed.",
            "The class follows from requests and limits of CPU and of memory. Which of the four are set?",
            "Guaranteed needs limits of both, and requests that are equal to them.",
            taught=CLASS,
        )
    mine, free, younger = request_and_free(node, cpu)
    if mine < free:
        rest = f" or taken by {', '.join(younger)}, which came later" if younger else ""
        return refused(
            f"the Pod exact requests {mine}m, and another {free - mine}m are free{rest}.",
            "a request of all CPU that is free.",
            "Allocatable less all requests is what is free. How many millicores is that?",
            "Remove exact, and what you have started since. Then read the number of free millicores, and use it.",
            taught=FIT,
        )
    return passed(f"exact runs with {mine}m, and not a millicore is left.")


def request_and_free(node: Node, cpu: Resource) -> tuple[int, int, list[str]]:
    """The CPU that `exact` requests, how much of it was free when `exact` was made, and the younger Pods that request CPU:
    what they request was free then."""
    pods: Any = node.kube.list_pod_for_all_namespaces().items
    made = {p.metadata.name: p.metadata.creation_timestamp for p in pods}
    requested = {r.pod: r.amount for r in cpu.requests}
    mine = requested.pop("exact")
    born = {pod.name: container.created_ns for pod in node.pods(others=True) for container in pod.containers[:1]}
    order = {name: (when, born.get(name, sys.maxsize)) for name, when in made.items()}  # the API counts whole seconds
    younger = [name for name in requested if order[name] > order["exact"]]
    return mine, cpu.free + mine + sum(requested[name] for name in younger), younger
