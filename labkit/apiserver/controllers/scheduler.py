"""The scheduler: every Pod without a node gets one, or is told why not, within milliseconds of whatever may have changed that.

It runs in the API's process and reads its store. The decision itself is `placement.place`.
"""

from __future__ import annotations

import logging
from typing import Any

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.controllers import filters
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.controllers.event_recorder import with_condition
from labkit.apiserver.controllers.placement import Assigned, Manifest, place
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.storage.store import WatchEvent
from labkit.podspec.requests import pod_requests

log = logging.getLogger("kubeapi")

NAME = "default-scheduler"
AGAIN_AFTER_S = 300.0
"""A Pod that stays unschedulable is said to be so again after this time (kube-scheduler's podMaxInUnschedulablePodsDuration)."""
GATED = "Scheduling is blocked due to non-empty scheduling gates"


class Scheduler(Controller):
    """A change that could let a Pod fit wakes it."""

    component = NAME
    resources = ("pods", "nodes", "persistentvolumeclaims", "persistentvolumes")

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.reported: dict[str, tuple[str, float]] = {}
        """The last message about each Pod that waits, by its uid, and when its event was written."""

    def matters(self, change: WatchEvent) -> bool:
        return matters(change)

    def reconcile(self, now: float) -> float:
        """Try every Pod that waits, the more important first, then the older."""
        waiting = [pod for pod in self.objects("pods") if waits(pod)]
        uids = {pod["metadata"]["uid"] for pod in waiting}
        self.reported = {uid: last for uid, last in self.reported.items() if uid in uids}
        if not waiting:
            return AGAIN_AFTER_S
        names = ("nodes", "pods", "persistentvolumeclaims", "persistentvolumes", "namespaces")
        known = filters.world(*(self.objects(name) for name in names))
        for pod in sorted(waiting, key=lambda p: (-p["spec"].get("priority", 0), int(p["metadata"]["resourceVersion"]))):
            try:
                self.schedule(pod, known, now)
            except ApiError:
                raise
            except Exception as error:  # of this Pod: the others are scheduled all the same
                log.exception("the Pod %s cannot be scheduled", pod["metadata"]["name"])
                self.report(pod, "SchedulerError", f"running the scheduler: {type(error).__name__}: {error}", now)
        return AGAIN_AFTER_S

    def schedule(self, pod: Manifest, known: Any, now: float) -> None:
        if pod["spec"].get("schedulingGates"):
            self.report(pod, "SchedulingGated", GATED, now)
            return
        decision = place(pod, known)
        if isinstance(decision, Assigned):
            self.bind(pod, decision.node)
            there = next(info for info in known.nodes if info.name == decision.node)
            there.pods.append(pod)
            there.requested.update(pod_requests(pod))
        else:
            self.report(pod, "Unschedulable", decision.message, now)

    def objects(self, resource: str) -> list[Any]:
        return [entry.obj for _, entry in self.store.list(resource)]

    def bind(self, pod: Manifest, node: str) -> None:
        meta = pod["metadata"]
        self.api.bind(meta["namespace"], meta["name"], {"target": {"kind": "Node", "name": node}})
        message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {node}"
        self.recorder.event(pod, "Pod", "Normal", "Scheduled", message, action="Binding")

    def report(self, pod: Manifest, reason: str, message: str, now: float) -> None:
        """Condition and event, only where they are news or the last ones are old."""
        uid = pod["metadata"]["uid"]
        conditions = (pod.get("status") or {}).get("conditions") or []
        there: Manifest = next((c for c in conditions if c.get("type") == "PodScheduled"), {})
        known = (there.get("reason"), there.get("message")) == (reason, message)
        last = self.reported.setdefault(uid, (message, now)) if known else ("", 0.0)
        if known and (now - last[1] < AGAIN_AFTER_S or reason == "SchedulingGated"):
            return
        self.reported[uid] = (message, now)
        if not known:
            self.store.put("pods", with_condition(pod, "PodScheduled", "False", reason, message, **observed(pod)))
        if reason != "SchedulingGated":
            self.recorder.event(pod, "Pod", "Warning", "FailedScheduling", message, action="Scheduling")


def waits(pod: Manifest) -> bool:
    """A Pod that is this scheduler's business: no node yet, not going, not another scheduler's. One that names resource claims
    is not, without a word, as long as a claim is absent (dynamicresources, PreEnqueue): nobody makes any here."""
    spec = pod["spec"]
    return (
        not spec.get("nodeName")
        and not spec.get("resourceClaims")
        and not pod["metadata"].get("deletionTimestamp")
        and (spec.get("schedulerName") or NAME) == NAME
        and not ended(pod)
    )


def matters(change: WatchEvent) -> bool:
    """Whether a change could alter a decision. What the kubelet writes into statuses all the time mostly cannot."""
    before = change.before.obj if change.before else None
    if before is None or change.type != "MODIFIED":
        return True
    after = change.entry.obj
    if before.get("spec") != after.get("spec") or before["metadata"].get("labels") != after["metadata"].get("labels"):
        return not (change.resource == "pods" and waits(before) and not waits(after))
    if change.resource == "pods":
        return ended(after) and not ended(before)
    if change.resource == "nodes":
        return bool((before.get("status") or {}).get("allocatable") != (after.get("status") or {}).get("allocatable"))
    return bool(before.get("status") != after.get("status"))


def ended(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def observed(pod: Manifest) -> dict[str, Any]:
    generation = pod["metadata"].get("generation")
    return {"lastProbeTime": None, **({"observedGeneration": generation} if generation else {})}
