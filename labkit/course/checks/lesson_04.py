"""Check of lesson 04, What survives when the runtime dies? It kills containerd."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course.checks.pod_checks import absent, find, first_processes, not_ready, running, too_few
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.course.wait import within
from labkit.cri.pods import PodSnapshot
from labkit.util.unix_sockets import private_socket

if TYPE_CHECKING:
    from labkit.node import Node

QUIET_S, HEARD_WITHIN_S, LISTENS_S = 1.0, 10.0, 1
LONGER_S = 1.0
"""The second time containerd is down longer than watchman took the first time: who counts seconds says "back" too early."""
WORDS = ["away", "back"]
TAUGHT = "notebook 04, “Kill containerd”"
SOCKETS = "notebook 02, exercise 02.1, and notebook 00, “The socket”"


@dataclass(frozen=True)
class Death:
    """What watchman printed while containerd was down (None where that cannot be seen), and all that it printed until it said
    "back" or had time to. took_s: from the death until then."""

    meanwhile: list[str] | None
    heard: list[str]
    took_s: float


@exercise("04.1")
def noticed(node: Node) -> Check:
    """04.1: a Pod `watchman` whose log says "away" when containerd goes and "back" when it has returned, and nothing else.

    Watches the log while nothing happens, kills containerd, listens at the pipes of the Pod's output, starts containerd again,
    and reads what was logged. It does so twice. Another socket's name begins like containerd's all the time.
    """
    pod = find(node, "watchman")
    if pod is None:
        return absent(node, "watchman", "that prints away and back")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1, ", which does not end"):
        return wrong
    logs = [node.cri.container_status(container_id=container.id).status.log_path for container in running(pod)]
    with similar_socket(node):
        down_s = 0.0
        for count in ("once", "twice"):
            if early := unasked(node, logs):
                return too_much(early)
            death = one_death(node, pod, logs, down_s)
            if wrong := judged(node, pod, death, count):
                return wrong
            down_s = death.took_s + LONGER_S
    return passed("watchman noticed twice that containerd was killed, and twice that it came back.")


def unasked(node: Node, logs: list[str]) -> str:
    """A word that is printed while containerd runs; "" where none is. A script may print one when it starts, so that counts only
    where another follows."""
    for _ in range(2):
        known = len(logged(node, logs))
        time.sleep(QUIET_S)
        early = logged(node, logs)[known:]
        if not early:
            return ""
    return early[0]


def too_much(early: str) -> Check:
    return refused(
        f"watchman prints {early!r} although containerd was running all the time.",
        "a watchman that prints only when something has changed.",
        "A loop that prints in each round says too much. What must it remember from the round before?",
        "Does the socket that you look for match one line of /proc/net/unix, and only while containerd runs?",
        taught=TAUGHT,
    )


def one_death(node: Node, pod: PodSnapshot, logs: list[str], down_s: float) -> Death:
    """Kill containerd, and start it when watchman has printed something and `down_s` have passed."""
    known, pipes, begin = len(logged(node, logs)), output_pipes(node, pod), time.monotonic()
    try:
        node.daemon.kill()
        meanwhile = printed_meanwhile(node, pipes, begin, down_s)
    finally:
        node.daemon.start()
    heard = wait_for(node, logs, known, 0.0 if meanwhile == [] else HEARD_WITHIN_S)
    return Death(meanwhile, heard, time.monotonic() - begin)


def output_pipes(node: Node, pod: PodSnapshot) -> list[str]:
    """The pipes between the shim and containerd for what the Pod's containers print; none where the shim has none."""
    ids = {container.id for container in running(pod)}
    held = [each for shim in node.shims(others=True) if shim.sandbox == pod.id for each in shim.containers]
    return [pipe for each in held if each.id in ids for pipe in each.fifos]


LISTEN = """
seconds=$1; shift
for pipe; do (
  words=$(timeout $seconds cat "$pipe")
  [ -z "$words" ] && exit
  echo "$words"
  timeout 1 sh -c 'echo "$1" >"$2"' sh "$words" "$pipe"
) & done
wait
"""
"""Prints what is in the pipes, and puts it back for containerd."""


def printed_meanwhile(node: Node, pipes: list[str], begin: float, down_s: float) -> list[str] | None:
    """What is in the pipes as soon as there is something and `down_s` have passed since `begin`, or after a while."""
    if not pipes:
        time.sleep(max(LISTENS_S, down_s))
        return None
    while True:
        words = node.shell(["sh", "-c", LISTEN, "sh", str(LISTENS_S), *pipes]).split()
        passed_s = time.monotonic() - begin
        if passed_s > down_s and (words or passed_s > HEARD_WITHIN_S):
            return words


def judged(node: Node, pod: PodSnapshot, death: Death, count: str) -> Check | None:
    if death.heard == WORDS and death.meanwhile in (None, WORDS[:1]):
        return None
    own = any(p.namespaces["net"] != node.host_namespaces()["net"] for p in first_processes(pod).values())
    where = "a network namespace of its own" if own else "the node's network namespace"
    if death.meanwhile is not None and ("back" in death.meanwhile or death.heard == WORDS):
        return refused(
            f"containerd was killed {count}. Before it was back, watchman printed {', '.join(death.meanwhile) or 'nothing'}.",
            "the word away while containerd is down, and the word back only after its return.",
            "Does your script look for the socket again before it prints back, or does it only let time pass?",
            "Nobody can say how long containerd stays away. Only the list of sockets shows that it has returned.",
            taught=TAUGHT,
        )
    saw = (
        f"containerd was killed and started again {count}. "
        f"watchman is in {where}, and printed {', '.join(death.heard) or 'nothing'}."
    )
    if "away" not in death.heard:
        return refused(saw, "the word away after the death of containerd.", *on_sight(own), taught=SOCKETS)
    if "back" not in death.heard:
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


def logged(node: Node, logs: list[str]) -> list[str]:
    """The lines of the containers' logs by their times, without time, stream and tag."""
    lines = [line.split(" ", 3) for line in node.shell(["cat", *logs]).splitlines() if line.count(" ") >= 3]
    return [words.strip() for _, _, _, words in sorted(lines, key=lambda line: line[0])]


def wait_for(node: Node, logs: list[str], known: int, seconds: float) -> list[str]:
    """What was logged after the first `known` lines, as soon as the last of it is "back", or after a while."""
    within(seconds, lambda: logged(node, logs)[known:][-1:] == ["back"])
    return logged(node, logs)[known:]
