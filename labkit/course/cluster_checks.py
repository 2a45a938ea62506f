"""Checks of the exercises that are done through the Kubernetes API (notebooks 05 and 06)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.broken import COMMANDS
from labkit.course.verdict import Check
from labkit.node.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node


def runs(node: Node, name: str) -> Check | None:
    """What is still wrong with a Pod that shall run its own program; None when nothing is."""
    try:
        status = node.cluster.status(name)
    except NodeError:
        return Check(False, f"there is no Pod called {name}.")
    if status != "Running":
        return Check(False, f"the Pod {name} does not run.")
    wanted = COMMANDS[name]
    found = [p.cmdline for p in node.pod(name).processes if p.role == "application"]
    if wanted not in found:
        return Check(False, f"the Pod {name} runs, but not its own program, {' '.join(wanted)}.")
    return None


def api_repaired(node: Node) -> Check:
    """05.1: `api` runs, and still has its Secret."""
    wrong = runs(node, "api")
    if wrong:
        return wrong
    pod = node.kube.read_namespaced_pod("api", "default")
    if not any(v.secret and v.secret.secret_name == "api-key" for v in pod.spec.volumes or []):
        return Check(False, "the Pod api runs, but without its Secret api-key.")
    return Check(True, "api runs, and has its key.")


def worker_repaired(node: Node) -> Check:
    """05.2: `worker` runs."""
    return runs(node, "worker") or Check(True, "worker runs: its image is one that the registry has.")


def cache_repaired(node: Node) -> Check:
    """05.3: `cache` runs."""
    return runs(node, "cache") or Check(True, "cache runs: the scheduler found a node for it.")


def exact_fit(node: Node) -> Check:
    """06.1: a Pod `exact` of class Guaranteed takes all CPU that was free."""
    try:
        status = node.cluster.status("exact")
    except NodeError:
        return Check(False, "there is no Pod called exact.")
    pod = node.kube.read_namespaced_pod("exact", "default")
    if pod.status.qos_class != "Guaranteed":
        return Check(False, f"the Pod exact is of class {pod.status.qos_class}, not Guaranteed.")
    if status != "Running":
        return Check(False, f"the Pod exact is {status}.")
    free = next(r.free for r in node.cluster.capacity() if r.name == "cpu")
    if free:
        return Check(False, f"the Pod exact runs, but {free}m of CPU are still free.")
    return Check(True, "exact runs, and not a millicore is left.")
