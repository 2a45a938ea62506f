"""Where a recording of a node has its processes from: who tells of them, and in whose numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from labkit.kernel import LocalKernel, Process
from labkit.kernel.events.connector import watch
from labkit.kernel.events.stream import EventsError, EventStream


@dataclass(frozen=True)
class Source:
    """events: flow already. kernel, runtime, address, depth: see `labkit.recording.recorder.FlightRecorder`."""

    events: EventStream
    kernel: Any
    runtime: int
    address: str = ""
    depth: int = 0


class InContainer(Protocol):
    """A node that is a container, as far as it is needed here."""

    def host_pids(self) -> Mapping[int, int]: ...
    def listener(self) -> Process: ...
    def socket_path(self) -> str: ...


def on_this_machine(node: InContainer) -> Source | None:
    """For root, and a node that is a container on this very kernel: the kernel's own events, exact. None where that is not so.

    The proc connector tells pids of the initial pid namespace; NSpid (man 5 proc) has the node's.
    """
    numbers = node.host_pids() if os.geteuid() == 0 else {}
    runtime = numbers.get(node.listener().pid) if 1 in numbers else None
    if runtime is None:
        return None
    try:
        events = watch()
    except EventsError:
        return None
    kernel = Below(numbers[1])
    return Source(events, kernel, runtime, node.socket_path(), kernel.depth)


class Below:
    """The part of this machine's kernel that is below one process, which is the first of its pid namespace."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.depth = len(LocalKernel().snapshot(fds=False).processes[root].ns_pids) - 1

    def snapshot(self, fds: bool = False) -> Any:
        """{"processes": pid → Process}, in this machine's numbers."""
        whole = LocalKernel().snapshot(fds=fds)
        below = [whole.processes[self._root], *whole.descendants(self._root)] if self._root in whole.processes else []
        return SimpleNamespace(processes={process.pid: process for process in below})
