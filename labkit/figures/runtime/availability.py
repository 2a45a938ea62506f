"""Requests over time, one mark each, with what was done to the runtime on the same axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, text_width, title_height, wrap
from labkit.figures.runtime.load import Answer, Moment

WIDTH, PLOT, BAND, AXIS, LABEL = 860.0, 130.0, 24.0, 40.0, 16.0
FILLS = {"kept": "application", "new": "background"}
SCALE = (0.1, 1.0, 10.0, 100.0, 1000.0)
"""Milliseconds marked on the axis of answer times, which is logarithmic."""
HEIGHT = "height: how long the answer took"


def availability(
    answers: Sequence[Answer], moments: Sequence[Moment] = (), *, runtime: str = "containerd", title: str | None = None,
    width: float = WIDTH,
) -> Figure:  # fmt: skip
    """Draw each request at its time, as high as its answer took long; one without an answer is a cross at the top.

    `answers`: of a `labkit.figures.runtime.load.Load`. `moments`: what was done meanwhile, drawn as lines with names, the
    runtime's version as a band below. Raises ValueError for no requests at all.
    """
    if not answers:
        raise ValueError("No request was made, so there is nothing to draw.")
    failed = [a for a in answers if a.error]
    told = title or _title(answers, moments, runtime)
    heads = wrap(told, width - 2 * MARGIN, style.TITLE, bold=True)
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
        key = _paint_key(canvas, answers, bool(failed), right, low + 32)
        if left + text_width(HEIGHT, style.SMALL) < key:
            canvas.text(left, low + 32, HEIGHT, style.SMALL, "muted")

    return Figure(_alternative_text(answers, moments, told), paint, width, bottom + (BAND if banded else 0) + AXIS + 8)


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


def _paint_key(canvas: Canvas, answers: Sequence[Answer], failed: bool, right: float, y: float) -> float:
    """The key of the marks, at the right end of a line; where it begins."""
    keys = [("kept", "on a kept connection"), ("new", "on a new connection")]
    keys = [(kind, words) for kind, words in keys if any(a.connection == kind for a in answers)]
    x = right
    if failed:
        x -= text_width("failed", style.SMALL)
        canvas.text(x, y, "failed", style.SMALL)
        _paint_cross(canvas, x - 8, y)
        x -= 26
    for kind, words in reversed(keys):
        x -= text_width(words, style.SMALL)
        canvas.text(x, y, words, style.SMALL)
        canvas.dot(x - 8, y, 6, FILLS[kind], "application", 1.2)
        x -= 26
    return x


def _paint_cross(canvas: Canvas, x: float, y: float) -> None:
    for slope in (-1, 1):
        canvas.line([(x - 4, y - 4 * slope), (x + 4, y + 4 * slope)], "text", 2.0)


def _paint_version(canvas: Canvas, moment: Moment, left: float, right: float, y: float, runtime: str) -> None:
    away = moment.version == "away"
    colour = "band" if away else "containerd"
    canvas.box(left, y, max(right - left - 1, 1), BAND - 6, colour)
    told = "away" if away else f"{runtime} {moment.version}"
    cut = fit(told, right - left - 8, style.SMALL)
    if cut == told or len(cut) > 6:
        ink = "muted" if away else style.text_on(style.colour(colour, canvas.theme))
        canvas.text(left + 4, y + (BAND - 6) / 2, cut, style.SMALL, ink)


def _paint_axis(canvas: Canvas, begin: int, end: int, x: Callable[[int], float], y: float) -> None:
    span = (end - begin) / 1e9
    step = next(s * 10.0**p for p in range(-2, 6) for s in (1, 2, 5) if span / (s * 10.0**p) <= 12)
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
