"""Joins processes and CRI calls: which call caused which process.

Causes follow from ids. Every call is about a sandbox or a container (in its request, or in the answer of RunPodSandbox and
CreateContainer), and the runtime passes that id on: to the shim (`-id ID`), to runc (its last argument), to a CNI plugin
(CNI_CONTAINERID in its environment: CNI specification, "Parameters"). A process is caused by the call about its id that was under
way when it was forked; where it names none, by what caused its parent. Two things come after their call: the streamed session of
an Exec, and what is left to do after a Stop or Remove. A CNI plugin whose environment could not be read belongs to the one call
that makes or ends a sandbox and was under way, if there was only one. What a sandbox's call does to its containers is that
call's. What no call caused has `call` None: for example the runtime's own clearing up after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from labkit.recording.flight.data import IN_CONTAINER, FlightProcess, described
from labkit.recording.flight.stages import label
from labkit.recording.recorder.names import KnownCalls
from labkit.recording.recorder.process_roles import INSIDE, Processes, Tracked, command

CAUSES = {
    "create": ("RunPodSandbox", "StartContainer"),
    "start": ("RunPodSandbox", "StartContainer"),
    "exec": ("ExecSync", "Exec"),
    "kill": ("StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox"),
    "delete": ("StopContainer", "StopPodSandbox", "RemoveContainer", "RemovePodSandbox"),
}
"""Where several calls about one id are under way: those that make the runtime run this command of runc or the shim."""
AFTERWARDS = {"exec": ("Exec",), "kill": CAUSES["kill"], "delete": CAUSES["delete"]}
"""These commands may come when the call that caused them has been answered."""
MAKES = {
    "shim": ("RunPodSandbox",),
    "application": ("RunPodSandbox", "StartContainer"),
    "exec": ("ExecSync", "Exec"),
}
"""The calls about one id that make a process of that role (the pause is an application, of the sandbox's id)."""
NETWORK = ("RunPodSandbox", "StopPodSandbox", "RemovePodSandbox")


def join(processes: Processes, known: KnownCalls, late: bool = False, depth: int = 0) -> tuple[FlightProcess, ...]:
    """The processes that belong to a recording, with roles and causes, in the order of their start. late: see Causes.

    Of those that were there before, only what did something or forked something. depth: number them as a
    pid namespace so many levels below the machine's does.
    """
    wanted = {id(p) for p in processes.all if p.touched and p.role}
    wanted |= {id(a) for p in processes.all if id(p) in wanted for a in p.above() if a.role}
    causes = Causes(known, late)
    made = []
    for p in sorted((p for p in processes.all if id(p) in wanted), key=lambda p: (p.from_ns or 0, p.pid)):
        call, role = causes.of(p), processes.role(p, known) or "other"
        pod, container = known.names(p.id) if p.id in known or role != "other" else (None, None)
        container = container if role in IN_CONTAINER else None
        life = (p.from_ns, p.to_ns, p.exit_code, p.signal)
        name = "" if role == "runc" and not p.execs else label(role, p.argv)
        ppid = p.ppid if not depth else p.parent.number(depth) if p.parent else 0
        made.append(FlightProcess(p.number(depth), ppid, role, *life, call, tuple(p.execs), name, pod, container))
    return described(made, [noted.call for noted in known.calls])


class Causes:
    """Finds the call that caused a process. To be asked for parents before their children.

    late: processes are seen some time after they began, as by a poll, so that their call may be over by then.
    """

    def __init__(self, known: KnownCalls, late: bool = False) -> None:
        self._known, self._late = known, late
        self._found: dict[int, int | None] = {}

    def of(self, process: Tracked) -> int | None:
        """Index of the call; None where none did, or where the process lived before the recording."""
        self._found[id(process)] = None if process.from_ns is None else self._look(process, process.from_ns)
        return self._found[id(process)]

    def _look(self, process: Tracked, at: int) -> int | None:
        parent = process.parent
        inherited = self._found.get(id(parent)) if parent else None
        if process.own_id and process.role not in INSIDE and not (self._late and process.role == "shim" and not command(process)):
            return self._by_id(process.own_id, at, command(process))
        if self._late and process.role in (*INSIDE, "shim") and process.id:
            makes = [i for i in self._about.get(process.id, ()) if self._method(i) in MAKES[process.role]]
            begun = [i for i in makes if self._known.calls[i].call.from_ns <= at]
            return max(begun, default=None if not parent or parent.role == "shim" else inherited)
        if process.role == "cni" and inherited is None:
            return self._only(i for i in self._networks if self._known.calls[i].open(at))
        return inherited

    def _by_id(self, id: str, at: int, verb: str) -> int | None:
        """The call about a container or sandbox, or about the container's sandbox, that was under way or left this to be done."""
        about = self._about.get(id, [])
        sandbox = self._known.containers.get(id, ("", ""))[0]
        for calls in (about, self._about.get(sandbox, [])):
            open_now = [i for i in calls if self._known.calls[i].open(at)]
            fitting = [i for i in open_now if self._method(i) in CAUSES.get(verb, ())]
            if open_now:
                return (fitting or open_now)[-1]
        started = [i for i in (*about, *self._about.get(sandbox, [])) if self._known.calls[i].call.from_ns <= at]
        after = [i for i in started if self._method(i) in AFTERWARDS.get(verb, ())]
        if after:
            return max(after)
        # A RunPodSandbox that failed, or was not answered, tells no id.
        return None if about else self._only(i for i in self._unanswered if self._known.calls[i].open(at))

    @cached_property
    def _about(self) -> dict[str, list[int]]:
        about: dict[str, list[int]] = {}
        for index, noted in enumerate(self._known.calls):
            for id in noted.ids if not noted.call.asks else ():
                about.setdefault(id, []).append(index)
        return about

    @cached_property
    def _networks(self) -> list[int]:
        return [index for index in range(len(self._known.calls)) if self._method(index) in NETWORK]

    @cached_property
    def _unanswered(self) -> list[int]:
        return [index for index in self._networks if not self._known.calls[index].ids]

    def _method(self, index: int) -> str:
        return self._known.calls[index].call.method

    @staticmethod
    def _only(calls: Iterator[int]) -> int | None:
        """The call, where there is exactly one."""
        first, second = next(calls, None), next(calls, None)
        return first if second is None else None
