"""All volumes of a Pod: set up before its containers start, tried again when one fails, and kept up to date.

Knowledge: kubelet's volumemanager/volume_manager.go (WaitForAttachAndMount), util/goroutinemap/exponentialbackoff.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.volumes.pod_volumes import FILLED, MountError, Volumes
from labkit.podspec import volume_kind

REFRESH_S = 60.0
RETRY_S, RETRY_LONGEST_S = 0.5, 122.0
TIMEOUT_S = 123.0


@dataclass
class Mounts:
    """A Pod's volumes. `mounted`: all were set up once. `tries` and `since` (time.monotonic()) count what has failed since then,
    `refreshed` is when they were set up last."""

    mounted: bool = False
    tries: int = 0
    since: float = 0.0
    refreshed: float = 0.0


class VolumeManager:
    def __init__(self, volumes: Volumes, recorder: EventRecorder, time_scale: float = 1.0) -> None:
        self.volumes, self.recorder, self.time_scale = volumes, recorder, time_scale
        self._mounts: dict[str, Mounts] = {}

    def up_to_date(self, pod: Mapping[str, Any]) -> bool:
        """Whether all volumes are mounted, and none that is made of API objects is older than a minute."""
        mounts = self._mounts.get(pod["metadata"]["uid"], Mounts())
        return mounts.mounted and not (is_filled(pod) and time.monotonic() - mounts.refreshed > REFRESH_S)

    def mount(self, pod: Mapping[str, Any], ips: Sequence[str]) -> float | None:
        """Set up every volume. None when the containers can start, else the seconds until the next try: half a second at first,
        then twice as long each time."""
        mounts, now = self._mounts.setdefault(pod["metadata"]["uid"], Mounts()), time.monotonic()
        failed = []
        for volume in pod["spec"].get("volumes", ()):
            try:
                self.volumes.set_up(pod, volume, ips)
            except MountError as error:
                self.recorder.pod_event(pod, "Warning", "FailedMount", error.event())
                failed.append(volume["name"])
        mounts.refreshed = now
        if not failed:
            mounts.mounted, mounts.tries, mounts.since = True, 0, 0.0
        if mounts.mounted:
            return None
        mounts.since = mounts.since or now
        if now - mounts.since > TIMEOUT_S * self.time_scale:
            mounts.since = now
            message = f"Unable to attach or mount volumes: unmounted volumes=[{' '.join(failed)}], unattached volumes=[], "
            message += "failed to process volumes=[]: context deadline exceeded"
            self.recorder.pod_event(pod, "Warning", "FailedMount", message)
        wait = min(RETRY_S * 2**mounts.tries, RETRY_LONGEST_S)
        mounts.tries = min(mounts.tries + 1, 16)
        return wait * self.time_scale

    def remove(self, uid: str, *, everything: bool) -> None:
        """As `Volumes.remove`."""
        self._mounts.pop(uid, None)
        self.volumes.remove(uid, everything=everything)


def is_filled(pod: Mapping[str, Any]) -> bool:
    """Whether a volume is made of API objects, which may change."""
    return any(volume_kind(volume) in FILLED for volume in pod["spec"].get("volumes", ()))
