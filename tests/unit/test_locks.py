"""What labs of one machine choose one after the other."""

from __future__ import annotations

import threading

import pytest

from labkit.node.state import locks


def test_a_second_lab_chooses_when_the_first_one_has_chosen() -> None:
    order: list[str] = []

    def second() -> None:
        with locks.machine_lock("test"):
            order.append("second")

    thread = threading.Thread(target=second)
    with locks.machine_lock("test"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_one_that_does_not_come_to_an_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "WITHIN_S", 0.05)
    with locks.machine_lock("test"), locks.machine_lock("test"), locks.machine_lock("other"):
        pass
