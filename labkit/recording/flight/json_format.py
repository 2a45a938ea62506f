"""The JSON format of a recording; docs/flight-format.md describes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from labkit.cri.pods import ROLES
from labkit.recording.flight.data import PRECISION, Call, Exec, FlightProcess, described
from labkit.util.showable import ReadableError

if TYPE_CHECKING:
    from labkit.recording.flight.flight import Flight

VERSION = 1
CLOCK = "CLOCK_MONOTONIC"
CALL_KEYS = ("service", "method", "from_ns", "to_ns", "caller", "pod", "container", "code")
PROCESS_KEYS = ("pid", "ppid", "role", "from_ns", "to_ns", "exit_code", "signal", "call")
"""What the JSON has of a call and of a process, besides its execs."""
CALL_OPTIONAL, PROCESS_OPTIONAL = ("source",), ("name", "pod", "container")
"""What it may have besides, left out where there is nothing to say."""


class FlightError(ReadableError, ValueError):
    """A text that is no recording this labkit can read: one sentence what it is, one what to do."""


def write(flight: Flight) -> str:
    """See Flight.to_json."""
    return json.dumps(
        {
            "version": VERSION,
            "clock": CLOCK,
            "unit": "ns",
            "source": flight.source,
            "lost": flight.lost,
            "calls": [_plain(call, CALL_KEYS, CALL_OPTIONAL) for call in flight.calls],
            "processes": [
                {**_plain(p, PROCESS_KEYS, PROCESS_OPTIONAL), "execs": [asdict(each) for each in p.execs]}
                for p in flight.processes
            ],
        },
        indent=1,
    )


def read(text: str | bytes) -> dict[str, Any]:
    """The fields of a Flight. See Flight.from_json."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise FlightError(f"This is no recording: not JSON ({error}). Give what `labkit record --json FILE` wrote.") from None
    version = data.get("version") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise FlightError("This JSON is no recording: it has no version. Give what `labkit record --json FILE` wrote.")
    if version != VERSION:
        todo = "Update labkit." if version > VERSION else "Record it again."
        raise FlightError(f"This recording has the format version {version}, and this labkit reads version {VERSION}. {todo}")
    if (data.get("clock"), data.get("unit")) != (CLOCK, "ns"):
        raise FlightError(f"This recording's times are not {CLOCK} in ns. Record it again.")
    try:
        calls = tuple(_call(each) for each in data["calls"])
        processes = [_process(each, len(calls)) for each in data["processes"]]
        source, lost = str(data["source"]), int(data["lost"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FlightError(
            f"This recording is damaged ({error!r}). Take a whole one: docs/flight-format.md has the format."
        ) from None
    return {
        "calls": calls,
        "processes": described(processes, calls),
        "source": source,
        "lost": lost,
        "precision": PRECISION.get(source, ""),
    }


def _plain(thing: Call | FlightProcess, keys: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    return {key: getattr(thing, key) for key in keys} | {key: value for key in optional if (value := getattr(thing, key))}


def _call(data: Mapping[str, Any]) -> Call:
    call = Call(**{key: data[key] for key in CALL_KEYS}, source=str(data.get("source", "")))
    _check(call.from_ns, call.to_ns, words=(call.service, call.method, call.caller, call.code, call.pod, call.container))
    return call


def _process(data: Mapping[str, Any], calls: int) -> FlightProcess:
    execs = tuple(Exec(each["at_ns"], tuple(map(str, each["argv"]))) for each in data["execs"])
    optional = {key: data[key] for key in PROCESS_OPTIONAL if key in data}
    process = FlightProcess(**{key: data[key] for key in PROCESS_KEYS}, execs=execs, **optional)
    if process.role not in ROLES or not (process.call is None or 0 <= process.call < calls):
        raise ValueError(f"process {process.pid}: role {process.role!r}, call {process.call!r}")
    _check(process.pid, process.ppid, *(each.at_ns for each in execs), words=(process.name, process.pod, process.container))
    _check(*(each for each in (process.from_ns, process.to_ns, process.exit_code, process.signal) if each is not None))
    return process


def _check(*numbers: Any, words: Sequence[Any] = ()) -> None:
    """Raises TypeError for what is no number, and no word or null."""
    for value in numbers:
        if not isinstance(value, int):
            raise TypeError(f"{value!r} is no whole number")
    for value in words:
        if not isinstance(value, str | None):
            raise TypeError(f"{value!r} is no text")
