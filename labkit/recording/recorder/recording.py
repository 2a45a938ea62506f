"""Collects calls and events while they happen, and joins them to a Flight when the recording ends."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from labkit.cri import CriClient, CriError
from labkit.kernel import LocalKernel
from labkit.kernel.events.stream import Event, EventsError, EventStream
from labkit.recording.calls.log import CallLog, recorded
from labkit.recording.flight import PRECISION, Flight
from labkit.recording.recorder import names
from labkit.recording.recorder.causes import join
from labkit.recording.recorder.process_roles import Processes, Tracked

log = logging.getLogger("labkit")

SETTLE_WITHIN_S = 0.5
SETTLE_POLL_S = 0.01
TAKEN_WITHIN_S = 10.0
"""On a machine where events never cease, the end of a recording does not wait longer for those that came before it."""
FROM_LOG = (
    "Calls from the runtime's log are known to the millisecond, and only those that change something; their caller is the one "
    "program that was connected to the runtime at the beginning and the end, where there is one."
)
FAULT = "labkit failed at an event"
Others = contextlib.AbstractContextManager[list[str]]


class Kernel(Protocol):
    """Who can tell which processes there are: LocalKernel or RemoteKernel."""

    def snapshot(self, fds: bool = ...) -> Any: ...


class Recording:
    """What a block is given to record into: `flight` is empty until the block ends, and everything that was recorded afterwards,
    also when the block raised. Whatever a Flight has can be asked of the Recording itself."""

    def __init__(self) -> None:
        self.flight = Flight()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickle and copy ask for theirs before there is a Flight
            raise AttributeError(name)
        return getattr(self.flight, name)

    def __repr__(self) -> str:
        return repr(self.flight)


class FlightRecorder:
    """Collects events and calls from `start` to `stop`, once; `flight()` joins them then. As a context manager it records while
    the block runs, and yields a Recording. What cut a recording short is in the Flight's `notes`.

    events: a stream that flows already, None where none can be had: then only calls are recorded. kernel: of the same node. log:
    where else calls are noted, for example by a RecordingProxy. others: entered for as long as it is recorded, puts other
    programs' calls into `log`, and yields a list for sentences on what these lack. runtime: the runtime's pid, as `kernel` and
    `events` tell it. address: its socket as its shims name it, if not the client's. depth: so many levels of pid namespaces the
    node is below these two; pids in the Flight are the node's. The stream of events is stopped at the end.
    """

    def __init__(
        self,
        cri: CriClient,
        events: EventStream | None,
        kernel: Kernel,
        *,
        log: CallLog | None = None,
        others: Others | None = None,
        runtime: int | None = None,
        address: str = "",
        depth: int = 0,
    ) -> None:
        self.log, self.depth, self.endpoint, self.with_others = log or CallLog(), depth, cri.endpoint, others is not None
        self.listed: dict[str, dict[str, Any]] = {"sandboxes": {}, "containers": {}}
        self.notes: list[str] = []
        self._cri, self._events, self._begun = cri, events, False
        self._seen: Callable[[Event, Tracked | None], None] | None = None
        self._others, self._others_notes = others, list[str]()
        self._interest = contextlib.ExitStack()
        self._lock = threading.Lock()
        self.list_names()
        try:
            before = kernel.snapshot(fds=False).processes.values() if events else ()
        except BaseException:
            if events:
                events.stop()
            raise
        # On another kernel the socket has another path than the one by which it is reached from here.
        address = address or (cri.path if runtime and isinstance(kernel, LocalKernel) else "")
        self.processes = Processes(before, runtime, address)
        self._thread = threading.Thread(target=self._collect, name="flight recorder", daemon=True)

    def __enter__(self) -> Recording:
        self._recording = Recording()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self._recording

    def __exit__(self, *raised: object) -> None:
        self.stop()
        self._recording.flight = self.flight()

    def start(self, seen: Callable[[Event, Tracked | None], None] | None = None) -> None:
        """Record from now on. `seen` is called with each event, in the order of time."""
        self._seen = seen
        if self._others:
            self._others_notes = self._interest.enter_context(self._others)
        self._interest.enter_context(recorded(self._cri, self.log))
        self._begun = True
        # Events that nobody waits for are taken in at the end: what is recorded shall not wait for that.
        if self._seen:
            self._thread.start()

    def stop(self) -> None:
        """End the recording when what was begun has settled: `runc start` answers before its process is the new program."""
        self._interest.close()
        if self._events and self._begun:
            if not self._thread.ident:
                self._thread.start()
            until = time.monotonic() + TAKEN_WITHIN_S
            while self._thread.is_alive() and self._events.waiting and time.monotonic() < until:
                time.sleep(SETTLE_POLL_S)
            self._settle()
        if self._events:
            rest = self._events.stop()
            if self._thread.ident:
                self._thread.join()
            self._take_all(rest)
        self.list_names()

    def running(self) -> bool:
        """Whether events still come."""
        return self._thread.is_alive()

    def flight(self) -> Flight:
        """What was recorded. Before `stop`, processes are missing unless somebody has `seen` them."""
        events = self._events
        source = events.source if events else ""
        with self._lock:
            known = names.known(self.log.records(), time.monotonic_ns(), self.listed)
            processes = join(self.processes, known, source == "poll", self.depth)
        precision = str(getattr(events, "precision", "") or PRECISION.get(source, "")) if events else "calls only, no processes"
        if any(noted.call.source == "log" for noted in known.calls):
            precision = f"{precision.removesuffix('.')}. {FROM_LOG}"
        notes = [*self.notes, *self._others_notes]
        if events and events.lost:
            dropped = "1 event" if events.lost == 1 else f"{events.lost} events"
            notes.append(f"The kernel dropped {dropped}: processes or their ends may be missing.")
        return Flight(
            tuple(n.call for n in known.calls), processes, source, events.lost if events else 0, precision, tuple(notes)
        )

    def _collect(self) -> None:
        try:
            self._take_all(self._events or ())
        except EventsError as error:
            self.notes.append(f"{error} What was recorded until then is kept.")

    def _take_all(self, events: Iterable[Event]) -> None:
        """Take events in; one that cannot be keeps no other from it, and the recording says so. Raises EventsError."""
        for event in events:
            try:
                self._take(event)
            except Exception as error:
                log.exception("an event could not be taken in: %r", event)
                if FAULT not in "".join(self.notes):
                    self.notes.append(f"{FAULT} ({type(error).__name__}: {error}): processes may be missing or misnamed.")

    def _take(self, event: Event) -> None:
        with self._lock:
            process = self.processes.feed(event)
        if self._seen:
            self._seen(event, process)

    def _settle(self) -> None:
        """Wait until no runc or shim command is in the middle of its work; half a second at most."""
        until = time.monotonic() + SETTLE_WITHIN_S
        quiet = 0
        while time.monotonic() < until and quiet < 2 and self._thread.is_alive():
            time.sleep(SETTLE_POLL_S)
            with self._lock:
                quiet = 0 if self.processes.busy() else quiet + 1

    def list_names(self, cri: CriClient | None = None) -> None:
        """Ask for the names of Pods and containers whose making was not recorded."""
        with contextlib.suppress(CriError):
            for kind, found in listed(cri or self._cri).items():
                self.listed[kind].update(found)


def listed(cri: CriClient) -> dict[str, Mapping[str, Any]]:
    """The names that the runtime knows now (see `names.Known`). Raises CriError."""
    sandboxes = {s.id: s.metadata.name for s in cri.list_pod_sandbox().items}
    containers = {c.id: (c.pod_sandbox_id, c.metadata.name) for c in cri.list_containers().containers}
    return {"sandboxes": sandboxes, "containers": containers}
