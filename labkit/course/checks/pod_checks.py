"""What several checks look for in a Pod."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labkit.course.verdict import Check, refused
from labkit.course.wait import within
from labkit.cri import verbose
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot

if TYPE_CHECKING:
    from labkit.node import Node

START = "notebook 00, “A Pod is made of processes”"
SLEEPS_WITHIN_S = 1.0
SANDBOX = "notebook 02, “A Pod, one call at a time”"


def find(node: Node, name: str) -> PodSnapshot | None:
    """The newest ready Pod of that name, else the newest that is not ready."""
    pods = [p for p in node.pods(others=True) if p.name == name]
    return max(pods, key=lambda p: (p.state == "Ready", max((c.created_ns for c in p.containers), default=0)), default=None)


def absent(node: Node, name: str, what: str) -> Check:
    """There is no such Pod. what: "whose container sleeps"."""
    others = sorted({p.name for p in node.pods()})
    saw = f"the node has no Pod called {name}" + (f"; this lesson has made {', '.join(others)}." if others else ".")
    return refused(
        saw,
        f"a Pod called {name} {what}.",
        "node.start_pod takes a manifest as a dictionary, as in the notebook's first experiment.",
        f'The name is in the manifest\'s metadata: {{"name": "{name}"}}.',
        taught=START,
    )


def not_ready(pod: PodSnapshot) -> Check:
    """The Pod's sandbox has ended."""
    return refused(
        f"the sandbox of {pod.name} is {pod.state}: its pause has ended, or the sandbox was stopped.",
        f"a sandbox of {pod.name} that is Ready.",
        "A sandbox that has ended takes no container any more. What does a kubelet do then?",
        f'node.remove_pod("{pod.name}") removes what is left, so that you can start it again.',
        taught="notebook 02, “Kill the pause”",
    )


def state_of(container: PodContainer) -> str:
    """ "main is running", "main has exited with code 1"."""
    if container.state == "Exited":
        return f"{container.name} has exited with code {container.exit_code}"
    return f"{container.name} is {container.state.lower()}"


def newest(pod: PodSnapshot) -> list[PodContainer]:
    """The newest attempt of each container."""
    return list({c.name: c for c in sorted(pod.containers, key=lambda c: c.attempt)}.values())


def running(pod: PodSnapshot) -> list[PodContainer]:
    return [c for c in newest(pod) if c.state == "Running"]


def too_few(pod: PodSnapshot, wanted: int, doing: str = "") -> Check | None:
    """What is wrong where fewer than `wanted` containers run; None where enough do."""
    if len(running(pod)) >= wanted:
        return None
    there = "; ".join(map(state_of, newest(pod))) or "it has a sandbox and no container"
    number = {1: "a running container", 2: "two running containers"}[wanted]
    return refused(
        f"of the Pod {pod.name}: {there}.",
        f"{number} in {pod.name}{doing}.",
        "A container runs as long as its program does. Which program does each of yours run?",
        f'node.pod("{pod.name}").containers lists the containers with their states and exit codes.',
        taught=SANDBOX,
    )


def first_processes(pod: PodSnapshot) -> dict[int, PodProcess]:
    """The first process of each running container, by pid."""
    pids = {c.pid for c in running(pod)}
    return {p.pid: p for p in pod.processes if p.pid in pids}


def session(node: Node, process: PodProcess) -> int:
    """The process's session: runc begins one for a container's first process, and one for each exec (man 5 proc, `stat`)."""
    return int(node.shell(["cat", f"/proc/{process.pid}/stat"]).rpartition(")")[2].split()[3])


def own_processes(node: Node, pod: PodSnapshot) -> list[PodProcess]:
    """What the containers run of their own: their first processes and those that these have started. An exec's have another
    session."""
    sessions = {session(node, first) for first in first_processes(pod).values()}
    return [p for p in pod.processes if p.container and p.role != "shim" and session(node, p) in sessions]


STARTS_NO_OTHER = {"sleep", "httpd", "nginx", "tail", "top", "cat", "pause", "catatonit"}
WAITS = {"while", "until", "do", "done", "true", "false", ":", "exec", "sleep"}
"""The words of a script that starts nothing which outlives it."""


def argv_of(node: Node, container_id: str) -> tuple[str, ...]:
    """The program with which a container was started, and its arguments, as the OCI configuration has them: a process can become
    another program later, and the configuration stays. Empty where the runtime does not report it."""
    spec = verbose.at(verbose.info(node.cri.container_status(container_id=container_id, verbose=True)), "runtimeSpec")
    return tuple(spec["process"]["args"]) if spec else ()


def program(node: Node, pod: PodSnapshot, container: str) -> tuple[str, ...]:
    """The program with which a running container was started; what its first process runs where that is not reported."""
    made = next(c for c in running(pod) if c.name == container)
    return argv_of(node, made.id) or first_processes(pod)[made.pid].cmdline


def starts_no_other(argv: tuple[str, ...]) -> bool:
    """Whether the program is one of the few that start no other one, or a shell that does nothing but sleep."""
    if applet(argv) in ("sh", "ash") and "-c" in argv[:-1]:
        words = argv[argv.index("-c") + 1].replace(";", " ").split()
        return all(word in WAITS or re.fullmatch(r"\d+[smhd]?|inf(inity)?", word) for word in words)
    return applet(argv) in STARTS_NO_OTHER


def sleeps(process: PodProcess) -> bool:
    """Whether a process is a sleep; busybox may have been called by its own name."""
    return applet(process.cmdline) == "sleep" and process.comm in ("sleep", "busybox")


def applet(argv: tuple[str, ...]) -> str:
    """The name of the program that runs: "sleep" of `/bin/sleep 5` and of `busybox sleep 5`."""
    names = [word.rpartition("/")[2] for word in argv[:2]]
    return next((name for name in names[:2 if names[:1] == ["busybox"] else 1] if name != "busybox"), "")


def sleeper(node: Node, pod: PodSnapshot, container: str = "") -> PodProcess | None:
    """A sleep among what the Pod's containers run of their own, or one of them; a shell gets a moment to start it."""
    found: list[PodProcess] = []

    def look() -> bool:
        own = own_processes(node, find(node, pod.name) or pod)
        found.extend(p for p in own if sleeps(p) and container in ("", p.container))
        return bool(found)

    within(SLEEPS_WITHIN_S, look)
    return next(iter(found), None)


def command(process: PodProcess) -> str:
    return " ".join(process.cmdline) or process.comm
