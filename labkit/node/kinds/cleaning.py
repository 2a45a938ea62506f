"""`labkit clean`: every node that this lab has changed, then this machine, then a look at what is left."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from labkit.node.host import lab_processes
from labkit.node.kinds import discovery
from labkit.node.lab import lifecycle, residue
from labkit.node.remote.undo import UNSEEN, first_line, unseen
from labkit.node.state import node_selector, status
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Cleaned
from labkit.node.state.ledger import Ledger, changed_nodes
from labkit.node.state.node_selector import NodeSelector
from labkit.util import trees
from labkit.util.progress import Progress, quiet


def clean(home: Home, progress: Progress = quiet, *, cache: bool = False, forget: bool = False) -> dict[str, Any]:
    """Remove everything of labkit's; with `cache`, the downloaded programs too. Idempotent. Raises NodeError.

    Returns {"removed": {kind: [what]}, "left": [what was found again, or could not be looked at], "alone": [what belongs to
    another lab], "looked": [the kinds that it looked for again], "kept": {"path", "mb"} or None}. While something is left on a
    node, the list of nodes stays for the next clean.

    forget: nodes that could not be looked at are forgotten; what is there stays.
    """
    removed: dict[str, list[str]] = {kind: [] for kind in residue.KINDS}
    left: list[str] = []
    alone: list[str] = []
    for known in nodes(home):
        there, still, others = clean_node(home, known, progress)
        if forget and any(line.startswith(UNSEEN) for line in still):
            still, others = [], [*others, f"the node {known}, which is forgotten; what this lab has put there stays"]
        removed[f"node {known}"] = there
        left += still
        alone += others
        if not still:
            node_selector.forget(home, known)
            Ledger(home, known).forget()
    keep = bool(left)
    privileged = os.geteuid() == 0 and sys.platform == "linux"
    former = status.former_home(home)  # its directories are this home's by now, and its names in the kernel are not
    if not privileged:
        removed |= remove_own_files(home, keep)
    elif home.run.exists() or home.data.exists() or residue.in_kernel(home):
        removed |= lifecycle.clean(home, progress, keep=keep)
    if cache and home.cache.exists():
        removed["files"].append(str(home.cache))
        shutil.rmtree(home.cache, ignore_errors=True)
    residue.remove_empty_parents(home)
    again = residue.find(home, former) if privileged else own_residue(home)
    for kind in again.keys() & {"files", "cgroups"}:
        again[kind] = list(dict.fromkeys([*again[kind], *residue.still_there(removed.get(kind, []))]))
    if keep:
        again["files"] = [file for file in again["files"] if file != str(home.data)]
    left += [f"{kind}: {what}" for kind, names in again.items() for what in names]
    return {"removed": removed, "left": left, "alone": sorted(set(alone)), "looked": [*again], "kept": kept(home)}


def nodes(home: Home) -> list[NodeSelector]:
    """Every node that was brought up or changed since it was cleaned, but for the private one."""
    brought = [c for c in discovery.brought_up(home) if c.kind != "containerd"]
    return list(dict.fromkeys([*brought, *changed_nodes(home)]))


def clean_node(home: Home, selector: NodeSelector, progress: Progress) -> Cleaned:
    try:
        return discovery.kinds()[selector.kind].clean(home, selector, progress)
    except Exception as error:  # whatever it is: the other nodes and this machine are cleaned all the same
        return [], [unseen(f"the node {selector}", first_line(error))], []


def remove_own_files(home: Home, keep: bool) -> residue.Residue:
    """Remove what a user who is not root has on this machine; what there was."""
    found = own_residue(home)
    lab_processes.end(lab_processes.own_processes(home))
    residue.remove_trees(home, keep)
    return found


def own_residue(home: Home) -> residue.Residue:
    """The same as `residue.find`, for a user who is not root: processes of hers (a registry on loopback), and her directories."""
    return {
        "processes": [f"{p.comm} (pid {p.pid})" for p in lab_processes.own_processes(home)],
        "files": [str(d) for d in (home.run, home.data) if d.exists()],
    }


def kept(home: Home) -> dict[str, Any] | None:
    if not home.cache.exists():
        return None
    return {"path": str(home.cache), "mb": round(trees.usage(home.cache.resolve()) / 1e6)}
