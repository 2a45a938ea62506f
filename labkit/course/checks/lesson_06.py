"""Check of lesson 06, What may my Pod have?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.verdict import Check, exercise
from labkit.node.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("06.1")
def exact_fit(node: Node) -> Check:
    """06.1: a Pod `exact` of class Guaranteed takes all CPU that was free."""
    try:
        status = node.cluster.status("exact")
    except NodeError:
        return Check(False, "there is no Pod called exact.")
    cpu = next(r for r in node.cluster.capacity() if r.name == "cpu")
    asked = next((w.amount for w in cpu.waiting if w.pod == "exact"), 0)
    if asked > cpu.free:
        return Check(False, f"the Pod exact waits: it requests {asked}m of CPU, and {cpu.free}m are free.")
    if status != "Running":
        return Check(False, f"the Pod exact is {status}.")
    pod = node.kube.read_namespaced_pod("exact", "default")
    if pod.status.qos_class != "Guaranteed":
        return Check(False, f"the Pod exact is of class {pod.status.qos_class}, not Guaranteed.")
    if cpu.free:
        return Check(False, f"the Pod exact runs, but {cpu.free}m of CPU are still free.")
    return Check(True, "exact runs, and not a millicore is left.")
