"""Process events of a few processes and all that they start, from the proc connector: for whoever wants to know when to look."""

from __future__ import annotations

import contextlib
import marshal
import socket
from collections.abc import Iterable, Iterator

from labkit.kernel.events import below_process, reader_process
from labkit.kernel.events.stream import Batch, Event, EventsError, EventStream

PRECISION = "Each fork, exec and exit with the kernel's own time stamp, without the program that it is of (proc connector)."


class DescendantStream(EventStream):
    """See `watch_below`."""

    def __init__(self, reader: reader_process.ReaderProcess) -> None:
        self._reader, self._stopping = reader, False
        super().__init__("proc-connector", PRECISION, self._read(), self._stop)

    def follow(self, pids: Iterable[int]) -> None:
        """Tell of these and all that they start. To be called once; what happened since `watch_below` is not lost."""
        with contextlib.suppress(OSError):  # the reader has ended: that is in the stream
            self._reader.channel.send(marshal.dumps(list(pids)))

    def _stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError):
            self._reader.channel.shutdown(socket.SHUT_RDWR)

    def _read(self) -> Iterator[Batch]:
        try:
            while not self._stopping:
                word, received = reader_process.receive(self._reader)
                if word == "events":
                    yield Batch([Event(*fields) for fields in received])
                elif word == "refused":
                    raise EventsError(*received)
                elif not self._stopping:
                    raise EventsError(reader_process.killed(self._reader), reader_process.KEPT)
        finally:
            reader_process.end([self._reader])


def watch_below() -> DescendantStream:
    """Process events of this machine's kernel from now on, of the processes that `follow` names. An event has its kind, time
    and pid, and that of a fork its ppid; nothing else is known of it. Raises EventsError as `connector.watch`."""
    reader = reader_process.start(below_process.__file__)
    word, words = reader_process.receive(reader)
    if word != "ready":
        happened, todo = words or (reader_process.killed(reader), "Try again.")
        reader_process.end([reader])
        raise EventsError(happened, todo)
    return DescendantStream(reader)
