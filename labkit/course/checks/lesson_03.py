"""Checks of lesson 03, From a call to a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.checks.pods import applications, find
from labkit.course.verdict import Check, exercise

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("03.1")
def one_shim(node: Node) -> Check:
    """03.1: a Pod `duo` of two containers under one shim, or, with CRI-O, each under a conmon of its own."""
    pod = find(node, "duo")
    if pod is None:
        return Check(False, "there is no Pod called duo on the node.")
    first = {c.pid: c.name for c in pod.containers if c.state == "Running"}
    if len(first) < 2:
        return Check(False, "the Pod duo has fewer than two running containers.")
    parents = {p.ppid for p in applications(pod) if p.pid in first}
    shims = {p.pid for p in pod.processes if p.role == "shim"}
    if not parents or not parents <= shims:
        return Check(False, "the parent of a container of duo is no shim of the Pod's.")
    if len(parents) == 1:
        return Check(True, "both containers of duo have the same parent: the Pod has one shim.")
    return Check(True, "each container of duo has a parent of its own: this runtime has a shim for each container.")


@exercise("03.2")
def left_behind(node: Node) -> Check:
    """03.2: a second process in a container of `duo`, left behind by an exec, whose parent is the container's first."""
    pod = find(node, "duo")
    if pod is None:
        return Check(False, "there is no Pod called duo on the node.")
    first = {c.pid: c.name for c in pod.containers}
    others = [p for p in pod.processes if p.container and p.pid not in first]
    if not others:
        return Check(False, "each container of duo has one process only; nothing was left behind in them.")
    orphan = next((p for p in others if p.ppid in first), None)
    if orphan is None:
        return Check(False, f"{others[0].comm} still has the parent that started it: let that one end.")
    return Check(True, f"{orphan.comm} was left behind, and is now a child of the first process of {first[orphan.ppid]}.")
