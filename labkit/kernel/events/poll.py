"""Process events by looking again and again: what is left where neither the proc connector nor tracefs can be had."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from labkit.kernel.events.stream import Batch, Event, EventStream
from labkit.kernel.model import Process, Snapshot
from labkit.kernel.remote import RemoteKernel
from labkit.kernel.snapshot import LocalKernel

ENDED = ("Z", "X")
"""States of a process that has ended and only waits for its parent to ask how (man 5 proc)."""
LAST_LOOKS = 5
"""So many snapshots at most are taken for processes that begin at the end."""
Identity = tuple[int, int]
"""(pid, start in ns): a pid alone may be given again."""


def watch_by_polling(kernel: LocalKernel | RemoteKernel, every_s: float = 0.02) -> EventStream:
    """Compare snapshots, with `every_s` between them. An event's at_ns is that of the snapshot that first shows it. Exit codes
    are not known. Raises what kernel.snapshot() raises."""
    start = time.monotonic()
    before = kernel.snapshot(fds=False)
    gap_ms = (time.monotonic() - start + every_s) * 1000
    precision = (
        f"Looked at every {gap_ms:.0f} ms or so: a process that lives shorter may be missed, "
        "an earlier program of a process too, times are late by up to as much, and exit codes are not known (poll)."
    )
    stopped = threading.Event()

    def batches(before: Snapshot) -> Iterator[Batch]:
        last, unclear = 0, frozenset[Identity]()
        # What there is at the end is looked at, too.
        while not last or (unclear and last < LAST_LOOKS):
            last += stopped.wait(every_s)
            after = kernel.snapshot(fds=False)
            unclear = orphans(before, after) - unclear
            after = without(after, unclear)
            yield Batch(tuple(differences(before, after)))
            before = after

    return EventStream("poll", precision, batches(before), stopped.set)


def orphans(before: Snapshot, after: Snapshot) -> frozenset[Identity]:
    """New processes whose parent is not in the same snapshot, and their descendants.

    /proc is not read in one moment: a parent can end between the reading of its child and its own. The next snapshot shows who
    the parent is then. A parent of pid 0 is outside of the pid namespace.
    """
    old = {identity(p) for p in before.processes.values()}
    alive = {pid for pid, p in after.processes.items() if p.state not in ENDED}
    new = [p for p in after.processes.values() if p.pid in alive and identity(p) not in old]
    found: set[Identity] = set()
    while more := [p for p in new if p.ppid and p.ppid not in alive]:
        found.update(map(identity, more))
        alive -= {p.pid for p in more}
        new = [p for p in new if p.pid in alive]
    return frozenset(found)


def without(snapshot: Snapshot, left_out: frozenset[Identity]) -> Snapshot:
    kept = {pid: p for pid, p in snapshot.processes.items() if identity(p) not in left_out}
    return replace(snapshot, processes=kept) if left_out else snapshot


def identity(process: Process) -> Identity:
    return process.pid, process.start_ns


def differences(before: Snapshot, after: Snapshot) -> Iterator[Event]:
    """Exits, then forks in the order of their start, each followed by its exec, then execs of those that were there."""
    old, new = ({pid: p for pid, p in each.processes.items() if p.state not in ENDED} for each in (before, after))
    for pid, process in old.items():
        if pid not in new or new[pid].start_ns != process.start_ns:
            yield Event("exit", after.at_ns, pid, None)
    for process in sorted(new.values(), key=lambda process: (process.start_ns, process.pid)):
        known = old.get(process.pid)
        if known is None or known.start_ns != process.start_ns:
            yield Event("fork", after.at_ns, process.pid, process.ppid)
            known = new.get(process.ppid)
        if known is None or (process.exe, process.cmdline) != (known.exe, known.cmdline):
            yield exec_of(process, after.at_ns)


def exec_of(process: Process, at_ns: int) -> Event:
    line = max((f"0:{name}:{path}" for name, path in process.cgroups.items()), key=len, default="")
    argv, exe, comm = process.cmdline, process.exe, process.comm
    return Event("exec", at_ns, process.pid, None, argv, not argv, exe, comm, cgroup=line, namespaces=process.namespaces)
