"""Who holds a Pod while the runtime is away: each shim with its parent, its socket and what it keeps, before and after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, title_height, wrap
from labkit.figures.namespaces.groups import words

if TYPE_CHECKING:
    from labkit.node.observe.shims import HeldContainer, ShimHold

WIDTH, STACKED, ROW, LINE, GAP, PID = 780.0, 560.0, 22.0, 15.0, 12.0, 66.0
"""px. Below STACKED what is told of a process is drawn below it, else beside it."""
NAMES, NAMES_STACKED = 132.0, 96.0
SOCKET_LETTERS = 12
"""Of a socket's name, a hash, so many are shown."""
WAITED_FOR = "its exit code is waited for"


@dataclass(frozen=True)
class ShimRow:
    """One process on both sides. `role`: its colour. `before`, `after`: its pid there, 0 where it has ended, None where that
    side does not know it. `same`: one process on both sides. `version`: of a shim's program. `details`: more about it, for the
    picture alone."""

    name: str
    role: str
    before: int | None
    after: int | None
    same: bool
    details: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Block:
    """One Pod's shim and what it holds; the first row is the shim's. `text`: the block in words, without pids."""

    pod: str
    rows: tuple[ShimRow, ...]
    text: str


@in_any_width
def shims(
    before: Sequence[ShimHold], after: Sequence[ShimHold] | None = None, *, title: str | None = None, width: float = WIDTH
) -> Figure:
    """Draw each Pod's shim with its version, the processes that it looks after, and what it keeps for the runtime.

    `before` and `after`: of `node.shims()`. With `after` both sides' pids stand beside each other: a line joins those of one and
    the same process, a ring marks a new one, and what is gone has a stroke.
    """
    blocks = compare(before, after)
    heading = title or _title(blocks, after is not None)
    heads = wrap(title or _message(blocks, after is not None) or heading, width - 2 * MARGIN, style.TITLE, bold=True)
    stacked = width < STACKED
    names = NAMES_STACKED if stacked else NAMES
    sides = [MARGIN + names + 14 + PID / 2, MARGIN + names + 14 + 1.9 * PID]
    details = MARGIN + 42 if stacked else sides[after is not None] + PID / 2 + 18
    top = title_height(heads) + LINE + 4
    sheet = _ShimSheet(sides[: 1 + (after is not None)], names, details, width - MARGIN - 8, stacked)
    height = top + sum(sheet.block_height(block) + GAP for block in blocks)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for name, x in zip(("pid before", "after") if after is not None else ("pid",), sides, strict=False):
            canvas.text(x, top - LINE, name, style.SMALL, "muted", align="center")
        y = top
        for block in blocks:
            canvas.box(MARGIN, y - 4, width - 2 * MARGIN, sheet.block_height(block) + 4, "band")
            canvas.text(MARGIN + 8, y + ROW / 2, fit(block.pod, width - 2 * MARGIN - 16, bold=True), bold=True)
            y += ROW
            for row in block.rows:
                sheet.paint(canvas, row, y)
                y += sheet.row_height(row)
            y += GAP

    head = f"Shims{' before and after' if after is not None else ''}: {heading}."
    return Figure("\n".join([head, *(block.text for block in blocks)]), paint, width, height)


def compare(before: Sequence[ShimHold], after: Sequence[ShimHold] | None) -> list[Block]:
    """A block for each shim of either side, those of one Pod sandbox together."""
    later = {hold.sandbox: hold for hold in after or ()}
    blocks = [_block(hold, later.pop(hold.sandbox, None), after is not None) for hold in before]
    return blocks + [_block(None, hold, True) for hold in later.values()]


def _block(before: ShimHold | None, after: ShimHold | None, two: bool) -> Block:
    shown = after or before
    assert shown is not None
    same = before is not None and after is not None and (before.pid, before.start_ns) == (after.pid, after.start_ns)
    shim = ShimRow("shim", "shim", _pid(before), _pid(after), same, _shim_details(shown), shown.version)
    pod = shown.pod if shown.namespace in ("", "default") else f"{shown.namespace}/{shown.pod}"
    first, then = ({c.id: c for c in hold.containers} if hold else {} for hold in (before, after))
    pairs = [(first.get(each), then.get(each)) for each in dict.fromkeys([*first, *then])]
    rows = tuple(_container_row(a, b, two) for a, b in pairs)
    return Block(pod, (shim, *rows), _text(pod, shim, shown, pairs, two))


def _container_row(before: HeldContainer | None, after: HeldContainer | None, two: bool = True) -> ShimRow:
    shown = after or before
    assert shown is not None
    same = before is not None and after is not None and before.pid == after.pid != 0
    role = "application" if shown.name else "pause"
    details = () if before and two and after is None else (_keeps(shown),)
    return ShimRow(shown.name or "pause", role, _pid(before), _pid(after), same, details)


def _pid(holder: ShimHold | HeldContainer | None) -> int | None:
    return holder.pid if holder else None


def _shim_details(hold: ShimHold) -> tuple[str, ...]:
    socket = os.path.basename(hold.socket)
    short = hold.socket if len(socket) <= SOCKET_LETTERS else f"{hold.socket[: SOCKET_LETTERS - len(socket)]}…"
    return (
        f"child of process {hold.ppid} · OOM score adjusted by {f'{hold.oom_score_adj}'.replace('-', '−')}",
        f"listens on {short}",
        f"runs {hold.exe}",
    )


