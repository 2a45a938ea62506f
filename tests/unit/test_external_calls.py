"""Calls of other programs from the runtime's log, wherever that is, and never twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit.cri.v1 import api_pb2 as pb
from labkit.node.host.access import run_local
from labkit.node.observe import external_calls
from labkit.recording.calls.log import CallLog
from labkit.util.errors import NodeError
from tests.waits import wait_for


def line(message: str) -> str:
    now = datetime.fromtimestamp(time.time(), UTC)
    return f'time="{now.isoformat().removesuffix("+00:00")}Z" level=info msg="{message}"\n'


class Machine:
    """A node of which `shell` answers from `said`, and else runs the command here."""

    runtime = "containerd 1.7.24"

    def __init__(self, said: str | None = None) -> None:
        self.said, self.asked, self.written = said, [], ""

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        self.asked.append(list(argv))
        if self.said is None:
            return run_local(argv, timeout)
        return self.said if argv[0] == "sh" else self.written

    def console(self, since: float) -> str:
        return self.written


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A process whose standard error is a file."""
    log = tmp_path / "runtime's log"
    log.write_text(line('StartContainer for \\"before\\"'))
    waits = [sys.executable, "-c", "input()"]
    with log.open("a") as file, subprocess.Popen(waits, stdin=subprocess.PIPE, stderr=file) as process:
        yield process.pid, log
        process.communicate(b"\n")


def say(log: Path, message: str) -> None:
    with log.open("a") as file:
        file.write(line(message))


def test_from_a_file(runtime: tuple[int, Path]) -> None:
    pid, path = runtime
    log = CallLog()
    with external_calls.listening(Machine(), pid, log) as notes:
        say(path, 'StopContainer for \\"c\\" with timeout 0 (s)')
        say(path, 'StopContainer for \\"c\\" returns successfully')
        say(path, 'StartContainer for \\"d\\"')
    assert [(r.method, r.request.container_id, r.code, r.caller) for r in log.records()] == [
        ("StopContainer", "c", "OK", "?"), ("StartContainer", "d", "", "?"),
    ]
    assert notes == []


def test_what_its_caller_told_is_not_told_again(runtime: tuple[int, Path]) -> None:
    pid, path = runtime
    log = CallLog()
    with external_calls.listening(Machine(), pid, log):
        number = log.begin("/runtime.v1.RuntimeService/StopContainer", pb.StopContainerRequest(container_id="c"))
        for _ in range(2):  # another program asks for the same
            say(path, 'StopContainer for \\"c\\" with timeout 0 (s)')
        for _ in range(2):
            say(path, 'StopContainer for \\"c\\" returns successfully')
        log.end(number, "OK")
    assert [(r.caller, r.source, r.code) for r in log.records()] == [("labkit", "interceptor", "OK"), ("?", "log", "OK")]


def test_as_they_happen(runtime: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_calls, "POLL_S", 0.01)
    pid, path = runtime
    log = CallLog()
    with external_calls.listening(Machine(), pid, log, live=True):
        say(path, 'StartContainer for \\"d\\"')
        wait_for(log.records)
        assert log.records()[0].to_ns is None
        say(path, 'StartContainer for \\"d\\" returns successfully')
    assert [r.code for r in log.records()] == ["OK"]


@pytest.mark.parametrize(
    ("said", "asks"), [("journal _SYSTEMD_UNIT=containerd.service", "_SYSTEMD_UNIT=containerd.service"), ("console", None)]
)
def test_from_a_journal_or_a_console(said: str, asks: str | None) -> None:
    machine, log = Machine(said), CallLog()
    with external_calls.listening(machine, 1, log):
        machine.written = line('StartContainer for \\"d\\"')
    assert [r.method for r in log.records()] == ["StartContainer"]
    assert asks is None or (machine.asked[-1][0], machine.asked[-1][-1]) == ("journalctl", asks)


def test_where_no_log_can_be_had() -> None:
    log = CallLog()
    for machine in (Machine(""), Machine("console")):
        machine.runtime = "cri-o 1.37" if machine.said else machine.runtime
        machine.written = line('StartContainer for \\"d\\"')
        with external_calls.listening(machine, 1, log) as notes:
            pass
        assert (log.records(), notes) == ((), [])


def test_a_log_that_is_gone_at_the_end(runtime: tuple[int, Path]) -> None:
    pid, path = runtime
    with external_calls.listening(Machine(), pid, CallLog()) as notes:
        path.unlink()
    assert len(notes) == 1 and "other programs' calls are missing" in notes[0]


def test_a_clock_that_is_set(runtime: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    pid, _ = runtime
    offset = external_calls.wall_to_monotonic()
    with external_calls.listening(Machine(), pid, CallLog()) as notes:
        monkeypatch.setattr(external_calls, "wall_to_monotonic", lambda: offset - 60 * 10**9)
    assert notes == ["The clock was set during the recording: times of calls from the runtime's log may be wrong."]


def test_a_node_that_fails(runtime: tuple[int, Path]) -> None:
    class Broken(Machine):
        def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
            raise NodeError("The node is paused.", "Let it go on.")

    with external_calls.listening(Broken(), runtime[0], log := CallLog()) as notes:
        pass
    assert (log.records(), notes) == ((), [])


@pytest.mark.parametrize(
    ("before", "after", "by"), [("kubelet", "kubelet", "kubelet"), ("kubelet", "?", "?"), ("?", "kubelet", "?")]
)
def test_the_caller_is_who_was_connected_all_the_time(runtime: tuple[int, Path], before: str, after: str, by: str) -> None:
    pid, file = runtime
    answers = iter([before, after])
    with external_calls.listening(Machine(), pid, log := CallLog(), caller=lambda: next(answers)):
        say(file, 'StopContainer for \\"c1\\" with timeout 1 (s)')
    assert [record.caller for record in log.records()] == [by]
