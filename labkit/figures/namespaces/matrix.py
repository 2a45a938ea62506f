"""The namespace matrix: which process is in which namespace, so that sharing is seen at a glance.

A column is a type of namespace, in the order of `labkit.kernel.NAMESPACE_TYPES`; right of the last one stands each row's `note`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces import groups as ng
from labkit.figures.namespaces import matrix_text
from labkit.kernel import NAMESPACE_TYPES

if TYPE_CHECKING:
    from labkit.cri.pods import PodSnapshot

ROW, HEAD, POD, GAP, DOT = 25.0, 26.0, 26.0, 9.0, 17.0
LABELS, COLUMN, COLUMN_NARROW, BETWEEN = 166.0, 60.0, 48.0, 28.0
ALPHABET = "abcdefghjkmnpqrstuvwxyz"
"""Without i, l and o, which look like a join or a dot."""
SHORTEST = 46.0
"""So much room of a label is its name's where what follows the name is long, px."""
LIMIT = 8
"""So many Pods that differ in nothing but their name are drawn; the rest are counted."""
LIMIT_SIMILAR = 14
"""So many are drawn of those that differ only in the names of their containers."""

Looks = Mapping[tuple[str, int], tuple[str, str, str]]
"""(type, inode) → (colour, colour of the edge, letter)."""


@dataclass(frozen=True)
class _Line:
    """One row of the picture; `cells` has type → inode for each panel, None where that moment has no such row."""

    label: str
    cells: tuple[Mapping[str, int] | None, ...]
    note: str = ""
    light: bool = False
    mount: bool = False
    tail: str = ""
    """What follows the label and is never cut."""

    def wide(self, size: float = style.BODY) -> float:
        return text_width(self.label + self.tail, size)


@dataclass(frozen=True)
class _Panel:
    """Where one moment's cells of one block stand: `left` of the first column, `top` is the middle of the first row, px."""

    number: int
    left: float
    top: float
    column: float
    kinds: tuple[str, ...]

    def place(self, kind: str, row: int) -> tuple[float, float]:
        return self.left + self.column * (self.kinds.index(kind) + 0.5), self.top + ROW * row


@dataclass(frozen=True)
class _Block:
    """One Pod, at one moment or two."""

    pod: PodSnapshot
    headings: tuple[str, ...]
    """Address and state, where it is not ready: of both moments together, then of each."""
    lines: tuple[_Line, ...]
    same: tuple[object, ...]
    similar: tuple[object, ...]


