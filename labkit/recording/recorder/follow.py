"""Shows calls and processes live, as `strace -f` does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from labkit.cri import CriClient
from labkit.kernel.events.stream import Event
from labkit.recording.calls.log import CallRecord
from labkit.recording.flight import Call, Flight
from labkit.recording.flight.data import asks
from labkit.recording.recorder import names
from labkit.recording.recorder.causes import Causes
from labkit.recording.recorder.process_roles import Tracked
from labkit.recording.recorder.recording import FlightRecorder
from labkit.util.showable import showable

FLUSH_S = 0.05
SETTLED_NS, SETTLED_WITH_OTHERS_NS = 60_000_000, 500_000_000
"""Calls are known at once, events of processes so much later at most, and those of the runtime's log later still: what is older
is shown in the order of its time."""
ASK_S = 0.2
LINE = 2000
"""So many letters of a line are shown."""


def follow(
    recorder: FlightRecorder,
    show: Callable[[str, str], None],
    *,
    pod: str | None = None,
    until: threading.Event | None = None,
    begun: Callable[[], None] | None = None,
) -> Flight:
    """Show calls and processes as they happen, until `until` is set, the events end, or Ctrl-C. Returns all of it as a Flight.

    show: called with a line and its role ("call" for calls), from this thread. pod: only what belongs to the Pod of that name.
    begun: called once, when everything that happens from now on is shown. Raises what `show` raises.
    """
    return EventPrinter(recorder, show, pod).run(until or threading.Event(), begun)


class EventPrinter:
    """Writes one line for each call's start and end, and for each exec and exit of the runtime's processes.

    A sandbox's id is known only when RunPodSandbox has been answered: with `pod`, a line is held back until its Pod is known.
    """

    def __init__(self, recorder: FlightRecorder, show: Callable[[str, str], None], pod: str | None) -> None:
        self._recorder, self._show, self._pod = recorder, show, pod
        self._known = names.known((), 0, recorder.listed)
        self._settled_ns = SETTLED_WITH_OTHERS_NS if recorder.with_others else SETTLED_NS
        self._begin = time.monotonic_ns()
        self._lock = threading.RLock()
        self._lines: list[tuple[int, str, str]] = []
        self._held: list[tuple[Tracked, int, str, str]] = []

    def run(self, until: threading.Event, begun: Callable[[], None] | None) -> Flight:
        """Raises what `show` raises, for example OSError for a closed pipe."""
        recorder = self._recorder
        recorder.log.on_change = self._call
        try:
            recorder.start(self.event)
            # A client of its own: its questions are not among the calls that are shown.
            with contextlib.suppress(KeyboardInterrupt), CriClient(recorder.endpoint) as asking:
                asked = 0.0
                if begun:
                    begun()
                while not until.wait(FLUSH_S) and recorder.running():
                    self._flush(time.monotonic_ns() - self._settled_ns)
                    if self._held and time.monotonic() - asked > ASK_S:
                        recorder.list_names(asking)
                        self._learn()
                        asked = time.monotonic()
        finally:
            recorder.stop()
        self._learn()
        self._flush()
        return recorder.flight()

    def _flush(self, until_ns: int = 1 << 63) -> None:
        with self._lock:
            due = sorted((line for line in self._lines if line[0] <= until_ns), key=lambda line: line[0])
            self._lines = [line for line in self._lines if line[0] > until_ns]
        for at_ns, words, role in due:
            self._show(f"{(at_ns - self._begin) / 1e6:10.3f}  {words}", role)

    def _call(self, record: CallRecord) -> None:
        with self._lock:
            records = self._learn(record.number)
            call = self._known.calls[[each.number for each in records].index(record.number)].call
            if self._pod in (None, call.pod):
                self._tell(record.to_ns or record.from_ns, call_words(call, record.to_ns), "call")

    def _learn(self, number: int | None = None) -> list[CallRecord]:
        """Take in the names that the calls tell by now; those calls: all that change something, and the one of that number."""
        with self._lock:
            records = [each for each in self._recorder.log.records() if each.number == number or not asks(each.method)]
            self._known = names.known(records, time.monotonic_ns(), self._recorder.listed)
            self._release()
        return records

    def event(self, event: Event, process: Tracked | None) -> None:
        if process is None or not process.role or event.kind not in ("exec", "exit"):
            return
        with self._lock:
            role = self._recorder.processes.role(process, self._known)
            words = event_words(event, process.number(self._recorder.depth), role)
            if self._pod:
                self._held.append((process, event.at_ns, words, role))
                self._release()
            else:
                self._tell(event.at_ns, words, role)

    def _release(self) -> None:
        """Show the lines held back whose Pod is known by now."""
        held, self._held = self._held, []
        causes = Causes(self._known)
        for process, at_ns, words, role in held:
            pod = self._pod_of(process, causes)
            if pod is None:
                self._held.append((process, at_ns, words, role))
            elif pod == self._pod:
                self._tell(at_ns, words, role)

    def _pod_of(self, process: Tracked, causes: Causes) -> str | None:
        if process.id in self._known.sandboxes or process.id in self._known.containers:
            return self._known.names(process.id)[0]
        call = [causes.of(each) for each in reversed(list(process.above()))][-1]
        return None if call is None else self._known.calls[call].call.pod

    def _tell(self, at_ns: int, words: str, role: str) -> None:
        self._lines.append((at_ns, showable(words, LINE), role))


def call_words(call: Call, to_ns: int | None) -> str:
    """ "→ RunPodSandbox web (labkit)" at a call's start, "← RunPodSandbox web = OK, 132.1 ms" at its end."""
    what = " ".join([call.method, *(name for name in (call.pod, call.container) if name)])
    if to_ns is None:
        return f"→ {what} ({call.by})"
    return f"← {what} = {call.code}, {(to_ns - call.from_ns) / 1e6:.1f} ms"


def event_words(event: Event, pid: int, role: str) -> str:
    """ "[4711] exec runc … create …", "[4711] exited with 0"."""
    who = f"    [{pid}] {role}:"
    if event.kind == "exec":
        return f"{who} exec {' '.join(event.argv) or event.exe or '(gone before its arguments were read)'}"
    return f"{who} killed by signal {event.signal}" if event.signal else f"{who} exited with {event.exit_code}"
