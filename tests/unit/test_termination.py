"""Ending processes: each is asked first, and killed when it does not heed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from labkit.util.termination import end_child, signal_all, terminate

POLITE = "echo ready; exec sleep 600"
DEAF = "trap '' TERM; echo ready; while :; do sleep 600; done"


def started(script: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


@pytest.fixture(params=[POLITE, DEAF], ids=["polite", "deaf"])
def process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    process = started(request.param)
    yield process
    with process, contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and the shell's own sleep


@pytest.mark.parametrize("process", [POLITE], indirect=True)
def test_a_child_that_heeds_sigterm_is_not_killed(process: subprocess.Popen[bytes]) -> None:
    assert end_child(process, 60.0) is True and process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("process", [DEAF], indirect=True)
def test_a_child_that_ignores_sigterm_is_killed(process: subprocess.Popen[bytes]) -> None:
    assert end_child(process, 0.05) is False and process.returncode == -signal.SIGKILL


def test_a_process_is_ended_whether_it_heeds_or_not(process: subprocess.Popen[bytes]) -> None:
    assert terminate(lambda: process.pid, lambda: process.poll() is not None, 0.05) is True


def test_a_pid_that_is_not_known_yet_is_asked_for_again(process: subprocess.Popen[bytes]) -> None:
    pids = iter([None, None])
    assert terminate(lambda: next(pids, process.pid), lambda: process.poll() is not None, 0.2) is True


def test_what_has_ended_is_no_error(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    signal_all([process.pid], signal.SIGTERM)


def test_what_never_goes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.util.termination.KILLED_WITHIN_S", 0.02)
    assert terminate(lambda: None, lambda: False, 0.02) is False
