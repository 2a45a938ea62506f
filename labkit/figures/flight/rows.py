"""Which rows a flight timeline has: processes in blocks, one for each call, folded where they repeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from labkit.figures.pods.process_tree import natural
from labkit.recording.flight.stages import brief, parents, stage_at, stages
from labkit.recording.flight.steps import passing

if TYPE_CHECKING:
    from labkit.recording.flight import Call, Flight, FlightProcess, Stage

LIMIT = 40
"""So many rows are drawn one a process; of more, what repeats is folded."""
SIBLINGS = 2
"""Of siblings that are alike so many are drawn in full when rows are folded."""
STRIPS = 12
"""So many folded rows; the rest share one."""
ASKING = ("Version", "Status", "RuntimeConfig", "GetContainerEvents", "ImageFsInfo", "ListMetricDescriptors")


@dataclass(frozen=True)
class TimelineRow:
    """One process in full, or a strip: many processes on one line, with the calls that they belong to.

    `call`: index of the call whose block the row is in; None for those that no recorded call caused. `parent`: the process
    that forked the first. `label`: only a strip has one of its own. `stages`: only one process has them.
    """

    processes: tuple[FlightProcess, ...]
    call: int | None
    parent: FlightProcess | None = None
    label: str = ""
    calls: tuple[int, ...] = ()
    stages: tuple[Stage, ...] = ()

    @property
    def strip(self) -> bool:
        return bool(self.label)


class Family:
    """Processes of a flight with their parents and children, and what each was at a time."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        processes = flight.processes
        above = parents(processes)
        made = stages(processes, above)
        self._passing = {id(p) for p, passes in zip(processes, passing(processes, above, made), strict=True) if passes}
        self._parents = {id(p): None if n is None else processes[n] for p, n in zip(processes, above, strict=True)}
        self._stages = {id(p): its for p, its in zip(processes, made, strict=True)}
        self.children: dict[int, list[FlightProcess]] = {}
        for process in processes:
            parent = self.parent(process)
            if parent is not None:
                self.children.setdefault(id(parent), []).append(process)
        for children in self.children.values():
            children[:] = in_order(children)

    def parent(self, process: FlightProcess) -> FlightProcess | None:
        """The process that forked it; None where the flight does not have that."""
        return self._parents[id(process)]

    def stages(self, process: FlightProcess) -> tuple[Stage, ...]:
        """What it was one after the other."""
        return self._stages[id(process)]

    def passes(self, process: FlightProcess) -> bool:
        """Whether it was a mere copy of its parent all its life (`labkit.recording.flight.steps.passing`)."""
        return id(process) in self._passing

    def origin(self, process: FlightProcess) -> Stage | None:
        """What its parent was when that forked it, which may have become another program since."""
        parent = self.parent(process)
        return None if parent is None else stage_at(self.stages(parent), process.from_ns)

    def row(self, process: FlightProcess, call: int | None) -> TimelineRow:
        """One process in full."""
        return TimelineRow((process,), call, self.parent(process), stages=self.stages(process))

    def pod(self, process: FlightProcess) -> str | None:
        """The Pod's name: the process's own, else that of the call that caused it, else its parent's."""
        each: FlightProcess | None = process
        while each is not None and each.role not in ("containerd", "kubelet", "host"):
            name = each.pod or (self.flight.calls[each.call].pod if each.call is not None else None)
            if name:
                return name
            each = self.parent(each)
        return None

    def with_ancestors(self, processes: Iterable[FlightProcess]) -> list[FlightProcess]:
        """`processes` and all above them that belong to the runtime."""
        chosen = {id(process): process for process in processes}
        for process in list(chosen.values()):
            ancestor = self.parent(process)
            while ancestor is not None and id(ancestor) not in chosen:
                if ancestor.role != "host":
                    chosen[id(ancestor)] = ancestor
                ancestor = self.parent(ancestor)
        return list(chosen.values())

    def within(self, members: Iterable[FlightProcess]) -> list[FlightProcess]:
        """`members` in the order of the tree: each before its children, siblings in the order of their start."""
        chosen = list(members)
        known = {id(process) for process in chosen}
        order: list[FlightProcess] = []
        stack = in_order(p for p in chosen if id(self.parent(p)) not in known)[::-1]
        while stack:
            process = stack.pop()
            order.append(process)
            stack += [child for child in reversed(self.children.get(id(process), [])) if id(child) in known]
        return order


