"""The process tree of a node: who is whose parent, which processes make a Pod."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words
from labkit.util.showable import showable

if TYPE_CHECKING:
    from labkit.cri.pods import PodSnapshot

ROW, INDENT, DOT, WIDTH = 22.0, 20.0, 10.0, 640.0
PIDS, PODS = 58.0, 200.0
"""Room for the pids on the left and the Pods' names on the right, px."""
STACKED = 560.0
"""Where the figure is narrower than this, px, a Pod's name is above its processes."""
LIMIT = 8
"""So many siblings are drawn that differ in nothing but pid and Pod; the rest are counted."""
LIMIT_SIMILAR = 14
"""So many are drawn of those that differ only in their containers and commands."""
COMMAND = 34
"""Letters of a command line."""


class ProcessLike(Protocol):
    """What is drawn: labkit.kernel.Process and labkit.cri.pods.PodProcess both are such."""

    @property
    def pid(self) -> int: ...
    @property
    def ppid(self) -> int: ...
    @property
    def comm(self) -> str: ...
    @property
    def cmdline(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class TreeNode:
    """One process with its children; `more` > 0 stands for so many siblings like the one above it."""

    pid: int
    role: str
    label: str
    container: str | None
    pod: str
    order: tuple[int, int]
    children: tuple[TreeNode, ...] = ()
    more: int = 0
    ended: str = ""

    def same(self) -> tuple[object, ...]:
        """Siblings of which this is equal differ only in pid and Pod."""
        return (self.role, self.label, self.ended, self.container, bool(self.pod), tuple(child.same() for child in self.children))

    def similar(self) -> tuple[object, ...]:
        """Siblings of which this is equal have the same roles below them."""
        return (self.role, bool(self.pod), tuple(child.similar() for child in self.children))


@in_any_width
def process_tree(
    processes: Any, pods: Sequence[PodSnapshot] = (), title: str | None = None, *, width: float = WIDTH
) -> Figure:
    """Draw processes as a tree, one row each, coloured by role, a band behind each Pod.

    `processes`: a labkit.kernel Snapshot, its `processes` mapping, or rows with pid, ppid, comm and cmdline (also role and
    container, as PodProcess has). Of a whole machine's processes those are drawn that belong to the runtime or to `pods`, and
    their ancestors; kernel threads never. The title is made from the data unless given.
    """
    roots = build(processes, pods)
    stacked = width < STACKED
    rows = list(_rows(_fold(roots), 0))
    if stacked:
        rows = list(_with_headings(rows))
    heads = wrap(title or _title(roots), width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    indent, room = (12.0, 0.0) if stacked else (INDENT, PODS)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        _paint_bands(canvas, rows, top, room)
        _paint_elbows(canvas, rows, top, indent)
        for index, (depth, node) in enumerate(rows):
            if node.role:
                _paint_row(canvas, node, _x(depth, indent), top + ROW * (index + 0.5), room)

    return Figure(_alternative_text(roots), paint, width, top + ROW * max(len(rows), 1) + MARGIN)


def role_of(process: ProcessLike) -> str:
    """The role that a process has of itself, else what its name tells (comm is cut to 15 letters: man 5 proc)."""
    role = getattr(process, "role", "")
    if role:
        return str(role)
    comm = process.comm
    program = process.cmdline[0].rsplit("/", 1)[-1] if process.cmdline else comm
    if comm.startswith(("containerd-shim", "conmon")):
        return "shim"
    for name in (comm, program):
        if name in ("containerd", "crio", "kubelet", "runc", "crun"):
            return {"crio": "containerd", "crun": "runc"}.get(name, name)
    return "other"


def build(processes: Any, pods: Sequence[PodSnapshot] = ()) -> tuple[TreeNode, ...]:
    """The tree to draw, unfolded: its roots, each with its children in the order of their start."""
    found = getattr(processes, "processes", processes)
    given: Iterable[ProcessLike] = found.values() if isinstance(found, Mapping) else found
    known: dict[int, ProcessLike] = {process.pid: process for process in given}
    members = {process.pid: (pod, place, process) for pod in pods for place, process in enumerate(pod.processes)}
    known |= {pid: process for pid, (_, _, process) in members.items() if pid not in known}
    roles = {pid: members[pid][2].role if pid in members else role_of(process) for pid, process in known.items()}
    kept = {pid for pid, role in roles.items() if role not in ("host", "other")} or set(known)
    if any(hasattr(process, "role") for process in known.values()) and not isinstance(found, Mapping):
        kept = set(known)
    for pid in list(kept):
        while (pid := known[pid].ppid) in known and pid not in kept:
            kept.add(pid)
    children: dict[int, list[int]] = {}
    for pid in sorted(kept):
        parent = known[pid].ppid
        children.setdefault(parent if parent in kept and parent != pid else 0, []).append(pid)

    def node(pid: int, pod: str) -> TreeNode:
        process = known[pid]
        own = members.get(pid)
        pod = own[0].name if own else pod
        role = roles[pid] if roles[pid] != "other" or children.get(pid) is None else "host"
        container = own[2].container if own else getattr(process, "container", None)
        order = (own[1] if own else 0, getattr(process, "start_ns", pid))
        below = sorted((node(child, pod) for child in children.get(pid, ())), key=lambda each: (natural(each.pod), each.order))
        return TreeNode(pid, role, _name(process, role), container, pod, order, tuple(below), ended=getattr(process, "ended", ""))

    return tuple(node(pid, "") for pid in children.get(0, ()) if pid != 2)


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts web-2 before web-10, and what has no name first."""
    return tuple((text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name) if text or number)


def _name(process: ProcessLike, role: str) -> str:
    if process.pid == 1:
        return "init"  # by what it is: every machine calls it otherwise (systemd, tini, …)
    if role == "shim":
        return process.cmdline[0].rsplit("/", 1)[-1] if process.cmdline else process.comm
    if role in ("application", "exec", "pause", "runc", "cni") and process.cmdline:
        return showable(" ".join([process.cmdline[0].rsplit("/", 1)[-1], *process.cmdline[1:]]))
    return showable(process.comm)


def _fold(nodes: Sequence[TreeNode]) -> tuple[TreeNode, ...]:
    """Beyond the limits, siblings that repeat become one row that counts them."""
    seen: Counter[tuple[object, ...]] = Counter()
    folded: dict[tuple[object, ...], int] = {}
    result: list[TreeNode] = []
    for each in nodes:
        same, similar = ("same", *each.same()), ("similar", *each.similar())
        seen[same] += 1
        if seen[same] <= LIMIT and seen[similar] < LIMIT_SIMILAR:
            seen[similar] += 1
            result.append(replace(each, children=_fold(each.children)))
        elif similar in folded:
            place = folded[similar]
            result[place] = replace(result[place], more=result[place].more + 1)
        else:
            folded[similar] = len(result)
            result.append(replace(each, children=(), more=1))
    return tuple(result)


def _rows(nodes: Sequence[TreeNode], depth: int) -> Iterable[tuple[int, TreeNode]]:
    for each in nodes:
        yield depth, each
        yield from _rows(each.children, depth + 1)


def _with_headings(rows: Sequence[tuple[int, TreeNode]]) -> Iterable[tuple[int, TreeNode]]:
    """A row without a role above those of each Pod, for its name."""
    for pod, run in groupby(rows, key=lambda each: _band(each[1])):
        members = list(run)
        if pod:
            yield members[0][0], TreeNode(0, "", f"Pod {pod}", None, pod, (0, 0))
        yield from members


def _x(depth: int, indent: float) -> float:
    return MARGIN + PIDS + indent * depth


def _paint_bands(canvas: Canvas, rows: Sequence[tuple[int, TreeNode]], top: float, room: float) -> None:
    for pod, run in groupby(enumerate(rows), key=lambda each: _band(each[1][1])):
        indexes = [index for index, _ in run]
        if not pod:
            continue
        start, end = top + ROW * indexes[0] + 2, top + ROW * (indexes[-1] + 1) - 2
        canvas.box(MARGIN / 2, start, canvas.width - MARGIN, end - start, "band")
        if not room:
            name = fit(f"Pod {pod}", canvas.width / 2, bold=True)
            canvas.text(canvas.width - MARGIN, start + ROW / 2 - 2, name, bold=True, align="right")
            continue
        x = canvas.width - room
        canvas.line([(x - 4, start + 3), (x, start + 3), (x, end - 3), (x - 4, end - 3)], "line")
        size = style.BODY if text_width(f"Pod {pod}", bold=True) <= room - 8 - MARGIN else style.SMALL
        canvas.text(x + 8, (start + end) / 2, fit(f"Pod {pod}", room - 8 - MARGIN, size, bold=True), size, bold=True)


def _band(node: TreeNode) -> str:
    return "" if node.more and node.role == "shim" else node.pod


def _paint_elbows(canvas: Canvas, rows: Sequence[tuple[int, TreeNode]], top: float, indent: float) -> None:
    last: dict[int, float] = {}
    for index, (depth, node) in enumerate(rows):
        if not node.role:
            continue
        y = top + ROW * (index + 0.5)
        if depth:
            x = _x(depth - 1, indent)
            canvas.line([(x, last[depth - 1]), (x, y), (_x(depth, indent) - DOT / 2, y)], "faint")
        last[depth] = y


def _paint_row(canvas: Canvas, node: TreeNode, x: float, y: float, pods: float) -> None:
    left = x + DOT + 2
    right = canvas.width - pods - 12
    room = right - left
    if node.more:
        kind = "" if node.role != "shim" else "Pod " if node.more == 1 else "Pods "
        canvas.text(left, y, f"… {node.more} more {kind}like this", colour="muted")
        return
    canvas.text(MARGIN + PIDS - 14, y, str(node.pid), style.SMALL, "muted", align="right")
    canvas.dot(x, y, DOT, node.role)
    label = node.label if len(node.label) <= COMMAND else node.label[: COMMAND - 1].rstrip() + "…"
    left_of_it = f" ({node.ended})" if node.ended else ""  # never cut: it is what tells this row from a process that runs
    label = fit(label, room - text_width(left_of_it)) + left_of_it
    canvas.text(left, y, label)
    note = f"exec in {node.container}" if node.role == "exec" else f"container {node.container}" if node.container else ""
    if node.role == "containerd" and not node.children:
        note = "has no child"
    start = left + text_width(label) + 10
    if note and not pods:
        note = note.removeprefix("container ")
    if note and right - start > 30:
        canvas.text(start, y, fit(note, right - start, style.SMALL), style.SMALL, "muted")


def _shims(roots: Sequence[TreeNode]) -> list[tuple[TreeNode | None, TreeNode]]:
    """(parent, shim) of each shim in the tree."""
    pairs: list[tuple[TreeNode | None, TreeNode]] = [(None, each) for each in roots if each.role == "shim"]
    stack = list(roots)
    while stack:
        each = stack.pop()
        pairs += [(each, child) for child in each.children if child.role == "shim"]
        stack += each.children
    return pairs


def _parents(shims: Sequence[tuple[TreeNode | None, TreeNode]]) -> str:
    """Whose children the shims are, in words that are the same on every machine."""
    names = {"containerd" if p.role == "containerd" else "init" if p.pid == 1 else "a host process" for p, _ in shims if p}
    return words(sorted(names, reverse=True))


def _title(roots: Sequence[TreeNode]) -> str:
    shims = _shims(roots)
    parents = _parents(shims)
    if not shims:
        return f"{len(list(_rows(roots, 0)))} processes; no shim, so no Pod is running"
    subject = "The shim is a child" if len(shims) == 1 else f"{len(shims)} shims are children"
    pods = "each runs one Pod" if len(shims) > 1 else "it runs the Pod"
    if not parents:
        return f"{'One shim runs the Pod' if len(shims) == 1 else f'{len(shims)} shims, each runs one Pod'}"
    return f"{subject} of {parents}{'' if 'containerd' in parents else ', not of containerd'}; {pods}"


def _alternative_text(roots: Sequence[TreeNode]) -> str:
    shims = _shims(roots)
    parents = _parents(shims)
    everything = [node for _, node in _rows(roots, 0)]
    first = "containerd and no shim" if not shims else "1 shim" if len(shims) == 1 else f"{len(shims)} shims"
    if parents:
        first += f", {'a child' if len(shims) == 1 else 'children'} of {parents}"
        first += "" if "containerd" in parents else ", not of containerd"
    if not any(node.role == "containerd" for node in everything):
        first = f"{'no shim' if not shims else first}; containerd is not among the processes"
    lines = [f"Process tree: {first}."]
    alike: dict[str, list[str]] = {}
    pods: dict[str, list[TreeNode]] = {}
    for node in everything:
        if node.pod and node.role != "shim":
            pods.setdefault(node.pod, []).append(node)
    for _, shim in shims:
        if shim.pod:
            pods.setdefault(shim.pod, [])
    heads = {shim.pod for _, shim in shims}
    for pod in sorted(pods, key=natural):
        text = words(_names(pods[pod])) or "no process"
        alike.setdefault(f"the shim, below it {text}" if pod in heads else text, []).append(pod)
    for text, names in alike.items():
        lines.append(f"Pod {names[0]}: {text}." if len(names) == 1 else f"Pods {words(names)}, in each: {text}.")
    return "\n".join(lines)


def _names(nodes: Sequence[TreeNode]) -> list[str]:
    counts: dict[str, int] = {}
    for node in nodes:
        program = node.label.split(" ")[0].rstrip(":")
        name = f"{node.container} ({program})" if node.container else program
        name = node.role if node.role in ("pause", "runc", "cni") else name
        name += " exec" if node.role == "exec" else ""
        name += f", {node.ended}" if node.ended else ""
        counts[name] = counts.get(name, 0) + 1
    return [name if count == 1 else f"{count} × {name}" for name, count in counts.items()]
