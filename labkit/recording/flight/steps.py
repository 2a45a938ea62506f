"""A recording in words: the table of steps, and the tree of processes.

Their text is deterministic, for screen readers and for notebooks that compare it: names and order, never pids or times. What runs
side by side has no order of its own and is sorted by name: Pods, and the CNI plugins of one call.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from labkit.recording.flight.data import FlightProcess
from labkit.recording.flight.stages import CONTAINERS, Stage, brief, stage_at
from labkit.util.showable import columns, fitted, padded, short_words, showable, showable_lines

UNCAUSED = "–"

if TYPE_CHECKING:
    from labkit.recording.flight.flight import Flight
LONGEST = 10_000_000
"""So many letters a recording's text may have."""
WIDTH = 120
"""A table is not wider, in columns of a terminal, as long as what names things in it can be made shorter."""


@dataclass(frozen=True)
class Step:
    """One row: a call or a process. A process that waited as `runc init` before it became a container's program names both.

    step: "2" for a call, "2.1", "2.2", … for what it caused; "–" for what no recorded call caused. who: the caller, or the
    parent that forked it. from_ns, to_ns: ns of CLOCK_MONOTONIC; to_ns None: it outlived the recording.
    cause: the call. role: of the process, "" for a call.
    """

    step: str
    what: str
    who: str
    from_ns: int | None
    to_ns: int | None
    cause: str
    pod: str | None = None
    container: str | None = None
    result: str = ""
    role: str = ""

    @property
    def duration_ns(self) -> int | None:
        return None if self.from_ns is None or self.to_ns is None else self.to_ns - self.from_ns


