"""The flight timeline: CRI calls above, the processes that they caused below, on one time axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, in_any_width, title_height, wrap
from labkit.figures.flight.flight_text import alternative_text, headline, precision
from labkit.figures.flight.layout import AXIS, Layout, calls_height, end_of, measure
from labkit.figures.flight.paint import paint_panel
from labkit.figures.flight.rows import Family, drawn, is_asking, relevant, rows_of
from labkit.recording.flight import Flight

if TYPE_CHECKING:
    from labkit.recording.flight import Call, FlightProcess

WIDTH, NARROWEST = 960.0, 280.0
SQUEEZED = 0.5
"""A Pod that is drawn in full has this part of the axis at least, or it gets an axis of its own."""


@in_any_width
def flight_timeline(
    flight: Flight,
    *,
    zoom: int | tuple[int, int] | None = None,
    fold: bool = True,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw a recording: each call a bar in the colour of its service, each process a row in the colour of its role.

    A thin line comes down from the parent at the fork, a diamond marks where a process became another program, a stroke
    where it ended (with its exit code where that is not 0), an arrow where it lives on. The number of a call stands again
    at the rows of the processes that it caused, and a band leads down to them.
    `zoom`: an index into `flight.calls`, or two moments in ns of CLOCK_MONOTONIC. `fold`: with more than 40 processes, draw
    in one row what repeats; of many Pods, each in one row and the first once more on an axis of its own. `width`: px, at
    least 280; letters keep their size. Raises ValueError for a zoom that the flight does not have.
    """
    return timeline_with_axes(flight, zoom=zoom, fold=fold, title=title, width=width)[0]


def timeline_with_axes(
    flight: Flight,
    *,
    zoom: int | tuple[int, int] | None = None,
    fold: bool = True,
    title: str | None = None,
    width: float = WIDTH,
) -> tuple[Figure, list[Layout]]:
    """The figure of `flight_timeline`, and for each of its axes where which moment is."""
    if width < NARROWEST:
        raise ValueError(f"A flight timeline cannot be {width:g} px wide. Give at least {NARROWEST:g}.")
    family = Family(flight)
    window = _window(flight, zoom)
    everything = relevant(flight, family, window, zoom if isinstance(zoom, int) else None)
    processes = drawn(family, everything)
    calls = [zoom] if isinstance(zoom, int) else [i for i, call in enumerate(flight.calls) if _within(call, window)]
    heading = title or headline(family, processes, [flight.calls[i] for i in calls])
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    note = wrap(precision(flight), width - 2 * MARGIN, style.SMALL) if precision(flight) else []
    y = title_height(heads) + 15 * len(note)
    panels: list[tuple[str, Layout]] = []
    for heading, layout in _panels(flight, family, processes, calls, window, fold, width):
        layout.top = y + (26 if heading else 0)
        layout.rows_top = layout.top + calls_height(layout) + 8
        y = layout.bottom + AXIS
        panels.append((heading, layout))

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for number, line in enumerate(note):
            canvas.text(MARGIN, title_height(heads) - 2 + 15 * number, line, style.SMALL, "muted")
        if not panels:
            canvas.text(MARGIN, y + 4, "Make a call to the node while it records.", style.SMALL, "muted")
        for heading, layout in panels:
            canvas.text(MARGIN, layout.top - 13, heading, style.BODY, bold=True)
            paint_panel(canvas, flight, layout)

    brief = title or headline(family, everything, [flight.calls[i] for i in calls], brief=True)
    figure = Figure(alternative_text(flight, family, everything, calls, brief), paint, width, y if panels else y + 20)
    return figure, [layout for _, layout in panels]


def _within(call: Call, window: tuple[int, int] | None) -> bool:
    return window is None or (call.from_ns <= window[1] and end_of(call) >= window[0])


def _panels(
    flight: Flight,
    family: Family,
    processes: list[FlightProcess],
    calls: list[int],
    window: tuple[int, int] | None,
    fold: bool,
    width: float,
) -> list[tuple[str, Layout]]:
    """(heading, layout) of each axis: one, or all Pods in a row each and below them the first, enlarged."""
    if not calls and not processes:
        return []
    rows = rows_of(flight, family, processes, fold)
    whole = measure(flight, rows, calls, window, fold, width, renumber=window is None)
    pod = next((family.pod(row.processes[0]) for row in rows if row.call is not None and not row.strip), None)
    mine = [i for i in calls if flight.calls[i].pod == pod and not is_asking(flight.calls[i])]
    if not mine or not pod or not any(row.label.startswith("Pod ") for row in rows):
        return [("", whole)]
    whole.pod = pod
    first, last = min(flight.calls[i].from_ns for i in mine), max(end_of(flight.calls[i]) for i in mine)
    if last - first >= SQUEEZED * (whole.end - whole.begin):
        return [("", whole)]
    overview = measure(flight, rows_of(flight, family, processes, fold, full=False), calls, window, fold, width)
    members = family.with_ancestors(p for p in processes if family.pod(p) == pod)
    late = last + (last - first) // 10
    close = measure(flight, rows_of(flight, family, members, fold), mine, (first, late), fold, width)
    return [("", overview), (f"Pod {pod}, enlarged", close)]


def _window(flight: Flight, zoom: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if zoom is None:
        return None
    if isinstance(zoom, int):
        if not 0 <= zoom < len(flight.calls):
            raise ValueError(f"The flight has no call {zoom}. Use an index from 0 to {len(flight.calls) - 1}.")
        call = flight.calls[zoom]
        ends = [p.to_ns for p in flight.processes if p.call == zoom and p.to_ns is not None]
        execs = [each.at_ns for p in flight.processes if p.call == zoom for each in p.execs]
        late = end_of(call) + (end_of(call) - call.from_ns) // 2
        end = max([end_of(call), *(at for at in [*ends, *execs] if at <= late)])
        margin = max((end - call.from_ns) // 30, 1)
        return call.from_ns - margin, end + margin
    begin, end = zoom
    if begin >= end:
        raise ValueError("A zoom is two moments, the earlier first. Give (from_ns, to_ns) as the flight's calls have them.")
    return begin, end


Flight.drawn_by = flight_timeline
