"""Checks of the exercises: each looks at the node and says what is there and what is still missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from cri_api.v1.api_pb2 import CONTAINER_CREATED

from labkit.course import cluster_checks as cluster
from labkit.course import daemon_checks as daemon
from labkit.course import loop_checks as loop
from labkit.course.verdict import Check
from labkit.cri import verbose
from labkit.pods import PodProcess, PodSnapshot

if TYPE_CHECKING:
    from labkit.node import Node


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


def told_runtime(node: Node) -> Check:
    """01.1: a Pod `told` whose runtime was told of a user, a limit of memory and a read-only root file system."""
    pod = find(node, "told")
    if pod is None:
        return Check(False, "there is no Pod called told on the node.")
    running = [container for container in pod.containers if container.state == "Running"]
    if not running:
        return Check(False, "the Pod told has no running container.")
    spec = verbose.at(verbose.info(node.cri.container_status(container_id=running[0].id, verbose=True)), "runtimeSpec")
    if spec is None:
        return Check(False, f"{node.runtime} does not report the OCI configuration of the Pod told.")
    memory = (spec["linux"].get("resources", {}).get("memory") or {}).get("limit")
    reached = {
        "runs as user 1000": spec["process"]["user"]["uid"] == 1000,
        "may use 32 MiB at most": memory == 32 * 1024 * 1024,
        "has a read-only root file system": spec["root"].get("readonly", False),
    }
    missing = [what for what, there in reached.items() if not there]
    if missing:
        return Check(False, f"the runtime was not told that the container of told {' and '.join(missing)}.")
    return Check(True, "user, limit and read-only root file system reached the runtime.")


def made_again(node: Node) -> Check:
    """01.2: a Pod `again` whose container `once` was made a second time, in the same sandbox, with the next attempt."""
    pod = find(node, "again")
    if pod is None:
        return Check(False, "there is no Pod called again on the node.")
    listed = node.cri.list_containers(filter={"pod_sandbox_id": pod.id}).containers
    states = {each.metadata.attempt: each.state for each in listed if each.metadata.name == "once"}
    if 0 not in states:
        return Check(False, "the Pod again has no container called once with attempt 0.")
    if 1 not in states:
        return Check(False, "the container once of again was not made again: there is no attempt 1.")
    if states[1] == CONTAINER_CREATED:
        return Check(False, "attempt 1 of once is created, but not started.")
    return Check(True, "attempt 1 of once followed attempt 0 in the same sandbox.")


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


def one_shim(node: Node) -> Check:
    """03.1: a Pod `duo` of two containers under one shim, or, with CRI-O, each under a conmon of its own."""
    pod = find(node, "duo")
    if pod is None:
        return Check(False, "there is no Pod called duo on the node.")
    first = {c.pid: c.name for c in pod.containers if c.state == "Running"}
    if len(first) < 2:
        return Check(False, "the Pod duo has fewer than two running containers.")
    parents = {p.ppid for p in applications(pod) if p.pid in first}
    shims = {p.pid for p in pod.processes if p.role == "shim"}
    if not parents or not parents <= shims:
        return Check(False, "the parent of a container of duo is no shim of the Pod's.")
    if len(parents) == 1:
        return Check(True, "both containers of duo have the same parent: the Pod has one shim.")
    return Check(True, "each container of duo has a parent of its own: this runtime has a shim for each container.")


def left_behind(node: Node) -> Check:
    """03.2: a second process in a container of `duo`, left behind by an exec, whose parent is the container's first."""
    pod = find(node, "duo")
    if pod is None:
        return Check(False, "there is no Pod called duo on the node.")
    first = {c.pid: c.name for c in pod.containers}
    others = [p for p in pod.processes if p.container and p.pid not in first]
    if not others:
        return Check(False, "each container of duo has one process only; nothing was left behind in them.")
    orphan = next((p for p in others if p.ppid in first), None)
    if orphan is None:
        return Check(False, f"{others[0].comm} still has the parent that started it: let that one end.")
    return Check(True, f"{orphan.comm} was left behind, and is now a child of the first process of {first[orphan.ppid]}.")


CHECKS: dict[str, Callable[[Node], Check]] = {
    "00.1": first_pod,
    "01.1": told_runtime,
    "01.2": made_again,
    "02.1": host_window,
    "02.2": reaped,
    "03.1": one_shim,
    "03.2": left_behind,
    "04.1": daemon.noticed,
    "05.1": cluster.api_repaired,
    "05.2": cluster.worker_repaired,
    "05.3": cluster.cache_repaired,
    "06.1": cluster.exact_fit,
    "07.1": loop.policies,
}
