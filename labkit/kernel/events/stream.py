"""What the kernel tells of processes while it happens: each fork, exec and exit, as a stream of events.

    with watch() as events:
        subprocess.run(["true"])
    for event in events: ...

Where Python runs on the node's kernel, `watch` reads the proc connector, exactly. Elsewhere
`labkit.kernel.events.tracefs.watch_tracefs`
reads the kernel's tracer through a command, and `labkit.kernel.events.poll.watch_by_polling` looks at /proc again and again.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType

from labkit.util.errors import AdvisedError


@dataclass(frozen=True)
class Event:
    """Something that happened to a process (a thread group; threads are left out).

    kind: "fork" (pid is the child), "exec", "exit" (its last thread has ended), "uid" or "comm" (changed by the process itself).
    at_ns: CLOCK_MONOTONIC of the node, in ns, as the kernel gave it: the clock of time.monotonic_ns().
    ppid: of a fork the process that is the child's parent; else None.
    argv, exe: of an exec, the arguments and the path of the program. argv_missing: it was gone before its arguments were read.
    comm, cgroup, namespaces (type -> inode): of a fork or exec as they were a moment later, "" and {} where it was gone by then.
    cgroup: the line of /proc/PID/cgroup that says most, "0::/kubepods/…", "4:memory:/…". exit_code: of an exit, None where a
    signal ended it; signal: that one's number. uid: the effective one, of "uid". cni_command, container_id: of an exec of a CNI
    plugin, what its environment says: "ADD", "DEL", …, and the sandbox's id; "" where the source does not tell them. ns_pids: of
    a fork or exec in another pid namespace than the reader's, its pids from the machine's down (NSpid, man 5 proc), else ().
    """

    kind: str
    at_ns: int
    pid: int
    ppid: int | None
    argv: tuple[str, ...] = ()
    argv_missing: bool = False
    exe: str = ""
    comm: str = ""
    exit_code: int | None = None
    signal: int | None = None
    uid: int | None = None
    cgroup: str = ""
    namespaces: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    cni_command: str = ""
    container_id: str = ""
    ns_pids: tuple[int, ...] = ()


class EventsError(AdvisedError):
    """Process events cannot be had, or no longer."""


@dataclass(frozen=True)
class Batch:
    """Events as a source hands them on, in order, and its counts up to here (see EventStream)."""

    events: Iterable[Event]
    lost: int = 0
    threads: int = 0


class EventStream:
    """An iterator of events in the order of their time; it waits for the next one until stop() is called, from any thread.

    source: "proc-connector", "tracefs" or "poll". precision: one sentence on what its times and events are worth.
    lost: events that happened and could not be delivered. threads: starts of threads, which are no events here but are counted
    by `processes` in /proc/stat. Both are final after stop(). error: why it ended by itself, None if it did not; iterating
    raises that once all events before it are delivered. After a `with` block, what is left can still be iterated.
    """

    def __init__(self, source: str, precision: str, batches: Iterator[Batch], end: Callable[[], None]) -> None:
        """batches: run in a thread of its own, may wait, and raises EventsError when the source fails. end: has it end soon,
        once all that has happened is in it; it may be called when it has ended already."""
        self.source, self.precision = source, precision
        self.lost = self.threads = 0
        self.error: EventsError | None = None
        self._batches, self._end = batches, end
        self._queue: queue.SimpleQueue[Iterable[Event] | None] = queue.SimpleQueue()
        self._ready: deque[Event] = deque()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._collect, name=f"events from {source}", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Raises EventsError when the source has failed."""
        with self._lock:
            while not self._ready:
                batch = self._queue.get()
                if batch is None:
                    self._queue.put(None)
                    if self.error:
                        raise self.error
                    raise StopIteration
                self._ready.extend(batch)
            return self._ready.popleft()

    @property
    def waiting(self) -> bool:
        """Whether events wait to be iterated."""
        return bool(self._ready) or not self._queue.empty()

    def stop(self) -> tuple[Event, ...]:
        """End the stream, so that nothing of it is left on the machine, and return the events not iterated yet: with them,
        everything is delivered that happened before the call. Does not raise: see `error`. A second call returns ()."""
        self._finish()
        with self._lock:
            while (batch := self._queue.get()) is not None:
                self._ready.extend(batch)
            self._queue.put(None)
            rest = tuple(self._ready)
            self._ready.clear()
            return rest

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._finish()

    def _finish(self) -> None:
        self._end()
        self._thread.join()

    def _collect(self) -> None:
        try:
            for batch in self._batches:
                self.lost, self.threads = batch.lost, batch.threads
                self._queue.put(batch.events)
        except EventsError as error:
            self.error = error
        except Exception as error:
            self.error = EventsError(f"The events of source {self.source} could not be read ({error!r}).", "Start again.")
        finally:
            self._queue.put(None)
