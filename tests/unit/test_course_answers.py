"""What checks decide where a live node cannot be brought to it at will: Pods of one second, unusual programs."""

from __future__ import annotations

from types import SimpleNamespace as Thing
from typing import Any

import pytest

from labkit.course.checks import lesson_06, pod_checks
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

