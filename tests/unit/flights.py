"""Recordings for the tests of figures, in the pattern that containerd 1.6 and runc 1.1 show (times in ns)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from labkit.recording.flight import Call, Exec, Flight, FlightProcess

MS = 1_000_000


def exact(calls: Sequence[Call] = (), processes: Sequence[FlightProcess] = ()) -> Flight:
    """A recording of every event."""
    return Flight(tuple(calls), tuple(processes), "proc-connector", precision="exact")


class Recording:
    """Builds a Flight Pod by Pod; `finish` sorts calls by their start and renumbers the processes' calls."""

    def __init__(self, pid: int = 1000) -> None:
        self.pid = pid
        self.daemon = FlightProcess(pid, 1, "containerd", None, None, name="containerd")
        self.calls: list[Call] = []
        self.processes: list[FlightProcess] = [self.daemon]

    def call(self, service, method, begin, end, pod, container=None, code="OK"):
        self.calls.append(Call(service, method, int(begin * MS), int(end * MS), "labkit", pod, container, code))
        return len(self.calls) - 1

    def process(self, parent, role, name, begin, end, call, execs=(), pod=None, container=None, exit_code=0, signal=None):
        self.pid += 1
        marks = tuple(Exec(int(at * MS), (name.split()[0],)) for at in execs)
        ended = None if end is None else int(end * MS)
        code = None if end is None or signal else exit_code
        process = FlightProcess(
            self.pid, parent.pid, role, int(begin * MS), ended, code, signal, call, marks, name, pod, container
        )
        self.processes.append(process)
        return process

    def runc(self, shim, at, call, pod, name, role, container=None, ends=None, exit_code=0):
        create = self.process(shim, "runc", "runc create", at, at + 50, call, (at + 4,), pod, container)
        self.process(create, "runc", "runc init", at + 18, at + 33, call, (at + 18.5, at + 20), pod, container)
        self.process(create, role, name, at + 30, ends, call, (at + 67,), pod, container, exit_code)
        self.process(shim, "runc", "runc start", at + 55, at + 64, call, (at + 56.5,), pod, container)

    def pod(self, name, at, containers=("httpd -f -p 80", "sleep 1000"), pull=True, names=("web", "sidecar")):
        first = self.call("RuntimeService", "RunPodSandbox", at, at + 137, name)
        bridge = self.process(self.daemon, "cni", "bridge", at + 13, at + 45, first, (at + 13,), name)
        self.process(bridge, "cni", "host-local", at + 28, at + 43, first, (at + 28.2,), name)
        self.process(self.daemon, "cni", "loopback", at + 16, at + 21, first, (at + 16,), name)
        start = self.process(self.daemon, "shim", "shim start", at + 50, at + 57, first, (at + 50,), name)
        shim = self.process(start, "shim", "shim", at + 56, None, first, (at + 56.5,), name)
        self.runc(shim, at + 66, first, name, "pause -P", "pause")
        at += 138
        if pull:
            self.call("ImageService", "PullImage", at, at + 30, name)
            at += 30
        for container, command in zip(names, containers, strict=False):
            self.call("RuntimeService", "CreateContainer", at, at + 12, name, container)
            at += 13
            call = self.call("RuntimeService", "StartContainer", at, at + 67, name, container)
            self.process(self.daemon, "shim", "shim start", at + 3, at + 10, call, (at + 3,), name, container)
            self.runc(shim, at + 13, call, name, command, "application", container)
            at += 68
        return at

    def finish(self, **changes) -> Flight:
        order = sorted(range(len(self.calls)), key=lambda i: self.calls[i].from_ns)
        place = {old: new for new, old in enumerate(order)}
        processes = [replace(p, call=place[p.call] if p.call is not None else None) for p in self.processes]
        processes.sort(key=lambda p: p.from_ns if p.from_ns is not None else -1)
        return replace(exact([self.calls[i] for i in order], processes), **changes)


def pods(count: int, gap: float = 60.0, **changes) -> Flight:
    """`count` Pods of two containers, each started `gap` ms after the one before (so their calls overlap)."""
    recording = Recording()
    for number in range(count):
        recording.pod(f"web-{number}" if count > 1 else "web", 5 + gap * number)
    return recording.finish(**changes)


def teardown() -> Flight:
    """The end of a Pod of one container that lived before the recording."""
    r = Recording()
    shim = FlightProcess(2000, 1, "shim", None, 160 * MS, 0, None, None, (), "shim", "web")
    pause = FlightProcess(2001, 2000, "pause", None, 95 * MS, None, 9, None, (), "pause -P", "web")
    app = FlightProcess(2002, 2000, "application", None, 40 * MS, None, 15, None, (), "httpd -f -p 80", "web", "web")
    r.processes += [shim, pause, app]
    stop = r.call("RuntimeService", "StopContainer", 0, 50, "web", "web")
    r.process(shim, "runc", "runc kill", 12, 20, stop, (13,), "web", "web")
    sandbox = r.call("RuntimeService", "StopPodSandbox", 55, 130, "web")
    r.process(shim, "runc", "runc kill", 60, 68, sandbox, (61,), "web")
    r.process(shim, "runc", "runc delete", 97, 106, sandbox, (98,), "web")
    r.process(r.daemon, "cni", "bridge", 110, 121, sandbox, (110,), "web", exit_code=1)
    r.call("RuntimeService", "RemoveContainer", 131, 136, "web", "web")
    r.call("RuntimeService", "RemovePodSandbox", 137, 165, "web")
    return r.finish()


def made_anew() -> Flight:
    """A sandbox that is not ready is stopped, and the Pod gets another."""
    r = Recording()
    r.call("RuntimeService", "StopPodSandbox", 0, 50, "web")
    r.pod("web", 60, ("httpd -f -p 80",), pull=False)
    return r.finish()


def patient_teardown(ms: int = 1000) -> Flight:
    """The same with a process that has no handler for SIGTERM: nothing happens for `ms` after the first `runc kill`."""
    flight = teardown()
    after = 25 * MS

    def later(at: int | None) -> int | None:
        return at if at is None or at < after else at + ms * MS

    calls = [replace(call, from_ns=later(call.from_ns), to_ns=later(call.to_ns)) for call in flight.calls]
    processes = [
        replace(
            p,
            from_ns=later(p.from_ns),
            to_ns=later(p.to_ns),
            execs=tuple(replace(each, at_ns=later(each.at_ns)) for each in p.execs),
        )
        for p in flight.processes
    ]
    return replace(flight, calls=tuple(calls), processes=tuple(processes))


def execs(count: int) -> Flight:
    """`count` ExecSync calls, one after the other."""
    r = Recording()
    shim = FlightProcess(2000, 1, "shim", None, None, None, None, None, (), "shim", "web")
    r.processes.append(shim)
    for n in range(count):
        at = 40 * n
        call = r.call("RuntimeService", "ExecSync", at, at + 32, "web", "app")
        runc = r.process(shim, "runc", "runc exec", at + 3, at + 28, call, (at + 4,), "web", "app")
        r.process(runc, "runc", "runc init", at + 9, at + 15, call, (at + 10,), "web", "app")
        r.process(runc, "exec", "cat /etc/hostname", at + 14, at + 27, call, (at + 24,), "web", "app", exit_code=n % 3)
    return r.finish()
