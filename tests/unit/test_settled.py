"""A look at a node's Pods waits while a container's process is still runc's, and not for one that was not started."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.node.observe import pod_processes

INIT = PodProcess(11, 10, "runc", "runc:[2:INIT]", "web", {})
PROGRAM = replace(INIT, role="application", comm="httpd")
PAUSE = PodProcess(9, 10, "pause", "pause", None, {})


def pod(*members: PodProcess, state: str = "Running") -> PodSnapshot:
    containers = (PodContainer("web", "c", state, 0, "", 11),)
    return PodSnapshot("shop", "default", "u", "s", "Ready", "", members, containers=containers)


def seen(*looks: PodSnapshot) -> tuple[PodSnapshot, int]:
    """The Pod that is returned when the Pod is seen so one time after another, and how often it was looked at."""
    read_at: list[Any] = []

    def read(snapshot: Any) -> tuple[PodSnapshot, ...]:
        read_at.append(snapshot)
        return (looks[min(len(read_at), len(looks)) - 1],)

    kernel: Any = SimpleNamespace(snapshot=lambda fds, programs: None)
    (found,) = pod_processes.settled(kernel, SimpleNamespace(read=read))[1]  # type: ignore[arg-type]
    return found, len(read_at)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (pod(PAUSE, INIT), pod(PAUSE, PROGRAM)),
        (pod(replace(PAUSE, comm="runc:[2:INIT]")), pod(PAUSE)),
        (pod(PAUSE, replace(INIT, comm="youki:[2:INIT]")), pod(PAUSE, PROGRAM)),
    ],
)
def test_a_container_becomes_its_program(before: PodSnapshot, after: PodSnapshot) -> None:
    assert seen(before, before, after) == (after, 3)


def test_a_container_that_was_not_started_is_not_waited_for() -> None:
    created = pod(PAUSE, INIT, state="Created")
    assert seen(created, pod(PAUSE, PROGRAM)) == (created, 1)


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod_processes, "SETTLED_WITHIN_S", 0.0)
    assert seen(pod(PAUSE, INIT))[0] == pod(PAUSE, INIT)
