"""Figures of what a cluster says: capacity, cgroups, events, a Pod's statuses; and of requests answered meanwhile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labkit.figures import style
from labkit.figures.figure import Figure
from labkit.figures.flight.pod_lifecycle import pod_lifecycle
from labkit.figures.pods.capacity import capacity
from labkit.figures.pods.cgroup_tree import cgroup_tree
from labkit.figures.pods.cluster_model import CgroupLine, EventLine, PodRequest, Resource, StatusChange, amount, size, statuses
from labkit.figures.pods.event_log import event_log
from labkit.figures.runtime.load import Answer, Moment
from labkit.figures.runtime.requests_over_time import availability
from labkit.recording.flight import Flight
from labkit.recording.flight.data import Call
from tests.unit.test_views_flight_timeline import Paper

MS, MIB = 1_000_000, 2**20


def cpu(waiting: int, pods: int = 5) -> Resource:
    return Resource("cpu", 2000, 1800, tuple(PodRequest(f"web-{n}", 250) for n in range(pods)), (PodRequest("greedy", waiting),))


def shop_call(method: str, from_ms: int, to_ms: int, container: str | None = None, service: str = "RuntimeService") -> Call:
    return Call(service, method, from_ms * MS, to_ms * MS, "kubelet", "shop", container)


CALLS = (
    shop_call("RunPodSandbox", 30, 180),
    shop_call("PullImage", 190, 260, service="ImageService"),
    shop_call("CreateContainer", 262, 275, "app"),
    shop_call("StartContainer", 276, 340, "app"),
)
CHANGES = (
    StatusChange(0, "shop", "Pending"),
    StatusChange(12 * MS, "shop", "ContainerCreating"),
    StatusChange(20 * MS, "shop", "ContainerCreating"),
    StatusChange(30 * MS, "other", "Running"),
    StatusChange(460 * MS, "shop", "Running"),
)
EVENTS = (
    EventLine(1, "Normal", "Scheduled", "default-scheduler", "Successfully assigned default/shop to sim-worker", "shop"),
    EventLine(2, "Warning", "Failed", "kubelet", "Error: ErrImagePull", "shop", 3, "app"),
)
TREE = (
    CgroupLine(0, "kubepods", "kubepods"),
    CgroupLine(1, "burstable", "qos"),
    CgroupLine(2, "web", "pod", 256, 500, 64 * MIB, 30 * MIB),
    CgroupLine(3, "app", "container", 256, 500, 64 * MIB, 29 * MIB),
)
ANSWERS = tuple(Answer(n * 10 * MS, MS, "new" if n % 2 else "kept") for n in range(100))


def test_capacity_says_who_does_not_fit_and_of_what_there_is_too_little() -> None:
    figure = capacity([cpu(800), Resource("memory", 8 * 2**30, 7 * 2**30)], node="sim-worker")
    assert "greedy does not fit on sim-worker: more cpu" in figure.alt
    assert "greedy waits: its request does not fit." in figure.alt
    assert "web-0, web-1, web-2, web-3 and web-4" in figure.alt


def test_capacity_compares_with_free_not_with_capacity() -> None:
    assert "does not fit" in capacity([cpu(551)]).alt
    assert "does not fit" not in capacity([cpu(550)]).alt


def test_capacity_says_the_same_on_a_machine_of_another_size() -> None:
    large = replace(cpu(8000), capacity=9000, allocatable=8800)
    assert capacity([large]).alt == capacity([cpu(800)]).alt


def test_amounts_are_written_as_people_write_them() -> None:
    assert [amount("cpu", 250), amount("memory", 64 * MIB), amount("pods", 110)] == ["250m", "64 MiB", "110"]
    assert [size(512), size(1536), size(3 * 2**30)] == ["512 B", "1.5 KiB", "3 GiB"]


def test_a_lifecycle_has_each_status_once_and_the_calls_before_the_last() -> None:
    assert statuses(CHANGES, "shop") == ("Pending", "ContainerCreating", "Running")
    late = shop_call("StopPodSandbox", 500, 600)
    text = pod_lifecycle(CHANGES, Flight(calls=(*CALLS, late))).alt
    assert "Pending → ContainerCreating → Running" in text
    assert "RunPodSandbox, PullImage, CreateContainer app, StartContainer app." in text and "StopPodSandbox" not in text


def test_a_lifecycle_of_a_pod_that_nobody_saw_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        pod_lifecycle(CHANGES, Flight(), pod="nobody")


def test_events_are_told_without_counts_and_times() -> None:
    other = [replace(e, at=e.at + 7, count=e.count + 2) for e in EVENTS]
    assert event_log(EVENTS).alt == event_log(other).alt
    assert "shop: Warning Failed from kubelet about app" in event_log(EVENTS).alt


def test_the_event_that_says_why_is_large() -> None:
    told = "Failed to pull image: not found"
    why = EventLine(3, "Warning", "Failed", "kubelet", told, "shop", 2, "app")
    later = EventLine(4, "Normal", "BackOff", "kubelet", "Back-off pulling image, for much longer than that", "shop")
    earlier = EventLine(0, "Warning", "FailedScheduling", "default-scheduler", "0/1 nodes are available, and much more", "shop")
    large = []

    class Sheet(Paper):
        def text(self, x, y, words, size=style.BODY, colour="text", bold=False, align="left"):  # type: ignore[no-untyped-def]
            large.extend([words] if size == style.LARGE else [])

    Sheet(event_log([*EVENTS, why, later, earlier]))
    assert large == [f"app: {told}"]
    large.clear()
    Sheet(event_log(EVENTS[:1]))
    assert large == [], "where nothing went wrong nothing decides"


def test_cgroups_tell_limits_and_their_place_not_what_is_used() -> None:
    text = cgroup_tree(TREE).alt
    assert "      app: cpu limit 500m, memory limit 64 MiB" in text
    assert text == cgroup_tree([replace(line, memory_used=1, cpu_weight=7) for line in TREE]).alt


def test_availability_says_whether_a_request_failed_and_on_which_connection() -> None:
    moments = [Moment(300 * MS, "SIGKILL", None, "away"), Moment(500 * MS, "start", 600 * MS, "1.7.24")]
    assert "No request failed through: SIGKILL, start" in availability(ANSWERS, moments).alt
    broken = (*ANSWERS[:50], replace(ANSWERS[50], error="refused"), *ANSWERS[51:])
    text = availability(broken, moments).alt
    assert "Some requests failed" in text and "Without an answer: kept." in text


def test_availability_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="No request"):
        availability([])


@pytest.mark.parametrize("width", [420, 860])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_each_can_be_drawn(tmp_path: Path, theme: str, width: float) -> None:
    drawn: list[Figure] = [
        capacity([cpu(800)], width=width),
        pod_lifecycle(CHANGES, Flight(calls=CALLS), width=width),
        event_log(EVENTS, width=width),
        cgroup_tree(TREE, width=width),
        availability(ANSWERS, [Moment(0, "", None, "1.6.20")], width=width),
        capacity([]),
        event_log([]),
        cgroup_tree([]),
    ]
    for number, figure in enumerate(drawn):
        assert figure.save(tmp_path / f"{number}.png", theme).stat().st_size > 1000
