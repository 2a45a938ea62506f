"""What a claim stands for: claim → persistent volume → its source, as if the Pod named that itself.

Knowledge: kubelet's volumemanager/populator/desired_state_of_world_populator.go (createVolumeSpec, getPVCExtractPV, getPVSpec).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labkit.kubelet.api import ApiClient, ApiClientError, segment
from labkit.podspec import own_claim_name

CLAIMS = ("persistentVolumeClaim", "ephemeral")
ABOUT_ALL = ("capacity", "accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "mountOptions",
             "volumeMode", "nodeAffinity", "volumeAttributesClassName")
"""Fields of a persistent volume's spec that are not its source."""


class NotBound(Exception):
    """There is no volume to mount for a claim; the words are the kubelet's."""


@dataclass(frozen=True)
class VolumeSource:
    """A volume of a Pod as it is to be mounted. `volume`: a name and a source, as in a manifest, the name being the persistent
    volume's where a claim led to one. `read_only`: the claim may only be read."""

    volume: Mapping[str, Any]
    read_only: bool = False


def resolve(api: ApiClient, pod: Mapping[str, Any], volume: Mapping[str, Any]) -> VolumeSource:
    """The source that a volume of kind persistentVolumeClaim or ephemeral stands for. Raises NotBound."""
    namespace, own = pod["metadata"]["namespace"], "ephemeral" in volume
    wanted = {"claimName": own_claim_name(pod, volume)} if own else volume["persistentVolumeClaim"]
    name = wanted["claimName"]
    try:
        claim = _read(api, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", name, "PVC")
        if own and not _belongs(claim, pod):
            whose = f"{namespace}/{pod['metadata']['name']}"
            raise NotBound(f"PVC {namespace}/{name} was not created for pod {whose} (pod is not owner)")
        if "deletionTimestamp" in claim["metadata"]:
            raise NotBound("PVC is being deleted")
        bound = claim["spec"].get("volumeName")
        if (claim.get("status") or {}).get("phase") != "Bound" or not bound:
            raise NotBound("PVC is not bound")
        persistent = _read(api, "/api/v1/persistentvolumes", bound, f"PV {bound}")
        if (persistent["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
            raise NotBound(f"found PV object {bound} with unexpected pv.Spec.ClaimRef.UID, not that of the claim")
    except NotBound as error:
        raise NotBound(f"error processing PVC {namespace}/{name}: {error}") from None
    source = {key: value for key, value in persistent["spec"].items() if key not in ABOUT_ALL}
    return VolumeSource({"name": bound, **source}, bool(wanted.get("readOnly")))


def _read(api: ApiClient, collection: str, name: str, what: str) -> dict[str, Any]:
    try:
        return api.get(f"{collection}/{segment(name)}")
    except ApiClientError as error:
        raise NotBound(f"failed to fetch {what} from API server: {error}") from None


def _belongs(claim: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    return any(owner.get("uid") == pod["metadata"]["uid"] for owner in claim["metadata"].get("ownerReferences") or ())
