"""Back-offs, durations, and how events are counted."""

from __future__ import annotations

import pytest

from labkit.kubelet.backoff import Backoff
from labkit.kubelet.go_format import go_code, go_duration
from labkit.kubelet.node.events import COMBINED, Correlator, ObjectEvent

POD = {"kind": "Pod", "namespace": "default", "name": "web", "uid": "u1", "apiVersion": "v1"}


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_delays_double_up_to_the_longest():
    clock = Clock()
    backoff = Backoff(10, 300, clock)
    seen = []
    for _ in range(8):
        backoff.next("k", clock.now)
        seen.append(backoff.seconds("k"))
    assert seen == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_delay_counts_from_the_end_of_the_container():
    clock = Clock()
    backoff = Backoff(10, 300, clock)
    assert backoff.left_since("k", clock.now) == 0
    backoff.next("k", clock.now)
    clock.now += 30
    assert backoff.left("k") == 0
    assert backoff.left_since("k", clock.now - 4) == 6


def test_ten_quiet_minutes_start_anew():
    clock = Clock()
    backoff = Backoff(10, 300, clock)
    backoff.next("k", clock.now)
    backoff.next("k", clock.now)
    clock.now += 601
    backoff.next("k", clock.now)
    assert backoff.seconds("k") == 10


def test_a_delay_is_taken_up_where_another_process_left_it():
    clock = Clock()
    backoff = Backoff(10, 300, clock)
    backoff.remember("k", 3, clock.now)
    assert backoff.seconds("k") == 40
    backoff.forget("k")
    assert backoff.seconds("k") == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.111, "111ms"), (1.5, "1.5s"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (3661.25, "1h1m1.25s")],
)
def test_durations_as_go_writes_them(seconds, text):
    assert go_duration(seconds) == text


@pytest.mark.parametrize(("code", "text"), [("NOT_FOUND", "NotFound"), ("UNKNOWN", "Unknown"), ("CANCELLED", "Canceled")])
def test_codes_as_go_names_them(code, text):
    assert go_code(code) == text


def event(message="m", time=1000.0, reason="BackOff", **about):
    return ObjectEvent({**POD, **about}, "Warning", reason, message, time)


def test_the_same_event_is_counted():
    correlator = Correlator()
    first = correlator.correlate(event())
    correlator.written(first, "web.1")
    second = correlator.correlate(event(time=1010.0))
    assert (first.count, first.name, second.count, second.name, second.first) == (1, "", 2, "web.1", 1000.0)


def test_another_container_or_message_is_another_event():
    correlator = Correlator()
    correlator.written(correlator.correlate(event(fieldPath="spec.containers{a}")), "web.1")
    assert correlator.correlate(event(fieldPath="spec.containers{b}")).name == ""
    assert correlator.correlate(event("other", fieldPath="spec.containers{a}")).name == ""


def test_more_than_ten_similar_events_are_combined():
    correlator = Correlator()
    writes = [correlator.correlate(event(f"number {n}")) for n in range(12)]
    assert [w.message.startswith(COMBINED) for w in writes] == [False] * 10 + [True] * 2
    assert writes[11].message == f"{COMBINED}number 11"
    assert correlator.correlate(event("number 3", time=1700.0)).message == "number 3"


def test_a_flood_is_cut_off_after_25_of_a_reason():
    correlator = Correlator()
    taken = [correlator.correlate(event(time=1000.0 + n)) is not None for n in range(30)]
    assert taken == [True] * 25 + [False] * 5
    assert correlator.correlate(event(reason="Pulled")) is not None
    assert correlator.correlate(event(time=1400.0)) is not None
