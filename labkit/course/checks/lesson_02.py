"""Checks of lesson 02, What holds a Pod together?"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import absent, find, first_processes, not_ready, too_few
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.course.wait import within
from labkit.cri import verbose
from labkit.cri.pods import PodContainer, PodSnapshot
from labkit.cri.v1.api_pb2 import POD

if TYPE_CHECKING:
    from labkit.node import Node

WHO = "notebook 02, “Who shares what?”"
PID = "notebook 02, “A shared PID namespace”"
ENDS_S = 2.0
"""The runtime may report the end of a container a moment after that of the sandbox."""


@exercise("02.1")
def host_window(node: Node) -> Check:
    """02.1: a Pod `window` on the host's network."""
    pod = find(node, "window")
    if pod is None:
        return absent(node, "window", "on the host's network")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1):
        return wrong
    host, own = node.host_namespaces(), next(iter(first_processes(pod).values())).namespaces
    if own["net"] != host["net"]:
        others = [kind for kind in ("ipc", "pid", "uts") if own[kind] == host[kind]]
        also = f", and shares {' and '.join(others)} with the node" if others else ""
        return refused(
            f"window has a network namespace of its own{also}.",
            "a Pod in the node's network namespace.",
            "The network is chosen for the whole Pod, not for a container: look for a field of the Pod's spec.",
            "labkit.namespace_matrix([…], host=node.host_namespaces()) draws your Pod. The column net must be hollow.",
            taught=WHO,
        )
    shared = [kind for kind in ("net", "uts", "ipc", "pid") if own[kind] == host[kind]]
    return passed(f"window uses these namespaces of the node: {', '.join(shared)}.")


@exercise("02.2")
def reaped(node: Node) -> Check:
    """02.2: the pause of a Pod `twins` was killed, and two containers that shared its PID namespace have ended with it."""
    pod = find(node, "twins")
    if pod is None:
        return absent(node, "twins", "with two containers and a shared PID namespace")
    if pod.state != "Ready":
        return after_the_pause(node, pod)
    if wrong := too_few(pod, 2):
        return wrong
    apps = first_processes(pod)
    spaces = {p.namespaces["pid"] for p in apps.values()}
    if node.host_namespaces()["pid"] in spaces:
        return refused(
            "the processes of twins are in the node's PID namespace, with all processes of the node.",
            "a PID namespace that twins has for itself, with its pause as process 1.",
            "The Pod should see its own processes and no others. Which field creates a PID namespace for a Pod?",
            taught=PID,
        )
    pauses = {p.namespaces["pid"] for p in pod.processes if p.role == "pause"}
    if len(spaces) > 1 or not spaces <= pauses:
        return refused(
            f"the two containers of twins are in {len(spaces)} PID namespaces, and the pause is not in the same.",
            "one PID namespace for the pause and both containers.",
            "By default each container has a PID namespace of its own. A field of the Pod's spec changes this.",
            "The Pod family in this notebook has the field.",
            taught=PID,
        )
    return refused(
        "step 1 is done: the pause and both containers of twins are in one PID namespace.",
        "step 2, the death of the pause.",
        "What did you do with the pause of shop? Do the same with that of twins.",
        'Among node.pod("twins").processes one has the role pause. node.kill takes its pid and the number of a signal.',
        taught="notebook 02, “Kill the pause”",
    )


def after_the_pause(node: Node, pod: PodSnapshot) -> Check:
    """Step 2 of the exercise has killed the pause; the runtime still knows what the Pod was."""
    options = node.cri.pod_sandbox_status(pod_sandbox_id=pod.id).status.linux.namespaces.options
    apart = [container.name for container in pod.containers if has_its_own(node, "pid", container.id)]
    shared = options.pid == POD and not apart
    if options.network == POD and not pod.pinned:
        return refused(
            "the sandbox of twins was stopped: the bind mount of its network namespace is gone.",
            "a twins whose pause was killed.",
            "StopPodSandbox ends the containers itself. Step 2 is about what the kernel does when the pause ends.",
            taught="notebook 02, “Kill the pause”",
        )
    if shared and within(ENDS_S, lambda: len(killed(find(node, pod.name) or pod)) >= 2):
        return passed("the sandbox of twins has ended with its pause, and its containers with it (exit code 137 = 128 + 9).")
    if shared:
        return not_ready(pod)
    whose = "The containers had no PID namespace in common"
    if options.pid == POD:
        whose = f"It shared its PID namespace, but {' and '.join(apart)} had one of their own"
    return refused(
        f"the sandbox of twins has ended. {whose}.",
        "a Pod twins with one PID namespace for the pause and both containers.",
        "Begin with step 1 again: remove twins, and start it with a shared PID namespace.",
        taught=PID,
    )


def killed(pod: PodSnapshot) -> list[PodContainer]:
    """The containers that SIGKILL has ended."""
    return [container for container in pod.containers if container.exit_code == 128 + signal.SIGKILL]


def has_its_own(node: Node, kind: str, container_id: str) -> bool:
    """Whether a namespace was made for the container, by its OCI configuration; no where the runtime does not report that."""
    found = verbose.info(node.cri.container_status(container_id=container_id, verbose=True))
    listed = verbose.at(found, "runtimeSpec", "linux", "namespaces") or []
    return any(namespace["type"] == kind and not namespace.get("path") for namespace in listed)
