"""Which program a process was at a time, and what it is called: a process may be one thing when it forks and another later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labkit.cri.pods import RUNC
from labkit.util.showable import short_words, showable

if TYPE_CHECKING:
    from labkit.recording.flight.data import FlightProcess

RUNC_VERBS = (
    "create",
    "start",
    "init",
    "exec",
    "run",
    "kill",
    "delete",
    "state",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "features",
)
MAKING = ("create", "run", "exec", "restore")
"""runc's commands that leave a process behind, which waits as `runc init` and becomes the container's program."""
CONTAINERS = ("pause", "application", "exec")
"""Roles of the programs that containers were made for."""


@dataclass(frozen=True)
class Stage:
    """What a process was from a moment on: from its fork what its parent was then, later each program that it became.

    from_ns: None for what it was when the recording began.
    """

    from_ns: int | None
    role: str
    name: str


def parents(processes: Sequence[FlightProcess]) -> list[int | None]:
    """For each process the index of its parent, which had the pid `ppid` and lived when it began; None: not there."""
    by_pid: dict[int, list[int]] = {}
    for index, process in enumerate(processes):
        by_pid.setdefault(process.pid, []).append(index)

    def parent(index: int) -> int | None:
        born = processes[index].from_ns
        for candidate in reversed(by_pid.get(processes[index].ppid, ())):
            each = processes[candidate]
            began = each.from_ns is None or (born is not None and each.from_ns <= born)
            if candidate != index and began and (each.to_ns is None or born is None or each.to_ns >= born):
                return candidate
        return None

    return [parent(index) for index in range(len(processes))]


def ancestors(index: int, parent_of: Sequence[int | None]) -> list[int]:
    """Indexes of the processes above one, its parent first."""
    found: list[int] = []
    above = parent_of[index]
    while above is not None and above not in found:
        found.append(above)
        above = parent_of[above]
    return found


def parents_first(parent_of: Sequence[int | None]) -> Iterator[int]:
    """Every index, after that of its parent."""
    seen: set[int] = set()
    for index in range(len(parent_of)):
        chain: list[int] = []
        each: int | None = index
        while each is not None and each not in seen:
            seen.add(each)
            chain.append(each)
            each = parent_of[each]
        yield from reversed(chain)


def stages(processes: Sequence[FlightProcess], parent_of: Sequence[int | None]) -> list[tuple[Stage, ...]]:
    """For each process what it was one after the other. The last stage has the process's own role and name."""
    made: dict[int, tuple[Stage, ...]] = {}
    for index in parents_first(parent_of):
        above = parent_of[index]
        made[index] = _stages(processes[index], made.get(above) if above is not None else None)
    return [made[index] for index in range(len(processes))]


def stage_at(stages: Sequence[Stage], at_ns: int | None) -> Stage:
    """What a process was at a moment."""
    past = [each for each in stages if each.from_ns is None or (at_ns is not None and each.from_ns <= at_ns)]
    return past[-1] if past else stages[0]


def _stages(process: FlightProcess, above: Sequence[Stage] | None) -> tuple[Stage, ...]:
    first = Stage(process.from_ns, process.role, process.name if process.name and not process.execs else process.role)
    if above and process.from_ns is not None:
        then = stage_at(above, process.from_ns)
        first = replace(then, from_ns=process.from_ns, name=_forked_name(then))
    made = [first]
    for each in process.execs:
        waits = process.role in CONTAINERS and made[-1].role == "runc" and is_runc_init(each.argv)
        role = "runc" if waits else process.role
        made.append(Stage(each.at_ns, role, label(role, each.argv)))
    name = next((label(made[-1].role, each.argv) for each in reversed(process.execs) if each.argv), made[-1].name)
    if made[-1].role != process.role and not process.execs:
        name = label(process.role, ())
    made[-1] = replace(made[-1], role=process.role, name=process.name or name)
    return tuple(made)


def _forked_name(parent: Stage) -> str:
    """What a process is called until it becomes a program: as its parent.

    `runc init` forks with CLONE_PARENT (runc's nsexec.c), so that its children are those of `runc create`, or `run`, `exec`: what
    has no program of its own below these is still `runc init`.
    """
    program, _, verb = parent.name.partition(" ")
    return f"{program} init" if parent.role == "runc" and verb in MAKING else parent.name


def hooks(processes: Sequence[FlightProcess], parent_of: Sequence[int | None]) -> set[int]:
    """Indexes of those that a recording takes for a container's program although `runc init` forked them: OCI hooks, which run
    before it becomes that program (OCI runtime specification, "Lifecycle"), and all below them."""
    stage = stages(processes, parent_of)
    found: set[int] = set()
    for index in parents_first(parent_of):
        process, above = processes[index], parent_of[index]
        if above is None or process.role not in CONTAINERS:
            continue
        waited = processes[above].role in CONTAINERS and stage_at(stage[above], process.from_ns).role == "runc"
        if above in found or (waited and process.execs):
            found.add(index)
    return found


def label(role: str, argv: Sequence[str]) -> str:
    """What a program is called: "runc create", "shim start", "bridge", "httpd -f -p 80"."""
    if not argv:
        return role
    program = program_of(argv)
    if role == "shim":
        verb = next((word for word in argv[1:] if word in ("start", "delete")), "")
        return f"{'conmon' if program == 'conmon' else 'shim'} {verb}".strip()
    if role == "runc":
        program = program if program in ("runc", "crun") else "runc"  # `runc init` may run as /proc/self/exe
        return f"{program} {runc_verb(argv)}".strip()
    if role in ("application", "exec", "other"):
        return " ".join([program, *argv[1:]])
    return program


def program_of(argv: Sequence[str]) -> str:
    return argv[0].rsplit("/", 1)[-1] if argv else ""


def runc_verb(argv: Sequence[str]) -> str:
    """The command of a runc or crun command line: "create", "start", …; "" where there is none."""
    return next((word for word in argv[1:] if word in RUNC_VERBS), "")


def is_runc_init(argv: Sequence[str]) -> bool:
    """Whether it is runc that runs itself again, by its name or by its own file."""
    return tuple(argv[1:2]) == ("init",) and (program_of(argv) in RUNC or argv[0].startswith("/proc/self/"))


def plain(name: str) -> str:
    """A name without what differs from run to run, ids and long numbers, and on one line."""
    return re.sub(r"\b(?:[0-9a-f]{12,}|cni-[0-9a-f-]{20,})\b", "…", " ".join(showable(name).split()))


def brief(name: str) -> str:
    """The same with long paths and words shortened in their middle, for tables and trees."""
    return short_words(plain(name))
