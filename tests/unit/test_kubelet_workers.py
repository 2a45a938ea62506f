"""When the kubelet looks at a Pod again, and when it forgets it: not before all of it is removed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from cri_api.v1 import api_pb2 as pb

from labkit.cri import CriError
from labkit.kubelet.kubelet import Kubelet
from labkit.kubelet.pleg import Listed
from labkit.kubelet.runtime import PodRuntime, Runtime
from labkit.kubelet.worker import Worker
from tests.unit.kubelet_pods import pod


def test_a_deleted_pod_of_which_something_cannot_be_removed_yet_is_looked_at_again() -> None:
    manifest = pod()
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    worker = Worker("u1", manifest, PodRuntime("u1"), {}, ended=True)
    tries: list[str] = []

    def sync(worker: Any) -> None:
        tries.append(worker.uid)
        if len(tries) == 1:
            raise CriError("RemoveContainer", "UNKNOWN", "container is in starting state, can't be removed", "")
        worker.gone = True

    syncing: Any = SimpleNamespace(sync=sync, cri=None, volumes=None, configuration=SimpleNamespace(logs=None))
    kubelet = Kubelet("node", None, syncing, None, None, {})  # type: ignore[arg-type]
    kubelet.workers["u1"] = worker
    kubelet._sync(worker)
    assert kubelet.workers == {"u1": worker} and worker.due > 0
    kubelet._sync(worker)
    assert kubelet.workers == {}


@pytest.mark.parametrize(("read_again", "looks"), [(False, ["u1"]), (True, [])])
def test_what_changed_while_a_pod_was_synced_is_looked_at_afterwards(read_again: bool, looks: list[str]) -> None:
    """The list comes in the middle of a sync that has read the runtime already, and may or may not read it once more."""
    box = pb.PodSandbox(id="box", metadata=pb.PodSandboxMetadata(uid="u1"), state=pb.SANDBOX_READY)
    pleg = SimpleNamespace(listed=Listed())
    worker = Worker("u1", pod(), PodRuntime("u1"), {}, busy=True)

    def sync(worker: Any) -> None:
        worker.runtime = PodRuntime("u1", at=time.monotonic())
        pleg.listed = Listed({"u1": [box]}, {}, time.monotonic())
        kubelet.on_relist("u1")
        if read_again:
            worker.runtime = PodRuntime("u1", at=time.monotonic())

    syncing: Any = SimpleNamespace(
        sync=sync, cri=None, volumes=None, configuration=SimpleNamespace(logs=None), runtime=Runtime(None)  # type: ignore[arg-type]
    )
    kubelet = Kubelet("node", None, syncing, pleg, None, {})  # type: ignore[arg-type]
    kubelet.workers["u1"] = worker
    kubelet._sync(worker)
    assert list(kubelet._looks.queue) == looks


def test_a_pod_that_is_gone_is_forgotten_by_those_who_write_of_it() -> None:
    forgotten: list[str] = []
    writer = SimpleNamespace(forget=forgotten.append, uids=frozenset({"u1"}))
    syncing: Any = SimpleNamespace(cri=None, volumes=None, configuration=SimpleNamespace(logs=None), writer=writer)
    kubelet = Kubelet("node", None, syncing, None, None, {})  # type: ignore[arg-type]
    kubelet.on_event("DELETED", pod())
    assert forgotten == ["u1"]
    kubelet.on_list([])
    assert forgotten == ["u1", "u1"]
