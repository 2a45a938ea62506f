"""When the kubelet syncs a Pod again, and when it forgets it: not before all of it is removed."""

from __future__ import annotations

import copy
import time
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.cleanup.housekeeping import Housekeeping
from labkit.kubelet.cleanup.loop import CleanupLoop
from labkit.kubelet.core.kubelet import FAILED_RETRY_LONGEST_S, PASSES_WITHIN, RUNTIME_RETRY_S, Kubelet, read_pod
from labkit.kubelet.core.pleg import RuntimeList
from labkit.kubelet.core.pod_state import PodProgress, PodStage, PodState
from labkit.kubelet.core.work_queue import WorkQueue
from labkit.kubelet.node.admission import Admission
from labkit.kubelet.pod.pod_runtime import PodRuntime
from tests.unit.kubelet_pods import container, pod


def kubelet_of(sync: Any, events: list[tuple[str, ...]], **more: Any) -> Kubelet:
    """A kubelet that syncs so, and whose events and statuses are taken down."""
    recorder = SimpleNamespace(
        pod_event=lambda pod, type, reason, message: events.append((reason, message)),
        event=lambda thing, type, reason, message: events.append((reason, message)),
    )
    writer = SimpleNamespace(
        seen=lambda pod: None,
        set=lambda pod, status: events.append((status["reason"], status["message"])),
        forget=lambda uid: events.append(("forgotten", uid)),
        uids=frozenset(),
    )
    pod_sync: Any = SimpleNamespace(
        sync=sync, recorder=recorder, report=lambda state: "", writer=writer, runtime_state=SimpleNamespace(strict_groups=True)
    )
    given: Any = {"pleg": SimpleNamespace(listed=RuntimeList()), "admission": Admission(None, "node", {}, {}), **more}  # type: ignore[arg-type]
    return Kubelet("node", None, pod_sync, **given)  # type: ignore[arg-type]


def sync_next(kubelet: Kubelet, state: PodState) -> None:
    """One sync, as the kubelet's loop has it made."""
    kubelet.pods[state.uid] = state
    kubelet.queue.add(state.uid)
    kubelet.sync_pod(kubelet.queue.get())


def test_a_deleted_pod_of_which_something_cannot_be_removed_yet_is_synced_again() -> None:
    manifest = pod()
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    state = PodState("u1", manifest, PodRuntime("u1"), {}, progress=PodProgress(stage=PodStage.TERMINATED))
    tries: list[str] = []

    def sync(state: Any) -> None:
        tries.append(state.uid)
        if len(tries) == 1:
            raise CriError("RemoveContainer", "UNKNOWN", "container is in starting state, can't be removed", "")
        state.progress.reach(PodStage.FINISHED)

    kubelet = kubelet_of(sync, [])
    sync_next(kubelet, state)
    assert kubelet.pods == {"u1": state} and kubelet.queue.due("u1")
    sync_next(kubelet, state)
    assert kubelet.pods == {} and kubelet.queue.due("u1") is None


@pytest.mark.parametrize(("read_again", "due"), [(False, 0.0), (True, None)])
def test_what_changed_while_a_pod_was_synced_is_looked_at_afterwards(read_again: bool, due: float | None) -> None:
    """The list comes in the middle of a sync that has read the runtime already, and may or may not read it once more."""
    box = pb.PodSandbox(id="box", metadata=pb.PodSandboxMetadata(uid="u1"), state=pb.SANDBOX_READY)
    pleg = SimpleNamespace(listed=RuntimeList())

    def sync(state: Any) -> None:
        state.runtime = PodRuntime("u1", at=time.monotonic())
        pleg.listed = RuntimeList({"u1": [box]}, {}, time.monotonic())
        kubelet.on_relist("u1")
        if read_again:
            state.runtime = PodRuntime("u1", at=time.monotonic())

    kubelet = kubelet_of(sync, [], pleg=pleg)
    sync_next(kubelet, PodState("u1", pod(), PodRuntime("u1"), {}))
    assert kubelet.queue.due("u1") == due


