"""The STATUS of a Pod over time, above the CRI calls that moved it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.pods.cluster_model import StatusChange, statuses

if TYPE_CHECKING:
    from labkit.recording.flight import Call, Flight

WIDTH, STATUS, LANE, CALL, AXIS, NAMES = 860.0, 30.0, 21.0, 15.0, 40.0, 16.0
FINE = ("Running", "Completed", "Succeeded")
PATIENT = ("Pending", "ContainerCreating", "PodInitializing", "Terminating")


@in_any_width
def pod_lifecycle(
    changes: Sequence[StatusChange],
    flight: Flight,
    *,
    pod: str | None = None,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw one Pod's STATUS as `kubectl get pods -w` told it, and below, on the same axis, the CRI calls made for that Pod.

    `changes`: from `Node.watch_status()`; `flight`: recorded at the same time. `pod`: which, the first of `changes` by default.
    Raises ValueError when there is no status of that Pod.
    """
    name = pod or next((c.pod for c in changes), "")
    mine = _runs(changes, name)
    if not mine:
        raise ValueError(f"There is no status of the Pod {name!r} among these changes.")
    calls = [c for c in flight.calls if not c.asks and c.pod in (name, None) and (c.pod == name or c.service == "ImageService")]
    heading = title or f"{name}: {' → '.join(statuses(changes, name))}"
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    begin = min([mine[0].at_ns, *(c.from_ns for c in calls)])
    last = max([mine[-1].at_ns, *(c.to_ns for c in calls)])
    end = last + max((last - begin) // 6, 1_000_000)
    left, right = MARGIN, width - MARGIN

    def x(at_ns: int) -> float:
        return left + (at_ns - begin) / max(end - begin, 1) * (right - left)

    lanes = _lanes(calls, x, right)
    ends = [change.at_ns for change in mine[1:]] + [end]
    short = _short_names([(c.status, x(c.at_ns), x(until)) for c, until in zip(mine, ends, strict=True)], right)
    top = title_height(heads) + 8 + (NAMES if short else 0)
    below = top + STATUS + 30
    bottom = below + LANE * (1 + max(lanes, default=0)) + 6

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for change, until in zip(mine, ends, strict=True):
            _paint_status(canvas, change, x(change.at_ns), x(until), top)
        for status, at in short:
            canvas.text(at, top - NAMES / 2, status, style.SMALL)
        canvas.text(left, below - 14, "CRI calls for this Pod", style.SMALL, "muted")
        labels = [_label(call, x, right) for call in calls]
        for change in mine[1:]:
            at = x(change.at_ns)
            crossed = {lane for lane, (start, end, _) in zip(lanes, labels, strict=True) if start - 3 < at < end + 3}
            for lane in set(range(max(lanes, default=-1) + 1)) - crossed:
                canvas.line([(at, below + LANE * lane), (at, below + LANE * (lane + 1))], "faint")
        for call, lane, label in zip(calls, lanes, labels, strict=True):
            _paint_call(canvas, call, x, label, below + LANE * (lane + 0.5))
        _paint_axis(canvas, begin, end, x, bottom)

    return Figure(_alternative_text(mine, calls, name, heading), paint, width, bottom + AXIS)


def _runs(changes: Sequence[StatusChange], pod: str) -> list[StatusChange]:
    found: list[StatusChange] = []
    for change in changes:
        if change.pod == pod and (not found or found[-1].status != change.status):
            found.append(change)
    return found


def _colour(status: str) -> str:
    if status in FINE:
        return "running"
    return "waiting" if status in PATIENT or (status.startswith("Init:") and status[5:6].isdigit()) else "failed"


def _named_inside(status: str, room: float) -> str:
    """What of the name stands in a block that is so wide: all, the beginning, or nothing ("")."""
    cut = fit(status, room - 10, bold=True)
    return cut if cut == status or len(cut) > 6 else ""


def _short_names(blocks: Sequence[tuple[str, float, float]], right: float) -> list[tuple[str, float]]:
    """(status, x) of the names for which their blocks have no room: they stand above, unless that place is taken."""
    names: list[tuple[str, float]] = []
    taken = 0.0
    for status, left, end in blocks:
        wide = text_width(status, style.SMALL)
        at = min(left, right - wide)
        if not _named_inside(status, end - left) and at >= taken:
            names.append((status, at))
            taken = at + wide + 10
    return names


def _paint_status(canvas: Canvas, change: StatusChange, left: float, right: float, top: float) -> None:
    """A block as long as the status lasted, with its name inside where there is room."""
    colour = _colour(change.status)
    canvas.box(left, top, max(right - left - 1.5, 1.5), STATUS, colour)
    if cut := _named_inside(change.status, right - left):
        canvas.text(left + 6, top + STATUS / 2, cut, colour=f"on {colour}", bold=True)


def _lanes(calls: Sequence[Call], x: Callable[[int], float], right: float) -> list[int]:
    """For each call the uppermost lane in which its bar and its label meet no other."""
    ends: list[float] = []
    lanes = []
    for call in calls:
        left, end, _ = _label(call, x, right)
        start, end = min(left, x(call.from_ns)), max(end, x(call.to_ns), x(call.from_ns) + 2)
        lane = next((n for n, taken in enumerate(ends) if taken + 10 <= start), len(ends))
        ends[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def _words(call: Call) -> str:
    return f"{call}{'' if call.code == 'OK' else f' · {call.code}'}"


def _label(call: Call, x: Callable[[int], float], right: float) -> tuple[float, float, str]:
    """(left, right, words) of a call's label: right of its bar, or left of it where there is no room."""
    words = _words(call)
    wide, end = text_width(words, style.SMALL), max(x(call.to_ns), x(call.from_ns) + 2) + 6
    return (end, end + wide, words) if end + wide <= right else (x(call.from_ns) - 6 - wide, x(call.from_ns) - 6, words)


def _paint_call(canvas: Canvas, call: Call, x: Callable[[int], float], label: tuple[float, float, str], y: float) -> None:
    left = x(call.from_ns)
    canvas.box(left, y - CALL / 2, max(x(call.to_ns) - left, 2), CALL, call.service)
    canvas.text(label[0], y, label[2], style.SMALL)


def _paint_axis(canvas: Canvas, begin: int, end: int, x: Callable[[int], float], y: float) -> None:
    span = (end - begin) / 1e9
    unit, name = (1e9, "seconds") if span >= 8 else (1e6, "milliseconds")
    step = next(s * 10.0**p for p in range(12) for s in (1, 2, 5) if (end - begin) / unit / (s * 10**p) <= 10)
    canvas.line([(x(begin), y), (x(end), y)], "muted")
    for number in range(int((end - begin) / unit / step) + 1):
        at = x(int(begin + number * step * unit))
        canvas.line([(at, y), (at, y + 4)], "muted")
        canvas.text(at, y + 13, f"{number * step:g}", style.SMALL, "muted", align="center" if number else "left")
    canvas.text((x(begin) + x(end)) / 2, y + 30, f"{name} since the Pod was first seen", style.SMALL, "muted", align="center")


def _alternative_text(changes: Sequence[StatusChange], calls: Sequence[Call], pod: str, title: str) -> str:
    """Statuses, and the calls that came before the last of them, each once: how often one was tried differs from run to run."""
    lines = [f"STATUS of {pod} over time: {title}."]
    before = dict.fromkeys(_words(c) for c in calls if c.from_ns <= changes[-1].at_ns)
    lines.append(f"CRI calls before it was {changes[-1].status}: {', '.join(before) or 'none'}.")
    return "\n".join(lines)
