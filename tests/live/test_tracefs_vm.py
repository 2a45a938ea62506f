"""The tracer of a kernel with kprobes, in a virtual machine: it tells what the script that ran there did, in its order."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from labkit.kernel.events.stream import Event
from labkit.kernel.events.tracefs import ARGUMENTS, watch_tracefs
from tests.conftest import CI
from tests.standin import vm

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root; CI runs it"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the kernel that is brought is for x86-64"),
]

WORKLOAD = """
/bin/true one "two  words" '' "two
lines" last
/bin/sh -c 'exit 7'
/bin/sh -c 'kill -TERM $$'
(/bin/false; exit 4)
/bin/sh -c '/bin/sleep 0.05 & exec /bin/sh -c "exec /bin/sleep 0.2"'
/bin/echo 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25
exec /bin/sleep 0.1
"""
Told = tuple[str, tuple[str, ...], int | None, int | None]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for machine in started:
        if machine.poll() is None:
            os.killpg(machine.pid, 9)
            machine.wait()


def test_the_tracer_tells_what_a_script_did(tmp_path: Path, machines: list[subprocess.Popen[str]]) -> None:
    def popen(argv: Sequence[str]) -> subprocess.Popen[str]:
        machines.append(vm.popen(argv, tmp_path, WORKLOAD))
        return machines[0]

    stream = watch_tracefs(popen)
    assert "no kprobes" not in stream.precision
    machines[0].stdin.write(f"{vm.RUN}\n")
    machines[0].stdin.flush()
    events: list[Event] = []
    root = 0
    for event in stream:
        events.append(event)
        if event.kind == "exec" and event.argv == ("sh", "/workload"):
            root = event.pid
        if event.kind == "exit" and event.pid == root:
            break
    events += stream.stop()
    assert (stream.lost, stream.error) == (0, None)
    assert [event.at_ns for event in events] == sorted(event.at_ns for event in events)
    children = [event.pid for event in events if event.kind == "fork" and event.ppid == root]
    assert [story(events, pid) for pid in (root, *children)] == [
        [("exec", ("sh", "/workload"), None, None), ("exec", ("/bin/sleep", "0.1"), None, None), ("exit", (), 0, None)],
        ran("/bin/true", "one", "two  words", "", "two\nlines", "last"),
        ran("/bin/sh", "-c", "exit 7", code=7),
        ran("/bin/sh", "-c", "kill -TERM $$", signal=15),
        [("exit", (), 4, None)],
        [
            ("exec", ("/bin/sh", "-c", '/bin/sleep 0.05 & exec /bin/sh -c "exec /bin/sleep 0.2"'), None, None),
            ("exec", ("/bin/sh", "-c", "exec /bin/sleep 0.2"), None, None),
            *ran("/bin/sleep", "0.2"),
        ],
        ran("/bin/echo", *map(str, range(1, ARGUMENTS))),  # as many arguments as are fetched
    ]
    grandchildren = [event.pid for event in events if event.kind == "fork" and event.ppid in (children[3], children[4])]
    assert [story(events, pid) for pid in grandchildren] == [ran("/bin/false", code=1), ran("/bin/sleep", "0.05")]
    # One after the other, as the script waits for each.
    ends = [next(event.at_ns for event in events if event.kind == "exit" and event.pid == pid) for pid in children]
    begins = [next(event.at_ns for event in events if event.kind == "fork" and event.pid == pid) for pid in children]
    assert all(end < begin for end, begin in zip(ends, begins[1:], strict=False))


def story(events: Sequence[Event], pid: int) -> list[Told]:
    return [(e.kind, e.argv, e.exit_code, e.signal) for e in events if e.pid == pid and e.kind in ("exec", "exit")]


def ran(*argv: str, code: int = 0, signal: int | None = None) -> list[Told]:
    return [("exec", argv, None, None), ("exit", (), None if signal else code, signal)]