@in_any_width
def namespace_matrix(
    pods: Sequence[PodSnapshot],
    host: Mapping[str, int] | None = None,
    title: str | None = None,
    after: Sequence[PodSnapshot] | None = None,
    *,
    width: float | None = None,
) -> Figure:
    """Draw the namespaces of `pods`; with `after`, the same Pods at a later moment beside them, what changed ringed.

    A filled dot is a namespace that is not the host's; dots of one letter and hue in a column are one namespace, joined within
    the Pod; a hollow dot is the host's. A square is a bind mount, which holds a namespace without any process. `host` maps
    types to the host's inode numbers; without it the first shim's are taken. The title is made from the data unless given.
    `width`: px, by default as much as it needs; with less the two moments are one below the other.
    """
    host = ng.host_of([*pods, *(after or ())], host)
    if after is not None:
        after = ng.told_apart(pods, after, host)
    moments = [pods] if after is None else [pods, after]
    blocks, more = _fold(_blocks(moments, host))
    kinds, elsewhere = _columns(moments, host)
    plan = _plan(blocks, kinds, len(moments), width)
    if plan.stacked and after is None:
        kinds, elsewhere = _columns([*moments, *moments], host)
        plan = _plan(blocks, kinds, len(moments), width)
    heads = wrap(title or matrix_text.title(pods, host, after), plan.width - 2 * MARGIN, style.TITLE, bold=True)
    block_heights = [POD + ROW * len(block.lines) + GAP for block in blocks]
    tall = sum(block_heights) + ROW * len(more)
    legends = [_legend(moment, host, kinds, plan) for moment in moments]
    legend_heights = [12 + 15 * max((len(lines) for *_, lines in legend), default=0) for legend in legends]
    first = title_height(heads) + (20 if after is not None else 0) + HEAD
    tops = [first] * len(moments)
    if plan.stacked and after is not None:
        tops[1] = first + tall + legend_heights[0] + 24 + HEAD
    bottom = tops[-1] + tall + (legend_heights[-1] if plan.stacked else max(legend_heights))
    notes = wrap(elsewhere, plan.width - 2 * MARGIN, style.SMALL) if elsewhere else []
    looks = _looks(moments, host)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for number, (left, top) in enumerate(zip(plan.lefts, tops, strict=True)):
            panel = plan.column * len(kinds)
            if after is not None:
                canvas.text(left + panel / 2, top - HEAD - 8, ("before", "after")[number], style.BODY, "muted", align="center")
            for index, kind in enumerate(kinds):
                size = style.BODY if text_width(kind, style.BODY, bold=True) < plan.column else style.SMALL
                canvas.text(left + plan.column * (index + 0.5), top - HEAD / 2, kind, size, bold=True, align="center")
            y = top
            for block, high in zip(blocks, block_heights, strict=True):
                if number == 0 or plan.stacked:
                    _paint_block(canvas, block, block.headings[number + 1 if plan.stacked else 0], y, plan.labels)
                panel_at = _Panel(number, left, y + POD + ROW / 2, plan.column, kinds)
                _paint_joins(canvas, block, panel_at, looks, host)
                for index, line in enumerate(block.lines):
                    _paint_cells(canvas, line, panel_at, index, looks, host)
                    if number == len(moments) - 1:
                        note = line.note.partition(" ")[0] if plan.stacked else line.note
                        canvas.text(left + panel + 2, y + POD + ROW * (index + 0.5), note, style.SMALL, bold=True)
                y += high
            for index, words in enumerate(more if number == 0 or plan.stacked else []):
                canvas.text(MARGIN, y + ROW * (index + 0.4), fit(words, plan.width - 2 * MARGIN), colour="muted")
            _paint_legend(canvas, legends[number], MARGIN if plan.stacked else left, top + tall + 4, plan.stacked)
        for index, words in enumerate(notes):
            canvas.text(MARGIN, bottom + 12 + 15 * index, words, style.SMALL, "muted")

    height = bottom + (5 + 15 * len(notes) if notes else 0) + MARGIN / 2
    return Figure(matrix_text.alternative_text(pods, host, after), paint, plan.width, height)


@dataclass(frozen=True)
class _Plan:
    """Widths, px: of the sheet, of the labels, of a column; `lefts`: where each moment's first column begins."""

    width: float
    labels: float
    column: float
    lefts: tuple[float, ...]
    stacked: bool


def _plan(blocks: Sequence[_Block], kinds: Sequence[str], moments: int, width: float | None) -> _Plan:
    """Where everything goes: moments side by side, or one below the other where `width` is too little."""
    lines = [line for block in blocks for line in block.lines]
    tails = max([text_width(line.tail, style.SMALL) for line in lines], default=0)
    labels = min(max(LABELS, tails + SHORTEST), max([line.wide() for line in lines], default=0) + 36)
    notes = max([text_width(line.note, style.SMALL, bold=True) for line in lines], default=0)
    column = COLUMN if moments == 1 else COLUMN_NARROW
    lefts = [MARGIN + labels + number * (column * len(kinds) + BETWEEN) for number in range(moments)]
    natural = float(max(round(lefts[-1] + column * len(kinds) + notes + MARGIN), 560))
    if width is None or width >= natural:
        return _Plan(width or natural, labels, column, tuple(lefts), False)
    notes = max([text_width(line.note.split()[0], style.SMALL, bold=True) for line in lines if line.note], default=0)
    labels = min(max(width * 0.26, 92.0, tails + SHORTEST), max([line.wide(style.SMALL) for line in lines], default=0) + 24)
    column = min(COLUMN, (width - 2 * MARGIN - labels - notes) / max(len(kinds), 1))
    return _Plan(width, labels, column, (MARGIN + labels,) * moments, True)


def _columns(moments: Sequence[Sequence[PodSnapshot]], host: Mapping[str, int]) -> tuple[tuple[str, ...], str]:
    """The types to draw, and words about the others: of two moments side by side, what is the host's in both has no column."""
    if len(moments) == 1:
        return NAMESPACE_TYPES, ""
    found = [ng.groups(pod, host) for pods in moments for pod in pods]
    kinds = tuple(kind for kind in NAMESPACE_TYPES if any(not group.host for each in found for group in each[kind]))
    others = [kind for kind in NAMESPACE_TYPES if kind not in kinds and any(each[kind] for each in found)]
    return kinds, f"Not drawn: {ng.words(others)}, before and after the host's" if others else ""


