"""Commands that labkit runs for a node or a learner: their exit codes and time limits are not lost."""

from __future__ import annotations

import pytest

from labkit.cli.record_command import run_for
from labkit.node import NodeError
from labkit.node.host.access import run_local

LONG = ["sleep", "10"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (LONG, "sleep did not end within 0 s"),
        (["sh", "-c", "echo why >&2; exit 3"], "sh exited with code 3: why"),
        (["no-such-program"], "has no program no-such-program"),
    ],
    ids=["too long", "failed", "missing"],
)
def test_a_command_on_this_machine_that_fails_is_an_error(argv: list[str], words: str) -> None:
    with pytest.raises(NodeError, match=words):
        run_local(argv, 0.2)


def test_a_command_on_this_machine_gives_its_output() -> None:
    assert run_local(["sh", "-c", "echo out; echo err >&2"], 10) == "out\n"


@pytest.mark.parametrize(
    ("command", "seconds", "code"),
    [
        (["true"], None, 0),
        (["sh", "-c", "exit 3"], None, 3),
        (["sh", "-c", "kill -KILL $$"], None, 128 + 9),
        (LONG, 0.2, 128 + 15),
    ],
    ids=["success", "failure", "killed", "too long"],
)
def test_a_recorded_command_passes_its_exit_code_on(command: list[str], seconds: float | None, code: int) -> None:
    assert run_for(command, seconds, {}) == code
