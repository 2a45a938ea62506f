"""When the kubelet looks at a Pod again, and when it forgets it: not before all of it is removed."""

from __future__ import annotations

import copy
import time
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.core.kubelet import FAILED_RETRY_LONGEST_S, PASSES_WITHIN, Kubelet, read_pod
from labkit.kubelet.pod.pleg import Listed
from labkit.kubelet.pod.runtime import PodRuntime, Runtime
from labkit.kubelet.pod.worker import Worker
from tests.unit.kubelet_pods import container, pod


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


def kubelet_of(sync: Any, told: list[tuple[str, ...]], **more: Any) -> Kubelet:
    """A kubelet that syncs so, and whose events are taken down."""
    recorder = SimpleNamespace(
        pod_event=lambda pod, type, reason, message: told.append((reason, message)),
        event=lambda thing, type, reason, message: told.append((reason, message)),
    )
    writer = SimpleNamespace(seen=lambda pod: None, set=lambda pod, status: told.append((status["reason"], status["message"])))
    configuration = SimpleNamespace(logs=None)
    syncing: Any = SimpleNamespace(
        sync=sync, cri=None, volumes=None, configuration=configuration, recorder=recorder, report=lambda w: "", writer=writer,
        state=SimpleNamespace(strict_groups=True),
    )  # fmt: skip
    return Kubelet("node", None, syncing, **{"pleg": None, "housekeeping": None, "node": {}, **more})  # type: ignore[arg-type]


def test_an_exception_in_a_sync_is_told_tried_again_later_and_later_and_forgotten_when_it_is_over() -> None:
    told: list[tuple[str, ...]] = []
    broken = True

    def sync(worker: Any) -> None:
        if broken:
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    kubelet, worker = kubelet_of(sync, told), Worker("u1", pod(), PodRuntime("u1"), {})
    kubelet.workers["u1"] = worker
    for wait in (10, 20, 40, 80, 160, *[FAILED_RETRY_LONGEST_S] * 3):
        before = time.monotonic()
        kubelet._sync(worker)
        assert not worker.busy
        assert before + wait <= worker.due <= time.monotonic() + wait
    words = "error syncing pod, skipping: UnicodeEncodeError: 'utf-8' codec can't encode character '\\x78' in position 0"
    assert told[0] == ("FailedSync", f"{words}: surrogates not allowed") and worker.reasons == {"app": told[0]}
    broken = False
    kubelet._sync(worker)
    assert worker.reasons == {} and worker.failures == 0


def test_calls_that_the_runtime_refuses_for_long_are_told_unless_it_is_down() -> None:
    told: list[tuple[str, ...]] = []
    error = CriError("ListContainers", "UNAVAILABLE", "gone", "")

    def sync(worker: Any) -> None:
        raise error

    kubelet, worker = kubelet_of(sync, told), Worker("u1", pod(), PodRuntime("u1"), {})
    for _ in range(3):
        kubelet._sync(worker)
    assert told == []
    error = CriError("ListContainers", "INTERNAL", "broken", "")
    for _ in range(PASSES_WITHIN):
        kubelet._sync(worker)
    assert told == [] and worker.due - time.monotonic() < 3
    kubelet._sync(worker)
    kubelet._sync(worker)
    assert told == [("FailedSync", "error syncing pod, skipping: rpc error: code = Internal desc = broken")] * 2


def test_a_pod_that_cannot_be_taken_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rejected in words, and the others are heard of."""
    told: list[tuple[str, ...]] = []
    kubelet = kubelet_of(None, told)
    kubelet.pods_sync.writer.uids = frozenset()  # type: ignore[misc]

    def admit(manifest: Any, *others: Any, **more: Any) -> None:
        if manifest["metadata"]["name"] == "bad":
            raise KeyError("spec")

    monkeypatch.setattr("labkit.kubelet.core.kubelet.admit", admit)
    bad, good = pod(), pod()
    bad["metadata"] |= {"name": "bad", "uid": "u0", "resourceVersion": "1"}
    kubelet.on_list([bad, {**good, "metadata": {**good["metadata"], "resourceVersion": "1"}}])
    assert list(kubelet.workers) == ["u1"]
    assert told[0] == ("UnexpectedAdmissionError", "this kubelet cannot run the Pod: KeyError: 'spec'")
    assert told[1] == ("UnexpectedAdmissionError", "Pod was rejected: this kubelet cannot run the Pod: KeyError: 'spec'")


def test_a_chore_that_fails_is_told_and_keeps_no_other_from_being_done() -> None:
    told: list[tuple[str, ...]] = []
    done: list[str] = []

    def remove_orphan(listed: Any, uid: str) -> None:
        done.append(uid)
        if uid == "bad":
            raise TypeError("no such thing")

    keep = SimpleNamespace(
        orphans=lambda listed, known: ["bad", "good"],
        remove_orphan=remove_orphan,
        stale_traces=lambda owned: [],
        collect=lambda listed, wanted: done.append("collect"),
        forget_marks=lambda listed, known: None,
        rotate_logs=lambda listed: done.append("rotate"),
    )
    kubelet = kubelet_of(None, told, pleg=SimpleNamespace(listed=Listed()), housekeeping=keep)
    kubelet._listed = True
    kubelet.sweep()
    assert done == ["bad", "good", "collect", "rotate"] and told == [("ContainerGCFailed", "TypeError: no such thing")]


def test_the_loop_goes_on_after_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet = kubelet_of(None, [])
    seen: list[str] = []

    def look(uid: str) -> None:
        seen.append(uid)
        if len(seen) == 1:
            raise ValueError("once")
        raise SystemExit

    monkeypatch.setattr(kubelet, "look", look)
    monkeypatch.setattr(kubelet, "_try_relist", lambda: True)
    monkeypatch.setattr("labkit.kubelet.core.kubelet.Informer", lambda *given, **more: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr("labkit.kubelet.core.kubelet.RUNTIME_RETRY_S", 0.0)
    kubelet.pleg = SimpleNamespace(start=lambda: None, listed=Listed())  # type: ignore[assignment]
    kubelet.wants("a")
    kubelet.wants("b")
    with pytest.raises(SystemExit):
        kubelet.run()
    assert seen == ["a", "b"]


def test_the_nodes_taints_are_those_that_the_api_has_now() -> None:
    told: list[tuple[str, ...]] = []
    kubelet = kubelet_of(lambda worker: None, told)
    taint = {"key": "gpu", "effect": "NoExecute"}
    kubelet.on_node("MODIFIED", {"metadata": {"name": "node", "labels": {}}, "spec": {"taints": [taint]}})
    kubelet.known(pod())
    assert [reason for reason, _ in told] == ["TaintToleration", "TaintToleration"] and not kubelet.workers
    kubelet.on_node("MODIFIED", {"metadata": {"name": "node"}, "spec": {}})
    kubelet.known(pod())
    assert len(told) == 2 and kubelet.workers


def test_a_pod_that_an_older_labkit_stored_gets_the_defaults_of_today() -> None:
    stored = {"metadata": {"name": "web", "namespace": "default", "uid": "u1"},
              "spec": {"nodeName": "node", "containers": [{"name": "app", "image": "i"}]}}  # fmt: skip
    before = copy.deepcopy(stored)
    spec = read_pod(stored)["spec"]
    wanted = pod(container(image="i"), nodeName="node")["spec"]
    assert stored == before and spec == {name: wanted[name] for name in wanted if name != "serviceAccountName"}
