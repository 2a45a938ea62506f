"""Pods that hold more of the node's disk than their own limits allow are ended: Evicted.

Only a Pod that names such a limit is looked at. Knowledge: kubelet's eviction/eviction_manager.go (localStorageEviction) and
eviction/helpers.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CriClient
from labkit.kubelet.core.pod_state import PodStage, PodState
from labkit.kubelet.volumes.pod_volumes import Volumes
from labkit.podspec import volume_kind
from labkit.podspec.messages.configs import CONTAINER_NAME, POD_UID
from labkit.podspec.quantity import binary, whole
from labkit.podspec.requests import pod_total
from labkit.util.trees import usage

REASON = "Evicted"
STORAGE = "ephemeral-storage"
CRITICAL = 2_000_000_000
"""From this priority on no Pod is evicted."""


@dataclass(frozen=True)
class Eviction:
    """Finds Pods that are over a limit of their own. `volumes` knows where theirs lie, `logs` is the directory of Pods' logs."""

    cri: CriClient
    volumes: Volumes
    logs: Path

    def why(self, pod: Mapping[str, Any]) -> str:
        """The kubelet's words for what a Pod has too much of, "" for nothing. Raises CriError."""
        if pod["spec"].get("priority", 0) >= CRITICAL or not (has_sized_volume(pod) or has_storage_limit(pod)):
            return ""
        if why := self.volume_over(pod):
            return why
        return self.containers_over(pod) if has_storage_limit(pod) else ""

    def volume_over(self, pod: Mapping[str, Any]) -> str:
        for volume in pod["spec"].get("volumes", ()):
            limit = (volume.get("emptyDir") or {}).get("sizeLimit")
            place = self.volumes.place(pod, volume)
            if limit is not None and place is not None and 0 < whole(limit) < usage(place):
                return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
        return ""

    def containers_over(self, pod: Mapping[str, Any]) -> str:
        """First the whole Pod against the limits that its containers have together, then each container against its own."""
        used, metadata = self.layers(pod["metadata"]["uid"]), pod["metadata"]
        logs = self.logs / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        for name in used:
            used[name] += usage(logs / name)
        limits = {c["name"]: limit for c in pod["spec"]["containers"] if (limit := c["resources"].get("limits", {}).get(STORAGE))}
        places = (self.volumes.place(pod, v) for v in pod["spec"].get("volumes", ()) if on_disk(v))
        whole_use = sum(used.values()) + sum(usage(place) for place in places if place is not None)
        allowed = pod_total(pod, "limits")[STORAGE]
        if whole_use > allowed:
            shown = next((limit for limit in limits.values() if whole(limit) == allowed), binary(allowed))
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
        for name, limit in limits.items():
            if used.get(name, 0) > whole(limit):
                return f'Container {name} exceeded its local ephemeral storage limit "{limit}". '
        return ""

    def layers(self, uid: str) -> dict[str, int]:
        """Container → bytes of its writable layer."""
        stats = self.cri.list_container_stats(filter={"label_selector": {POD_UID: uid}}).stats
        return {s.attributes.labels.get(CONTAINER_NAME, ""): s.writable_layer.used_bytes.value for s in stats}


def evict(pods: Iterable[PodState], eviction: Eviction) -> Iterator[tuple[PodState, str]]:
    """End every Pod that is over a limit, with a second to stop. Yields each with the message of its event. Raises CriError."""
    for state in pods:
        if state.deleted or state.progress.stage > PodStage.SYNCING or not state.runtime.running:
            continue
        if why := eviction.why(state.pod):
            state.progress.killed, state.progress.grace_s = (REASON, why), 1
            state.progress.reach(PodStage.TERMINATING)
            yield state, why


def has_sized_volume(pod: Mapping[str, Any]) -> bool:
    return any((volume.get("emptyDir") or {}).get("sizeLimit") is not None for volume in pod["spec"].get("volumes", ()))


def has_storage_limit(pod: Mapping[str, Any]) -> bool:
    return STORAGE in pod_total(pod, "limits")


def on_disk(volume: Mapping[str, Any]) -> bool:
    """Whether a volume counts as the Pod's own use of the disk (LocalEphemeralVolumes)."""
    kind = volume_kind(volume)
    return kind == "configMap" or (kind == "emptyDir" and (volume["emptyDir"] or {}).get("medium") != "Memory")
