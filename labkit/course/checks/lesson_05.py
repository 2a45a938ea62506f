"""Checks of lesson 05, Why is my Pod stuck in ContainerCreating?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.course.broken import COMMANDS, SECRET
from labkit.course.verdict import Check, exercise
from labkit.node.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

ENDED = ("Completed", "Error", "CrashLoopBackOff", "OOMKilled", "Terminating")
"""Statuses of a Pod that did run: its program is not the one that it was meant to run, or the Pod is on its way out."""


def runs(node: Node, name: str) -> Check | None:
    """What is still wrong with a Pod that shall run its own program; None when nothing is."""
    try:
        status = node.cluster.status(name)
    except NodeError:
        return Check(False, f"there is no Pod called {name}.")
    if status != "Running":
        return Check(False, f"the Pod {name} does not run{f' any more: it is {status}' if status in ENDED else ''}.")
    wanted = COMMANDS[name]
    found = [p.cmdline for p in node.pod(name).processes if p.role == "application"]
    if wanted not in found:
        return Check(False, f"the Pod {name} runs, but not its own program, {' '.join(wanted)}.")
    return None


def mounts(pod: Any, secret: str) -> bool:
    """Whether a container of the Pod mounts that Secret."""
    volumes = {v.name for v in pod.spec.volumes or [] if v.secret and v.secret.secret_name == secret}
    return any(m.name in volumes for c in pod.spec.containers for m in c.volume_mounts or [])


@exercise("05.1")
def api_repaired(node: Node) -> Check:
    """05.1: `api` runs, and still has its Secret, which is there (an optional one need not be)."""
    wrong = runs(node, "api")
    if wrong:
        return wrong
    if not mounts(node.kube.read_namespaced_pod("api", "default"), SECRET):
        return Check(False, f"the Pod api runs, but no longer mounts its Secret {SECRET}.")
    if SECRET not in [s.metadata.name for s in node.kube.list_namespaced_secret("default").items]:
        return Check(False, f"the Pod api runs, but there is no Secret {SECRET}: it runs without its key.")
    return Check(True, "api runs, and has its key.")


@exercise("05.2")
def worker_repaired(node: Node) -> Check:
    """05.2: `worker` runs."""
    return runs(node, "worker") or Check(True, "worker runs: its image is one that the registry has.")


@exercise("05.3")
def cache_repaired(node: Node) -> Check:
    """05.3: `cache` runs."""
    return runs(node, "cache") or Check(True, "cache runs: the scheduler found a node for it.")