def in_order(processes: Iterable[FlightProcess]) -> list[FlightProcess]:
    """By start; CNI plugins that run side by side by name, since which of them comes first is chance."""
    by_start = sorted(processes, key=lambda p: (p.from_ns if p.from_ns is not None else -1, natural(p.name)))
    runs = [list(run) for _, run in groupby(by_start, key=lambda p: p.role == "cni")]
    return [p for run in runs for p in (sorted(run, key=lambda p: natural(p.name)) if run[0].role == "cni" else run)]


def is_asking(call: Call) -> bool:
    """Whether a call only asks the runtime for what it knows, so starts nothing."""
    return call.method in ASKING or call.method.startswith(("List", "Stream")) or call.method.endswith(("Status", "Stats"))


def relevant(flight: Flight, family: Family, window: tuple[int, int] | None, call: int | None = None) -> list[FlightProcess]:
    """The processes that matter: what a call caused, what began or ended in the recording, and their ancestors.

    With `window` only those with an event in it, with `call` only those that it caused.
    """
    chosen: list[FlightProcess] = []
    for process in flight.processes:
        moments = [process.from_ns, process.to_ns, *(each.at_ns for each in process.execs)]
        if call is not None and process.from_ns is not None and process.call != call:
            continue
        if window and not any(at is not None and window[0] <= at <= window[1] for at in moments):
            continue
        ours = process.call is not None or process.role not in ("host", "other")
        if ours and any(at is not None for at in moments):
            chosen.append(process)
    return family.with_ancestors(chosen)


def drawn(family: Family, processes: Sequence[FlightProcess]) -> list[FlightProcess]:
    """Those that are drawn and counted: as in the table of steps, what was a copy of its parent all its life is left out."""
    return [process for process in processes if not family.passes(process)]


def rows_of(
    flight: Flight, family: Family, processes: Sequence[FlightProcess], fold: bool, full: bool = True
) -> list[TimelineRow]:
    """The rows from top to bottom: what lived before, then a block for each call in order, then what no call caused.

    With `full` False no Pod is drawn in full, where there are several.
    """
    blocks = _blocks(family, processes)
    if not fold or len(processes) <= LIMIT:
        return [family.row(p, call) for call, members in blocks for p in members]
    units = _units(family, blocks)
    acting = {call.pod for call in flight.calls if call.pod and not is_asking(call)}
    called = acting if any(name[4:] in acting for name, _ in units) else {name[4:] for name, _ in units}
    unlike: dict[tuple[object, ...], None] = {}
    rows: list[TimelineRow] = []
    strips: list[tuple[str, list[tuple[int | None, list[FlightProcess]]]]] = []
    for name, parts in units:
        shape = _shape(flight, parts)
        each = [row for call, members in parts for row in _siblings_folded(family, call, members)]
        if name == "":
            rows += [row for part in parts for row in _node_rows(family, *part)]
        elif full and name[4:] in called and shape not in unlike and (not unlike or len(rows) + len(each) <= LIMIT):
            unlike[shape] = None
            rows += each
        else:
            strips.append((name, parts))
    shown = strips if len(strips) <= STRIPS + 1 else strips[:STRIPS]
    rows += [_strip(name, [unit]) for unit in shown for name in [unit[0]]]
    rest = strips[len(shown) :]
    if rest:
        kind = "Pods" if all(name.startswith("Pod ") for name, _ in rest) else "calls"
        rows.append(_strip(f"{len(rest)} more {kind}", rest))
    return rows


