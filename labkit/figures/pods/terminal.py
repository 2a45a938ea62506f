"""Pods as a tree in a terminal, in colour where the terminal has it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from rich.tree import Tree

from labkit.cri.pods import PodProcess, PodSnapshot
from labkit.figures.style import TERMINAL
from labkit.kernel import NAMESPACE_TYPES
from labkit.util.showable import padded, showable


def pod_tree(node: str, runtime: str, pods: Sequence[PodSnapshot]) -> Tree:
    """Node → Pods → processes, each with the namespaces that it shares with others of its Pod and those that it has alone."""
    count = len({(pod.namespace, pod.name, pod.uid) for pod in pods})  # a Pod has a dead sandbox beside the one that runs
    many = f", {count} Pod{'s' * (count != 1)}"
    tree = Tree(Text.assemble((showable(node), "bold"), f" ({showable(runtime)})", many))
    for pod in pods:
        name, address = showable(f"{pod.namespace}/{pod.name}"), showable(pod.ip) or "no address of its own"
        branch = tree.add(Text.assemble((name, "bold"), f"  {pod.state}  {address}"))
        for process in pod.processes:
            branch.add(process_line(process, pod))
        for pin in pod.pinned:
            path = (showable(pin.path), "dim")
            branch.add(Text.assemble(("bind mount", "dim"), f" holds {pin.type} {pin.inode}  ", path))
    return tree


def process_line(process: PodProcess, pod: PodSnapshot) -> Text:
    name = padded(showable(process.container or process.role), 12)
    colour = TERMINAL.get(process.role, "default")
    line = Text.assemble((name, colour), f" {process.pid:>8}  {padded(showable(process.comm), 16)}")
    if process.ended:
        line.append(f" {process.ended}", TERMINAL["failed"])
    if process.role == "shim":
        return line.append(" the host's namespaces", "dim")
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
    return line.append(" " + "; ".join(w for w in words if w))


def hosts(type: str, process: PodProcess, pod: PodSnapshot) -> bool:
    """Whether the namespace is the one that the shim, which stays in the host's, has too."""
    return any(p.role == "shim" and p.namespaces.get(type) == process.namespaces.get(type) for p in pod.processes)