def test_a_change_that_no_sync_can_read_is_tried_again_after_a_while_and_not_at_once() -> None:
    """The list came before the runtime went away."""
    box = pb.PodSandbox(id="box", metadata=pb.PodSandboxMetadata(uid="u1"), state=pb.SANDBOX_READY)
    pleg = SimpleNamespace(listed=RuntimeList({"u1": [box]}, {}, time.monotonic()))

    def sync(state: Any) -> None:
        if not syncs:
            kubelet.on_relist("u1")
        syncs.append(state.uid)
        raise CriError("ListPodSandbox", "UNAVAILABLE", "gone", "")

    syncs: list[str] = []
    kubelet, state = kubelet_of(sync, [], pleg=pleg), PodState("u1", pod(), PodRuntime("u1"), {})
    sync_next(kubelet, state)
    assert kubelet.queue.due("u1") == 0.0
    before = time.monotonic()
    kubelet.sync_pod(kubelet.queue.get())
    due = kubelet.queue.due("u1")
    assert due is not None and before + RUNTIME_RETRY_S <= due <= time.monotonic() + RUNTIME_RETRY_S and len(syncs) == 2


def test_a_pod_that_is_gone_is_forgotten_by_those_who_write_of_it() -> None:
    events: list[tuple[str, ...]] = []
    kubelet = kubelet_of(None, events)
    kubelet.pod_sync.writer.uids = frozenset({"u1"})  # type: ignore[misc]
    kubelet.on_event("DELETED", pod())
    assert events == [("forgotten", "u1")]
    kubelet.on_list([])
    assert events == [("forgotten", "u1")] * 2


def test_an_exception_in_a_sync_makes_an_event_is_tried_again_later_and_later_and_forgotten_when_it_is_over() -> None:
    events: list[tuple[str, ...]] = []
    broken = True

    def sync(state: Any) -> None:
        if broken:
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")

    kubelet, state = kubelet_of(sync, events), PodState("u1", pod(), PodRuntime("u1"), {})
    for wait in (10, 20, 40, 80, 160, *[FAILED_RETRY_LONGEST_S] * 3):
        before = time.monotonic()
        sync_next(kubelet, state)
        due = kubelet.queue.due("u1")
        assert due is not None and before + wait <= due <= time.monotonic() + wait
        assert not kubelet.queue.busy("u1")
    words = "error syncing pod, skipping: UnicodeEncodeError: 'utf-8' codec can't encode character '\\x78' in position 0"
    assert events[0] == ("FailedSync", f"{words}: surrogates not allowed") and state.progress.reasons == {"app": events[0]}
    broken = False
    sync_next(kubelet, state)
    assert state.progress.reasons == {} and state.timers.failures == 0


def test_calls_that_the_runtime_refuses_for_long_make_an_event_unless_it_is_down() -> None:
    events: list[tuple[str, ...]] = []
    error = CriError("ListContainers", "UNAVAILABLE", "gone", "")

    def sync(state: Any) -> None:
        raise error

    kubelet, state = kubelet_of(sync, events), PodState("u1", pod(), PodRuntime("u1"), {})
    for _ in range(3):
        sync_next(kubelet, state)
    assert events == []
    error = CriError("ListContainers", "INTERNAL", "broken", "")
    for _ in range(PASSES_WITHIN):
        sync_next(kubelet, state)
    due = kubelet.queue.due("u1")
    assert events == [] and due is not None and due <= time.monotonic() + RUNTIME_RETRY_S
    sync_next(kubelet, state)
    sync_next(kubelet, state)
    assert events == [("FailedSync", "error syncing pod, skipping: rpc error: code = Internal desc = broken")] * 2


