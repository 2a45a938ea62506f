"""Requests over time, one mark each, with what was done to the runtime on the same axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, in_any_width, text_width, title_height, wrap
from labkit.figures.runtime.load import Answer, Moment

WIDTH, PLOT, BAND, AXIS, LABEL = 860.0, 130.0, 24.0, 40.0, 16.0
FILLS = {"kept": "application", "new": "background"}
SCALE = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Milliseconds marked on the axis of answer times, which is logarithmic."""
DOWN = ("away", "down")
"""What `Moment.version` says where no runtime runs."""
HEIGHT = "height: how long the answer took"


@in_any_width
def availability(
    answers: Sequence[Answer], moments: Sequence[Moment] = (), *, runtime: str = "containerd", title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw each request at its time, as high as its answer took long; one without an answer is a cross at the top.

    `answers`: of a `labkit.figures.runtime.load.Load`. `moments`: what was done meanwhile, drawn as lines with names, the
    runtime's version as a band below. Raises ValueError for no requests at all.
    """
    if not answers:
        raise ValueError("No request was made, so there is nothing to draw.")
    failed = [a for a in answers if a.error]
    heading = title or _title(answers, moments, runtime)
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    begin = min(answers[0].at_ns, *(m.at_ns for m in moments)) if moments else answers[0].at_ns
    end = max(a.at_ns + a.took_ns for a in answers)
    left, right = MARGIN + 52, width - MARGIN

    def x(at_ns: int) -> float:
        return left + min(max((at_ns - begin) / max(end - begin, 1), 0), 1) * (right - left)

    rows = _label_rows(moments, x, right)
    names = title_height(heads) + 4
    top = names + LABEL * (1 + max(rows, default=-1)) + 6
    bottom = top + PLOT
    banded = [m for m in moments if m.version]
    keys = _keys(answers, bool(failed), left, right)

    def y(took_ns: int) -> float:
        import math

        low, high = math.log10(SCALE[0]), math.log10(SCALE[-1])
        part = (math.log10(max(took_ns / 1e6, SCALE[0])) - low) / (high - low)
        return bottom - min(part, 1.0) * PLOT

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for milliseconds in SCALE:
            height = y(int(milliseconds * 1e6))
            canvas.line([(left, height), (right, height)], "faint", 0.6)
            canvas.text(left - 6, height, f"{milliseconds:g} ms", style.SMALL, "muted", align="right")
        for answer in answers:
            if not answer.error:
                canvas.dot(x(answer.at_ns), y(answer.took_ns), 3.6, FILLS[answer.connection], "application", 0.8)
        for answer in failed:
            _paint_cross(canvas, x(answer.at_ns), top + 2)
        for moment, row in zip(moments, rows, strict=True):
            at, label = x(moment.at_ns), names + LABEL * (row + 0.5)
            if moment.to_ns is not None:
                canvas.box(at, top, max(x(moment.to_ns) - at, 1.5), PLOT, "band")
            canvas.line([(at, label + 8), (at, bottom + (BAND + 6 if banded else 0))], "muted", 1.2)
            _paint_name(canvas, moment.name, at, label, right)
        for number, moment in enumerate(banded):
            until = banded[number + 1].at_ns if number + 1 < len(banded) else end
            _paint_version(canvas, moment, x(moment.at_ns), x(until), bottom + 6, runtime)
        low = bottom + (BAND + 8 if banded else 2)
        _paint_axis(canvas, begin, end, x, low)
        for number, (x_of_key, row, words, fill) in enumerate(keys):
            at = low + 32 + LABEL * row
            if fill:
                canvas.dot(x_of_key + 4, at, 6, fill, "application", 1.2)
            elif number:
                _paint_cross(canvas, x_of_key + 4, at)
            canvas.text(x_of_key + (14 if number else 0), at, words, style.SMALL, "text" if number else "muted")

    height = bottom + (BAND if banded else 0) + AXIS + 8 + LABEL * keys[-1][1]
    return Figure(_alternative_text(answers, moments, heading), paint, width, height)


def _title(answers: Sequence[Answer], moments: Sequence[Moment], runtime: str) -> str:
    failed = sum(bool(a.error) for a in answers)
    happened = ", ".join(m.name for m in moments if m.name) or f"{runtime} left alone"
    return f"{'No request' if not failed else 'Some requests'} failed through: {happened}"


def _label_rows(moments: Sequence[Moment], x: Callable[[int], float], right: float) -> list[int]:
    ends: list[float] = []
    rows = []
    for moment in moments:
        start, end = _extent(moment.name, x(moment.at_ns), right)
        row = next((n for n, taken in enumerate(ends) if taken + 10 <= start), len(ends))
        ends[row : row + 1] = [end]
        rows.append(row)
    return rows


def _extent(name: str, at: float, right: float) -> tuple[float, float]:
    wide = text_width(name, style.SMALL, bold=True)
    return (at - 3, at + wide) if at + wide <= right else (right - wide, right)


def _paint_name(canvas: Canvas, name: str, at: float, y: float, right: float) -> None:
    canvas.text(_extent(name, at, right)[0] + 3, y, name, style.SMALL, bold=True)


def _keys(answers: Sequence[Answer], failed: bool, left: float, right: float) -> list[tuple[float, int, str, str]]:
    """(x, line, words, fill) of what is told below the axis: what the height means, then each mark; a cross has no fill."""
    kinds = [("kept", "on a kept connection"), ("new", "on a new connection")]
    marks = [(words, FILLS[kind]) for kind, words in kinds if any(a.connection == kind for a in answers)]
    x, line, keys = left, 0, [(left, 0, HEIGHT, "")]
    x += text_width(HEIGHT, style.SMALL) + 20
    for words, fill in [*marks, *([("failed", "")] if failed else [])]:
        wide = 14 + text_width(words, style.SMALL)
        if x + wide > right:
            x, line = left, line + 1
        keys.append((x, line, words, fill))
        x += wide + 16
    return keys


def _paint_cross(canvas: Canvas, x: float, y: float) -> None:
    for slope in (-1, 1):
        canvas.line([(x - 4, y - 4 * slope), (x + 4, y + 4 * slope)], "failed", 2.0)


def _paint_version(canvas: Canvas, moment: Moment, left: float, right: float, y: float, runtime: str) -> None:
    away = moment.version in DOWN
    colour = "band" if away else "containerd"
    canvas.box(left, y, max(right - left - 1, 1), BAND - 6, colour)
    ink = "muted" if away else f"on {colour}"
    for label in [moment.version or ""] if away else [f"{runtime} {moment.version}", moment.version or ""]:
        if text_width(label, bold=True) <= right - left - 8:
            canvas.text(left + 4, y + (BAND - 6) / 2, label, style.BODY, ink, bold=True)
            return


def _paint_axis(canvas: Canvas, begin: int, end: int, x: Callable[[int], float], y: float) -> None:
    span = (end - begin) / 1e9
    step = next(s * 10.0**p for p in range(-2, 6) for s in (1, 2, 5) if span / (s * 10.0**p) <= min(12, (x(end) - x(begin)) / 44))
    canvas.line([(x(begin), y), (x(end), y)], "muted")
    for number in range(int(span / step) + 1):
        at = x(int(begin + number * step * 1e9))
        canvas.line([(at, y), (at, y + 4)], "muted")
        canvas.text(at, y + 13, f"{number * step:g} s", style.SMALL, "muted", align="center")


def _alternative_text(answers: Sequence[Answer], moments: Sequence[Moment], title: str) -> str:
    failed = [a for a in answers if a.error]
    kinds = " and ".join(
        words
        for kind, words in (("kept", "on a kept connection"), ("new", "on new ones"))
        if any(a.connection == kind for a in answers)
    )
    lines = [f"Requests over time: {title}.", f"They were made {kinds}."]
    lines.append(
        "All were answered." if not failed else f"Without an answer: {', '.join(sorted({a.connection for a in failed}))}."
    )
    return "\n".join([*lines, *(f"Meanwhile: {m.name}." for m in moments if m.name)])
