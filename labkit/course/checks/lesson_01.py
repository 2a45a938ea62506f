"""Checks of lesson 01, What is the contract?"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from labkit.course.checks.pod_checks import absent, argv_of, command, find, not_ready, own_processes, running, sleeper, too_few
from labkit.course.verdict import Check, exercise, passed, refused
from labkit.course.wait import within
from labkit.cri import verbose
from labkit.cri.pods import PodContainer, PodSnapshot
from labkit.cri.v1.api_pb2 import CONTAINER_CREATED, CONTAINER_RUNNING

if TYPE_CHECKING:
    from labkit.node import Node

MANIFEST = "notebook 01, “What: the manifest”"
CRASH = "notebook 01, “A crash”"
MEMORY = 32 * 1024 * 1024
ENDS_S = 2.0
"""A container that was started a moment ago has this long to end."""


@exercise("01.1")
def told_runtime(node: Node) -> Check:
    """01.1: a Pod `told` whose container sleeps, and whose runtime was told of a user, a memory limit and a read-only root."""
    pod = find(node, "told")
    if pod is None:
        return absent(node, "told", "whose container sleeps")
    if pod.state != "Ready":
        return not_ready(pod)
    if wrong := too_few(pod, 1):
        return wrong
    judged = [of_container(node, pod, container) for container in running(pod)]
    return next((each for each in judged if each.done), judged[0])


def of_container(node: Node, pod: PodSnapshot, container: PodContainer) -> Check:
    spec = verbose.at(verbose.info(node.cri.container_status(container_id=container.id, verbose=True)), "runtimeSpec")
    if spec is None:
        return refused(
            f"{node.runtime} does not report the OCI configuration of {container.name}.",
            "a runtime that reports it, as containerd and CRI-O do.",
            "Do this exercise on another kind of node.",
            taught=MANIFEST,
        )
    user = spec["process"]["user"]["uid"]
    memory = (spec.get("linux", {}).get("resources", {}).get("memory") or {}).get("limit")
    writable = not spec["root"].get("readonly", False)
    seen = f"user {user}, memory limit {memory or 'none'}, root file system {'writable' if writable else 'read-only'}"
    missing = {
        "the user 1000": user != 1000,
        f"a memory limit of 32 MiB, {MEMORY} bytes": memory != MEMORY,
        "a read-only root file system": writable,
    }
    if lacking := [what for what, lacks in missing.items() if lacks]:
        return refused(
            f"the runtime received for {container.name}: {seen}.",
            f"{' and '.join(lacking)}.",
            hint_on(user, memory),
            "Two of the three are fields of the container's `securityContext`, one is a field of its `resources`.",
            "labkit.field_map shows which field of your manifest reaches which field of the message.",
            taught=MANIFEST,
        )
    if not sleeper(node, pod, container.name):
        mine = [p for p in own_processes(node, pod) if p.container == container.name]
        return refused(
            f"{container.name} has all three, and runs {', '.join(map(command, mine))}.",
            "a container that sleeps.",
            "The exercise also asks for a certain program.",
            taught=MANIFEST,
        )
    return passed(f"the runtime received for {container.name}: {seen}.")


def hint_on(user: int, memory: int | None) -> str:
    if memory and memory != MEMORY:
        return f"Kubernetes knows M and Mi: {memory} bytes are not 32 times 1024 times 1024."
    if memory is None:
        return "Only a limit reaches the kernel as a number of bytes. A request does not."
    return "`kubectl explain pod.spec.containers.securityContext` lists fields that the runtime learns of."


@exercise("01.2")
def made_again(node: Node) -> Check:
    """01.2: in a Pod `again` the container `once` ended well and was then made a second time, with the next attempt."""
    pod = find(node, "again")
    if pod is None:
        return absent(node, "again", "with a container once that runs true")
    if pod.state != "Ready":
        return not_ready(pod)
    within(ENDS_S, lambda: all(s.state != CONTAINER_RUNNING for s in attempts_of(node, pod).values()))
    attempts = attempts_of(node, pod)
    names = sorted({c.name for c in pod.containers})
    if 0 not in attempts:
        there = (
            f"attempt {min(attempts)} of once" if attempts else f"the containers {', '.join(names)}" if names else "no container"
        )
        return refused(
            f"the Pod again has {there}.",
            "a container called once with attempt 0.",
            "The first container of a name has attempt 0, which node.start_pod gives it.",
            taught=MANIFEST,
        )
    if wrong := ended_well(attempts[0], 0):
        return wrong
    if 1 not in attempts:
        more = f", and {len(attempts) - 1} with another attempt than 1" if len(attempts) > 1 else ""
        return refused(
            f"attempt 0 of once has exited with code 0{more}. Nobody has created another one.",
            "a second container once, with attempt 1.",
            "The kubelet would create another container in the same sandbox. Two CRI calls do it.",
            'CreateContainer needs a ContainerConfig: node.container_config(manifest, "once", attempt=…).',
            taught=CRASH,
        )
    second = attempts[1]
    if second.state == CONTAINER_CREATED:
        return refused(
            "attempt 1 of once is created, and was not started.",
            "attempt 1 that has run.",
            "A container in the state created is a plan. Which call starts its process?",
            taught="notebook 01, “From the call to the process”",
        )
    if wrong := ended_well(second, 1):
        return wrong
    if wrong := another_program(node, attempts[0], second):
        return wrong
    if second.created_at < attempts[0].finished_at:
        return refused(
            "attempt 1 of once was created before attempt 0 had ended.",
            "an attempt 1 that follows the end of attempt 0.",
            "A kubelet creates another container because the first has ended. node.wait_exit waits for the end of a container.",
            taught=CRASH,
        )
    return passed("attempt 0 of once ended, and attempt 1 followed it in the same sandbox.")


def another_program(node: Node, first: Any, second: Any) -> Check | None:
    """A restart creates the same container again. None where it is the same, or where the runtime does not tell."""
    ran = [argv_of(node, status.id) for status in (first, second)]
    if ran[0] == ran[1]:
        return None
    return refused(
        f"attempt 0 of once ran {shlex.join(ran[0])}, and attempt 1 ran {shlex.join(ran[1])}.",
        "the same container once more: only its attempt differs.",
        "The kubelet makes both ContainerConfigs from one manifest.",
        taught=CRASH,
    )


def attempts_of(node: Node, pod: PodSnapshot) -> dict[int, Any]:
    """The status of each container called once, by its attempt."""
    listed = node.cri.list_containers(filter={"pod_sandbox_id": pod.id}).containers
    own = [c for c in listed if c.metadata.name == "once"]
    return {c.metadata.attempt: node.cri.container_status(container_id=c.id).status for c in own}


def ended_well(status: Any, attempt: int) -> Check | None:
    if status.state == CONTAINER_RUNNING:
        return refused(
            f"attempt {attempt} of once still runs.",
            "a container called once that runs true, which exits immediately.",
            "A running container needs no successor. Look at its command.",
            taught=CRASH,
        )
    if status.state != CONTAINER_CREATED and status.exit_code != 0:
        return refused(
            f"attempt {attempt} of once has exited with code {status.exit_code}.",
            "a container once that exits with code 0, as true does.",
            "Look at the command of once. `node.cri.container_status` has the reason for the end.",
            taught=CRASH,
        )
    if status.state == CONTAINER_CREATED and attempt == 0:
        return refused(
            "attempt 0 of once is created, and was not started.",
            "attempt 0 that has run.",
            "A container in the state created is a plan. Which call starts its process?",
            taught="notebook 01, “From the call to the process”",
        )
    return None
