"""PersistentVolumeClaims find PersistentVolumes: a small part of the controller that does it in a cluster.

Nothing is provisioned and nothing is deleted on a disk: a claim is bound when somebody makes a volume that suits it. Knowledge:
pkg/controller/volume/persistentvolume (pv_controller.go, index.go), whose words the events have.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.objects.rest import Api
from labkit.podspec.matching import class_of, labels, selects
from labkit.podspec.quantity import exact

log = logging.getLogger("kubeapi")

Manifest = Mapping[str, Any]
CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
BY_CONTROLLER, COMPLETED = "pv.kubernetes.io/bound-by-controller", "pv.kubernetes.io/bind-completed"
NOTHING_SUITS = "no persistent volumes available for this claim and no storage class is set"
LOST = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"


class Binder(Controller):
    """Binds claims to volumes after each change of either."""

    component = "persistentvolume-controller"
    resources = (CLAIMS, VOLUMES)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.reported: dict[str, str] = {}

    def reconcile(self, now: float) -> float:
        """Every claim in turn, then the phase of every volume."""
        for claim in self.objects(CLAIMS):
            try:
                self.settle_claim(claim)
            except ApiError:
                raise
            except Exception as error:  # of this claim: the others are bound all the same
                log.exception("the claim %s cannot be settled", claim["metadata"]["name"])
                self.say(claim, "Warning", "FailedBinding", f"{type(error).__name__}: {error}")
        claims = {claim["metadata"]["uid"]: claim for claim in self.objects(CLAIMS)}
        for volume in self.objects(VOLUMES):
            phase = phase_of(volume, claims)
            if phase == "Released" and (failure := not_reclaimed(volume)):
                self.fail(volume, *failure)
            else:
                self.phase(VOLUMES, volume, phase)
        return math.inf

    def fail(self, volume: Manifest, reason: str, message: str) -> None:
        """A volume that its policy would delete or recycle, and nobody here does."""
        status = {"phase": "Failed", "message": message, "reason": ""}
        if (volume.get("status") or {}).get("phase") != "Failed":
            self.store.put(VOLUMES, annotated(volume, {}) | {"status": {k: v for k, v in status.items() if v}})
            self.recorder.event(volume, "PersistentVolume", "Warning", reason, message)

    def settle_claim(self, claim: Manifest) -> None:
        phase, name = (claim.get("status") or {}).get("phase"), claim["spec"].get("volumeName")
        volumes = self.objects(VOLUMES)
        named = next((v for v in volumes if v["metadata"]["name"] == name), None)
        if phase == "Bound" or COMPLETED in (claim["metadata"].get("annotations") or {}):
            if named is None:
                self.phase(CLAIMS, claim, "Lost")
                self.say(claim, "Warning", "ClaimLost", LOST)
            elif phase != "Bound":
                self.bind(claim, named)
            return
        self.phase(CLAIMS, claim, "Pending")
        if name:
            if named is not None:
                self.bind_as_asked(claim, named)
        elif volume := best(claim, volumes):
            self.bind(claim, volume)
        elif class_name := class_of(claim):
            self.say(claim, "Warning", "ProvisioningFailed", f'storageclass.storage.k8s.io "{class_name}" not found')
        else:
            self.say(claim, "Normal", "FailedBinding", NOTHING_SUITS)

    def bind_as_asked(self, claim: Manifest, volume: Manifest) -> None:
        """A claim that names its volume gets that one or none."""
        name = volume["metadata"]["name"]
        if not is_free_for(claim, volume):
            self.say(claim, "Warning", "FailedBinding", f'volume "{name}" already bound to a different claim.')
        elif why := misfit(claim, volume):
            self.say(claim, "Warning", "VolumeMismatch", f'Cannot bind to requested volume "{name}": {why}')
        else:
            self.bind(claim, volume)

    def bind(self, claim: Manifest, volume: Manifest) -> None:
        """Each names the other; the volume first, so that a kill between the two is mended at the next start."""
        meta = claim["metadata"]
        reference = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta["namespace"], "name": meta["name"],
                     "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        if (volume["spec"].get("claimRef") or {}).get("uid") != meta["uid"]:
            chosen = annotated(volume, {} if volume["spec"].get("claimRef") else {BY_CONTROLLER: "yes"})
            status = {**(volume.get("status") or {}), "phase": "Bound"}
            self.store.put(VOLUMES, chosen | {"spec": {**volume["spec"], "claimRef": reference}, "status": status})
        marks = {COMPLETED: "yes", **({} if claim["spec"].get("volumeName") else {BY_CONTROLLER: "yes"})}
        spec = {**claim["spec"], "volumeName": volume["metadata"]["name"]}
        got = {"phase": "Bound", "accessModes": volume["spec"]["accessModes"], "capacity": volume["spec"]["capacity"]}
        self.store.put(CLAIMS, annotated(claim, marks) | {"spec": spec, "status": got})
        self.reported.pop(meta["uid"], None)

    def phase(self, resource: str, obj: Manifest, phase: str) -> None:
        status = obj.get("status") or {}
        if status.get("phase") != phase:
            self.store.put(resource, annotated(obj, {}) | {"status": {**status, "phase": phase}})

    def say(self, claim: Manifest, type_: str, reason: str, message: str) -> None:
        """An event, once for each claim until something else is to be said of it."""
        uid = claim["metadata"]["uid"]
        if self.reported.get(uid) != message:
            self.reported[uid] = message
            self.recorder.event(claim, "PersistentVolumeClaim", type_, reason, message)

    def objects(self, resource: str) -> list[Any]:
        return [e.obj for _, e in self.store.list(resource)]


def best(claim: Manifest, volumes: Iterable[Manifest]) -> Manifest | None:
    """The volume that names this claim, whatever its class and labels, else the smallest that suits it (FindMatchingVolume)."""
    free = [v for v in volumes if is_free_for(claim, v)]
    named = [v for v in free if v["spec"].get("claimRef") and not misfit(claim, v, any_class=True)]
    selector = claim["spec"].get("selector")
    suit = named or [v for v in free if not misfit(claim, v) and (selector is None or selects(selector, labels(v)))]
    return min(suit, key=lambda v: (capacity(v), v["metadata"]["name"]), default=None)


def is_free_for(claim: Manifest, volume: Manifest) -> bool:
    """Nobody's, or reserved for this claim by name (and not for an earlier claim of that name)."""
    meta, reference = claim["metadata"], volume["spec"].get("claimRef")
    if volume["metadata"].get("deletionTimestamp"):
        return False
    if not reference:
        return True
    same_name = (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"])
    return same_name and reference.get("uid") in (None, "", meta["uid"])


def misfit(claim: Manifest, volume: Manifest, *, any_class: bool = False) -> str:
    """Why a volume does not suit a claim, "" where it does (checkVolumeSatisfyClaim)."""
    wanted, there = claim["spec"], volume["spec"]
    if exact((wanted.get("resources") or {}).get("requests", {}).get("storage", 0)) > capacity(volume):
        return "requested PV is too small"
    if not any_class and class_of(claim) != class_of(volume):
        return "storageClassName does not match"
    if (wanted.get("volumeAttributesClassName") or "") != (there.get("volumeAttributesClassName") or ""):
        return "volumeAttributesClassName does not match"
    if (wanted.get("volumeMode") or "Filesystem") != (there.get("volumeMode") or "Filesystem"):
        return "incompatible volumeMode"
    if not set(wanted.get("accessModes") or []) <= set(there.get("accessModes") or []):
        return "incompatible accessMode"
    return ""


def capacity(volume: Manifest) -> Any:
    return exact((volume["spec"].get("capacity") or {}).get("storage", 0))


def phase_of(volume: Manifest, claims: Mapping[str, Manifest]) -> str:
    """Available, Bound, or Released: its claim is gone, and only a person may give it to another."""
    reference = volume["spec"].get("claimRef")
    if not reference or not reference.get("uid"):
        return "Available"
    return "Bound" if reference["uid"] in claims else "Released"


def not_reclaimed(volume: Manifest) -> tuple[str, str] | None:
    """Reason and words of the failure to do what a released volume's policy asks; None where it says Retain."""
    policy, spec = volume["spec"].get("persistentVolumeReclaimPolicy"), volume["spec"]
    if policy == "Delete" and "hostPath" in spec and not spec["hostPath"]["path"].startswith("/tmp/"):
        words = f"host_path deleter only supports /tmp/.+ but received provided {spec['hostPath']['path']}"
        return "VolumeFailedDelete", words
    if policy == "Delete":
        words = f'error getting deleter volume plugin for volume "{volume["metadata"]["name"]}"'
        return "VolumeFailedDelete", f"{words}: no deletable volume plugin matched"
    return ("VolumeFailedRecycle", "no recyclable volume plugin matched") if policy == "Recycle" else None


def annotated(obj: Manifest, marks: Mapping[str, str]) -> dict[str, Any]:
    """A copy that may be changed, with more annotations."""
    metadata = dict(obj["metadata"])
    if marks:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **marks}
    return {**obj, "metadata": metadata}