def _blocks(moments: Sequence[Sequence[PodSnapshot]], host: Mapping[str, int]) -> list[_Block]:
    by_key = [{matrix_text.pod_key(pod): pod for pod in pods} for pods in moments]
    blocks = []
    for key in {key: None for found in by_key for key in found}:
        states = [found.get(key) for found in by_key]
        known = [pod for pod in states if pod]
        rows = [{row.name: row for row in ng.rows(pod)} if pod else {} for pod in states]
        lines = []
        for name in {name: None for found in rows for name in found}:
            at = [found.get(name) for found in rows]
            some = next(row for row in at if row)
            many = max(len(row.pids) for row in at if row)
            note = "" if len(at) == 1 else "gone" if not at[1] else "new process" if not at[0] or at[0].pids != at[1].pids else ""
            cells = tuple(row.namespaces if row else None for row in at)
            tail = some.tail + (f" ×{many}" if many > 1 else "")
            lines.append(_Line(name.removesuffix(some.tail), cells, note, some.role in ng.NODE_SIDE, tail=tail))
        pinned = [{each.type: each.inode for each in pod.pinned} if pod else {} for pod in states]
        if any(pinned):
            lines.append(_Line("bind mount", tuple(pinned), mount=True))
        if not lines:
            lines.append(_Line("no process left", (None,) * len(states), light=True))
        headings = tuple(matrix_text.heading(some) for some in (known, *([pod] if pod else [] for pod in states)))
        same = tuple((pod.state, ng.describe(pod, host)) if pod else None for pod in states)
        shapes = [(pod.state, *ng.patterns(pod, host).values()) for pod in known]
        similar = (*((line.note, line.light) for line in lines), *shapes)
        blocks.append(_Block(known[-1], headings, tuple(lines), same, similar))
    return blocks


def _fold(blocks: list[_Block]) -> tuple[list[_Block], list[str]]:
    """The blocks to draw, and a line of text for each kind of which not all are drawn."""
    drawn: list[_Block] = []
    seen: Counter[tuple[object, ...]] = Counter()
    folded: Counter[str] = Counter()
    first: dict[tuple[object, ...], str] = {}
    for block in blocks:
        seen[block.same] += 1
        model = first.setdefault(block.similar, block.pod.name)
        if seen[block.same] <= LIMIT and seen[block.similar] < LIMIT_SIMILAR:
            seen[block.similar] += 1
            drawn.append(block)
        else:
            folded[model] += 1
    return drawn, [f"… {count} more Pod{'s' if count > 1 else ''} like {model}" for model, count in folded.items()]


def _looks(moments: Sequence[Sequence[PodSnapshot]], host: Mapping[str, int]) -> Looks:
    """Colour and letter of each namespace: one in each column, the same in all columns for the same members of a Pod.

    Few sets of members: a hue each. Many: a hue for each Pod, a shade of it for each set, so that no two Pods look alike.
    """
    sets: dict[tuple[object, ...], tuple[int, int, str]] = {}
    numbers: dict[tuple[str, str], int] = {}
    in_pod: Counter[int] = Counter()
    found: dict[tuple[str, int], tuple[object, ...]] = {}
    for moment, pods in enumerate(moments):
        for pod in pods:
            number = numbers.setdefault(matrix_text.pod_key(pod), len(numbers))
            for kind, groups in ng.groups(pod, host).items():
                for index, group in enumerate(groups):
                    if group.host or (kind, group.inode) in found:
                        continue
                    members = (moment, number, group.members or index)
                    if members not in sets:
                        sets[members] = (number, in_pod[number], _letter(len(sets)))
                        in_pod[number] += 1
                    found[kind, group.inode] = members
    few = len(sets) <= len(style.HUES)
    hues = {each: (place, 0) if few else sets[each][:2] for place, each in enumerate(sets)}
    return {
        key: (style.namespace_colour(*hues[members]), style.namespace_colour(hues[members][0]), sets[members][2])
        for key, members in found.items()
    }


def _letter(number: int) -> str:
    rest, last = divmod(number, len(ALPHABET))
    return (_letter(rest - 1) if rest else "") + ALPHABET[last]


