"""Check of lesson 04, What survives when the runtime dies? It kills containerd."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from labkit.course.verdict import Check, exercise
from labkit.node.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

QUIET_S, AWAY_S, HEARD_WITHIN_S = 1.0, 1.0, 10.0
WORDS = ("away", "back")


@exercise("04.1")
def noticed(node: Node) -> Check:
    """04.1: a Pod `watchman` whose log says "away" when containerd goes and "back" when it has returned, and nothing else.

    Watches the log while nothing happens, kills containerd, starts it again, and reads what was logged meanwhile.
    """
    try:
        pod = node.pod("watchman")
    except NodeError:
        return Check(False, "there is no Pod called watchman on the node.")
    running = [c for c in pod.containers if c.state == "Running"]
    if pod.state != "Ready" or not running:
        return Check(False, "the Pod watchman has no running container.")
    path = node.cri.container_status(container_id=running[0].id).status.log_path
    known = len(logged(node, path))
    time.sleep(QUIET_S)
    if early := logged(node, path)[known:]:
        return Check(False, f"watchman says {early[0]!r} although containerd was there all the time.")
    try:
        node.daemon.kill()
        time.sleep(AWAY_S)
    finally:
        node.daemon.start()
    heard = wait_for(node, path, known)
    if "away" not in heard:
        return Check(False, "containerd was killed and started again, and watchman did not say 'away'.")
    if "back" not in heard:
        return Check(False, "watchman said 'away', but not 'back' when containerd had returned.")
    if heard != list(WORDS):
        return Check(False, f"containerd went once and came back once, and watchman said {', '.join(heard)}.")
    return Check(True, "watchman noticed that containerd was killed, and that it came back.")


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
