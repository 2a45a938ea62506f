"""What the kubelet writes to the API: nothing is left out because of old news, nothing is remembered of what is gone."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from labkit.kubelet.api import ApiClientError
from labkit.kubelet.node import status_manager as writer
from labkit.kubelet.node.status_manager import StatusManager

POD: dict[str, Any] = {"metadata": {"namespace": "default", "name": "web", "uid": "u1", "resourceVersion": "1"}}


class Api:
    """Keeps one Pod's status as the API does; what is in `refused` it answers in place of the next patches."""

    def __init__(self, *refused: ApiClientError) -> None:
        self.status: dict[str, Any] = {}
        self.version, self.refused = 1, list(refused)
        self.patched, self.deleted = threading.Semaphore(0), threading.Semaphore(0)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.refused:
            raise self.refused.pop(0)
        self.status, self.version = {**self.status, **body["status"]}, self.version + 1
        self.patched.release()
        return self.pod()

    def delete(self, path: str, body: dict[str, Any]) -> None:
        self.deleted.release()

    def pod(self) -> dict[str, Any]:
        return {"metadata": {**POD["metadata"], "resourceVersion": str(self.version)}, "status": dict(self.status)}


def test_a_watch_that_is_behind_hides_no_difference() -> None:
    api = Api()
    write = StatusManager(api)  # type: ignore[arg-type]
    write.start(lambda uid: None)
    write.set(POD, {"phase": "Running"})
    assert api.patched.acquire(timeout=60)
    late = api.pod()
    write.set(POD, {"phase": "Pending"})
    assert api.patched.acquire(timeout=60)
    write.seen(late)
    write.set(POD, {"phase": "Running"})
    assert api.patched.acquire(timeout=60), "the API was thought to have this status still"
    assert api.status == {"phase": "Running"}


def test_a_pod_whose_status_is_refused_can_still_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RETRY_S", 0.0)
    api = Api(ApiClientError(422, "Invalid", "no such phase"))
    write = StatusManager(api)  # type: ignore[arg-type]
    write.start(lambda uid: None)
    with write._wake:  # both are known before the writer takes either
        write.set(POD, {"phase": "?"})
        write.delete(POD)
    assert api.deleted.acquire(timeout=60)


def test_nothing_is_remembered_of_a_pod_that_is_gone() -> None:
    api = Api()
    write = StatusManager(api)  # type: ignore[arg-type]
    write.start(lambda uid: None)
    write.seen(POD)
    assert write.uids == {"u1"}
    write.forget("u1")
    assert write.uids == frozenset()
