"""When a probe is made: readiness as soon as its container runs, liveness and startup when their ticker ticks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from labkit.kubelet.containers.hooks import HookError
from labkit.kubelet.containers.probes import Probe, Prober


def probe(kind, **spec):
    return Probe("u", {"name": "app"}, kind, spec, "", since=100.0)


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_a_ticker_ticks_from_when_the_pod_came(kind):
    assert probe(kind).soon(100.5) == 9.5
    assert probe(kind, periodSeconds=4).soon(109.0) == 3.0
    assert probe(kind, periodSeconds=4).soon(112.0) == 4.0


def test_readiness_waits_for_no_tick():
    assert probe("readiness").soon(100.5) == 0.25


def test_results_count_in_a_row():
    failing = probe("liveness", failureThreshold=2)
    assert [failing.count(good) for good in (False, True, False, False)] == [None, True, None, False]


def test_a_probe_that_could_not_be_made_is_tried_three_times():
    tries = []

    def handler(*asked):
        tries.append(asked)
        raise HookError("invalid port number: 0")

    prober = SimpleNamespace(_handler=handler)
    with pytest.raises(HookError):
        Prober._tried(prober, probe("liveness"), None, "id")
    assert len(tries) == 3
