"""Checks of lesson 02, What holds a Pod together?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.checks.pods import applications, find
from labkit.course.verdict import Check, exercise

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("02.1")
def host_window(node: Node) -> Check:
    """02.1: a Pod `window` on the host's network, which still has an IPC namespace of its own."""
    pod = find(node, "window")
    if pod is None:
        return Check(False, "there is no Pod called window on the node.")
    apps, shims = applications(pod), [p for p in pod.processes if p.role == "shim"]
    if not apps or not shims:
        return Check(False, "the Pod window has no application process.")
    if apps[0].namespaces["net"] != shims[0].namespaces["net"]:
        return Check(False, "the Pod window has a network namespace of its own.")
    if apps[0].namespaces["ipc"] == shims[0].namespaces["ipc"]:
        return Check(False, "the Pod window uses the host's IPC namespace too; only the network was asked for.")
    return Check(True, "window uses the host's network namespace, and an IPC namespace of its own.")


@exercise("02.2")
def reaped(node: Node) -> Check:
    """02.2: a Pod `twins` of two containers in one PID namespace, where the pause is PID 1."""
    pod = find(node, "twins")
    if pod is None:
        return Check(False, "there is no Pod called twins on the node.")
    apps = applications(pod)
    if len({p.container for p in apps}) < 2:
        return Check(False, "the Pod twins has fewer than two running containers.")
    inside = [p for p in pod.processes if p.role != "shim"]
    if len({p.namespaces["pid"] for p in inside}) != 1:
        return Check(False, "the processes of twins are in different PID namespaces.")
    return Check(True, "pause and both containers of twins are in one PID namespace.")
