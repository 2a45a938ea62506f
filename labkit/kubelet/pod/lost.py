"""Containers that the runtime knows nothing of, though they ran, or should have: how their status reports that they ended. Pure.

Knowledge: kubelet_pods.go (convertToAPIContainerStatuses) and status/status_manager.go (TerminatePod, hasPodInitialized).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.podspec.container_kinds import is_sidecar

Status = dict[str, Any]

LOST = {
    "exitCode": 137,
    "finishedAt": None,
    "message": "The container could not be located when the pod was deleted.  The container used to be Running",
    "reason": "ContainerStatusUnknown",
    "startedAt": None,
}
"""How a container ended that ran, and of which the runtime knows nothing any more."""

NEVER_SEEN = {**LOST, "message": "The container could not be located when the pod was terminated"}
"""How a container ended that waited when its Pod ended."""


UNSEEN_INIT = {
    "exitCode": 0,
    "finishedAt": None,
    "message": "Unable to get init container status from container runtime and pod has been initialized, "
               "treat it as exited normally",
    "reason": "Completed",
    "startedAt": None,
}
"""How an init container ended of which nobody knows, though those that follow it have begun."""


def terminate(spec: Mapping[str, Any], init: list[Status], regular: list[Status]) -> None:
    """Give an end to what has none, now that the Pod has ended: to the init containers as far as it had come (the first one in
    any case), and to the regular ones if it had come to them."""
    begun = [index for index, s in enumerate(init) if "waiting" not in s["state"] or "terminated" in s["lastState"]]
    over = init[: max([0, *begun]) + 1]
    if _initialized(spec, init, regular):
        over = [*over, *regular]
    for status in over:
        if "terminated" not in status["state"]:
            status["state"] = {"terminated": dict(NEVER_SEEN)}


def _initialized(spec: Mapping[str, Any], init: list[Status], regular: list[Status]) -> bool:
    """Whether the regular containers had their turn."""
    if not init or any("waiting" not in status["state"] or "terminated" in status["lastState"] for status in regular):
        return True
    if is_sidecar(spec["initContainers"][-1]):
        return bool(init[-1].get("started"))
    ends = (init[-1][key].get("terminated") for key in ("state", "lastState"))
    return any(end is not None and end["exitCode"] == 0 for end in ends)
