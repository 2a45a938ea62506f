"""A flight recording: CRI calls and the kernel's own events of the processes that they caused, on one clock.

Made by `labkit.recording.recorder`, drawn by `labkit.figures.flight.timeline`. The JSON format is described in
docs/flight-format.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from labkit.recording.flight import chrome_trace, json_format
from labkit.recording.flight.data import Call, FlightProcess
from labkit.recording.flight.json_format import FlightError
from labkit.recording.flight.stages import Stage, ancestors, parents, stages
from labkit.recording.flight.steps import Steps, Tree, steps_of, tree_of
from labkit.util.showable import Absent


@dataclass(frozen=True, repr=False)
class Flight:
    """What was recorded: calls and processes, each in the order of their start.

    source: where the events are from, "proc-connector", "tracefs" or "poll"; "" when there were none to be had. lost: how many
    events the kernel had to drop. precision: what the source may miss. notes: sentences on what cut the recording short.
    """

    drawn_by: ClassVar[Callable[..., Any] | None] = None
    """What `plot` calls with the Flight. Data knows no figure: the figure puts itself here."""
    replayed_by: ClassVar[Callable[..., Any] | None] = None
    """What `replay` calls, likewise."""

    calls: tuple[Call, ...] = ()
    processes: tuple[FlightProcess, ...] = ()
    source: str = ""
    lost: int = 0
    precision: str = ""
    notes: tuple[str, ...] = field(default=(), compare=False)

    def with_processes(self, processes: Iterable[FlightProcess]) -> Flight:
        """The same recording with other processes."""
        return replace(self, processes=tuple(processes))

    def steps(self) -> Steps:
        """The sequence as a table: each call that changes something, below it the processes that it caused."""
        return steps_of(self)

    def tree(self) -> Tree:
        """The processes as a text tree, each below the one that forked it."""
        return tree_of(self)

    def plot(self, **options: Any) -> Any:
        """The figure: calls above, processes below, one time axis (`labkit.figures.flight.timeline`)."""
        draw = type(self).drawn_by
        if draw is None:
            raise FlightError("Nothing here draws a recording yet. Import labkit.figures, and call plot() again.")
        return draw(self, **options)

    def replay(self, speed: float = 0.1) -> Any:
        """The figure with controls that play it, step by step or at any speed (`labkit.live.replaying`). speed: 1 is as fast as
        it was, 0.1 ten times slower. Raises ValueError for a speed that is not above 0."""
        play = type(self).replayed_by
        if play is None:
            raise FlightError("Nothing here replays a recording yet. Import labkit.live, and call replay() again.")
        return play(self, speed)

    def to_json(self) -> str:
        """The recording as JSON, without messages (docs/flight-format.md)."""
        return json_format.write(self)

    @classmethod
    def from_json(cls, given: str | bytes) -> Flight:
        """The recording that `to_json` wrote. Raises FlightError for anything else, and for a version that it does not know."""
        return cls(**json_format.read(given))

    def to_trace(self) -> str:
        """The recording in the Chrome trace format (JSON), which ui.perfetto.dev and chrome://tracing open."""
        return json.dumps(chrome_trace.trace(self))

    def zoom(self, step: int | str) -> Flight:
        """One step alone: the call of that number in `steps()`, or all of that method ("RunPodSandbox"), with what they caused.
        Raises Absent, naming those there are."""
        shown = [index for index, call in enumerate(self.calls) if self.is_step(index)]
        chosen = shown[step - 1 : step] if isinstance(step, int) and step > 0 else []
        chosen = chosen or [index for index, call in enumerate(self.calls) if call.method == step]
        if not chosen:
            names = ", ".join(dict.fromkeys(self.calls[index].method for index in shown)) or "none"
            raise Absent(f"There is no step {step!r} in this recording; it has 1 to {len(shown)}: {names}.")
        return self._only(chosen, lambda process: process.call in chosen or self.ended_by(process) in chosen)

    def pods(self) -> set[str]:
        """The names of the Pods that anything here belongs to."""
        return {c.pod for c in self.calls if c.pod} | {p.pod for p in self.processes if p.pod}

    def pod(self, name: str) -> Flight:
        """One Pod alone. Raises Absent, naming those there are."""
        names = self.pods()
        if name not in names:
            raise Absent(f"There is no Pod {name!r} in this recording; it has {', '.join(sorted(names)) or 'none'}.")
        return self._only([i for i, c in enumerate(self.calls) if c.pod == name], lambda process: process.pod == name)

    def fold(self, *roles: str) -> Flight:
        """Without the processes of these roles; their children are shown below the nearest that is left."""
        above = self.parents()

        def near(index: int) -> int:
            for ancestor in ancestors(index, above):
                if self.processes[ancestor].role not in roles:
                    return self.processes[ancestor].pid
            return self.processes[index].ppid

        kept = (replace(p, ppid=near(i)) for i, p in enumerate(self.processes) if p.role not in roles)
        return replace(self, processes=tuple(kept))

    def is_step(self, index: int) -> bool:
        """Whether a call is worth a step: it changes something, started a process, or failed."""
        call = self.calls[index]
        return not call.asks or any(process.call == index for process in self.processes)

    def ended_by(self, process: FlightProcess) -> int | None:
        """Of a process that was there before: the call about its container or Pod that was under way when it ended, if that is
        one that ends such."""
        if process.from_ns is not None or process.to_ns is None or process.pod is None:
            return None
        about = [(i, c) for i, c in enumerate(self.calls) if c.pod == process.pod and c.container in (None, process.container)]
        ending = [(index, call) for index, call in about if call.method.startswith(("Stop", "Remove"))]
        if self.source == "poll":  # its times are no better than its looks, so they cannot tell which of them it was
            return ending[0][0] if ending else None
        return next((index for index, call in ending[::-1] if call.from_ns <= process.to_ns <= call.to_ns), None)

    def parents(self) -> tuple[int | None, ...]:
        """For each process the index of the one that forked it, None where the recording does not have it."""
        return tuple(parents(self.processes))

    def stages(self) -> tuple[tuple[Stage, ...], ...]:
        """For each process what it was one after the other: as what it was forked, and each program that it became."""
        return tuple(stages(self.processes, self.parents()))

    def _only(self, calls: Sequence[int], wanted: Callable[[FlightProcess], bool]) -> Flight:
        """Some calls, the processes wanted, and the ancestors of these that were there already when the first call was made."""
        above_of = self.parents()
        kept = {index for index, process in enumerate(self.processes) if wanted(process)}
        first = min((self.calls[index].from_ns for index in calls), default=0)
        last = max((self.calls[index].to_ns for index in calls), default=0)
        above = {a for index in kept for a in ancestors(index, above_of)} - kept
        above -= {a for a in above if calls and (self.processes[a].to_ns or last) < first}
        place = {old: new for new, old in enumerate(calls)}
        # An ancestor is there for what it made: how it began, and that it ended later, is no part of this.
        processes = [
            replace(
                p,
                from_ns=None if p.from_ns is None or p.from_ns < first else p.from_ns,
                to_ns=None if p.to_ns is not None and p.to_ns > last else p.to_ns,
                execs=tuple(each for each in p.execs if each.at_ns >= first),
            )
            if index in above
            else p
            for index, p in enumerate(self.processes)
            if index in kept | above
        ]
        return replace(
            self,
            calls=tuple(self.calls[index] for index in calls),
            processes=tuple(replace(p, call=place.get(p.call) if p.call is not None else None) for p in processes),
        )

    def __repr__(self) -> str:
        if not self.calls and not self.processes:
            return "An empty recording: no call was made and no process of the runtime's began or ended."
        pods = len(self.pods())
        new = sum(process.from_ns is not None for process in self.processes)
        return f"A recording of {_count(len(self.calls), 'call')} and {_count(new, 'process')}, {_count(pods, 'Pod')}."


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 'es' if thing.endswith('s') else 's'}"
