"""`flight.replay()`: the figure of a recording, uncovered from left to right while it plays, and each event in words.

The figure is drawn once. The page plays it by itself, so that ten thousand events cost the kernel nothing.
"""

from __future__ import annotations

import math
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from labkit.figures.figure import NARROW
from labkit.figures.flight.flight_text import ending
from labkit.figures.flight.layout import ARROW, AXIS, Layout
from labkit.figures.flight.timeline import WIDTH, timeline_with_axes
from labkit.figures.markup import markup
from labkit.live.panel import with_widget
from labkit.recording.flight import Flight
from labkit.recording.flight.stages import brief, stage_at


class ReplayMoment(NamedTuple):
    """Something that happened. at_ns: CLOCK_MONOTONIC."""

    at_ns: int
    words: str


class Replay:
    """A recording with controls: play, pause, a step forward or back, a slider, the speed. On a page the arrow keys step, Space
    plays, Home and End go to the first and last event. Elsewhere it is the figure of the recording."""

    def __init__(self, flight: Flight, speed: float = 0.1) -> None:
        """speed: 1 is as fast as it was. Raises ValueError for a speed that is not above 0."""
        if not (isinstance(speed, int | float) and math.isfinite(speed) and speed > 0):
            raise ValueError(f"A recording cannot be played at the speed {speed!r}. Give a number above 0: 1 is real time.")
        self.flight, self.speed = flight, float(speed)
        self._widget: Any = None

    @cached_property
    def moments(self) -> list[ReplayMoment]:
        """Every begin and end of a call that changes something, every fork, exec and exit, in the order of time."""
        return moments(self.flight)

    def variants(self) -> list[dict[str, Any]]:
        """The figure for a wide page and for narrow ones, each with its axes: where the covered part begins at which moment."""
        made = []
        for width in (WIDTH, *NARROW):
            figure, axes = timeline_with_axes(self.flight, width=width)
            made.append({"width": figure.width, "svg": markup(figure), "axes": [axis(each, self.origin) for each in axes]})
        return made

    @property
    def origin(self) -> int:
        """The first moment, ns."""
        return self.moments[0].at_ns if self.moments else 0

    def __repr__(self) -> str:
        return repr(self.flight.plot())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return with_widget(self.widget(), self.flight.plot())

    def widget(self) -> Any:
        """The ipywidgets widget."""
        if self._widget is None:
            from labkit.live.widgets import ReplayWidget

            steps = [[milliseconds(each.at_ns - self.origin), each.words] for each in self.moments]
            self._widget = ReplayWidget(variants=self.variants(), moments=steps, speed=self.speed)
        return self._widget


def moments(flight: Flight) -> list[ReplayMoment]:
    """See Replay.moments."""
    found: list[ReplayMoment] = []
    for index, call in enumerate(flight.calls):
        if flight.is_step(index):
            found.append(ReplayMoment(call.from_ns, f"{call} begins, called by {call.by}"))
            if call.code:  # else it was under way when the recording ended
                found.append(ReplayMoment(call.to_ns, f"{call} ends{'' if call.code == 'OK' else f': {call.code}'}"))
    parents, stages = flight.parents(), flight.stages()
    for process, above, was in zip(flight.processes, parents, stages, strict=True):
        where = f" ({process.container})" if process.container else ""
        if process.from_ns is not None:
            parent = brief(stage_at(stages[above], process.from_ns).name) if above is not None else "a process outside"
            found.append(ReplayMoment(process.from_ns, f"{parent} forks{where}"))
        for before, after in pairwise(was):
            if after.from_ns is not None:
                found.append(ReplayMoment(after.from_ns, f"{brief(before.name)} becomes {brief(after.name)}{where}"))
        if process.to_ns is not None:
            how = f", {ending(process)}" if ending(process) else ""
            found.append(ReplayMoment(process.to_ns, f"{brief(process.name)}{where} ends{how}"))
    return sorted(found, key=lambda each: each.at_ns)


def axis(layout: Layout, origin: int) -> dict[str, Any]:
    """px of the part of the figure that is covered. points: [ms since origin, x] between which the axis is straight."""
    times = [layout.begin, *(layout.idle or ()), layout.end]
    points = [[milliseconds(at - origin), round(layout.x(at), 2)] for at in times]
    return {"top": layout.top, "bottom": layout.bottom + AXIS / 4, "right": layout.right + ARROW, "points": points}


def milliseconds(ns: int) -> float:
    return round(ns / 1e6, 4)


Flight.replayed_by = Replay
