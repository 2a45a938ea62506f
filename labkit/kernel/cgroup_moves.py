"""Count how often a process was moved to another cgroup, so that /proc/PID/cgroup need not be read to know that it was not.

The kernel has a tracepoint for each way in which the cgroup of a living process, or its name, changes; perf_event_open(2) counts
how often one was passed, on each CPU, for as long as its file descriptor is open. Nothing is written down and nothing stays. The
numbers of the tracepoints are in tracefs, which fsmount(2) opens without mounting it anywhere.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from functools import cache
from struct import Struct

from labkit.kernel.files import checked, libc, read_bytes

TRACEPOINTS = ("cgroup_attach_task", "cgroup_transfer_tasks", "cgroup_rename")
MOST_CPUS = 64
"""More would need too many open files."""

# The kernel's include/uapi/linux/perf_event.h and mount.h. Newer system calls have one number on every architecture.
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241}
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC, _FSCONFIG_CMD_CREATE = 1, 6
_ATTRIBUTES = Struct("=IIQ48x")  # struct perf_event_attr, first version: type, size, config
_PERF_TYPE_TRACEPOINT, _PERF_FLAG_FD_CLOEXEC = 2, 8
_EVERY_PROCESS, _NO_GROUP = -1, -1
_ONLINE = "/sys/devices/system/cpu/online"


class CgroupMoves:
    """Counts for as long as it lives."""

    def __init__(self) -> None:
        """Raises OSError where the kernel does not count for this user."""
        self._online = read_bytes(_ONLINE)
        cpus = list(numbers(self._online.decode()))
        if len(cpus) > MOST_CPUS:
            raise OSError(f"{len(cpus)} CPUs are more than are counted on")
        self._counters: list[int] = []
        try:
            for tracepoint in _tracepoint_numbers():
                self._counters += (_counter(tracepoint, cpu) for cpu in cpus)
        except OSError:
            self.close()
            raise

    def count(self) -> object:
        """Equal to an earlier count where no process was moved and no cgroup renamed since; what was moved before this was
        called is counted. Raises OSError where another CPU has been switched on or off."""
        if read_bytes(_ONLINE) != self._online:
            raise OSError("the CPUs are not those that are counted on")
        return tuple(os.read(counter, 8) for counter in self._counters)

    def close(self) -> None:
        for counter in self._counters:
            os.close(counter)
        self._counters = []


class Generation:
    """Asked again and again whether any process may be in another cgroup. Counting begins when it is asked for the third time: it
    is not worth its price to whoever looks once or twice."""

    def __init__(self, proc: str) -> None:
        self._proc, self._asked = proc, 0

    def now(self) -> object | None:
        """Equal to the one before where no cgroup of any process is another; None where that is not known."""
        self._asked += 1
        moves = _moves() if self._asked > 2 else None
        if moves is None:
            return None
        try:
            # The own file names all hierarchies that are mounted, and paths are told from the reader's own cgroup namespace.
            return moves.count(), read_bytes(f"{self._proc}/self/cgroup"), os.readlink(f"{self._proc}/self/ns/cgroup")
        except OSError:
            return None


@cache
def _moves() -> CgroupMoves | None:
    """One for the whole process: a kernel takes some 200 ms to close such counters."""
    with contextlib.suppress(OSError, ValueError):
        return CgroupMoves()
    return None


def numbers(ranges: str) -> Iterator[int]:
    """0, 1, 2, 5 of "0-2,5" (man 7 cpuset, "List format")."""
    for each in filter(None, ranges.strip().split(",")):
        first, _, last = each.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _tracepoint_numbers() -> list[int]:
    context = checked(libc.syscall(_FSOPEN, b"tracefs", _CLOEXEC))
    try:
        checked(libc.syscall(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        tracefs = checked(libc.syscall(_FSMOUNT, context, _CLOEXEC, 0))
    finally:
        os.close(context)
    try:
        return [int(read_bytes(f"events/cgroup/{name}/id", tracefs)) for name in TRACEPOINTS]
    finally:
        os.close(tracefs)


def _counter(tracepoint: int, cpu: int) -> int:
    number = _PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise OSError(f"the number of perf_event_open(2) on {platform.machine()} is not known")
    attributes = _ATTRIBUTES.pack(_PERF_TYPE_TRACEPOINT, _ATTRIBUTES.size, tracepoint)
    return checked(libc.syscall(number, attributes, _EVERY_PROCESS, cpu, _NO_GROUP, _PERF_FLAG_FD_CLOEXEC))