class Steps(list[Step]):
    """The rows of `flight.steps()`. A notebook shows them as a table; their text names the steps alone."""

    def __init__(self, rows: Iterable[Step], notes: Sequence[str] = ()) -> None:
        super().__init__(rows)
        self.notes = tuple(notes)

    def __repr__(self) -> str:
        if not self:
            return "\n".join(["No step was recorded.", *self.notes])
        pods = sorted({row.pod for row in self if row.pod}, key=_natural)
        if len(pods) == 1:
            lines = [f"Pod {pods[0]}", *self._told(self)]
        else:
            lines = [line for pod in pods for line in (f"Pod {pod}", *self._told([row for row in self if row.pod == pod]))]
            if rest := self._told([row for row in self if not row.pod]):
                lines += [*(["No Pod's"] if pods else []), *rest]
        return showable_lines("\n".join([*lines, *self.notes]), LONGEST)

    @staticmethod
    def _told(rows: Sequence[Step]) -> list[str]:
        lines, number = [], 0
        for row in in_words(rows):
            result = f" ({row.result})" if row.result else ""
            number += not row.role
            by = f" ← {row.who}" if row.who else ""
            lines.append(f"    {row.what}{result}{by}" if row.role else f"  {number} {row.what}{result}, called by {row.who}")
        return lines

    def table(self) -> str:
        """As text with times: ms since the first step."""
        if not self:
            return "\n".join(["No step was recorded.", *self.notes])
        rows = [HEAD, *(self._cells(row) for row in self)]
        if over(rows) > 0:
            rows = [tuple(short_words(cell, 24) if i in NAMES else cell for i, cell in enumerate(row)) for row in rows]
        widths = widest(rows)
        for column, narrowest in SHRINK:
            widths[column] = max(
                widths[column] - max(sum(widths) + 2 * (len(widths) - 1) - WIDTH, 0), min(widths[column], narrowest)
            )
        lines = []
        for row in rows:
            cells = [padded(fitted(c, w), w, right=i in NUMBERS) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            lines.append("  ".join(cells).rstrip())
        return showable_lines("\n".join([*lines, *self.notes]), LONGEST)

    def _repr_html_(self) -> str:
        def line(tag: str, cells: Sequence[str]) -> str:
            """A heading has the place of what is below it."""
            return "".join(
                f'<{tag} style="text-align:{"right" if column in NUMBERS else "left"}">{escape(cell)}</{tag}>'
                for column, cell in enumerate(cells)
            )

        head = line("th", HEAD)
        body = []
        for row in self:
            cells = line("td", self._cells(row))
            body.append(f'<tr style="font-weight:{"normal" if row.role else "bold"}">{cells}</tr>')
        notes = "".join(f"<p>{escape(showable(note))}</p>" for note in self.notes)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>{notes}"

    def _cells(self, row: Step) -> tuple[str, ...]:
        origin = min((each.from_ns for each in self if each.from_ns is not None), default=0)
        begin = "before" if row.from_ns is None else f"{(row.from_ns - origin) / 1e6:.3f}"
        took = "stays" if row.to_ns is None else "" if row.duration_ns is None else f"{row.duration_ns / 1e6:.3f}"
        what = f"{row.what} ({row.result})" if row.result else row.what
        several = len({each.pod for each in self if each.pod}) > 1
        pod = f" [{row.pod}]" if several and row.pod and not row.role else ""
        return tuple(showable(cell) for cell in (row.step, what + pod, row.who, begin, took, row.cause))


HEAD = ("step", "what", "by", "from ms", "took ms", "cause")
NAMES = (1, 2, 5)
"""Columns that name things."""
SHRINK = ((2, 24), (1, 36), (5, 16), (2, 16), (1, 24))
"""In a table that is too wide: which column is made narrower first, and to what."""


def widest(rows: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column."""
    return [max(columns(row[column]) for row in rows) for column in range(len(HEAD))]


def over(rows: Sequence[Sequence[str]]) -> int:
    """By how many columns of a terminal a table is too wide."""
    return sum(widest(rows)) + 2 * (len(HEAD) - 1) - WIDTH


NUMBERS = (3, 4)
"""Columns that are numbers."""


class Tree(str):
    """A text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


def steps_of(flight: Flight) -> Steps:
    """See Flight.steps."""
    parents, stages = flight.parents(), flight.stages()
    trivial = passing(flight.processes, parents, stages)
    caused: dict[int | None, list[Step]] = {}
    for index, process in enumerate(flight.processes):
        if process.from_ns is None and process.to_ns is not None:
            by = flight.ended_by(process)
            caused.setdefault(by, []).append(_end(process, str(flight.calls[by]) if by is not None else ""))
        if process.from_ns is None or trivial[index]:
            continue
        parent = parents[index]
        who = brief(stage_at(stages[parent], process.from_ns).name) if parent is not None else "?"
        call = flight.calls[process.call] if process.call is not None else None
        cause = str(call) if call else ""
        made = Step("", _what(process, stages[index]), who, process.from_ns, process.to_ns, cause, process.pod,
                    process.container, _result(process), process.role)
        caused.setdefault(process.call, []).append(made)
    rows: list[Step] = []
    number = 0
    for index, call in enumerate(flight.calls):
        if not flight.is_step(index) and call.code in ("", "OK"):
            continue
        number += 1
        result = "" if call.code == "OK" else call.code or "under way"
        rows.append(Step(str(number), str(call), call.by, call.from_ns, call.to_ns, "", call.pod, call.container, result))
        rows += _numbered(f"{number}.", caused.pop(index, []))
    for left in caused.values():
        rows += _numbered(UNCAUSED, left)
    return Steps(rows, flight.notes if rows else (*flight.notes, *only_asked(flight)))


def only_asked(flight: Flight) -> list[str]:
    """What there is to say of a recording without a step: a call that only reads changes nothing, and so is none."""
    calls = Counter(call.method for call in flight.calls)
    if not calls:
        return ["No call was made to the runtime."]
    names = ", ".join(f"{method}{f' × {count}' if count > 1 else ''}" for method, count in calls.items())
    return [f"The calls made only read, which is no step: {names}. --json writes them all."]


def tree_of(flight: Flight) -> Tree:
    """See Flight.tree. Of siblings that are alike one is shown, and how many there are. What a process forked before it became
    another program is below what it was then."""
    stages = flight.stages()
    trivial = passing(flight.processes, flight.parents(), stages)
    children: dict[int | None, list[int]] = {}
    for index, parent in enumerate(flight.parents()):
        if not trivial[index]:
            children.setdefault(parent, []).append(index)

    def lines(index: int) -> tuple[str, ...]:
        process, mine = flight.processes[index], children.get(index, [])
        where = f" ({process.container})" if process.container and process.role in ("application", "exec") else ""
        stays = "" if process.to_ns is not None else ", stays"
        last = (f"{brief(process.name)}{where}{stays}{_ending(process)}",)
        then = [stage_at(stages[index], flight.processes[child].from_ns) for child in mine]
        earlier = [each for each in stages[index][:-1] if each.name != process.name and each in then]
        made = (*last, *below([child for child, stage in zip(mine, then, strict=True) if stage not in earlier]))
        for stage in reversed(earlier):
            forked = below([child for child, each in zip(mine, then, strict=True) if each == stage])
            made = (brief(stage.name), *forked, f"  becomes {made[0]}", *(f"  {line}" for line in made[1:]))
        return made

    def below(indexes: Sequence[int]) -> list[str]:
        ordered = sorted(indexes, key=lambda i: (_natural(flight.processes[i].pod or ""),))
        blocks = [(flight.processes[i].role, lines(i)) for i in ordered]
        parts: list[tuple[str, ...]] = []
        for cni, run in groupby(blocks, key=lambda each: each[0] == "cni"):
            texts = [text for _, text in run]
            parts += sorted(texts) if cni else texts
        result: list[str] = []
        for text in dict.fromkeys(parts):
            count = parts.count(text)
            head = f"{count} × {text[0]}" if count > 1 else text[0]
            result += [head, *text[1:]]
        return [f"  {line}" for line in result]

    text = [line[2:] for line in below(children.get(None, []))]
    return Tree(showable_lines("\n".join([*(text or ["No process was recorded."]), *flight.notes]), LONGEST))


def passing(processes: Sequence[FlightProcess], parents: Sequence[int | None], stages: Sequence[tuple[Stage, ...]]) -> list[bool]:
    """For each process whether it is a mere fork that ended as what it was: nothing became of it and it made nothing.

    runc's double fork makes such, and the Go runtime when it tries what the kernel can do. `parents` and `stages`: of
    `labkit.recording.flight.stages`.
    """
    has_child = {parent for parent in parents if parent is not None}
    return [
        not process.execs
        and process.to_ns is not None
        and index not in has_child
        and (parent := parents[index]) is not None
        and stage_at(stages[parent], process.from_ns).role == process.role
        and process.role not in CONTAINERS
        for index, process in enumerate(processes)
    ]


def in_words(rows: Sequence[Step]) -> list[Step]:
    """The same in an order that does not depend on what runs side by side: neighbours that are CNI plugins by name,
    what one call does to several containers by theirs, and the shim's end after what is done about it."""
    rows = [row for _, part in groupby(rows, key=lambda row: row.step.partition(".")[0]) for row in _by_container(list(part))]
    ordered: list[Step] = []
    for cni, run in groupby(rows, key=lambda row: row.role == "cni"):
        members = list(run)
        ordered += sorted(members, key=lambda row: (row.what, row.who)) if cni else members
    return ordered


def _by_container(rows: list[Step]) -> list[Step]:
    """The rows of one call, the call first."""
    late = [row for row in rows if row.role == "shim" and row.what.endswith(" ends")]
    first = next((i for i, row in enumerate(rows) if row.role == "cni" and late), len(rows))
    rows = [row for row in rows[:first] if row not in late] + late + [row for row in rows[first:] if row not in late]
    return sorted(rows, key=lambda row: (bool(row.role), row.container is None, row.container or ""))


def _what(process: FlightProcess, stages: Sequence[Stage]) -> str:
    """What a process is called; both names of one that waited as `runc init` before it became its program."""
    name = brief(process.name)
    if process.role not in CONTAINERS or len(stages) < 2 or stages[0].role != "runc":
        return name
    return f"{stages[0].name}, then {name}{f' ({process.container})' if process.container else ''}"


def _end(process: FlightProcess, cause: str) -> Step:
    """The end of a process that was there before."""
    what = f"{brief(process.name)}{f' ({process.container})' if process.container else ''} ends"
    at, result = process.to_ns, _result(process)
    return Step("", what, "", at, at, cause, process.pod, process.container, result, process.role)


def _numbered(prefix: str, rows: Sequence[Step]) -> list[Step]:
    ordered = sorted(rows, key=lambda row: row.from_ns or 0)
    return [replace(row, step=prefix if prefix == UNCAUSED else f"{prefix}{number}") for number, row in enumerate(ordered, 1)]


def _result(process: FlightProcess) -> str:
    if process.signal:
        return f"ended by signal {process.signal}"
    return f"exit code {process.exit_code}" if process.exit_code else ""


def _ending(process: FlightProcess) -> str:
    result = _result(process)
    return f", {result}" if result else ""


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts web-2 before web-10."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]