def test_a_pod_that_cannot_be_taken_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rejected in words, and the others are heard of."""
    events: list[tuple[str, ...]] = []
    kubelet = kubelet_of(None, events)

    def rejection(manifest: Any, *others: Any, **more: Any) -> None:
        if manifest["metadata"]["name"] == "bad":
            raise KeyError("spec")

    monkeypatch.setattr(kubelet.admission, "rejection", rejection)
    bad, good = pod(), pod()
    bad["metadata"] |= {"name": "bad", "uid": "u0", "resourceVersion": "1"}
    kubelet.on_list([bad, {**good, "metadata": {**good["metadata"], "resourceVersion": "1"}}])
    assert list(kubelet.pods) == ["u1"] and kubelet.sources_ready.is_set()
    assert events[0] == ("UnexpectedAdmissionError", "this kubelet cannot run the Pod: KeyError: 'spec'")
    assert events[1] == ("UnexpectedAdmissionError", "Pod was rejected: this kubelet cannot run the Pod: KeyError: 'spec'")


def test_a_chore_that_fails_makes_an_event_and_keeps_no_other_from_being_done() -> None:
    events: list[tuple[str, ...]] = []
    done: list[str] = []

    def remove_orphan(listed: Any, uid: str) -> None:
        done.append(uid)
        if uid == "bad":
            raise TypeError("no such thing")

    keep: Any = SimpleNamespace(
        orphans=lambda listed, known: ["bad", "good"],
        remove_orphan=remove_orphan,
        stale_traces=lambda owned: [],
        collect=lambda listed, wanted: done.append("collect"),
        forget_marks=lambda listed, known: None,
        rotate_logs=lambda listed: done.append("rotate"),
    )
    pleg = SimpleNamespace(listed=RuntimeList())
    kubelet = kubelet_of(None, events, pleg=pleg)
    cleanup = CleanupLoop(kubelet, keep, None, kubelet.pod_sync.recorder)  # type: ignore[arg-type]
    cleanup.clean_up()
    assert done == [], "before the runtime has been listed nobody knows what is there: a Pod's mark would be lost"
    pleg.listed = RuntimeList(at=1.0)
    cleanup.clean_up()
    assert done == ["collect", "rotate"], "before the API's list is known no Pod is an orphan"
    kubelet.sources_ready.set()
    cleanup.clean_up()
    assert done[2:] == ["bad", "good"] and events == [("ContainerGCFailed", "TypeError: no such thing")]


def test_a_pod_that_has_finished_since_the_runtime_was_listed_is_no_orphan() -> None:
    """With the runtime's events a list can be ten seconds old: nothing of such a Pod is stopped and removed once more."""
    tidied: list[set[str]] = []
    box = pb.PodSandbox(id="box", metadata=pb.PodSandboxMetadata(uid="u1"))
    configuration: Any = SimpleNamespace(marked=lambda uid: True)
    housekeeping = Housekeeping(None, configuration, None, None)  # type: ignore[arg-type]
    keep: Any = SimpleNamespace(
        orphans=lambda listed, known: tidied.append({*housekeeping.orphans(listed, known)}) or (),
        stale_traces=lambda owned: [],
        collect=lambda listed, wanted: None,
        forget_marks=lambda listed, known: None,
        rotate_logs=lambda listed: None,
    )
    pleg = SimpleNamespace(listed=RuntimeList())

    def list_runtime() -> None:
        pleg.listed = RuntimeList({"u1": [box]}, {}, time.monotonic(), time.monotonic())

    kubelet = kubelet_of(lambda state: state.progress.reach(PodStage.FINISHED), [], pleg=pleg)
    kubelet.sources_ready.set()
    cleanup = CleanupLoop(kubelet, keep, None, kubelet.pod_sync.recorder)  # type: ignore[arg-type]
    cleanup._rotated = time.monotonic()
    list_runtime()
    sync_next(kubelet, PodState("u1", pod(), PodRuntime("u1"), {}))
    assert kubelet.pods == {}
    cleanup.clean_up()
    list_runtime()
    cleanup.clean_up()
    assert tidied == [set(), {"u1"}]


