"""Claims and the Pods that use them: ephemeral volumes get their claim, and what is in use is not removed.

Knowledge: pkg/controller/volume/{ephemeral,pvcprotection,pvprotection}.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.controllers.filters import claim_names
from labkit.apiserver.objects.strategy import IN_USE
from labkit.apiserver.storage.store import Object, WatchEvent
from labkit.podspec import own_claim_name

log = logging.getLogger("kubeapi")
Manifest = Mapping[str, Any]
CLAIMS = BY_PLURAL["persistentvolumeclaims"]


class EphemeralClaims(Controller):
    """Makes the claim of each generic ephemeral volume; the Pod owns it, so it goes with the Pod."""

    component = "ephemeral_volume"
    resources = ("pods", "persistentvolumeclaims")

    def matters(self, change: WatchEvent) -> bool:
        return change.resource != "pods" or (change.type == "ADDED" and any(own_claims(change.entry.obj)))

    def reconcile(self, now: float) -> float:
        for (namespace, _), entry in self.store.list("pods"):
            if "deletionTimestamp" in entry.obj["metadata"]:
                continue
            for claim in own_claims(entry.obj):
                if self.store.get(CLAIMS.plural, namespace, claim["metadata"]["name"]):
                    continue
                try:
                    self.api.create(CLAIMS, namespace, claim, self.options())
                except ApiError as error:
                    self.recorder.event(entry.obj, "Pod", "Warning", "FailedCreate", str(error))
        return math.inf


def own_claims(pod: Manifest) -> Iterator[Object]:
    """The claims that the Pod's ephemeral volumes ask for."""
    meta = pod["metadata"]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
    for volume in pod["spec"].get("volumes") or ():
        if template := (volume.get("ephemeral") or {}).get("volumeClaimTemplate"):
            own = {key: value for key, value in (template.get("metadata") or {}).items() if key in ("annotations", "labels")}
            references = [{**owner, "controller": True, "blockOwnerDeletion": True}]
            named = {"name": own_claim_name(pod, volume), "ownerReferences": references}
            yield {"metadata": {**own, **named}, "spec": template["spec"]}


class StorageProtection(Controller):
    """A claim goes when no Pod on a node uses it any more, a volume when no claim is bound to it."""

    component = "pvc-protection-controller"
    resources = ("pods", "persistentvolumeclaims", "persistentvolumes")

    def matters(self, change: WatchEvent) -> bool:
        return change.resource != "pods" or change.type == "DELETED"

    def reconcile(self, now: float) -> float:
        on_nodes = [(key[0], entry.obj) for key, entry in self.store.list("pods") if entry.obj["spec"].get("nodeName")]
        used = {(namespace, name) for namespace, pod in on_nodes for name in claim_names(pod)}
        for plural, finalizer in IN_USE.items():
            for key, entry in self.store.list(plural):
                meta = entry.obj["metadata"]
                free = key not in used if plural == CLAIMS.plural else (entry.obj.get("status") or {}).get("phase") != "Bound"
                if "deletionTimestamp" in meta and finalizer in (meta.get("finalizers") or ()) and free:
                    self.without_finalizer(BY_PLURAL[plural], entry.obj, finalizer)
        return math.inf
