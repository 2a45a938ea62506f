"""What is shown of work whose steps would give something away."""

from __future__ import annotations

import pytest

from labkit.util import progress


def test_a_summary_is_all_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.summary("making the incident"):
        with progress.shown() as show:
            show("breaking the network")
        progress.wait("the sandbox fails", lambda: True, 1)
    with progress.shown() as show:
        show("another work")
    assert capsys.readouterr().err == "labkit: making the incident\nlabkit: another work\n"
