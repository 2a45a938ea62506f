"""The kubelet: hears of Pods from the API and of containers from the runtime, and has each Pod synced when something happened.

Everything arrives in one place, `Kubelet.run`, as "look at this Pod"; `sync.PodSync` does the rest. A Pod is never synced by two
threads at a time. Knowledge: kubelet.go (syncLoop), pod_workers.go.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from labkit.cri import CriError
from labkit.kubelet.api import Api, ApiError, Informer
from labkit.kubelet.containers.probes import Probing
from labkit.kubelet.core.admission import Rejection, admit, apparmor_enabled
from labkit.kubelet.core.eviction import REASON, Eviction, evict
from labkit.kubelet.core.housekeeping import Housekeeping
from labkit.kubelet.core.sync import PodSync
from labkit.kubelet.go_format import rfc3339, rpc_error
from labkit.kubelet.node.status_manager import OWN_CONDITIONS
from labkit.kubelet.pod.pleg import Listed, Pleg
from labkit.kubelet.pod.runtime import PodRuntime
from labkit.kubelet.pod.worker import Worker
from labkit.podspec import DefaultedPod, container_names
from labkit.podspec.defaults import fill_pod

log = logging.getLogger("kubelet")

THREADS = 256
HOUSEKEEPING_S = 2.0
COLLECT_S, ROTATE_S = 30.0, 10.0
RUNTIME_RETRY_S = 2.0
FAILED_SYNC = "FailedSync"
"""The reason of events, and of containers that wait, where the kubelet could not go on with a Pod (events/event.go)."""
FAILED_RETRY_S, FAILED_RETRY_LONGEST_S = 10.0, 300.0
PASSING = ("UNAVAILABLE", "CANCELLED", "DEADLINE_EXCEEDED", "NOT_FOUND")
"""Codes of calls that fail while the runtime is restarted, or because of what happened meanwhile: the next look knows more."""
PASSES_WITHIN = 15
"""So many syncs in a row may fail with another code and are soon tried again: a container may be starting, for example."""
ENDED = ("Succeeded", "Failed")


class Kubelet:
    """Runs the Pods of the node `name`. `node` gives the node's labels and allocatable resources for admission."""

    def __init__(
        self, name: str, api: Api, sync: PodSync, pleg: Pleg, housekeeping: Housekeeping, node: Mapping[str, Any]
    ) -> None:
        self.name, self.api, self.pods_sync, self.pleg, self.housekeeping, self.node = name, api, sync, pleg, housekeeping, node
        self.apparmor = apparmor_enabled()
        self.workers: dict[str, Worker] = {}
        self.eviction = Eviction(sync.cri, sync.volumes, sync.configuration.logs)
        self._looks: queue.Queue[str] = queue.Queue()
        self._lock = threading.RLock()
        self._sweeping = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, "pod")
        self._listed = False
        self._swept = self._collected = self._rotated = 0.0

    def run(self) -> None:
        """Run Pods for ever."""
        while not self._try_relist():
            time.sleep(RUNTIME_RETRY_S)
        self.pleg.start()
        own = {"fieldSelector": f"metadata.name={self.name}"}
        Informer(self.api, "/api/v1/nodes", self.on_nodes, self.on_node, **own).start()
        path = "/api/v1/pods"
        Informer(self.api, path, self.on_list, self.on_event, fieldSelector=f"spec.nodeName={self.name}").start()
        while True:
            try:
                self._look_once()
            except Exception:
                log.exception("the kubelet's loop failed; it goes on")
                time.sleep(RUNTIME_RETRY_S)

    def _look_once(self) -> None:
        """Wait for the next Pod that must be looked at, and have it synced; tidy up when it is time."""
        now = time.monotonic()
        due = [worker.due for worker in list(self.workers.values()) if worker.due]
        wait = min([self._swept + HOUSEKEEPING_S, *due]) - now
        with contextlib.suppress(queue.Empty):
            self.look(self._looks.get(timeout=max(wait, 0.001)))
        now = time.monotonic()
        for worker in list(self.workers.values()):
            if worker.due and worker.due <= now:
                self.look(worker.uid)
        if now - self._swept >= HOUSEKEEPING_S:
            self._swept = now
            self._pool.submit(self.sweep)

    def wants(self, uid: str) -> None:
        """Have a Pod looked at soon, from any thread."""
        self._looks.put(uid)

    # What others ask of the kubelet

    def pods(self) -> list[dict[str, Any]]:
        """Every Pod of this node as the kubelet knows it: manifest with defaults, and the newest status."""
        return [{**worker.pod, "status": dict(worker.status)} for worker in list(self.workers.values())]

    def probing(self, uid: str) -> Probing | None:
        """What the prober must know of a Pod."""
        worker = self.workers.get(uid)
        if worker is None or worker.ended:
            return None
        ips = worker.runtime.ips
        return Probing(worker.pod, worker.runtime, ips[0] if ips else self.pods_sync.host_ip)

    # What the API tells

    def on_nodes(self, nodes: list[dict[str, Any]]) -> None:
        for node in nodes:
            self.on_node("ADDED", node)

    def on_node(self, type: str, node: Mapping[str, Any]) -> None:
        """The node's object as the API has it: its labels and taints decide which Pods are admitted."""
        known = {"labels": node["metadata"].get("labels") or {}, "taints": (node.get("spec") or {}).get("taints") or ()}
        self.node = {**self.node, **({} if type == "DELETED" else known)}

    def on_list(self, pods: list[dict[str, Any]]) -> None:
        """Everything that is bound to this node. What is not in the list any more was deleted."""
        there = {pod["metadata"]["uid"] for pod in pods}
        for uid in {*list(self.workers), *self.pods_sync.writer.uids} - there:
            self.removed(uid)
        for pod in sorted(pods, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"])):
            self.known(pod)
        self._listed = True

    def on_event(self, type: str, pod: dict[str, Any]) -> None:
        if type == "DELETED":
            self.removed(pod["metadata"]["uid"])
        else:
            self.known(pod)

    def known(self, raw: dict[str, Any]) -> None:
        """A Pod as the API has it now: new, changed, or as before. Never raises, so that one Pod cannot stop the others."""
        try:
            self._known(raw)
        except Exception as error:
            log.exception("Pod %s cannot be accepted", raw["metadata"]["name"])
            words = f"{type(error).__name__}: {error}"
            if raw["metadata"]["uid"] in self.workers:
                self.pods_sync.recorder.pod_event(raw, "Warning", FAILED_SYNC, f"error syncing pod, skipping: {words}")
            else:
                self.reject(raw, Rejection("UnexpectedAdmissionError", f"this kubelet cannot run the Pod: {words}"))

    def _known(self, raw: dict[str, Any]) -> None:
        uid = raw["metadata"]["uid"]
        worker = self.workers.get(uid)
        self.pods_sync.writer.seen(raw)
        if worker is None:
            self.admitted(raw)
            return
        before = worker.pod
        if sync_fields(before) == sync_fields(raw):
            self._take_conditions(worker, raw)
            if called_not_ready(raw, worker.status):
                self.pods_sync.writer.set(worker.pod, worker.status)
            return
        worker.pod = read_pod(raw)
        grace = raw["metadata"].get("deletionGracePeriodSeconds")
        old = before["metadata"].get("deletionGracePeriodSeconds")
        if worker.busy and worker.ending and grace is not None and (old is None or grace < old):
            self._pool.submit(self._shorten_grace, worker, grace)
        self.wants(uid)

    def admitted(self, raw: dict[str, Any]) -> None:
        """A Pod that is new to the kubelet: it runs here, unless the node must reject it."""
        pod = read_pod(raw)
        uid, status = pod["metadata"]["uid"], raw.get("status") or {}
        worker = Worker(uid, pod, PodRuntime(uid), status, seen=rfc3339())
        if status.get("phase") in ENDED:
            if uid not in self.pleg.listed.uids and not self.housekeeping.configuration.marked(uid):  # nothing of it is here
                if "deletionTimestamp" in pod["metadata"]:
                    self.pods_sync.writer.delete(raw)
                return
            worker.ending = True
        elif not status.get("startTime") and "deletionTimestamp" not in pod["metadata"]:
            others = [{**w.pod, "status": w.status} for w in list(self.workers.values()) if not w.ended]
            allocatable, taints = self.node.get("allocatable", {}), self.node.get("taints", ())
            strict_groups = self.pods_sync.state.strict_groups
            check = partial(admit, pod, others, allocatable=allocatable, name=self.name, taints=taints, apparmor=self.apparmor,
                            strict_groups=strict_groups)  # fmt: skip
            rejection = check(self.node.get("labels", {}))
            if rejection and rejection.reason == "NodeAffinity":  # the labels may have changed (predicate.go)
                rejection = check(self.labels_now())
            if rejection:
                self.reject(raw, rejection)
                return
        with self._lock:
            self.workers[uid] = worker
        self.wants(uid)

    def labels_now(self) -> Mapping[str, str]:
        """The node's labels as the API has them; those known where it does not answer."""
        try:
            labels = self.api.get(f"/api/v1/nodes/{self.name}")["metadata"].get("labels") or {}
        except (ApiError, OSError):
            return self.node.get("labels", {})
        return {**labels}

    def reject(self, raw: Mapping[str, Any], rejection: Rejection) -> None:
        """The Pod fails at once; none of it is ever started."""
        self.pods_sync.recorder.pod_event(raw, "Warning", rejection.reason, rejection.message)
        status = {"phase": "Failed", "reason": rejection.reason, "message": f"Pod was rejected: {rejection.message}",
                  "startTime": rfc3339(), "observedGeneration": raw["metadata"].get("generation", 1)}  # fmt: skip
        if "deletionTimestamp" in raw["metadata"]:
            self.pods_sync.writer.delete(raw)
        elif (raw.get("status") or {}).get("phase") != "Failed":
            known = raw.get("status") or {}
            others = [c for c in known.get("conditions") or () if c["type"] not in OWN_CONDITIONS]
            self.pods_sync.writer.set(raw, {**known, **status, "conditions": others})

    def removed(self, uid: str) -> None:
        """The API has this Pod no more: what runs of it is stopped."""
        with self._lock:
            worker = self.workers.get(uid)
            if worker is not None:
                worker.removed = True
        if worker is None:
            self.pods_sync.writer.forget(uid)
        self.wants(uid)

    # One Pod at a time

    def look(self, uid: str) -> None:
        """Sync the Pod on a thread of the pool; if it is being synced, once more afterwards."""
        with self._lock:
            worker = self.workers.get(uid)
            if worker is None:
                return
            worker.due = 0.0
            if worker.busy:
                worker.again = True
                return
            worker.busy = True
        self._pool.submit(self._sync, worker)

    def _sync(self, worker: Worker) -> None:
        wait: float | None = RUNTIME_RETRY_S
        try:
            wait = self.pods_sync.sync(worker)
            self._succeeded(worker)
        except CriError as error:
            log.warning("syncing %s: %s", worker.name, error)
            worker.refused += error.code not in PASSING
            if worker.refused > PASSES_WITHIN:
                wait = self._failed(worker, rpc_error(error), worker.refused - PASSES_WITHIN)
        except Exception as error:
            log.exception("syncing %s failed", worker.name)
            worker.failures += 1
            wait = self._failed(worker, f"{type(error).__name__}: {error}", worker.failures)
        with self._lock:
            worker.busy = False
            worker.due = time.monotonic() + wait if wait is not None else 0.0
            again, worker.again = worker.again, False
            if worker.gone:
                self.workers.pop(worker.uid, None)
                if worker.removed:
                    self.pods_sync.writer.forget(worker.uid)
                return
        if again or wait is not None:
            self.wants(worker.uid if again else "")
        if worker.heard > worker.runtime.at:
            self.on_relist(worker.uid)

    def _failed(self, worker: Worker, words: str, times: int) -> float:
        """The kubelet cannot go on with a Pod: an event and its waiting containers say so. Seconds until it is tried again, more
        with each of the `times`."""
        words = f"error syncing pod, skipping: {words}"
        try:
            self.pods_sync.recorder.pod_event(worker.pod, "Warning", FAILED_SYNC, words)
        except Exception:
            log.exception("no event can be made of it")
        worker.reasons.update(dict.fromkeys(container_names(worker.pod), (FAILED_SYNC, words)))
        self._report(worker)
        return min(FAILED_RETRY_S * 2 ** min(times - 1, 10), FAILED_RETRY_LONGEST_S)

    def _succeeded(self, worker: Worker) -> None:
        worker.failures = worker.refused = 0
        stale = [name for name, (reason, _) in worker.reasons.items() if reason == FAILED_SYNC]
        for name in stale:
            del worker.reasons[name]
        if stale and not worker.gone:
            self._report(worker)

    def _report(self, worker: Worker) -> None:
        try:
            self.pods_sync.report(worker)
        except Exception:
            log.exception("the status of %s cannot be worked out", worker.name)

    def _shorten_grace(self, worker: Worker, grace_s: int) -> None:
        try:
            self.pods_sync.stopping.shorten_grace(worker, grace_s)
        except CriError as error:
            log.warning("stopping %s: %s", worker.name, error)
        except Exception:
            log.exception("stopping %s sooner failed", worker.name)

    def _take_conditions(self, worker: Worker, raw: Mapping[str, Any]) -> None:
        """Conditions that others set, for the Pod's readiness gates."""
        wanted = {gate["conditionType"] for gate in worker.pod["spec"].get("readinessGates", ())}
        if not wanted:
            return
        theirs = [c for c in (raw.get("status") or {}).get("conditions", ()) if c["type"] in wanted]
        own = [c for c in worker.status.get("conditions", ()) if c["type"] not in wanted]
        if [c for c in worker.status.get("conditions", ()) if c["type"] in wanted] != theirs:
            worker.status = {**worker.status, "conditions": [*own, *theirs]}
            self.wants(worker.uid)

    # What the runtime tells

    def on_relist(self, uid: str) -> None:
        """Something of a Pod changed between two lists. What its own sync has seen already is no news; whether one that is under
        way has, is known when it is done."""
        worker, listed = self.workers.get(uid), self.pleg.listed
        if worker is None:
            return
        with self._lock:
            if worker.busy:
                worker.heard = listed.at
                return
        now = self.pods_sync.runtime.states(listed.sandboxes.get(uid, ()), listed.containers.get(uid, ()))
        if worker.runtime.states != now:
            self.wants(uid)

    def sweep(self) -> None:
        """Tidy up: see `housekeeping`. One at a time, and another only when this one is done. Never raises."""
        if not self._sweeping.acquire(blocking=False):
            return
        try:
            for chore in self._chores(self.pleg.listed, time.monotonic()):
                self._do(chore)
        except Exception:
            log.exception("what there is to tidy up could not be found out")
        finally:
            self._sweeping.release()

    def _chores(self, listed: Listed, now: float) -> Iterator[Callable[[], object]]:
        """What is to be tidied up now, one call each, so that one that fails does not stop the others."""
        keep = self.housekeeping
        if self._listed:
            for uid in keep.orphans(listed, set(self.workers)):
                yield partial(keep.remove_orphan, listed, uid)
            for uid in keep.stale_traces(lambda: {*self.pleg.listed.uids, *self.workers}):
                yield partial(keep.remove_traces, uid)
        if now - self._collected > COLLECT_S:
            self._collected = now
            idle = {worker.uid for worker in list(self.workers.values()) if not worker.busy}
            yield partial(keep.collect, listed, idle.__contains__)
            yield partial(keep.forget_marks, listed, set(self.workers))
        if now - self._rotated > ROTATE_S:
            self._rotated = now
            yield partial(keep.rotate_logs, listed)
            yield partial(evict, list(self.workers.values()), self.eviction, self.evicted)

    def _do(self, chore: Callable[[], object]) -> None:
        try:
            chore()
        except (CriError, OSError) as error:
            log.warning("tidying up: %s", error)
        except Exception as error:
            log.exception("tidying up failed")
            about = {"kind": "Node", "name": self.name, "uid": self.name}
            self.pods_sync.recorder.event(about, "Warning", "ContainerGCFailed", f"{type(error).__name__}: {error}")

    def evicted(self, worker: Worker, why: str) -> None:
        """A Pod was found to be over a limit of its own: it ends."""
        self.pods_sync.recorder.pod_event(worker.pod, "Warning", REASON, why)
        self.wants(worker.uid)

    def _try_relist(self) -> bool:
        try:
            self.pleg.relist()
            return True
        except CriError as error:
            log.warning("waiting for the runtime: %s", error)
            return False


def read_pod(raw: Mapping[str, Any]) -> DefaultedPod:
    """A Pod as the API stored it, which has checked and completed it; its status is left out, for the Worker holds it. Defaults
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
    """What makes a kubelet look at a Pod again when it changes (pod_config: spec, labels, annotations, deletion)."""
    metadata = pod["metadata"]
    return (
        metadata.get("generation"),
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
    )
