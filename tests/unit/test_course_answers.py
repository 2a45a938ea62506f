"""What checks decide where a live node cannot be brought to it at will: Pods of one second, unusual programs."""

from __future__ import annotations

from types import SimpleNamespace as Thing
from typing import Any

import pytest

from labkit.course.checks import lesson_06, lesson_07, pod_checks
from labkit.course.incident.broken import fails_at_first
from labkit.cri.v1.api_pb2 import CONTAINER_EXITED
from labkit.figures.pods.cluster_model import Resource

FIRST, SECOND = 100, 200
"""When a container was created."""


def node_with(**pods: tuple[int, int]) -> Any:
    """A node with Pods that were created in that second, and whose container in that nanosecond."""
    metadata = [Thing(metadata=Thing(name=name, creation_timestamp=second)) for name, (second, _) in pods.items()]
    snapshots = [Thing(name=name, containers=[Thing(created_ns=ns)]) for name, (_, ns) in pods.items()]
    return Thing(
        kube=Thing(list_pod_for_all_namespaces=lambda: Thing(items=metadata)), pods=lambda others: snapshots,
    )


def cpu(free: int, **requests: int) -> Resource:
    return Thing(free=free, requests=[Thing(pod=name, amount=amount) for name, amount in requests.items()])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("older", "exact", "younger"),
    [
        ((1, FIRST), (2, SECOND), []),
        ((2, SECOND), (1, FIRST), ["filler"]),
        ((1, FIRST), (1, SECOND), []),
        ((1, SECOND), (1, FIRST), ["filler"]),
    ],
    ids=["a second before", "a second after", "before in the same second", "after in the same second"],
)
def test_what_came_before_exact_was_not_free_then(older: tuple[int, int], exact: tuple[int, int], younger: list[str]) -> None:
    node, found = node_with(filler=older, exact=exact), cpu(0, filler=700, exact=300)
    assert lesson_06.request_and_free(node, found) == (300, 1000 if younger else 300, younger)


@pytest.mark.parametrize(
    "argv",
    [
        ("sleep", "5"), ("busybox", "sleep", "inf"), ("httpd", "-f"), ("sh", "-c", "sleep 1d"),
        ("/bin/sh", "-c", "while true; do sleep 1000; done"), ("busybox", "sh", "-c", "exec sleep 5"),
    ],
)
def test_a_program_that_starts_no_other(argv: tuple[str, ...]) -> None:
    assert pod_checks.starts_no_other(argv)


@pytest.mark.parametrize(
    "argv",
    [
        ("sh", "-c", "sleep 5 & sleep 6"), ("sh", "-c", "httpd; sleep 5"), ("sh", "/start"),
        ("sh", "-c", "setsid sleep 5; sleep 6"),
    ],
)
def test_a_program_that_may_leave_another_behind(argv: tuple[str, ...]) -> None:
    assert not pod_checks.starts_no_other(argv)


def ended(attempt: int, code: int) -> Any:
    return Thing(
        id=str(attempt), metadata=Thing(attempt=attempt), state=CONTAINER_EXITED, exit_code=code, created_at=2 * attempt,
        finished_at=2 * attempt + 1,
    )


@pytest.mark.parametrize(
    ("name", "left", "says"),
    [
        ("stubborn", [ended(3, 3)], ""),
        ("stubborn", [ended(0, 3)], "was started once"),
        ("once", [ended(0, 3)], ""),
        ("once", [ended(1, 3)], "was started 2 times"),
    ],
)
def test_a_kubelet_may_remove_old_attempts(monkeypatch: pytest.MonkeyPatch, name: str, left: list[Any], says: str) -> None:
    monkeypatch.setattr(lesson_07, "containers", lambda node, pod: left)
    verdict = lesson_07.judged(Thing(), next(pod for pod in lesson_07.PODS if pod.name == name))  # type: ignore[arg-type]
    assert (says and says in verdict.saw) if verdict else not says


@pytest.mark.parametrize(
    ("program", "says"), [(fails_at_first(), ""), (["sh", "-c", "exit 0"], "the program of moody is sh -c"), ([], "")]
)
def test_moody_runs_the_program_that_nobody_can_foresee(monkeypatch: pytest.MonkeyPatch, program: list[str], says: str) -> None:
    monkeypatch.setattr(lesson_07, "argv_of", lambda node, container: tuple(program))
    verdict = lesson_07.stopped_when_it_succeeded(Thing(), [ended(0, 1), ended(1, 0)])  # type: ignore[arg-type]
    assert (says and says in verdict.saw) if verdict else not says
