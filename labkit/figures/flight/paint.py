"""A measured flight timeline, drawn: calls, bands, processes with their marks, axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, fit, text_width
from labkit.figures.flight.layout import (
    ARROW,
    BADGE,
    BAR,
    CALL,
    CAPTION,
    GAP,
    LANE,
    ROW,
    Layout,
    badge_width,
    end_of,
    extent,
    free_left,
    label_of,
    label_place,
    strip_extent,
)
from labkit.figures.flight.rows import TimelineRow

if TYPE_CHECKING:
    from labkit.recording.flight import Flight

TICKS = 40.0
"""So far from each other are marks on the two sides of a break at least, px."""


def paint_panel(canvas: Canvas, flight: Flight, layout: Layout) -> None:
    """Draw one axis with all that is above it."""
    lanes = _paint_calls(canvas, flight, layout)
    _paint_bands(canvas, flight, layout, lanes)
    _paint_rows(canvas, flight, layout)
    _paint_axis(canvas, layout)


def _paint_calls(canvas: Canvas, flight: Flight, layout: Layout) -> dict[int, float]:
    """Draw the call bars; return for each the height of its lower edge."""
    y, edges = layout.top, {}
    for service, bars in layout.bars.items():
        caption = f"{service}, for Pod {layout.pod}" if layout.pod else service
        canvas.text(MARGIN, y + CAPTION / 2, fit(caption, layout.width - 2 * MARGIN, style.SMALL), style.SMALL, "muted")
        y += CAPTION
        colour = service
        for bar in bars:
            middle = y + LANE * (bar.lane + 0.5)
            canvas.box(bar.left, middle - CALL / 2, bar.right - bar.left, CALL, colour)
            _paint_break(canvas, layout, bar.left, bar.right, middle, CALL)
            inside = bar.left < bar.text_at < bar.right
            _paint_badge(canvas, bar.text_at, middle, layout.numbers.get(bar.index), colour)
            ink = f"on {colour}" if inside else "text"
            canvas.text(bar.text_at + badge_width(layout.numbers.get(bar.index)) + 4, middle, bar.words, style.SMALL, ink)
            edges[bar.index] = middle + CALL / 2
        y += LANE * (1 + max(bar.lane for bar in bars))
    if layout.asking:
        counts: dict[str, int] = {}
        covered: dict[str, float] = {}
        for i in layout.asking:
            call, x = flight.calls[i], layout.x(flight.calls[i].from_ns)
            counts[call.method] = counts.get(call.method, 0) + 1
            if x >= covered.get(call.service, -1.0):  # a tick that would lie on another says nothing
                canvas.box(x, y + CAPTION + 2, 2, 8, call.service)
                covered[call.service] = x + 1.5
        text = "only asking: " + ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in counts.items())
        canvas.text(MARGIN, y + CAPTION / 2, fit(text, layout.width - 2 * MARGIN, style.SMALL), style.SMALL, "muted")
    return edges


def _paint_badge(canvas: Canvas, left: float, y: float, number: int | None, colour: str) -> None:
    if number is None:
        return
    width = badge_width(number)
    if width > BADGE:
        canvas.line([(left + BADGE / 2, y), (left + width - BADGE / 2, y)], colour, BADGE)
        canvas.line([(left + BADGE / 2, y), (left + width - BADGE / 2, y)], "background", BADGE - 3)
    else:
        canvas.dot(left + width / 2, y, BADGE - 2, "background", colour, 1.5)
    canvas.text(left + width / 2, y, str(number), style.SMALL, "text", bold=True, align="center")


def _paint_bands(canvas: Canvas, flight: Flight, layout: Layout, lanes: dict[int, float]) -> None:
    """A band from each call down to the rows of its processes, whose bracket on the left carries its number."""
    blocks: dict[int, list[int]] = {}
    for number, row in enumerate(layout.rows):
        if row.call is not None:
            blocks.setdefault(row.call, []).append(number)
    for index, numbers in blocks.items():
        call = flight.calls[index]
        if index in lanes:
            left, right = layout.x(call.from_ns), layout.x(end_of(call))
            bottom = layout.y(numbers[-1]) + ROW / 2 - 1
            canvas.box(left + 0.5, lanes[index] + 1, max(right - left - 1, 2), bottom - lanes[index] - 1, "band")
        colour = call.service
        for first, last in _runs(numbers):
            x = MARGIN + badge_width(layout.numbers.get(index)) + 4
            canvas.line([(x, layout.y(first) - ROW / 2 + 3), (x, layout.y(last) + ROW / 2 - 3)], colour, 1.5)
            _paint_badge(canvas, MARGIN, layout.y(first), layout.numbers.get(index), colour)


def _runs(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def _paint_rows(canvas: Canvas, flight: Flight, layout: Layout) -> None:
    taken: list[tuple[float, float]] = []
    heights = {id(row.processes[0]): number for number, row in enumerate(layout.rows) if not row.strip}
    for number, row in enumerate(layout.rows):
        at, align = label_place(layout, flight, row)
        label = label_of(row)
        if align == "nowhere":
            at, align = layout.left - GAP, "right"
            label = fit(label, at - free_left(layout), style.SMALL)
        wide = text_width(label, style.SMALL)
        taken.append((at - 3, at + wide + 3) if align == "left" else (at - wide - 3, at + 3))
        canvas.text(at, layout.y(number), label, style.SMALL, "text", align=align)
        if row.strip:
            _paint_strip(canvas, flight, layout, row, layout.y(number))
        else:
            _paint_process(canvas, layout, row, layout.y(number))
    for number, row in enumerate(layout.rows):
        start = row.processes[0].from_ns
        if row.parent is not None and start is not None and id(row.parent) in heights and layout.begin <= start:
            _paint_fork(canvas, layout, heights[id(row.parent)], number, layout.x(start), taken)


def _paint_fork(canvas: Canvas, layout: Layout, above: int, below: int, x: float, taken: Sequence[tuple[float, float]]) -> None:
    """The line from parent to child, behind the bars and labels that it passes."""
    step = 1 if below > above else -1
    start = layout.y(above) + step * BAR / 2
    for number in range(above + step, below, step):
        process = layout.rows[number].processes[0]
        bar = layout.x(process.from_ns) - 3 <= x <= (layout.right if process.to_ns is None else layout.x(process.to_ns)) + 3
        label = taken[number][0] <= x <= taken[number][1]
        if label or bar:
            half = 8.0 if label or layout.rows[number].strip else BAR / 2 + 1
            canvas.line([(x, start), (x, layout.y(number) - step * half)], "faint", 1.0)
            start = layout.y(number) + step * half
    canvas.line([(x, start), (x, layout.y(below) - step * BAR / 2)], "faint", 1.0)


def _paint_process(canvas: Canvas, layout: Layout, row: TimelineRow, y: float) -> None:
    """The bar of one process, each part in the colour of what it was then; thin where it lived before and lives on."""
    process = row.processes[0]
    high = BAR / 3 if process.from_ns is None and process.to_ns is None else BAR
    left = layout.x(process.from_ns)
    right, ends = extent(layout, process)
    edges = [left, *(min(layout.x(stage.from_ns), right) for stage in row.stages[1:]), max(right, left + 2)]
    for stage, (start, end) in zip(row.stages, pairwise(edges), strict=True):
        if end > start:
            canvas.box(start, y - high / 2, end - start, high, stage.role)
    _paint_break(canvas, layout, left, right, y, BAR)
    if ends:
        canvas.line([(right, y - 6), (right, y + 6)], "text", 2.0)
    else:
        canvas.dot(right + 1, y, 9 if high == BAR else 6, process.role, shape=">")
    for each in process.execs:
        if layout.begin <= each.at_ns <= layout.end:
            canvas.dot(layout.x(each.at_ns), y, 5.5, "background", "text", 1.1, shape="D")


def _paint_break(canvas: Canvas, layout: Layout, left: float, right: float, y: float, high: float) -> None:
    """Cut a bar that crosses the break in the axis."""
    broken = layout.broken_at
    if broken and left < broken[0] and broken[1] < right:
        middle, half = sum(broken) / 2, high / 2 + 1.5
        canvas.line([(middle - 2, y + half), (middle + 2, y - half)], "background", 4.0)


def _paint_strip(canvas: Canvas, flight: Flight, layout: Layout, row: TimelineRow, y: float) -> None:
    """Many processes on one line: below a stroke for each call, on it a tick in the colour of its role for each that began."""
    left, right, lasting = strip_extent(flight, layout, row)
    canvas.line([(left, y), (right, y)], "faint", 1.2)
    for i in row.calls:
        call = flight.calls[i]
        begin = layout.x(call.from_ns)
        canvas.box(begin, y + 5, max(layout.x(end_of(call)) - begin - 0.7, 0.8), 2.2, call.service)
    for process in row.processes:
        if process.from_ns is not None:
            canvas.box(layout.x(process.from_ns) - 1, y - 6, 2.2, 9, process.role)
    if lasting:
        canvas.dot(right + 1, y, 7, "faint", shape=">")


def _paint_axis(canvas: Canvas, layout: Layout) -> None:
    y = layout.bottom
    span = (layout.right - layout.left) / layout.per_ns
    unit, name = next(((u, n) for u, n in ((1e9, "seconds"), (1e6, "milliseconds")) if span >= 8 * u), (1e3, "microseconds"))
    canvas.line([(layout.left, y), (layout.right + ARROW, y)], "muted", 1.2)
    label = f"{name} since {layout.since}"
    if layout.idle and (broken := layout.broken_at):
        middle = sum(broken) / 2
        canvas.line([(middle - 4, y), (middle + 4, y)], "background", 3.0)
        for x in (middle - 4, middle + 4):
            canvas.line([(x - 2.5, y + 5), (x + 2.5, y - 5)], "muted", 1.2)
        idle = f"{(layout.idle[1] - layout.idle[0]) / unit:.3g}"
        long = f"{label}; {idle} of them, in which nothing begins or ends, are left out at the break"
        label = long if text_width(long, style.SMALL) <= layout.width - 2 * MARGIN else f"{label}; {idle} left out"
    for number, x in _ticks(layout, unit):
        canvas.line([(x, y), (x, y + 4)], "muted", 1.2)
        canvas.text(x, y + 13, f"{number:g}", style.SMALL, "muted", align="center")
    label = fit(label, layout.width - 2 * MARGIN, style.SMALL)
    half = text_width(label, style.SMALL) / 2 + MARGIN
    middle = min(max((layout.left + layout.right) / 2, half), layout.width - half)
    canvas.text(middle, y + 30, label, style.SMALL, "muted", align="center")


def _ticks(layout: Layout, unit: float) -> Iterable[tuple[float, float]]:
    """(number, x) of the marks on the axis; none within a break, and no two that would meet across it."""
    span = (layout.right - layout.left) / layout.per_ns
    at_most = (layout.right - layout.left) / 64
    scale = 10.0 ** max(len(str(int(span / unit))) - 2, 0)
    step = next(s * scale for s in (0.5, 1, 2, 5, 10, 20, 50, 100) if span / unit / (s * scale) <= at_most)
    number, before = -int((layout.origin - layout.begin) / unit / step), -TICKS
    while layout.origin + number * step * unit <= layout.end:
        at = int(layout.origin + number * step * unit)
        x = layout.x(at)
        if not (layout.idle and (layout.idle[0] < at < layout.idle[1] or x < before + TICKS)):
            yield number * step, x
            before = x
        number += 1
