"""`node.sources`: where a recording of a node gets its processes and calls from, and in whose numbers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

from labkit.kernel import LocalKernel, Process
from labkit.kernel.events.connector import watch
from labkit.kernel.events.poll import watch_by_polling
from labkit.kernel.events.stream import EventsError, EventStream
from labkit.node.host.access import ObservedNode
from labkit.node.observe import callers, external_calls
from labkit.recording.calls.log import CallLog

Watch = Callable[[], EventStream]


@dataclass(frozen=True)
class Source:
    """events: flow already. kernel, runtime, address, depth: see `labkit.recording.recorder.FlightRecorder`."""

    events: EventStream
    kernel: Any
    runtime: int
    address: str = ""
    depth: int = 0


class SourcesNode(ObservedNode, Protocol):
    """A node, as far as it is needed here."""

    runtime: str

    def listener(self) -> Process: ...


class Sources:
    """Of a node on this machine's kernel. `programs`: the runtime's program, by its comm."""

    def __init__(self, node: SourcesNode, programs: Sequence[str] = ("containerd", "crio")) -> None:
        self.node, self.programs = node, programs

    @property
    def runtime(self) -> str:
        """Name and version of the node's runtime."""
        return self.node.runtime

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return self.node.host.shell(argv, timeout=timeout)

    def open(self, watch: Watch = watch) -> Source:
        """What a recording takes the node's processes from: fork, exec and exit on the node's kernel from now on (see
        `labkit.kernel.events.stream`). watch: reads this machine's kernel, where that is the node's. Raises EventsError."""
        return Source(watch(), self.node.kernel, self.node.listener().pid)

    def other_calls(self, log: CallLog, *, live: bool = False) -> contextlib.AbstractContextManager[list[str]]:
        """Calls of other programs go into `log` while the block runs (see `labkit.node.observe.external_calls`)."""
        pid, ahead_ns = self.node.listener().pid, self.clock_ahead_ns()
        return external_calls.listening(self, pid, log, live=live, ahead_ns=ahead_ns, caller=self.caller)

    def caller(self) -> str:
        """The caller of the calls that only the runtime's log has: see `labkit.node.observe.callers`."""
        return callers.caller(self, self.node.socket_path, self.own_programs())

    def own_programs(self) -> Mapping[int, str]:
        """The lab's own programs on this node that call its runtime, by their pids."""
        return {}

    def is_runtime(self, process: Process) -> bool:
        return process.comm in self.programs

    def clock_ahead_ns(self) -> int:
        """By how much the node's wall clock is ahead of this machine's, where it has one of its own."""
        return 0

    def console(self, since: float) -> str:
        """What the node's first process and its children wrote to their console since a time (s since 1970), "" where there is
        none."""
        return ""


class ContainerSources(Sources):
    """Of a node that is a container, whose engine keeps what it wrote to its console."""

    def open(self, watch: Watch = watch) -> Source:
        """The kernel's own events where this machine's kernel is the node's and root asks, else a poll of the node's processes:
        it says so, and what it may miss."""
        return on_this_machine(self.node, watch) or super().open(lambda: watch_by_polling(self.node.kernel))


def on_this_machine(node: SourcesNode, watch: Watch) -> Source | None:
    """For root, and a node that is a container on this very kernel: the kernel's own events, exact. None where that is not so.

    The proc connector tells pids of the initial pid namespace; NSpid (man 5 proc) has the node's.
    """
    numbers = node.host.pids_here() if os.geteuid() == 0 else {}
    runtime = numbers.get(node.listener().pid) if 1 in numbers else None
    if runtime is None:
        return None
    try:
        events = watch()
    except EventsError:
        return None
    kernel = Below(numbers[1])
    return Source(events, kernel, runtime, node.socket_path, kernel.depth)


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
