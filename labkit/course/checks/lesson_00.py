"""Check of lesson 00, Is my lab real?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.checks.pods import applications, find
from labkit.course.verdict import Check, exercise

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("00.1")
def first_pod(node: Node) -> Check:
    """00.1: a Pod `mine` that runs `sleep`."""
    pod = find(node, "mine")
    if pod is None:
        return Check(False, "there is no Pod called mine on the node.")
    if not any(p.comm == "sleep" or "sleep" in p.cmdline for p in applications(pod)):
        return Check(False, "the Pod mine is there, but no process of it is a sleep.")
    return Check(True, "the Pod mine runs a sleep, and the kernel shows its process.")
