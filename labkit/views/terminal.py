"""Pods as a tree in a terminal, in colour where the terminal has it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.tree import Tree

from labkit.kernel import NAMESPACE_TYPES
from labkit.pods import PodProcess, PodSnapshot

COLOURS = {"shim": "magenta", "pause": "green", "application": "red", "exec": "yellow", "runc": "yellow"}


def pod_tree(node: str, runtime: str, pods: Sequence[PodSnapshot]) -> Tree:
    """Node → Pods → processes, each with the namespaces that it shares with others of its Pod and those that it has alone."""
    tree = Tree(f"[bold]{escape(node)}[/] ({escape(runtime)}), {len(pods)} Pod{'s' * (len(pods) != 1)}")
    for pod in pods:
        address = pod.ip or "no address of its own"
        branch = tree.add(f"[bold]{escape(pod.namespace)}/{escape(pod.name)}[/]  {pod.state}  {address}")
        for process in pod.processes:
            branch.add(process_line(process, pod))
        for pin in pod.pinned:
            branch.add(f"[dim]bind mount[/] holds {pin.type} {pin.inode}  [dim]{escape(pin.path)}[/]")
    return tree


def process_line(process: PodProcess, pod: PodSnapshot) -> str:
    colour = COLOURS.get(process.role, "default")
    name = process.container or process.role
    line = f"[{colour}]{escape(name):<12}[/] {process.pid:>8}  {escape(process.comm):<16}"
    if process.role == "shim":
        return line + " [dim]the host's namespaces[/]"
    others = [p for p in pod.processes if p.role != "shim" and p.pid != process.pid]
    shared = [
        t
        for t in NAMESPACE_TYPES
        if t in process.namespaces
        and not hosts(t, process, pod)
        and any(o.namespaces.get(t) == process.namespaces[t] for o in others)
    ]
    alone = [t for t in NAMESPACE_TYPES if t in process.namespaces and not hosts(t, process, pod) and t not in shared]
    words = [f"shares {' '.join(shared)}" if shared else "", f"own {' '.join(alone)}" if alone else ""]
    return line + " " + "; ".join(w for w in words if w)


def hosts(type: str, process: PodProcess, pod: PodSnapshot) -> bool:
    """Whether the namespace is the one that the shim, which stays in the host's, has too."""
    return any(p.role == "shim" and p.namespaces.get(type) == process.namespaces.get(type) for p in pod.processes)