def _legend(
    pods: Sequence[PodSnapshot], host: Mapping[str, int], kinds: Sequence[str], plan: _Plan
) -> list[tuple[float, float, list[str]]]:
    """Words under the columns: (left, right, lines) with neighbours that say the same made one; px from the first column."""
    spans: list[tuple[int, int, str]] = []
    of_each = [ng.patterns(pod, host) for pod in pods]
    for index, kind in enumerate(kinds):
        patterns = list(dict.fromkeys(found[kind] for found in of_each))
        for weaker in (ng.NONE, ng.PINNED, ng.OWN):
            if any(each not in (weaker, ng.HOST, ng.NONE) for each in patterns):
                patterns = [each for each in patterns if each != weaker]
        label = " or ".join("one a Pod" if each == ng.WHOLE and len(pods) > 1 else each for each in patterns)
        if spans and spans[-1][2] == label:
            spans[-1] = (spans[-1][0], index + 1, label)
        else:
            spans.append((index, index + 1, label))
    if plan.stacked:
        labels = [f"{ng.words(kinds[a:b])}: {label}" for a, b, label in spans if label]
        return [(0.0, 0.0, [line for label in labels for line in wrap(label, plan.width - 2 * MARGIN, style.SMALL)])]
    column = plan.column
    return [(a * column, b * column, wrap(label, (b - a) * column - 4, style.SMALL)) for a, b, label in spans if label]


def _paint_legend(
    canvas: Canvas, legend: list[tuple[float, float, list[str]]], left: float, y: float, stacked: bool
) -> None:
    for start, end, lines in legend:
        if stacked:
            for number, words in enumerate(lines):
                canvas.text(left, y + 12 + 15 * number, words, style.SMALL, "muted")
            continue
        canvas.line([(left + start + 8, y), (left + end - 8, y)], "faint")
        for number, words in enumerate(lines):
            canvas.text(left + (start + end) / 2, y + 12 + 15 * number, words, style.SMALL, "muted", align="center")


def _paint_block(canvas: Canvas, block: _Block, heading: str, y: float, labels: float) -> None:
    canvas.box(MARGIN / 2, y, canvas.width - MARGIN, POD + ROW * len(block.lines) + 2, "band")
    name = fit(f"Pod {block.pod.name}", canvas.width - min(200, canvas.width * 0.45), bold=True)
    canvas.text(MARGIN, y + POD / 2, name, bold=True)
    beside = MARGIN + 10 + text_width(name, bold=True)
    canvas.text(beside, y + POD / 2, fit(heading, canvas.width - MARGIN - beside, style.SMALL), style.SMALL, "muted")
    for index, line in enumerate(block.lines):
        size = style.BODY if line.wide() <= labels - 18 else style.SMALL
        label = fit(line.label, labels - 18 - text_width(line.tail, size), size) + line.tail
        colour = "muted" if line.light else "text"
        canvas.text(MARGIN + labels - 12, y + POD + ROW * (index + 0.5), label, size, colour, align="right")


def _paint_joins(canvas: Canvas, block: _Block, panel: _Panel, looks: Looks, host: Mapping[str, int]) -> None:
    for kind in panel.kinds:
        where: dict[int, list[int]] = {}
        for row, line in enumerate(block.lines):
            cells = line.cells[panel.number] or {}
            if kind in cells and cells[kind] != host.get(kind) and (kind, cells[kind]) in looks:
                where.setdefault(cells[kind], []).append(row)
        for inode, members in where.items():
            for upper, lower in pairwise(members):
                # A bar through the dot of another would say that it shares too, so the bar goes round it.
                between = any(kind in (block.lines[row].cells[panel.number] or {}) for row in range(upper + 1, lower))
                (x, start), (_, end) = panel.place(kind, upper), panel.place(kind, lower)
                aside = x + DOT * 0.9 if between else x
                canvas.line([(x, start), (aside, start), (aside, end), (x, end)], looks[kind, inode][1], 3.0 if between else 5.0)


def _paint_cells(canvas: Canvas, line: _Line, panel: _Panel, row: int, looks: Looks, host: Mapping[str, int]) -> None:
    before = line.cells[0] if panel.number and not line.mount else None
    for kind in panel.kinds:
        inode = (line.cells[panel.number] or {}).get(kind)
        x, y = panel.place(kind, row)
        if inode is None:
            continue
        if inode == host.get(kind) or (kind, inode) not in looks:
            canvas.dot(x, y, 8 if line.light else 10, "band", "faint" if line.light else "line")
            continue
        if before and before.get(kind) != inode:
            canvas.dot(x, y, DOT + 7, "band", "text", 1.6)
        fill, edge, letter = looks[kind, inode]
        canvas.dot(x, y, DOT - 2 if line.mount else DOT, fill, edge, shape="s" if line.mount else "o")
        canvas.text(x, y, letter, style.SMALL, style.text_on(fill), bold=True, align="center")
