"""Who holds a Pod while the runtime is away: each shim with its parent, its socket and what it keeps, before and after."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words

if TYPE_CHECKING:
    from labkit.node.observe.shims import HeldContainer, ShimHold

WIDTH, ROW, LINE, GAP, PID = 780.0, 22.0, 15.0, 12.0, 66.0
NAMES = 132.0
SOCKET_LETTERS = 12
"""Of a socket's name, a hash, so many are shown."""
WAITED_FOR = "its exit code is waited for"


@dataclass(frozen=True)
class Row:
    """One process on both sides. `role`: its colour. `before`, `after`: its pid there, 0 where it has ended, None where that
    side does not know it. `same`: one process on both sides. `details`: said of it, for the picture alone."""

    name: str
    role: str
    before: int | None
    after: int | None
    same: bool
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Block:
    """One Pod's shim and what it holds; the first row is the shim's. `told`: the block in words, without pids."""

    pod: str
    rows: tuple[Row, ...]
    told: str


def shims(
    before: Sequence[ShimHold], after: Sequence[ShimHold] | None = None, *, title: str | None = None, width: float = WIDTH
) -> Figure:
    """Draw each Pod's shim, the processes that it looks after, and what it keeps for the runtime.

    `before` and `after`: of `node.shims()`. With `after` both sides' pids stand beside each other: a line joins those of one and
    the same process, a ring marks a new one, and what is gone has a stroke.
    """
    blocks = compare(before, after)
    told = title or _title(blocks, after is not None)
    heads = wrap(told, width - 2 * MARGIN, style.TITLE, bold=True)
    sides = [MARGIN + NAMES + 14 + PID / 2, MARGIN + NAMES + 14 + 1.9 * PID]
    details = sides[after is not None] + PID / 2 + 18
    top = title_height(heads) + LINE + 4
    height = top + sum(_height(block) + GAP for block in blocks)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for name, x in zip(("pid before", "after") if after is not None else ("pid",), sides, strict=False):
            canvas.text(x, top - LINE, name, style.SMALL, "muted", align="center")
        y = top
        for block in blocks:
            canvas.box(MARGIN, y - 4, width - 2 * MARGIN, _height(block) + 4, "band")
            canvas.text(MARGIN + 8, y + ROW / 2, fit(block.pod, width - 2 * MARGIN - 16, bold=True), bold=True)
            y += ROW
            for row in block.rows:
                _paint_row(canvas, row, y, sides[: 1 + (after is not None)], details, width - MARGIN - 8)
                y += _row_height(row)
            y += GAP

    head = f"Shims{' before and after' if after is not None else ''}: {told}."
    return Figure("\n".join([head, *(block.told for block in blocks)]), paint, width, height)


def compare(before: Sequence[ShimHold], after: Sequence[ShimHold] | None) -> list[Block]:
    """A block for each shim of either side, those of one Pod sandbox together."""
    later = {hold.sandbox: hold for hold in after or ()}
    blocks = [_block(hold, later.pop(hold.sandbox, None), after is not None) for hold in before]
    return blocks + [_block(None, hold, True) for hold in later.values()]


def _block(before: ShimHold | None, after: ShimHold | None, two: bool) -> Block:
    shown = after or before
    assert shown is not None
    same = before is not None and after is not None and (before.pid, before.start_ns) == (after.pid, after.start_ns)
    shim = Row("shim", "shim", _pid(before), _pid(after), same, _shim_details(shown))
    pod = shown.pod if shown.namespace in ("", "default") else f"{shown.namespace}/{shown.pod}"
    first, then = ({c.id: c for c in hold.containers} if hold else {} for hold in (before, after))
    pairs = [(first.get(each), then.get(each)) for each in dict.fromkeys([*first, *then])]
    rows = tuple(_container_row(a, b, two) for a, b in pairs)
    return Block(pod, (shim, *rows), _told(pod, shim, shown, pairs, two))


def _container_row(before: HeldContainer | None, after: HeldContainer | None, two: bool = True) -> Row:
    shown = after or before
    assert shown is not None
    same = before is not None and after is not None and before.pid == after.pid != 0
    role = "application" if shown.name else "pause"
    details = () if before and two and after is None else (_keeps(shown),)
    return Row(shown.name or "pause", role, _pid(before), _pid(after), same, details)


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


def _told(
    pod: str, shim: Row, shown: ShimHold, pairs: Sequence[tuple[HeldContainer | None, HeldContainer | None]], two: bool
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
        told = _keeps(container).removeprefix(WAITED_FOR).removeprefix("; ")
        if two and (after is None or after.pid):
            told = "gone" if after is None else "the same" if _container_row(before, after).same else "new"
        parts.append(f"{container.name or 'pause'}{f' ({told})' if told else ''}")
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


def _height(block: Block) -> float:
    return ROW + sum(_row_height(row) for row in block.rows)


def _row_height(row: Row) -> float:
    return max(ROW, LINE * len(row.details) + 6)


def _paint_row(canvas: Canvas, row: Row, y: float, sides: Sequence[float], details: float, right: float) -> None:
    middle, inset = y + ROW / 2, 8 if row.role == "shim" else 24
    canvas.dot(MARGIN + inset + 6, middle, 10, row.role, shape="s" if row.role == "shim" else "o")
    canvas.text(MARGIN + inset + 18, middle, fit(row.name, NAMES - inset - 18))
    for x, pid in zip(sides, (row.before, row.after), strict=False):
        word = str(pid) if pid else "–" if pid is None else "ended"
        canvas.text(x, middle, word, colour="text" if pid else "muted", align="center")
    if len(sides) > 1:
        left, new = sides[0] + PID / 2, sides[1] - PID / 2
        if row.same:
            canvas.line([(left, middle), (new, middle)], row.role, 2.4)
        elif row.after:
            canvas.dot(new, middle, 9, "band", row.role, 2.0)
            if row.role == "shim":
                canvas.text(sides[1], middle + LINE, "new", style.SMALL, "muted", align="center")
        elif row.before:
            canvas.line([(new, middle - 6), (new, middle + 6)], row.role, 2.4)
    for number, detail in enumerate(row.details):
        shown = (_fit_end if detail.startswith("runs ") else _fit)(detail, right - details)
        canvas.text(details, middle + LINE * number, shown, style.SMALL, "text" if number == 0 else "muted")


def _fit(sentence: str, width: float) -> str:
    return fit(sentence, width, style.SMALL)


def _fit_end(sentence: str, width: float) -> str:
    """The sentence with the beginning of its last word left out: the end of a path names the program, and "(deleted)"."""
    verb, _, path = sentence.partition(" ")
    shown = sentence
    while text_width(shown, style.SMALL) > width and path:
        path = path[1:]
        shown = f"{verb} …{path}"
    return shown
