"""When a program of the node that died is started again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from labkit.node.services import LONGEST_AFTER_ANSWER_S, LONGEST_S, Service


@pytest.mark.parametrize(("answered", "longest"), [(True, LONGEST_AFTER_ANSWER_S), (False, LONGEST_S)])
def test_who_keeps_dying_waits_but_not_long_where_it_answered_before(tmp_path: Path, answered: bool, longest: float) -> None:
    service = Service("short", lambda: ["true"], tmp_path / "output", lambda: None)
    waits = []
    for _ in range(9):
        service.start()
        assert service.process
        service.process.wait()
        service.answered = answered
        assert service.died()
        waits.append(max(service.not_before - time.monotonic(), 0.0))
    assert waits[0] == 0.0, "once is no habit"
    assert longest / 2 < waits[-1] <= longest
