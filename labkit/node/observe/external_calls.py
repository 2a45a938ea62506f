"""Calls of other programs to the node's runtime, noted without standing between them.

They are in the runtime's log, if it is containerd: in what that writes to its standard error, wherever it goes (a file, the
journal, a container's console). A call that labkit made and noted itself is not taken from the log again.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from labkit.node.host.access import Shell
from labkit.node.observe.callers import UNKNOWN
from labkit.recording.calls.containerd_log import LoggedCalls, same_call
from labkit.recording.calls.log import CallLog
from labkit.util.errors import NodeError

log = logging.getLogger("labkit")

POLL_S = 0.4
LOOKS = 9
STEP_NS = 20_000_000
"""More than this between two looks at the clocks is no drift: somebody has set the wall clock."""

FIND = """
target=$(readlink "/proc/$1/fd/2") || exit 0
unit=$(sed -n 's|.*/\\([^/]*\\.service\\)$|\\1|p' "/proc/$1/cgroup" | head -n 1)
case $target in
socket:*) command -v journalctl >/dev/null && echo "journal ${unit:+_SYSTEMD_UNIT=}${unit:-_PID=$1}" ;;
/dev/*|pipe:*) echo console ;;
/*) [ -f "$target" ] && echo "file $(wc -c <"$target") $target" ;;
esac
true
"""
"""$1: the runtime's pid. Says where its standard error goes; nothing where that cannot be known or read."""


class CallSources(Shell, Protocol):
    """`sources.sources`, as far as it is needed here."""

    @property
    def runtime(self) -> str: ...

    def console(self, since: float) -> str:
        """What the node's first process and its children wrote to their console since a time (s since 1970)."""
        ...


@contextlib.contextmanager
def listening(
    sources: CallSources,
    pid: int,
    log: CallLog,
    *,
    live: bool = False,
    ahead_ns: int = 0,
    caller: Callable[[], str] = lambda: "?",
) -> Iterator[list[str]]:
    """Other programs' calls go into `log` while the block runs; yields sentences on what they lack, complete when it has ended.

    pid: the runtime's. live: as they happen; else those from the runtime's log come at the end of the block.
    ahead_ns: by how much the wall clock with which that log is written is ahead of this machine's.
    caller: asked at the block's beginning and end for who makes the calls that only that log has (`labkit.node.observe.callers`).
    """
    notes: list[str] = []
    read = log_reader(sources, pid) if sources.runtime.startswith("containerd") else None
    follower = LogFollower(read, log, ahead_ns, caller()) if read else None
    with follower.in_background() if follower and live else contextlib.nullcontext():
        yield notes
    if follower:
        if follower.caller != UNKNOWN and not live and caller() != follower.caller:
            follower.caller = UNKNOWN
        follower.take(last=True)
        notes += follower.notes


class LogFollower:
    """Brings the calls in a runtime's log into a CallLog, but not those that it has from labkit itself."""

    def __init__(self, read: Callable[[], str], log: CallLog, ahead_ns: int = 0, caller: str = UNKNOWN) -> None:
        self.notes: list[str] = []
        self.caller = caller
        self._read, self._log, self._ahead_ns = read, log, ahead_ns
        self._calls = LoggedCalls()
        self._seen = self._there = 0
        self._numbers: dict[int, int | None] = {}  # the log's number -> the CallLog's; None: noted by labkit itself
        self._own: set[int] = set()
        self._offset = wall_to_monotonic()
        self._from_ns = time.monotonic_ns()

    def take(self, last: bool = False) -> None:
        """Read on, up to what was there the last time: the caller's own word of a call may come later than the log's. last: read
        all; the final line may be without its end."""
        try:
            lines = self._read().splitlines(keepends=True)
        except NodeError as error:
            self.notes.append(f"The runtime's log could not be read, so other programs' calls are missing. {error}")
            return
        if len(lines) < self._seen:
            self.notes.append("The runtime's log was emptied during the recording: some calls of other programs are missing.")
            self._seen = self._there = 0
        whole = lines[self._seen :] if last else lines[self._seen : self._there]
        self._seen += len(whole)
        self._there = sum(line.endswith("\n") for line in lines)
        offset = wall_to_monotonic()
        if abs(offset - self._offset) > STEP_NS:
            self.notes.append("The clock was set during the recording: times of calls from the runtime's log may be wrong.")
        self._offset = offset
        for record in self._calls.read((line.rstrip("\n") for line in whole), offset - self._ahead_ns):
            if record.from_ns < self._from_ns:
                continue
            record = replace(record, caller=self.caller)
            if record.to_ns is None:
                own = same_call(record, (r for r in self._log.records() if r.number not in self._own))
                self._numbers[record.number] = None if own else self._log.take(record)
                self._own |= {own.number} if own else set()
            elif (number := self._numbers.get(record.number)) is not None:
                self._log.take(record, number)

    @contextlib.contextmanager
    def in_background(self) -> Iterator[None]:
        over = threading.Event()

        def work() -> None:
            while not over.wait(POLL_S):
                try:
                    self.take()
                except Exception as error:
                    log.exception("the runtime's log could not be understood")
                    why = f"{type(error).__name__}: {error}"
                    self.notes.append(f"The runtime's log could not be understood ({why}): calls are missing.")
                    return

        thread = threading.Thread(target=work, name="runtime's log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def log_reader(sources: CallSources, pid: int) -> Callable[[], str] | None:
    """What reads all that the runtime has written from now on; None where that cannot be had."""
    try:
        found = re.fullmatch(r"(file|journal|console) ?(.*)", sources.shell(["sh", "-c", FIND, "sh", str(pid)]).strip())
    except NodeError:
        return None
    since = time.time()
    if found and found[1] == "file":
        size, _, path = found[2].partition(" ")
        return lambda: sources.shell(["tail", "-c", f"+{int(size) + 1}", path])
    if found and found[1] == "journal":
        journal = ["journalctl", "--quiet", "--no-pager", "--output=cat", f"--since=@{since:.0f}", found[2]]
        return lambda: sources.shell(journal)
    return (lambda: sources.console(since)) if found else None


def wall_to_monotonic() -> int:
    """What added to ns since 1970 makes ns of CLOCK_MONOTONIC, now: from the readings between which the least time went by, since
    on a busy machine another process may run between two of them."""
    _, offset = min(_one_look() for _ in range(LOOKS))
    return offset


def _one_look() -> tuple[int, int]:
    before, wall, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
    return after - before, (before + after) // 2 - wall
