"""Where everything in a flight timeline stands, px: measured first, so that no label meets another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, fit, text_width
from labkit.figures.flight.flight_text import ending
from labkit.figures.flight.rows import TimelineRow, is_asking
from labkit.recording.flight.stages import brief
from labkit.util.showable import fitted

if TYPE_CHECKING:
    from labkit.recording.flight import Call, Flight, FlightProcess

ROW, BAR, LANE, CALL, CAPTION, AXIS = 19.0, 6.0, 22.0, 18.0, 17.0, 44.0
BADGE, ARROW, GAP = 18.0, 16.0, 7.0
NAME = 38
"""Columns of a process's label."""
BREAK, IDLE, ASIDE = 26.0, 0.5, 0.06
"""An interval without any event that takes more than the part IDLE of the axis is drawn BREAK px wide; at either end of it the
part ASIDE of the rest is kept."""


@dataclass(frozen=True)
class Bar:
    """A call with its place: `lane` counts from 0 in its service; `text` is left of `at` when `right` is set."""

    index: int
    left: float
    right: float
    lane: int
    words: str
    text_at: float


@dataclass
class Layout:
    """Everything that has been measured, px; `begin` and `end` are the times at `left` and `right`, ns.

    `numbers`: index of a call → the number in its badge; calls that only ask have none. `pod`: whose calls are drawn, where there
    are several and the others are folded. `idle`: an interval, ns, in which nothing happens and for which the axis is broken.
    """

    width: float
    begin: int
    end: int
    origin: int
    since: str
    left: float
    right: float
    pod: str = ""
    idle: tuple[int, int] | None = None
    top: float = 0.0
    rows_top: float = 0.0
    rows: list[TimelineRow] = field(default_factory=list)
    bars: dict[str, list[Bar]] = field(default_factory=dict)
    asking: list[int] = field(default_factory=list)
    numbers: dict[int, int] = field(default_factory=dict)

    def x(self, at_ns: int | None) -> float:
        """The place of a moment, kept within the plot; None is its left edge."""
        if at_ns is None:
            return self.left
        at = min(max(at_ns, self.begin), self.end) - self.begin
        if self.idle is None:
            return self.left + at / max(self.end - self.begin, 1) * (self.right - self.left)
        first, last = (each - self.begin for each in self.idle)
        inside = min(max(at - first, 0), last - first)
        return self.left + (at - inside) * self.per_ns + inside / (last - first) * BREAK

    @property
    def per_ns(self) -> float:
        """px for 1 ns, where the axis is not broken."""
        if self.idle is None:
            return (self.right - self.left) / max(self.end - self.begin, 1)
        return (self.right - self.left - BREAK) / (self.end - self.begin - (self.idle[1] - self.idle[0]))

    @property
    def broken_at(self) -> tuple[float, float] | None:
        """The two edges of the break in the axis, px."""
        return (self.x(self.idle[0]), self.x(self.idle[1])) if self.idle else None

    def y(self, row: int) -> float:
        return self.rows_top + ROW * (row + 0.5)

    @property
    def bottom(self) -> float:
        return self.rows_top + ROW * len(self.rows) + 6


