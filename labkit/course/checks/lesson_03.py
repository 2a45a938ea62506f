"""Checks of lesson 03, From a call to a process."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import (
    absent,
    command,
    find,
    first_processes,
    not_ready,
    program,
    session,
    starts_no_other,
    too_few,
)
from labkit.course.verdict import Check, exercise, passed, refused

if TYPE_CHECKING:
    from labkit.node import Node

EXEC = "notebook 03, “A command in the container”"


@exercise("03.1")
def one_shim(node: Node) -> Check:
    """03.1: a Pod `duo` of two containers under one shim, or, with CRI-O, each under a conmon of its own."""
    pod = find(node, "duo")
    if pod is None:
        return absent(node, "duo", "with two containers")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 2):
        return wrong
    parents = {p.ppid for p in first_processes(pod).values()}
    shims = {p.pid for p in pod.processes if p.role == "shim"}
    if not parents <= shims:
        return refused(
            f"the parents of the containers' first processes are {sorted(parents)}, and the Pod's shims are {sorted(shims)}.",
            "two containers whose parent is a shim of the Pod.",
            "Has somebody killed the shim of duo? Remove the Pod and start it again.",
            taught="notebook 03, “StartContainer”",
        )
    if len(parents) == 1:
        return passed("both containers of duo have the same parent: the Pod has one shim.")
    return passed("each container of duo has a parent of its own: this runtime has a shim for each container.")


@exercise("03.2")
def left_behind(node: Node) -> Check:
    """03.2: a process in a container of `duo`, left behind by an exec, whose parent is the container's first process."""
    pod = find(node, "duo")
    if pod is None:
        return absent(node, "duo", "with two containers (exercise 03.1)")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1):
        return wrong
    first = first_processes(pod)
    others = [p for p in pod.processes if p.container and p.role != "shim" and p.pid not in first]
    if not others:
        return refused(
            "each container of duo has one process, its first.",
            "a second process in a container of duo.",
            "ExecSync returns when its command has ended. What must the command leave behind?",
            "A shell that ends a line with & does not wait for the program.",
            taught=EXEC,
        )
    own_sessions = {session(node, p) for p in first.values()}
    by_exec = [p for p in others if session(node, p) not in own_sessions]
    if not by_exec:
        return refused(
            f"{command(others[0])} was started by the container's own program, not by an exec.",
            "a process that ExecSync has brought into the container.",
            "The container's command stays as it was. A CRI call runs another command in a container that runs already.",
            taught=EXEC,
        )
    orphan = next((p for p in by_exec if p.ppid in first), None)
    pauses = {p.pid for p in pod.processes if p.role == "pause"}
    if orphan is None and any(p.ppid in pauses for p in by_exec):
        return refused(
            f"the parent of {command(next(p for p in by_exec if p.ppid in pauses))} is the pause of duo.",
            "a process whose parent is its container's first process.",
            "The containers of this duo share one PID namespace. Whose process is number 1 in it?",
            "Make duo without shareProcessNamespace, and run the command again.",
            taught="notebook 02, “A shared PID namespace”",
        )
    if orphan is None:
        return refused(
            f"{command(by_exec[0])} still has the parent that started it.",
            "a process whose parent has ended.",
            "The shell that ExecSync has started must end before its child does.",
            taught=EXEC,
        )
    name = next(c.name for c in pod.containers if c.pid == orphan.ppid)
    started = program(node, pod, name)
    if not starts_no_other(started):
        return refused(
            f"the container {name} was started with {shlex.join(started)}, which may have left {command(orphan)} behind itself.",
            "a container whose own program starts no other, so that only an exec can have brought the process.",
            "Let the containers of duo run sleep, and run the shell only with ExecSync.",
            taught=EXEC,
        )
    return passed(f"{command(orphan)} was left behind by an exec, and is now a child of the first process of {name}.")
