"""Check of lesson 04, What survives when the runtime dies? It kills containerd."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import absent, find, first_processes, not_ready, running, too_few
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.cri.pods import PodSnapshot
from labkit.util.unix_sockets import private_socket

if TYPE_CHECKING:
    from labkit.node import Node

QUIET_S, HEARD_WITHIN_S = 1.0, 10.0
AWAY_S = {"once": 1.0, "twice": 4.0}
"""How long containerd is down: not equally long, so that a script that counts seconds is found out."""
WORDS = ["away", "back"]
TAUGHT = "notebook 04, “Kill containerd”"
SOCKETS = "notebook 02, exercise 02.1, and notebook 00, “The socket”"


@exercise("04.1")
def noticed(node: Node) -> Check:
    """04.1: a Pod `watchman` whose log says "away" when containerd goes and "back" when it has returned, and nothing else.

    Watches the log while nothing happens, kills containerd, starts it again, and reads what was logged meanwhile. It does so
    twice. Another socket's name begins like containerd's all the time.
    """
    pod = find(node, "watchman")
    if pod is None:
        return absent(node, "watchman", "that prints away and back")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1, ", which does not end"):
        return wrong
    path = node.cri.container_status(container_id=running(pod)[0].id).status.log_path
    with similar_socket(node):
        for count in ("once", "twice"):
            if wrong := one_death(node, pod, path, count):
                return wrong
    return passed("watchman noticed twice that containerd was killed, and twice that it came back.")


def one_death(node: Node, pod: PodSnapshot, path: str, count: str) -> Check | None:
    known = len(logged(node, path))
    time.sleep(QUIET_S)
    if early := logged(node, path)[known:]:
        return refused(
            f"watchman prints {early[0]!r} although containerd was running all the time.",
            "a watchman that prints only when something has changed.",
            "A loop that prints in each round says too much. What must it remember from the round before?",
            "Does the socket that you look for match one line of /proc/net/unix, and only while containerd runs?",
            taught=TAUGHT,
        )
    try:
        node.daemon.kill()
        time.sleep(AWAY_S[count])
    finally:
        node.daemon.start()
    heard = wait_for(node, path, known)
    if heard == WORDS:
        return None
    own = any(p.namespaces["net"] != node.host_namespaces()["net"] for p in first_processes(pod).values())
    where = "a network namespace of its own" if own else "the node's network namespace"
    saw = f"containerd was killed and started again {count}. watchman is in {where}, and printed {', '.join(heard) or 'nothing'}."
    if "away" not in heard:
        return refused(saw, "the word away after the death of containerd.", *on_sight(own), taught=SOCKETS)
    if "back" not in heard:
        hint = "The loop must continue after the first word, and look for the socket again."
        return refused(saw, "the word back after containerd's return.", hint, taught=TAUGHT)
    return refused(
        saw,
        "away once and back once, in this order, and nothing else.",
        "Print a word only when the answer differs from the one of the round before.",
        "A new containerd needs a moment before it listens. Does your script wait for that?",
        taught=TAUGHT,
    )


def on_sight(own: bool) -> tuple[str, ...]:
    """Hints for a watchman that has not seen the death, by whether its network namespace is its own."""
    if own:
        return (
            "What does /proc/net/unix list in the container? Run `cat /proc/net/unix` there with ExecSync, and compare.",
            "The list is one for each network namespace, and watchman is not in the node's.",
        )
    return (
        "How many lines of /proc/net/unix match what you look for? More than one socket's name may begin with containerd's path.",
        "Run your script with ExecSync while containerd is there, and then by hand with another path. Do the answers differ?",
    )


@contextlib.contextmanager
def similar_socket(node: Node) -> Iterator[None]:
    """Listen on a socket whose name begins like containerd's, where the node's sockets are this machine's."""
    if node.kind != "containerd":
        yield
        return
    path = Path(f"{node.socket_path}.ttrpc.check")
    with private_socket(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def logged(node: Node, path: str) -> list[str]:
    """The lines of a container's log, without time, stream and tag."""
    lines = node.shell(["cat", path]).splitlines()
    return [line.split(" ", 3)[3].strip() for line in lines if line.count(" ") >= 3]


def wait_for(node: Node, path: str, known: int) -> list[str]:
    """What was logged after the first `known` lines, as soon as the last of it is "back", or after a while."""
    deadline = time.monotonic() + HEARD_WITHIN_S
    while True:
        heard = logged(node, path)[known:]
        if heard[-1:] == ["back"] or time.monotonic() > deadline:
            return heard
        time.sleep(0.1)