def _keeps(container: HeldContainer) -> str:
    """What the shim keeps of a container: its exit code, else the pipes for its output."""
    if not container.pid:
        return "ended" if container.exit_code is None else f"ended; the shim keeps exit code {container.exit_code}"
    if not container.fifos:
        return WAITED_FOR
    return f"{WAITED_FOR}; FIFOs held: {words(_streams(container))}"


def _streams(container: HeldContainer) -> list[str]:
    """The streams by the names of the FIFOs, which end in "-stdout" and the like."""
    return sorted({os.path.basename(path).rpartition("-")[2] for path in container.fifos}, reverse=True)


def _text(
    pod: str, shim: ShimRow, shown: ShimHold, pairs: Sequence[tuple[HeldContainer | None, HeldContainer | None]], two: bool
) -> str:
    parent = "process 1" if shown.ppid == 1 else "another process that adopts orphans"
    what = f"a shim, child of {parent}"
    if two:
        what = {True: "the same shim", False: "another shim"}[shim.same]
        what = "a new shim" if shim.before is None else "the shim is gone" if shim.after is None else what
    if two and shim.after is None:
        return f"{pod}: {what}."
    parts = []
    for before, after in pairs:
        container = after or before
        assert container is not None
        fate = _keeps(container).removeprefix(WAITED_FOR).removeprefix("; ")
        if two and (after is None or after.pid):
            fate = "gone" if after is None else "the same" if _container_row(before, after).same else "new"
        parts.append(f"{container.name or 'pause'}{f' ({fate})' if fate else ''}")
    return f"{pod}: {what}. It looks after {words(parts)}." if parts else f"{pod}: {what}."


def _title(blocks: Sequence[Block], two: bool) -> str:
    if not blocks:
        return "No Pod has a shim"
    if not two:
        return "The Pod's processes are held by its shim" if len(blocks) == 1 else "Each Pod's processes are held by its own shim"
    known = [block.rows[0] for block in blocks if block.rows[0].before is not None]
    if not known:
        return "Every shim is new"
    kept = sum(row.same for row in known)
    if kept == len(known):
        return "The shim is the same process" if kept == 1 else "Every shim is the same process"
    return "No shim is the same process" if not kept else f"{kept} of {len(known)} shims are the same process"


def _message(blocks: Sequence[Block], two: bool) -> str:
    """What is to be seen above all where it differs from machine to machine: which shim has which version, what one keeps."""
    pods: dict[str, list[str]] = {}
    for block in blocks:
        if block.rows[0].version and block.rows[0].after is not None:
            pods.setdefault(block.rows[0].version, []).append(block.pod)
    if len(pods) > 1:
        return "; ".join(f"{words(n, 3)} {'has' if len(n) == 1 else 'have'} shim {version}" for version, n in pods.items())
    rows = [row for block in blocks for row in block.rows if two]
    return words([f"{row.name} has {each}" for row in rows for each in row.details if each.startswith("ended;")], 3)


@dataclass(frozen=True)
class _ShimSheet:
    """Where everything is, px: the middle of each side's pids, the width of the names, what is told from `details` to `right`."""

    sides: Sequence[float]
    names: float
    details: float
    right: float
    stacked: bool

    def block_height(self, block: Block) -> float:
        return ROW + sum(self.row_height(row) for row in block.rows)

    def row_height(self, row: ShimRow) -> float:
        beside = LINE * len(self._lines(row)) + 6 + (8 if row.version else 0)
        return ROW - 4 + beside if self.stacked else max(ROW, beside)

    def _lines(self, row: ShimRow) -> list[tuple[str, int]]:
        """What is told, line by line, with the number of the detail that each belongs to."""
        facts = [row.version and f"version {row.version}", *row.details]
        return [
            (line, number)
            for number, each in enumerate(facts)
            for line in wrap(each, self.right - self.details, style.TITLE if number == 0 else style.SMALL)
            if line
        ]

    def paint(self, canvas: Canvas, row: ShimRow, y: float) -> None:
        middle, inset = y + ROW / 2, 8 if row.role == "shim" else 24
        canvas.dot(MARGIN + inset + 6, middle, 10, row.role, shape="s" if row.role == "shim" else "o")
        canvas.text(MARGIN + inset + 18, middle, fit(row.name, self.names - inset - 18))
        for x, pid in zip(self.sides, (row.before, row.after), strict=False):
            word = str(pid) if pid else "–" if pid is None else "ended"
            canvas.text(x, middle, word, colour="text" if pid else "muted", align="center")
        if len(self.sides) > 1:
            self._paint_change(canvas, row, middle)
        at = middle + ROW - 5 if self.stacked else middle
        for line, number in self._lines(row):
            if number == 0:
                canvas.text(self.details, at, line, style.TITLE, bold=True)
                at += LINE + 6
            else:
                canvas.text(self.details, at, line, style.SMALL, "text" if number == 1 else "muted")
                at += LINE

    def _paint_change(self, canvas: Canvas, row: ShimRow, middle: float) -> None:
        left, new = self.sides[0] + PID / 2, self.sides[1] - PID / 2
        if row.same:
            canvas.line([(left, middle), (new, middle)], row.role, 2.4)
        elif row.after:
            canvas.dot(new, middle, 9, "band", row.role, 2.0)
            if row.role == "shim" and not self.stacked:
                canvas.text(self.sides[1], middle + LINE, "new", style.SMALL, "muted", align="center")
        elif row.before:
            canvas.line([(new, middle - 6), (new, middle + 6)], row.role, 2.4)
