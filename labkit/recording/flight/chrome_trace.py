"""A recording in the Chrome trace format, which ui.perfetto.dev and chrome://tracing open.

Source: "Trace Event Format" (catapult project): complete events (X), instants (i), flow arrows (s, f) and metadata (M);
times in µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labkit.recording.flight.data import Call, FlightProcess
from labkit.recording.flight.stages import Stage
from labkit.util.showable import showable

ARGUMENT = 10_000

if TYPE_CHECKING:
    from labkit.recording.flight.flight import Flight
"""So many letters of an argument."""
CALLS, PROCESSES = 1, 2
"""The two groups of tracks. A track's number is its place, since the kernel may give a pid twice; the pid is in its name."""


def trace(flight: Flight) -> dict[str, Any]:
    """{"traceEvents": […], …}: a track for each process and as many for the calls as were under way at a time."""
    times = [call.from_ns for call in flight.calls] + [call.to_ns for call in flight.calls]
    times += [t for p in flight.processes for t in (p.from_ns, p.to_ns, *(e.at_ns for e in p.execs)) if t is not None]
    begin, end = min(times, default=0), max(times, default=0)
    lane = lanes(flight.calls)
    events = [_named("process_name", CALLS, 0, "CRI calls"), _named("process_name", PROCESSES, 0, "Processes")]
    events += [_named("thread_name", CALLS, number, f"calls {number + 1}") for number in sorted(set(lane))]
    for index, call in enumerate(flight.calls):
        details = {
            "caller": call.caller,
            "pod": call.pod,
            "container": call.container,
            "code": call.code,
            "service": call.service,
        }
        events.append(_slice(CALLS, lane[index], str(call), "call", call.from_ns, call.to_ns, details))
    parents, stages = flight.parents(), flight.stages()
    for index, process in enumerate(flight.processes):
        events += _track(index, process, stages[index], begin, end)
        parent = parents[index]
        if process.from_ns is None:
            continue
        if parent is not None:
            events += _arrow(f"fork {index}", "fork", (PROCESSES, parent), (PROCESSES, index), process.from_ns)
        # From the call to the first process of what it caused, not to each.
        if process.call is not None and (parent is None or flight.processes[parent].call != process.call):
            events += _arrow(f"cause {index}", "cause", (CALLS, lane[process.call]), (PROCESSES, index), process.from_ns)
    # For other programs' parsers, some of which refuse half a surrogate pair, and for people: no data to be read back.
    events = [_shown(each) for each in events]
    about = {"clock": "CLOCK_MONOTONIC", "source": flight.source, "lost": flight.lost, "precision": flight.precision}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    """The same with every text in it showable."""
    return {key: _text(value) for key, value in event.items()}


def _text(value: Any) -> Any:
    if isinstance(value, dict):
        return _shown(value)
    if isinstance(value, list):
        return [_text(each) for each in value]
    return showable(value, ARGUMENT) if isinstance(value, str) else value


def lanes(calls: Sequence[Call]) -> list[int]:
    """For each call a lane in which no other is under way at the same time."""
    ends: list[int] = []
    chosen = []
    for call in calls:
        free = next((number for number, end in enumerate(ends) if end <= call.from_ns), len(ends))
        ends[free : free + 1] = [call.to_ns]
        chosen.append(free)
    return chosen


def _track(index: int, process: FlightProcess, stages: Sequence[Stage], begin: int, end: int) -> list[dict[str, Any]]:
    """One process: a slice from each exec to the next, named and coloured after what it was then."""
    title = f"{process.name} [{process.pid}]"
    events = [_named("thread_name", PROCESSES, index, title), _sorted(index)]
    starts = [begin if each.from_ns is None else each.from_ns for each in stages]
    last = process.to_ns if process.to_ns is not None else end
    details = {"pid": process.pid, "ppid": process.ppid, "pod": process.pod, "container": process.container}
    for number, (stage, start) in enumerate(zip(stages, starts, strict=True)):
        until = starts[number + 1] if number + 1 < len(starts) else last
        argv = process.execs[number - 1].argv if number else ()
        shown = {**details, "role": stage.role, "argv": list(argv)}
        name = "fork" if not number and process.execs and process.from_ns is not None else stage.name
        events.append(_slice(PROCESSES, index, name, stage.role, start, until, shown))
    if process.to_ns is not None:
        how = {"exit_code": process.exit_code, "signal": process.signal}
        events.append(
            {"ph": "i", "s": "t", "pid": PROCESSES, "tid": index, "ts": process.to_ns / 1e3, "name": "exit", "args": how}
        )
    return events


def _slice(pid: int, tid: int, name: str, category: str, start: int, end: int, details: dict[str, Any]) -> dict[str, Any]:
    times = {"ts": start / 1e3, "dur": max(end - start, 0) / 1e3}
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, "cat": category, **times, "args": details}


def _arrow(id: str, name: str, start: tuple[int, int], end: tuple[int, int], at: int) -> list[dict[str, Any]]:
    common = {"id": id, "name": name, "cat": name, "ts": at / 1e3}
    return [
        {"ph": "s", "pid": start[0], "tid": start[1], **common},
        {"ph": "f", "bp": "e", "pid": end[0], "tid": end[1], **common},
    ]


def _named(what: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _sorted(tid: int) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_sort_index", "pid": PROCESSES, "tid": tid, "args": {"sort_index": tid}}
