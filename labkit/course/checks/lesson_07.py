"""Check of lesson 07, Could you be the kubelet?"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from labkit.course.checks.pod_checks import argv_of
from labkit.course.incident.broken import fails_at_first
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.cri.v1.api_pb2 import CONTAINER_CREATED, CONTAINER_EXITED

if TYPE_CHECKING:
    from labkit.node import Node

DECIDE = "notebook 07, “Decide”"
REMEMBERS = "notebook 07, “What it remembers”"


@dataclass(frozen=True)
class Wanted:
    """A Pod of the exercise: its restart policy, the code with which its program ends, and whether it is started again."""

    name: str
    policy: str
    code: int
    again: bool


PODS = (Wanted("once", "Never", 3, False), Wanted("stubborn", "OnFailure", 3, True), Wanted("content", "OnFailure", 0, False))

MOODY = "moody"


@exercise("07.1")
def policies(node: Node) -> Check:
    """07.1: `once` (Never, exit code 3) and `content` (OnFailure, exit code 0) were started once, and `stubborn` (OnFailure, exit
    code 3) again and again, each attempt after the end of the one before; `moody` (OnFailure) until it had ended with 0."""
    for wanted in PODS:
        if wrong := judged(node, wanted):
            return wrong
    if wrong := stopped_when_it_succeeded(node, containers(node, MOODY)):
        return wrong
    return passed("once and content were left as they ended, stubborn was started again, and moody until it ended with 0.")


def stopped_when_it_succeeded(node: Node, statuses: list[Any] | None) -> Check | None:
    """`moody` (OnFailure) fails some times and then ends with 0: nobody can know how many times without reading exit codes."""
    wanted = tuple(fails_at_first())
    if not statuses:
        return refused(
            f"the node has no container of a Pod called {MOODY}.",
            f"the Pod {MOODY}, started by your kubelet.",
            "labkit.fails_at_first() is its command. Its policy is OnFailure.",
            taught="notebook 07, “What is wanted”",
        )
    if (program := argv_of(node, statuses[0].id) or wanted) != wanted:
        return refused(
            f"the program of {MOODY} is {shlex.join(program)}.",
            "the program that nobody can foresee.",
            "labkit.fails_at_first() returns the command. Each argument of `want` after the name is one word of it.",
            taught="notebook 07, “What is wanted”",
        )
    codes = [status.exit_code for status in statuses if status.state == CONTAINER_EXITED]
    saw = f"the containers of {MOODY} ended with {', '.join(map(str, codes)) or 'nothing yet'}"
    if 0 in codes[:-1] or (0 in codes and len(codes) < len(statuses)):
        return refused(
            f"{saw}, and {MOODY} was started again after the 0.",
            "a decide that stops when a container has succeeded.",
            "Each Pod fails a random number of times. Only one thing shows that it has succeeded.",
            "Neither the Pod's name, nor its command, nor the number of attempts says how the last attempt ended.",
            taught=DECIDE,
        )
    if codes == [0] and not statuses[0].metadata.attempt:
        return refused(
            f"{saw} at the first attempt.",
            "a program that fails at first.",
            "Its command is labkit.fails_at_first(), and its Pod is made once.",
            taught="notebook 07, “What is wanted”",
        )
    if not codes or codes[-1] != 0:
        return refused(
            f"{saw}, and {MOODY} was not started again.",
            "another attempt after each failure, until one succeeds.",
            "The policy OnFailure has no greatest number of attempts.",
            "Give your kubelet time, and see that decide asks for the code of the newest container.",
            taught=DECIDE,
        )
    return None


def judged(node: Node, pod: Wanted) -> Check | None:
    statuses = containers(node, pod.name)
    if statuses is None:
        return refused(
            f"the node has no Pod called {pod.name}.",
            "the four Pods once, stubborn, content and moody, started by your kubelet.",
            "`want` hands a Pod to your kubelet, and `run_for` lets it work. Did the #s go?",
            "Run the check while the Pods are there: a kubelet removes what is not wanted.",
            taught="notebook 07, “The loop”",
        )
    if not statuses:
        return refused(
            f"the Pod {pod.name} has a sandbox and no container.",
            f"a container of {pod.name} that has run.",
            "A policy speaks of a container that has ended. What does your decide answer for one that was never started?",
            "`max` of an empty list needs a default.",
            taught=DECIDE,
        )
    first = statuses[0]
    started = max(len(statuses), statuses[-1].metadata.attempt + 1)  # your kubelet may remove old ones
    if started > 1 and not pod.again:
        times = f"the container of {pod.name} was started {started} times"
        return refused(
            f"{times}. Its policy is {pod.policy}, and it ended with {first.exit_code}.",
            f"a decide that leaves a container alone which has ended with {pod.code} under the policy {pod.policy}.",
            "Which two things decide whether a container is started again? Your decide has to know both.",
            "The list of containers has the state, not the exit code. The call that has it is in the exercise's text.",
            taught=DECIDE,
        )
    unfinished = [s for s in statuses[: 1 if not pod.again else None] if s.state != CONTAINER_EXITED]
    if unfinished and started == 1:
        state = "is created, and was not started" if unfinished[0].state == CONTAINER_CREATED else "still runs"
        return refused(
            f"the container of {pod.name} {state}.",
            f"a container of {pod.name} that has ended with {pod.code}.",
            "Compare its command with the exercise's, and give your kubelet time.",
            taught="notebook 07, “Act”",
        )
    if wrong := next((s for s in statuses if s.state == CONTAINER_EXITED and s.exit_code != pod.code), None):
        return refused(
            f"a container of {pod.name} ended with {wrong.exit_code}.",
            f"a program of {pod.name} that ends with {pod.code}.",
            "Compare its command with the exercise's.",
            taught="notebook 07, “What is wanted”",
        )
    if pod.again and started < 2:
        return refused(
            f"the container of {pod.name} ended with {first.exit_code}, and was started once. Its policy is {pod.policy}.",
            f"a second attempt of {pod.name}.",
            "OnFailure is not Never. When has a container failed?",
            "Let your kubelet run for ten seconds: `stubborn` takes one second for each attempt.",
            taught=DECIDE,
        )
    for before, after in pairwise(statuses):
        if before.state != CONTAINER_EXITED or after.created_at < before.finished_at:
            return refused(
                f"attempt {after.metadata.attempt} of {pod.name} was made before attempt {before.metadata.attempt} had ended.",
                "attempts that follow one another.",
                "Look at the newest container of a name: while it runs there is nothing to do.",
                taught=REMEMBERS,
            )
    return None


def containers(node: Node, pod: str) -> list[Any] | None:
    """The statuses of the containers of the newest Pod of that name, oldest attempt first; None without such a Pod."""
    sandboxes = [s for s in node.cri.list_pod_sandbox().items if s.metadata.name == pod]
    if not sandboxes:
        return None
    uid = max(sandboxes, key=lambda s: s.created_at).metadata.uid
    own = [c for c in node.cri.list_containers().containers if c.labels.get("io.kubernetes.pod.uid") == uid]
    statuses = [node.cri.container_status(container_id=c.id).status for c in own]
    return sorted(statuses, key=lambda s: (s.created_at, s.metadata.attempt))
