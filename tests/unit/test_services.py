"""When a program of the node that died is started again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from labkit.node.host.services import LONGEST_AFTER_ANSWER_S, LONGEST_S, OUTPUT_MOST, Service, limit_size


@pytest.mark.parametrize(("answered", "longest"), [(True, LONGEST_AFTER_ANSWER_S), (False, LONGEST_S)])
def test_who_keeps_dying_waits_but_not_long_where_it_answered_before(tmp_path: Path, answered: bool, longest: float) -> None:
    service = Service("short", lambda: ["true"], tmp_path / "output", lambda: None)
    shortest, longer = [], []  # by the clock before and after
    for _ in range(9):
        service.start()
        assert service.process
        service.process.wait()
        service.answered = answered
        before = time.monotonic()
        assert service.died()
        longer.append(service.not_before - before)
        shortest.append(service.not_before - time.monotonic())
    assert shortest[0] <= 0.0, "once is no habit"
    assert longest / 2 < longer[-1] and shortest[-1] <= longest


def test_a_log_is_cut_while_its_program_goes_on_writing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    limit_size(log)
    with log.open("ab") as program:
        program.write(b"x" * OUTPUT_MOST)
        program.flush()
        limit_size(log)
        assert log.stat().st_size == OUTPUT_MOST
        program.write(b"one too many")
        program.flush()
        limit_size(log)
        program.write(b"later")
    assert log.read_bytes() == b"later"
    older = (tmp_path / "log.1").stat()
    assert (older.st_size, older.st_mode & 0o777) == (OUTPUT_MOST + len(b"one too many"), 0o600)


@pytest.mark.parametrize(("on_term", "code"), [("exit 7", 7), (":", -signal.SIGKILL)], ids=["it ends", "it goes on"])
def test_a_program_is_asked_to_end_and_killed_where_it_does_not(tmp_path: Path, on_term: str, code: int) -> None:
    trapped = f"trap '{on_term}' TERM; echo ready; while :; do sleep 0.05; done"
    output = tmp_path / "output"
    service = Service("stubborn", lambda: ["sh", "-c", trapped], output, lambda: None)
    service.start()
    process = service.process
    assert process
    while "ready" not in output.read_text():
        assert process.poll() is None
        time.sleep(0.01)
    service.stop(grace_s=10.0 if code == 7 else 0.3)
    assert process.returncode == code and service.process is None
