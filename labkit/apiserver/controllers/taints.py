"""Pods that a NoExecute taint drives from their node: the taint eviction controller.

A Pod that does not tolerate such a taint is deleted at once; one that tolerates it for some seconds, after those. The taint
`unreachable`, which this API's own node controller sets, evicts nobody here: in a lab a kubelet is often stopped on purpose.
Knowledge: pkg/controller/tainteviction (taint_eviction.go).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from labkit.apiserver import api_resources
from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.controllers.controller import RETRY_S, Controller
from labkit.apiserver.controllers.event_recorder import with_condition
from labkit.apiserver.controllers.nodes import UNREACHABLE
from labkit.apiserver.objects.rest import Api
from labkit.podspec.matching import tolerates

log = logging.getLogger("kubeapi")
PODS = api_resources.BY_PLURAL["pods"]


class TaintEviction(Controller):
    """Knows since when each Pod is under a taint that it tolerates for a while."""

    component = "taint-eviction-controller"
    resources = ("nodes", "pods")

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.since: dict[str, float] = {}

    def reconcile(self, now: float) -> float:
        """Delete every Pod whose time is over; returns the seconds until the next one's is."""
        taints = {
            name: [taint for taint in (entry.obj.get("spec") or {}).get("taints") or []
                   if taint.get("effect") == "NoExecute" and taint.get("key") != UNREACHABLE]
            for (_, name), entry in self.api.store.list("nodes")
        }
        soonest, under = math.inf, set()
        for (namespace, name), entry in self.api.store.list("pods"):
            pod = entry.obj
            uid, on_node = pod["metadata"]["uid"], taints.get(pod["spec"].get("nodeName") or "")
            if not on_node or "deletionTimestamp" in pod["metadata"]:
                continue
            left = lasting(pod, on_node) - (now - self.since.setdefault(uid, now))
            under.add(uid)
            if left <= 0:
                try:
                    self.evict(namespace, name, pod)
                    continue
                except ApiError as error:
                    log.warning("the Pod %s/%s could not be evicted: %s", namespace, name, error)
                    left = RETRY_S
            soonest = min(soonest, left)
        for uid in [uid for uid in self.since if uid not in under]:
            del self.since[uid]
        return soonest

    def evict(self, namespace: str, name: str, pod: Mapping[str, Any]) -> None:
        self.recorder.event(pod, "Pod", "Normal", "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        words = "Taint manager: deleting due to NoExecute taint"
        self.api.store.put("pods", with_condition(pod, "DisruptionTarget", "True", "DeletionByTaintManager", words))
        self.api.delete(PODS, namespace, name)


def lasting(pod: Mapping[str, Any], taints: list[Mapping[str, Any]]) -> float:
    """Seconds that a Pod stays under these taints: 0 where it does not tolerate one, for ever where nothing limits it."""
    tolerations = pod["spec"].get("tolerations") or []
    used = [next((each for each in tolerations if tolerates(each, taint)), None) for taint in taints]
    if None in used:
        return 0
    limits = [each["tolerationSeconds"] for each in used if each and each.get("tolerationSeconds") is not None]
    return max(min(limits, default=math.inf), 0)
