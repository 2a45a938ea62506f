"""Checks of the exercises: each looks at the node and says what is there and what is still missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.pods import PodProcess, PodSnapshot

if TYPE_CHECKING:
    from labkit.node import Node


@dataclass(frozen=True)
class Check:
    """The verdict on an exercise. Its repr is one line; `done` is for programs."""

    done: bool
    says: str

    def __repr__(self) -> str:
        return f"{'Done' if self.done else 'Not yet'}: {self.says}"


def check(exercise: str, node: Node) -> Check:
    """Look at `node` and judge exercise "00.1", "02.2", …. Raises KeyError that names the exercises there are."""
    if exercise not in CHECKS:
        raise KeyError(f"There is no exercise {exercise!r}; there are {', '.join(CHECKS)}")
    return CHECKS[exercise](node)


def find(node: Node, name: str) -> PodSnapshot | None:
    return next((p for p in node.pods() if p.name == name and p.state == "Ready"), None)


def applications(pod: PodSnapshot) -> list[PodProcess]:
    return [p for p in pod.processes if p.role == "application"]


def first_pod(node: Node) -> Check:
    """00.1: a Pod `mine` that runs `sleep`."""
    pod = find(node, "mine")
    if pod is None:
        return Check(False, "there is no Pod called mine on the node.")
    if not any(p.comm == "sleep" or "sleep" in p.cmdline for p in applications(pod)):
        return Check(False, "the Pod mine is there, but no process of it is a sleep.")
    return Check(True, "the Pod mine runs a sleep, and the kernel shows its process.")


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


CHECKS: dict[str, Callable[[Node], Check]] = {"00.1": first_pod, "02.1": host_window, "02.2": reaped}
