"""The kubelet: hears of Pods from the API and of containers from the runtime, and has each Pod synced when something happened.

Knowledge: kubelet.go (syncLoop, HandlePodAdditions …), pod_workers.go (podWorkerLoop).
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit.cri import CriError
from labkit.kubelet.api import ApiClient, Informer
from labkit.kubelet.containers.probes import Probing
from labkit.kubelet.core.pleg import Pleg
from labkit.kubelet.core.pod_state import ENDED, PodStage, PodState
from labkit.kubelet.core.sync import PodSync
from labkit.kubelet.core.work_queue import WorkQueue
from labkit.kubelet.go_format import rfc3339, rpc_error
from labkit.kubelet.node.admission import Admission, Rejection
from labkit.kubelet.node.status_manager import OWN_CONDITIONS
from labkit.kubelet.pod.pod_runtime import PodRuntime
from labkit.podspec import DefaultedPod, container_names
from labkit.podspec.defaults import fill_pod

log = logging.getLogger("kubelet")

THREADS = 256
RUNTIME_RETRY_S = 2.0
FAILED_SYNC = "FailedSync"
"""The reason of events, and of containers that wait, where the kubelet could not go on with a Pod (events/event.go)."""
FAILED_RETRY_S, FAILED_RETRY_LONGEST_S = 10.0, 300.0
PASSING = ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "NOT_FOUND")
"""Codes of calls that fail while the runtime is restarted, or because of what happened meanwhile: the next sync knows more."""
PASSES_WITHIN = 15
"""So many syncs in a row may fail with another code and are soon tried again: a container may be starting, for example."""


class Kubelet:
    """Runs the Pods of the node `name`. `queue` holds the Pods to sync; `pods` has the state of each, by uid."""

    def __init__(self, name: str, api: ApiClient, sync: PodSync, pleg: Pleg, admission: Admission) -> None:
        self.name, self.api, self.pod_sync, self.pleg, self.admission = name, api, sync, pleg, admission
        self.pods: dict[str, PodState] = {}
        self.queue = WorkQueue()
        self.sources_ready = threading.Event()
        """Set when all Pods of this node are known."""
        self._finished: dict[str, float] = {}
        self._lock = threading.RLock()
        self._pool = ThreadPoolExecutor(THREADS, "pod")

    def run(self) -> None:
        """Run Pods for ever."""
        while not self._try_relist():
            time.sleep(RUNTIME_RETRY_S)
        self.pod_sync.writer.start(self.removed)
        self.pod_sync.prober.start(self.probing, self.queue.add)
        self.pleg.start(self.pods, self.on_relist, self.queue.add)
        node, mine = f"metadata.name={self.name}", f"spec.nodeName={self.name}"
        Informer(self.api, "/api/v1/nodes", self.admission.on_list, self.admission.on_event, fieldSelector=node).start()
        Informer(self.api, "/api/v1/pods", self.on_list, self.on_event, fieldSelector=mine).start()
        while True:
            uid = self.queue.get()
            try:
                self._pool.submit(self.sync_pod, uid)
            except RuntimeError:  # no thread can be started
                log.exception("a Pod must wait for a thread that is free")
                time.sleep(RUNTIME_RETRY_S)

    def _try_relist(self) -> bool:
        try:
            self.pleg.relist()
            return True
        except CriError as error:
            log.warning("waiting for the runtime: %s", error)
            return False

    # What the API tells

    def on_list(self, pods: list[dict[str, Any]]) -> None:
        """Every Pod that is bound to this node. What is not in the list any more was deleted."""
        there = {pod["metadata"]["uid"] for pod in pods}
        for uid in {*list(self.pods), *self.pod_sync.writer.uids} - there:
            self.removed(uid)
        for pod in sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"])):
            self.updated(pod)
        self.sources_ready.set()

    def on_event(self, type: str, pod: dict[str, Any]) -> None:
        if type == "DELETED":
            self.removed(pod["metadata"]["uid"])
        else:
            self.updated(pod)

    def updated(self, raw: dict[str, Any]) -> None:
        """A Pod as the API has it now: new, changed, or as before. Never raises, so that one Pod cannot stop the others."""
        state = self.pods.get(raw["metadata"]["uid"])
        try:
            self.pod_sync.writer.seen(raw)
            if state is None:
                self._added(raw)
            else:
                self._changed(state, raw)
        except Exception as error:
            log.exception("Pod %s cannot be accepted", raw["metadata"]["name"])
            words = f"{type(error).__name__}: {error}"
            if state is not None:
                self.pod_sync.recorder.pod_event(raw, "Warning", FAILED_SYNC, f"error syncing pod, skipping: {words}")
            else:
                self._reject(raw, Rejection("UnexpectedAdmissionError", f"this kubelet cannot run the Pod: {words}"))

    def _added(self, raw: dict[str, Any]) -> None:
        """A Pod that is new to the kubelet: it runs here, unless the node must reject it (HandlePodAdditions)."""
        pod = read_pod(raw)
        uid, status = pod["metadata"]["uid"], raw.get("status") or {}
        state = PodState(uid, pod, PodRuntime(uid), status)
        deleted = "deletionTimestamp" in pod["metadata"]
        if status.get("phase") in ENDED:
            if uid not in self.pleg.listed.uids and not self.pod_sync.configuration.marked(uid):  # nothing of it is here
                if deleted:
                    self.pod_sync.writer.delete(raw)
                return
            state.progress.reach(PodStage.TERMINATING)
        elif not status.get("startTime") and not deleted:
            others = [{**other.pod, "status": other.status} for other in list(self.pods.values()) if not other.ended]
            strict_groups = self.pod_sync.runtime_state.strict_groups
            if rejection := self.admission.rejection(pod, others, strict_groups=strict_groups):
                self._reject(raw, rejection)
                return
        with self._lock:
            self.pods[uid] = state
        self.queue.add(uid)

    def _reject(self, raw: Mapping[str, Any], rejection: Rejection) -> None:
        """The Pod fails at once; none of it is ever started (rejectPod)."""
        known = raw.get("status") or {}
        self.pod_sync.recorder.pod_event(raw, "Warning", rejection.reason, rejection.message)
        if "deletionTimestamp" in raw["metadata"]:
            self.pod_sync.writer.delete(raw)
        elif known.get("phase") != "Failed":
            status = {
                **known,
                "phase": "Failed",
                "reason": rejection.reason,
                "message": f"Pod was rejected: {rejection.message}",
                "startTime": rfc3339(),
                "observedGeneration": raw["metadata"].get("generation", 1),
                "conditions": [c for c in known.get("conditions") or () if c["type"] not in OWN_CONDITIONS],
            }
            self.pod_sync.writer.set(raw, status)

    def _changed(self, state: PodState, raw: dict[str, Any]) -> None:
        """A Pod that the kubelet runs (HandlePodUpdates): it is synced if it wants something else now."""
        before = state.pod
        if sync_fields(before) == sync_fields(raw):
            self._take_conditions(state, raw)
            if called_not_ready(raw, state.status):
                self.pod_sync.writer.set(state.pod, state.status)
            return
        state.pod = read_pod(raw)
        grace_s = raw["metadata"].get("deletionGracePeriodSeconds")
        old = before["metadata"].get("deletionGracePeriodSeconds")
        terminating = self.queue.busy(state.uid) and state.progress.stage >= PodStage.TERMINATING
        if terminating and grace_s is not None and (old is None or grace_s < old):
            self._pool.submit(self._shorten_grace, state, grace_s)
        self.queue.add(state.uid)

    def _take_conditions(self, state: PodState, raw: Mapping[str, Any]) -> None:
        """Conditions that others set, for the Pod's readiness gates."""
        gates = {gate["conditionType"] for gate in state.pod["spec"].get("readinessGates", ())}
        theirs = [c for c in (raw.get("status") or {}).get("conditions", ()) if c["type"] in gates]
        known = state.status.get("conditions", ())
        if [c for c in known if c["type"] in gates] != theirs:
            state.status = {**state.status, "conditions": [*(c for c in known if c["type"] not in gates), *theirs]}
            self.queue.add(state.uid)

    def _shorten_grace(self, state: PodState, grace_s: int) -> None:
        try:
            self.pod_sync.stopping.shorten_grace(state, grace_s)
        except CriError as error:
            log.warning("stopping %s: %s", state.name, error)
        except Exception:
            log.exception("stopping %s sooner failed", state.name)

    def removed(self, uid: str) -> None:
        """The API has this Pod no more: what runs of it is stopped (HandlePodRemoves)."""
        with self._lock:
            state = self.pods.get(uid)
            if state is not None:
                state.removed = True
        if state is None:
            self.pod_sync.writer.forget(uid)
        self.queue.add(uid)

    # What the runtime tells

    def on_relist(self, uid: str) -> None:
        """Something of a Pod changed between two lists. What its own sync has seen already is no news; whether one that is under
        way has, is known when it is done."""
        state = self.pods.get(uid)
        if state is not None:
            state.timers.changed_at = self.pleg.listed.at
            if not self.queue.busy(uid):
                self._compare(state)

    def _compare(self, state: PodState) -> None:
        """Have the Pod synced if the newest list is newer than what its last sync read, and shows something else."""
        changed_at, state.timers.changed_at = state.timers.changed_at, 0.0
        if changed_at > state.runtime.at and self.pleg.listed.states(state.uid) != state.runtime.states:
            self.queue.add(state.uid)

    def probing(self, uid: str) -> Probing | None:
        """What the prober must know of a Pod."""
        state = self.pods.get(uid)
        if state is None or state.ended:
            return None
        ips = state.runtime.ips
        return Probing(state.pod, state.runtime, ips[0] if ips else self.pod_sync.host_ip)

    # One Pod at a time

    def sync_pod(self, uid: str) -> None:
        """Sync a Pod that `queue` gave out, on a thread of the pool (podWorkerLoop)."""
        state = self.pods.get(uid)
        try:
            if state is not None:
                self._sync(state)
        finally:
            self.queue.done(uid)
        if state is not None:
            self._compare(state)

    def _sync(self, state: PodState) -> None:
        wait_s: float | None = RUNTIME_RETRY_S
        try:
            wait_s = self.pod_sync.sync(state)
            self._succeeded(state)
        except CriError as error:
            log.warning("syncing %s: %s", state.name, error)
            state.timers.refused += error.code not in PASSING
            if state.timers.refused > PASSES_WITHIN:
                wait_s = self._failed(state, rpc_error(error), state.timers.refused - PASSES_WITHIN)
        except Exception as error:
            log.exception("syncing %s failed", state.name)
            state.timers.failures += 1
            wait_s = self._failed(state, f"{type(error).__name__}: {error}", state.timers.failures)
        if state.progress.stage == PodStage.FINISHED:
            with self._lock:
                self._finished[state.uid] = time.monotonic()
                self.pods.pop(state.uid, None)
            if state.removed:
                self.pod_sync.writer.forget(state.uid)
        elif wait_s is not None:
            self.queue.add_after(state.uid, wait_s)

    def known_since(self, when: float) -> set[str]:
        """The Pods of the kubelet, and those of which nothing has been left since `when` (time.monotonic()): what it has of
        others that have finished is forgotten."""
        with self._lock:
            self._finished = {uid: at for uid, at in self._finished.items() if at >= when}
            return {*self.pods, *self._finished}

    def _failed(self, state: PodState, words: str, times: int) -> float:
        """The kubelet cannot go on with a Pod: an event and its waiting containers say so. Seconds until it is tried again, more
        with each of the `times`."""
        message = f"error syncing pod, skipping: {words}"
        try:
            self.pod_sync.recorder.pod_event(state.pod, "Warning", FAILED_SYNC, message)
        except Exception:
            log.exception("no event can be made of it")
        state.progress.reasons.update(dict.fromkeys(container_names(state.pod), (FAILED_SYNC, message)))
        self._report(state)
        return min(FAILED_RETRY_S * 2 ** min(times - 1, 10), FAILED_RETRY_LONGEST_S)

    def _succeeded(self, state: PodState) -> None:
        state.timers.failures = state.timers.refused = 0
        reasons = state.progress.reasons
        stale = [name for name, (reason, _) in reasons.items() if reason == FAILED_SYNC]
        for name in stale:
            del reasons[name]
        if stale and state.progress.stage < PodStage.FINISHED:
            self._report(state)

    def _report(self, state: PodState) -> None:
        try:
            self.pod_sync.report(state)
        except Exception:
            log.exception("the status of %s cannot be worked out", state.name)


def read_pod(raw: Mapping[str, Any]) -> DefaultedPod:
    """A Pod as the API stored it, which has checked and completed it; its status is left out, for PodState holds it. Defaults
    that an older labkit did not know when it stored the Pod are filled in now."""
    pod = copy.deepcopy({key: value for key, value in raw.items() if key != "status"})
    fill_pod(pod)
    return DefaultedPod(pod)


def called_not_ready(raw: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the node controller marked a Pod as not ready (it gives no reason) that the kubelet, heard again, knows to be."""
    theirs, ours = ready_condition(raw.get("status") or {}), ready_condition(own)
    return theirs.get("status") == "False" and not theirs.get("reason") and ours.get("status") == "True"


def ready_condition(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or () if c["type"] == "Ready"), {})


def sync_fields(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes a kubelet sync a Pod again when it changes (pod_config: spec, labels, annotations, deletion)."""
    metadata = pod["metadata"]
    return (
        metadata.get("generation"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
    )