def measure(
    flight: Flight,
    rows: list[TimelineRow],
    calls: Sequence[int],
    window: tuple[int, int] | None,
    fold: bool,
    width: float,
    renumber: bool = True,
) -> Layout:
    """Place calls and rows: first with a narrow margin on the left, then with the one that the labels there need.

    `renumber`: count the calls that are drawn, not all of the flight's.
    """
    moments = [at for i in calls for at in (flight.calls[i].from_ns, end_of(flight.calls[i]))]
    moments += [
        at for row in rows for p in row.processes for at in (p.from_ns, p.to_ns, *(e.at_ns for e in p.execs)) if at is not None
    ]
    begin, end = window or (min(moments, default=0), max(moments, default=1))
    if window is None:
        end += (end - begin) // 25  # so that a mark at the end does not lie on the arrow
    acting = [i for i in calls if not is_asking(flight.calls[i])] or calls
    first = min(acting, key=lambda i: flight.calls[i].from_ns, default=None)
    origin = flight.calls[first].from_ns if first is not None else begin
    since = flight.calls[first].method if first is not None else "the first process"
    left = MARGIN + (BADGE + 12 if any(row.call is not None for row in rows) else 0)
    layout = Layout(width, begin, end, origin, since, left, width - MARGIN - ARROW)
    layout.rows = rows
    layout.idle = _idle(moments, begin, end, {(flight.calls[i].from_ns, end_of(flight.calls[i])) for i in calls})
    for _ in range(3):  # a wider margin moves the bars, and may take the room of another label
        homeless = [row for row in rows if label_place(layout, flight, row)[1] == "nowhere"]
        wanted = max((text_width(label_of(row), style.SMALL) + GAP + 4 for row in homeless), default=0.0)
        layout.left = max(layout.left, left + min(wanted, 0.34 * width))
    shown = _shown_calls(flight, rows, calls, fold)
    counted = shown if renumber else range(len(flight.calls))
    layout.numbers = {i: n for n, i in enumerate((i for i in counted if not is_asking(flight.calls[i])), 1)}
    causing = {i for row in rows for i in (row.call, *row.calls)}
    layout.asking = [i for i in calls if i not in shown and i not in causing and is_asking(flight.calls[i])]
    for service in dict.fromkeys(sorted((flight.calls[i].service for i in shown), key=lambda s: s != "RuntimeService")):
        layout.bars[service] = _pack(flight, layout, [i for i in shown if flight.calls[i].service == service])
    return layout


def _idle(moments: Sequence[int], begin: int, end: int, calls: Collection[tuple[int, int]]) -> tuple[int, int] | None:
    """The longest interval between two events, less what is kept of it at either end; None where it is not long enough, and where
    it is one of the calls: its length is how long that took."""
    ordered = sorted({begin, end, *(at for at in moments if begin < at < end)})
    first, last = max(pairwise(ordered), key=lambda pair: pair[1] - pair[0], default=(begin, end))
    if len(ordered) < 3 or last - first <= IDLE * (end - begin) or (first, last) in calls:
        return None
    aside = int(ASIDE * (end - begin - (last - first))) + 1
    return (first + aside, last - aside) if last - first > 4 * aside else None


def _shown_calls(flight: Flight, rows: list[TimelineRow], calls: Sequence[int], fold: bool) -> list[int]:
    """The calls that get a bar: not those of folded Pods; calls that only ask become ticks when there are more than two."""
    folded = {i for row in rows if row.strip for i in row.calls} - {row.call for row in rows}
    pods = {row.label[4:] for row in rows if row.strip and row.label.startswith("Pod ")}
    many = any(row.label.endswith(" more Pods") for row in rows)
    full = {flight.calls[row.call].pod for row in rows if row.call is not None and not row.strip}
    causing = {row.call for row in rows} | folded
    shown = []
    asking = [i for i in calls if is_asking(flight.calls[i]) and i not in causing]
    for i in calls:
        pod = flight.calls[i].pod
        if i in folded or (pod in pods) or (many and pod and pod not in full):
            continue
        if fold and len(asking) > 2 and i in asking:
            continue
        shown.append(i)
    return shown


