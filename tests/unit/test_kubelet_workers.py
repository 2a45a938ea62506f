"""When the kubelet forgets a Pod: not before all of it is removed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from labkit.cri import CriError
from labkit.kubelet.kubelet import Kubelet
from labkit.kubelet.runtime import PodRuntime
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
            raise CriError("RemoveContainer", "UNKNOWN", "container is in starting state, can't be removed")
        worker.gone = True

    syncing: Any = SimpleNamespace(sync=sync, cri=None, volumes=None, configuration=SimpleNamespace(logs=None))
    kubelet = Kubelet("node", None, syncing, None, None, {})  # type: ignore[arg-type]
    kubelet.workers["u1"] = worker
    kubelet._sync(worker)
    assert kubelet.workers == {"u1": worker} and worker.due > 0
    kubelet._sync(worker)
    assert kubelet.workers == {}
