"""How a Pod's containers are stopped: with which grace period, in which order, and who is told."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.kubelet.core.pod_state import PodState
from labkit.kubelet.core.stopping import LEAST_S, Stopping
from labkit.kubelet.pod.pod_runtime import EXITED
from tests.unit.kubelet_pods import attempt, container, pod, runtime
from tests.waits import WITHIN_S


class Cri:
    """A runtime that keeps the StopContainer calls, and ends a container at once."""

    def __init__(self) -> None:
        self.stopped: list[tuple[str, int]] = []

    def stop_container(self, *, container_id: str, timeout: int) -> None:
        self.stopped.append((container_id, timeout))


def stopping(cri: Cri, events: list[tuple[str, str]]) -> Stopping:
    def pod_event(pod: Any, kind: str, reason: str, message: str, path: str = "") -> None:
        events.append((reason, path))

    recorder: Any = SimpleNamespace(pod_event=pod_event)
    client: Any = cri
    return Stopping(client, recorder)


@pytest.mark.parametrize(("asked", "given"), [(0, LEAST_S), (1, LEAST_S), (30, 30), (600, 600)])
def test_a_container_has_its_grace_period_and_a_least_time(asked: int, given: int) -> None:
    cri, events = Cri(), []
    stopping(cri, events).stop_containers(PodState("u1", pod(), runtime(attempt()), {}), asked)
    assert cri.stopped == [("app0", given)]
    assert events == [("Killing", "spec.containers{app}")]


def test_sidecars_are_stopped_last_in_reverse_order_and_what_has_ended_is_left_alone() -> None:
    cri, events = Cri(), []
    sidecars = [container(name, restartPolicy="Always") for name in ("first", "second")]
    held = runtime(attempt("app"), attempt("first"), attempt("second"), attempt("done", state=EXITED))
    manifest = pod(container(), container("done"), initContainers=sidecars)
    stopping(cri, events).stop_containers(PodState("u1", manifest, held, {}), 30)
    assert [name for name, _ in cri.stopped] == ["app0", "second0", "first0"]


def test_hooks_of_sidecars_run_while_the_others_are_stopped() -> None:
    """killContainersWithSyncResult stops all at once; before its own StopContainer, a sidecar waits for its turn."""
    ran = threading.Event()

    class Waiting(Cri):
        def exec_sync(self, **_: Any) -> Any:
            ran.set()
            return SimpleNamespace(exit_code=0)

        def stop_container(self, *, container_id: str, timeout: int) -> None:
            assert ran.wait(WITHIN_S)
            super().stop_container(container_id=container_id, timeout=timeout)

    cri, events = Waiting(), []
    sidecar = container("log", restartPolicy="Always", lifecycle={"preStop": {"exec": {"command": ["true"]}}})
    manifest = pod(container(), initContainers=[sidecar])
    stopping(cri, events).stop_containers(PodState("u1", manifest, runtime(attempt("app"), attempt("log")), {}), 30)
    assert [name for name, _ in cri.stopped] == ["app0", "log0"]
    assert sorted(events) == [("Killing", "spec.containers{app}"), ("Killing", "spec.initContainers{log}")]


def test_a_sidecar_waits_no_longer_than_the_grace_period_nor_for_what_fails() -> None:
    class Failing(Cri):
        def stop_container(self, *, container_id: str, timeout: int) -> None:
            super().stop_container(container_id=container_id, timeout=timeout)
            if container_id == "app0":
                raise CriError("StopContainer", "UNKNOWN", "no", "")

    cri = Failing()
    manifest = pod(container(), initContainers=[container("log", restartPolicy="Always")])
    with pytest.raises(CriError):
        stopping(cri, []).stop_containers(PodState("u1", manifest, runtime(attempt("app"), attempt("log")), {}), 30)
    assert [name for name, _ in cri.stopped] == ["app0", "log0"]


def test_of_the_killing_of_a_container_is_told_once() -> None:
    cri, events = Cri(), []
    state = PodState("u1", pod(), runtime(attempt()), {})
    for grace in (30, 5):
        stopping(cri, events).stop_containers(state, grace)
    assert len(events) == 1 and cri.stopped == [("app0", 30), ("app0", 5)]
