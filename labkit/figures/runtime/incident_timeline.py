"""An incident as it went: on one axis of time what was run, what went wrong, and when each part was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words
from labkit.util.showable import showable

WIDTH, LANE, NAMES, AXIS, DOT, PER_TICK = 700.0, 26.0, 16.0, 34.0, 9.0, 70.0
FOUND = "found"
MARKS = {FOUND: ("running", "o"), "command": ("kubelet", "o"), "error": ("failed", "s"), "hint": ("line", "D"),
         "wrong answer": ("failed", "D")}  # fmt: skip
"""What a moment is → colour and shape of its mark. Each has a lane, in this order."""
DAY = 86400
STEPS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 3 * 3600, 12 * 3600, DAY, 7 * DAY, 30 * DAY, 365 * DAY)
"""Seconds between two ticks."""


class IncidentMoment(NamedTuple):
    """after_s: the time since the incident began. what: a key of MARKS. name: of what was found, "cause" for instance."""

    after_s: float
    what: str
    name: str = ""


@in_any_width
def incident_timeline(moments: Sequence[IncidentMoment], *, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw each moment as a mark in the lane of what it is. What was found has its name beside it; the text tells after how
    many commands. The title is made from the data unless given."""
    moments = sorted(moments, key=lambda each: each.after_s)
    found = [each for each in moments if each.what == FOUND]
    heads = wrap(title or _title(found), width - 2 * MARGIN, style.TITLE, bold=True)
    lanes = [what for what in MARKS if what == FOUND or any(each.what == what for each in moments)]
    left = MARGIN + max(text_width(lane, style.SMALL) for lane in lanes) + 16
    right, top = width - MARGIN - 8, title_height(heads) + NAMES
    last = max([each.after_s for each in moments], default=0.0)
    bottom = top + LANE * len(lanes)

    def x(after_s: float) -> float:
        return left + max(after_s, 0) / max(last, 1) * (right - left)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for number, lane in enumerate(lanes):
            y = top + LANE * (number + 0.5)
            canvas.text(left - 14, y, lane, style.SMALL, "muted", align="right")
            canvas.line([(left, y), (right, y)], "faint", 0.6)
            colour, shape = MARKS[lane]
            for each in moments:
                if each.what == lane:
                    canvas.dot(x(each.after_s), y, DOT, colour, shape=shape)
        for names, place in _labels(found, x, left, right):
            canvas.text(place, top, names, style.SMALL, bold=True)
        _paint_axis(canvas, last, x, right, bottom + 4)

    return Figure(_alternative_text(moments, title), paint, width, bottom + AXIS)


def _title(found: Sequence[IncidentMoment]) -> str:
    if not found:
        return "Nothing was found"
    return f"Found: {', then '.join(f'{names} after {_duration(at)}' for at, names in _together(found))}"


def _together(found: Sequence[IncidentMoment]) -> list[tuple[float, str]]:
    """What was found within a second, by one check, as one: (time, names)."""
    groups: list[list[IncidentMoment]] = []
    for each in found:
        if groups and each.after_s - groups[-1][0].after_s < 1:
            groups[-1].append(each)
        else:
            groups.append([each])
    return [(group[0].after_s, words(showable(each.name) for each in group)) for group in groups]


def _labels(
    found: Sequence[IncidentMoment], x: Callable[[float], float], left: float, right: float
) -> list[tuple[str, float]]:
    """(names, left end), above their marks. Where there is no room between its neighbours a name is left to the title."""
    labels: list[tuple[str, float]] = []
    taken = left - DOT
    for at, names in _together(found):
        wide = text_width(names, style.SMALL, bold=True)
        place = max(min(x(at) - wide / 2, right + DOT - wide), taken)
        if place <= x(at) <= place + wide <= right + DOT:
            labels.append((names, place))
            taken = place + wide + 8
    return labels


def _paint_axis(canvas: Canvas, last: float, x: Callable[[float], float], right: float, y: float) -> None:
    most = max((right - x(0)) / PER_TICK, 1)
    step = next((step for step in STEPS if last / step <= most), STEPS[-1])
    canvas.line([(x(0), y), (right, y)], "muted")
    for number in range(int(last / step) + 1):
        canvas.line([(x(number * step), y), (x(number * step), y + 4)], "muted")
        canvas.text(x(number * step), y + 14, _duration(number * step), style.SMALL, "muted", align="center")


def _duration(seconds: float) -> str:
    """A duration in its two largest units: "40 s", "5 min", "2 h 10 min", "4 d 15 h"; seconds only below a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    rest, parts = int(seconds), []
    for unit, size in (("d", DAY), ("h", 3600), ("min", 60)):
        count, rest = divmod(rest, size)
        parts += [f"{count} {unit}"] * bool(count)
    return " ".join(parts[:2])


def _alternative_text(moments: Sequence[IncidentMoment], title: str | None) -> str:
    found = [each for each in moments if each.what == FOUND]
    told = []
    for at, names in _together(found):
        before = sum(each.what == "command" and each.after_s <= at for each in moments)
        told.append(f"{names} after {_counted(before, 'command')}")
    result = title or (f"found: {', then '.join(told)}" if told else "nothing was found")
    counts = {what: sum(each.what == what for each in moments) for what in MARKS if what not in (FOUND, "command")}
    others = ", ".join(_counted(count, what) for what, count in counts.items() if count)
    return f"An incident over time: {result}." + (f"\nAlso: {others}." if others else "")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