def _blocks(family: Family, processes: Sequence[FlightProcess]) -> list[tuple[int | None, list[FlightProcess]]]:
    before = [p for p in processes if p.from_ns is None]
    caused = sorted({p.call for p in processes if p.call is not None and p.from_ns is not None})
    alone = [p for p in processes if p.call is None and p.from_ns is not None]
    blocks: list[tuple[int | None, list[FlightProcess]]] = [(None, before)]
    blocks += [(call, [p for p in processes if p.call == call and p.from_ns is not None]) for call in caused]
    return [(call, family.within(members)) for call, members in [*blocks, (None, alone)] if members]


Part = tuple[int | None, list["FlightProcess"]]


def _units(family: Family, blocks: list[Part]) -> list[tuple[str, list[Part]]]:
    """What may be folded as a whole: each Pod where there are several, else each call. The node's own have the name ""."""
    calls = family.flight.calls
    pods = {pod for _, members in blocks for p in members if (pod := family.pod(p))}
    units: dict[str, list[Part]] = {"": []}
    for number, (call, members) in enumerate(blocks):
        if len(pods) < 2:
            name = "" if call is None else f"{number}"
            units.setdefault(name, []).append((call, members))
            continue
        for pod in dict.fromkeys(family.pod(p) for p in members):
            mine = [p for p in members if family.pod(p) == pod]
            units.setdefault(f"Pod {pod}" if pod else "", []).append((call, mine))
    if len(pods) < 2:
        return [(name and _call_name(family.flight, parts[0][0]), parts) for name, parts in units.items() if parts]
    return [(name, parts) for name, parts in sorted(units.items(), key=lambda unit: _first(unit, calls)) if parts]


def _first(unit: tuple[str, list[Part]], calls: Sequence[Call]) -> tuple[bool, int, tuple[tuple[str, int], ...]]:
    name, parts = unit
    return name != "", min((call for call, _ in parts if call is not None), default=len(calls)), natural(name)


def _call_name(flight: Flight, call: int | None) -> str:
    if call is None:
        return ""
    record = flight.calls[call]
    return f"{record.method} {record.container}" if record.container else record.method


def _shape(flight: Flight, parts: list[Part]) -> tuple[object, ...]:
    return tuple((flight.calls[c].method if c is not None else "", tuple(p.role for p in members)) for c, members in parts)


def _siblings_folded(family: Family, call: int | None, members: list[FlightProcess]) -> list[TimelineRow]:
    """One row a process, but of more than SIBLINGS + 1 siblings with the same role and name and nothing below them, the
    rest as one."""
    known = {id(p) for p in members}
    alike: dict[tuple[int, str, str], list[FlightProcess]] = {}
    for process in members:
        if not any(id(child) in known for child in family.children.get(id(process), ())):
            parent = id(family.parent(process)) if process.from_ns is not None else 0
            alike.setdefault((parent, process.role, process.name), []).append(process)
    folded = {id(p): group for group in alike.values() if len(group) > SIBLINGS + 1 for p in group[SIBLINGS:]}
    rows = []
    for process in members:
        group = folded.get(id(process))
        if group is None:
            rows.append(family.row(process, call))
        elif group[SIBLINGS] is process:
            label = f"{len(group) - SIBLINGS} more {brief(process.name)}"
            rows.append(TimelineRow(tuple(group[SIBLINGS:]), call, family.parent(process), label))
    return rows


def _node_rows(family: Family, call: int | None, members: list[FlightProcess]) -> list[TimelineRow]:
    """The rows of the node's own processes; of those that no call caused, as a background task's, one for all."""
    if call is None and len(members) > SIBLINGS + 1 and all(p.from_ns is not None for p in members):
        return [TimelineRow(tuple(members), None, family.parent(members[0]), f"{len(members)} of no recorded call")]
    return _siblings_folded(family, call, members)


def _strip(label: str, units: list[tuple[str, list[Part]]]) -> TimelineRow:
    parts = [part for _, unit in units for part in unit]
    calls = tuple(sorted({call for call, _ in parts if call is not None}))
    members = tuple(p for _, group in parts for p in group)
    same = parts[0][0] if not label.startswith("Pod ") and len(units) == 1 else None
    return TimelineRow(members, same, None, label, calls)
