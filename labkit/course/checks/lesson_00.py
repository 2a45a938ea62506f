"""Check of lesson 00, Is my lab real?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import START, absent, command, find, not_ready, own_processes, sleeper, too_few
from labkit.course.verdict import Check, exercise, passed, refused

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("00.1")
def first_pod(node: Node) -> Check:
    """00.1: a Pod `mine` that runs `sleep`."""
    pod = find(node, "mine")
    if pod is None:
        return absent(node, "mine", "whose container sleeps")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1):
        return wrong
    if not (found := sleeper(node, pod)):
        return refused(
            f"the containers of mine run {', '.join(map(command, own_processes(node, pod)))}.",
            "a container of mine whose program is sleep.",
            "One field of the container in the manifest says which program it runs.",
            "Look at `command` in the manifest of the Pod first. A list holds the program and its arguments.",
            taught=START,
        )
    return passed(f"the Pod mine runs {command(found)}, and the kernel shows it as process {found.pid}.")