def _pack(flight: Flight, layout: Layout, indexes: Sequence[int]) -> list[Bar]:
    """Each call with its label in the first lane where both are free; the label inside the bar, right of it or left of it."""
    lanes: list[list[tuple[float, float]]] = []
    bars = []
    containers = {call.container for call in flight.calls if call.container}
    for i in indexes:
        call = flight.calls[i]
        words = call.method + (f" {call.container}" if call.container and len(containers) > 1 else "")
        words += f" · {call.code}" if call.code not in ("", "OK") else ""
        words = fit(words, layout.width - 2 * MARGIN - 40, style.SMALL)
        begin = layout.x(call.from_ns)
        end = max(layout.x(end_of(call)), begin + 2)
        need = badge_width(layout.numbers.get(i)) + 4 + text_width(words, style.SMALL)
        broken = layout.broken_at
        if need + 10 <= end - begin and not (broken and begin < broken[0] < begin + need + 10):
            at = begin + 5
        elif broken and begin < broken[0] and broken[1] + need + 10 <= end:
            at = broken[1] + 5
        elif end + 5 + need <= layout.width - MARGIN:
            at = end + 5
        elif begin - 5 - need >= MARGIN:
            at = begin - 5 - need
        else:
            at = MARGIN
        span = (min(begin, at) - 4, max(end, at + need) + 4)
        free = (n for n, taken in enumerate(lanes) if all(span[1] <= a or span[0] >= b for a, b in taken))
        lane = next(free, len(lanes))
        lanes += [[]] if lane == len(lanes) else []
        lanes[lane].append((span[0] + 3, span[1] - 3))
        bars.append(Bar(i, begin, end, lane, words, at))
    return bars


def badge_width(number: int | None) -> float:
    """Width of the badge with a call's number."""
    return 0.0 if number is None else max(BADGE, text_width(str(number), style.SMALL, bold=True) + 7)


def calls_height(layout: Layout) -> float:
    lanes = sum(CAPTION + LANE * (1 + max(bar.lane for bar in bars)) for bars in layout.bars.values())
    return lanes + (CAPTION + 14 if layout.asking else 0)


def strip_extent(flight: Flight, layout: Layout, row: TimelineRow) -> tuple[float, float, bool]:
    lasting = any(p.to_ns is None for p in row.processes)
    starts = [layout.x(p.from_ns) for p in row.processes] + [layout.x(flight.calls[i].from_ns) for i in row.calls]
    ends = [layout.x(p.to_ns) for p in row.processes if p.to_ns is not None]
    ends += [layout.x(end_of(flight.calls[i])) for i in row.calls]
    return min(starts, default=layout.left) - 1, layout.right if lasting else max(ends, default=layout.right) + 2, lasting


def extent(layout: Layout, process: FlightProcess) -> tuple[float, bool]:
    """(right end of the bar, whether the process ends there)."""
    if process.to_ns is None or process.to_ns > layout.end:
        return layout.right, False
    return max(layout.x(process.to_ns), layout.x(process.from_ns) + 2), True


def label_of(row: TimelineRow) -> str:
    if row.strip:
        failed = Counter(word for p in row.processes if (word := ending(p)))
        return " · ".join([row.label, *(f"{n} × {word}" if n > 1 else word for word, n in failed.most_common(2))])
    process = row.processes[0]
    name = fitted(brief(process.name), NAME)
    older = " · older" if process.from_ns is None and process.to_ns is None else ""
    return name + (f" · {ending(process)}" if ending(process) else older)


def free_left(layout: Layout) -> float:
    return MARGIN + (BADGE + 12 if any(row.call is not None for row in layout.rows) else 0)


def label_place(layout: Layout, flight: Flight, row: TimelineRow) -> tuple[float, str]:
    """(x, align) of a row's label beside its bar: right of it where it ends, else left; align "nowhere" if neither has room."""
    wide = text_width(label_of(row), style.SMALL)
    if row.strip:
        left, right, lasting = strip_extent(flight, layout, row)
    else:
        left = layout.x(row.processes[0].from_ns)
        right, ends = extent(layout, row.processes[0])
        lasting = not ends
        diamonds = [layout.x(each.at_ns) for each in row.processes[0].execs]
        left, right = min([left, *(x - 4 for x in diamonds)]), max([right, *(x + 4 for x in diamonds if not lasting)])
    if not lasting and right + GAP + wide <= layout.width - MARGIN:
        return right + GAP, "left"
    if left - GAP - wide >= free_left(layout):
        return left - GAP, "right"
    return 0.0, "nowhere"


def end_of(call: Call) -> int:
    return max(call.from_ns, call.to_ns if call.to_ns is not None else call.from_ns)
