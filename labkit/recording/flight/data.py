"""The parts of a recording: calls and processes, as plain data. All times are ns of CLOCK_MONOTONIC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from labkit.recording.flight.stages import hooks, parents, stages

PRECISION = {
    "proc-connector": "exact: the kernel's own events, each with the kernel's time",
    "tracefs": "exact: the kernel's own events, each with the kernel's time",
    "poll": "looked at again and again: a process that lives a few milliseconds may be missing, and times are those of the look",
}
"""How exact a source of events is, by its name."""


@dataclass(frozen=True)
class Call:
    """One CRI call.

    service: "RuntimeService" or "ImageService". caller: "labkit", or the comm of the process that called, "?" if unknown. pod,
    container: their names, None where the call is about none. code: the gRPC status code's name ("OK", "NOT_FOUND", …); "" when
    it was still under way as the recording ended, which is then `to_ns`. request, response: the messages as plain dicts, field
    names as in api.proto, credentials left out; of a stream the last response, of a List… none. source: "interceptor" (labkit's
    client), "proxy" or "log" (the runtime's own log).
    """

    service: str
    method: str
    from_ns: int
    to_ns: int
    caller: str
    pod: str | None = None
    container: str | None = None
    code: str = "OK"
    request: Mapping[str, Any] | None = None
    response: Mapping[str, Any] | None = None
    source: str = "interceptor"

    @property
    def asks(self) -> bool:
        """Whether it only asks and changes nothing."""
        return asks(self.method)

    @property
    def by(self) -> str:
        """Who called, in words."""
        return by(self.caller)

    def __str__(self) -> str:
        return " ".join([self.method, *([self.container] if self.container else [])])


def by(caller: str) -> str:
    """A caller in words."""
    return "another client" if caller == "?" else caller


def asks(method: str) -> bool:
    """Whether an RPC of that name only asks and changes nothing."""
    words = ("Version", "RuntimeConfig", "GetContainerEvents", "ImageFsInfo")
    return method in words or method.startswith(("List", "Stream")) or method.endswith(("Status", "Stats"))


@dataclass(frozen=True)
class Exec:
    """The moment when a process became another program. argv: () where it was gone before it could be read."""

    at_ns: int
    argv: tuple[str, ...]


@dataclass(frozen=True)
class FlightProcess:
    """One process.

    ppid: the process that forked it; when that ends, the kernel gives the child to the nearest subreaper (the shim), or to init.
    role: one of labkit.cri.pods.ROLES. from_ns: None when it lived before the recording; to_ns: None when it outlived it.
    exit_code: None when a signal ended it or it lives. call: index into the flight's calls of the one that caused it, None where
    none did. name: what it is called in figures ("runc create", "shim", "httpd -f"). pod, container: names.
    """

    pid: int
    ppid: int
    role: str
    from_ns: int | None
    to_ns: int | None
    exit_code: int | None = None
    signal: int | None = None
    call: int | None = None
    execs: tuple[Exec, ...] = ()
    name: str = ""
    pod: str | None = None
    container: str | None = None


def described(processes: Sequence[FlightProcess], calls: Sequence[Call]) -> tuple[FlightProcess, ...]:
    """The same with name, Pod and container filled in where they are missing, from the program, the call and the parent.

    The lasting shim has its Pod's name, no container's; a process that lived before has the Pod of what it forked. What a
    process forked as `runc init` is no part of the program that it became.
    """
    above = parents(processes)
    no_programs = hooks(processes, above)
    processes = [replace(process, role="other") if index in no_programs else process for index, process in enumerate(processes)]
    made: list[FlightProcess] = []
    for process, was in zip(processes, stages(processes, above), strict=True):
        call = calls[process.call] if process.call is not None else None
        pod = process.pod or (call.pod if call else None)
        container = process.container or (call.container if call and process.role in IN_CONTAINER else None)
        made.append(replace(process, pod=pod, container=container, name=was[-1].name))
    for index in reversed(range(len(made))):
        parent = above[index]
        if parent is not None and made[parent].role == "shim" and made[parent].pod is None and made[index].role != "shim":
            made[parent] = replace(made[parent], pod=made[index].pod)
    return tuple(made)


IN_CONTAINER = ("application", "exec", "runc", "shim", "other")
"""Roles of processes that may belong to one container."""