def test_the_loop_goes_on_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    kubelet = kubelet_of(None, [], pleg=SimpleNamespace(relist=lambda: [], start=lambda *given: None, listed=RuntimeList()))
    kubelet.pod_sync.writer.start = lambda *given: None  # type: ignore[method-assign]
    kubelet.pod_sync.prober = SimpleNamespace(start=lambda *given: None)  # type: ignore[assignment]
    given: list[str] = []

    def submit(sync: Any, uid: str) -> None:
        given.append(uid)
        raise RuntimeError("can't start new thread") if len(given) == 1 else SystemExit

    monkeypatch.setattr(kubelet._pool, "submit", submit)
    monkeypatch.setattr("labkit.kubelet.core.kubelet.Informer", lambda *given, **more: SimpleNamespace(start=lambda: None))
    monkeypatch.setattr("labkit.kubelet.core.kubelet.RUNTIME_RETRY_S", 0.0)
    kubelet.queue.add("a")
    kubelet.queue.add("b")
    with pytest.raises(SystemExit):
        kubelet.run()
    assert given == ["a", "b"]


def test_a_pod_is_given_to_one_thread_at_a_time_and_once_more_if_it_was_added_meanwhile() -> None:
    queue = WorkQueue()
    for uid in ("a", "b", "a"):
        queue.add(uid)
    assert [queue.get(), queue.get()] == ["a", "b"] and queue.busy("a")
    queue.add("a")
    queue.add("c")
    assert queue.get() == "c", "somebody works on a"
    queue.done("a")
    assert queue.get() == "a"
    queue.done("a")
    assert queue.due("a") is None and not queue.busy("a")


def test_a_pod_that_is_due_later_comes_then_or_when_it_is_added() -> None:
    queue = WorkQueue()
    queue.add_after("later", 3600)
    queue.add_after("soon", 0.01)
    assert queue.get() == "soon"
    queue.add("later")
    assert queue.get() == "later"
    queue.done("later")
    assert queue.due("later") is None


def test_the_nodes_taints_and_labels_are_those_that_the_api_has_now() -> None:
    events: list[tuple[str, ...]] = []
    kubelet = kubelet_of(None, events)
    taint = {"key": "gpu", "effect": "NoExecute"}
    kubelet.admission.on_event("MODIFIED", {"metadata": {"name": "node", "labels": {}}, "spec": {"taints": [taint]}})
    kubelet.updated(pod())
    assert [reason for reason, _ in events] == ["TaintToleration", "TaintToleration"] and not kubelet.pods
    kubelet.admission.on_event("MODIFIED", {"metadata": {"name": "node"}, "spec": {}})
    kubelet.updated(pod())
    assert len(events) == 2 and kubelet.pods


@pytest.mark.parametrize(("labels_now", "reasons"), [({"disk": "ssd"}, []), ({}, ["NodeAffinity", "NodeAffinity"])])
def test_labels_that_do_not_fit_are_read_again(labels_now: dict[str, str], reasons: list[str]) -> None:
    events: list[tuple[str, ...]] = []
    api: Any = SimpleNamespace(get=lambda path: {"metadata": {"labels": labels_now}})
    kubelet = kubelet_of(None, events, admission=Admission(api, "node", {}, {}))
    kubelet.updated(pod(nodeSelector={"disk": "ssd"}))
    assert [reason for reason, _ in events] == reasons


def test_a_pod_that_an_older_labkit_stored_gets_the_defaults_of_today() -> None:
    stored = {"metadata": {"name": "web", "namespace": "default", "uid": "u1"},
              "spec": {"nodeName": "node", "containers": [{"name": "app", "image": "i"}]}}
    before = copy.deepcopy(stored)
    spec = read_pod(stored)["spec"]
    wanted = pod(container(image="i"), nodeName="node")["spec"]
    assert stored == before and spec == {name: wanted[name] for name in wanted if name != "serviceAccountName"}
