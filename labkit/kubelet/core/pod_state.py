"""What the kubelet remembers of one Pod between two syncs: the Pod as it is, how far it has come, and what is counted.

Everything that must survive the kubelet is in the runtime or the API instead. Knowledge: pod_workers.go (podSyncStatus).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from labkit.kubelet.go_format import rfc3339
from labkit.kubelet.pod.pod_runtime import PodRuntime
from labkit.podspec import DefaultedPod

ENDED = ("Succeeded", "Failed")
"""Phases of Pods that do not run any more."""


class PodStage(IntEnum):
    """A Pod only ever goes on to a later stage (PodWorkerState in pod_workers.go)."""

    SYNCING = 0
    """It is to run."""
    TERMINATING = 1
    """It is to be stopped."""
    TERMINATED = 2
    """Nothing of it runs any more."""
    FINISHED = 3
    """Nothing is left of it on the node."""


@dataclass
class PodProgress:
    """How far a Pod has come. `killed`: reason and message where the kubelet itself ends it, `grace_s` the time that it then has.
    `reasons`: why containers wait, name → reason and message. `announced`: ids of the containers with a Killing event;
    `seen_ended`: of those that were seen to have ended."""

    stage: PodStage = PodStage.SYNCING
    adopted: bool = False
    cgroup: bool = False
    killed: tuple[str, str] | None = None
    grace_s: int | None = None
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    announced: set[str] = field(default_factory=set)
    seen_ended: set[str] = field(default_factory=set)

    def reach(self, stage: PodStage) -> None:
        self.stage = max(self.stage, stage)


@dataclass
class Timers:
    """`failures` and `refused`: how many syncs in a row broke off by an exception, and because the runtime refused a call.
    `changed_at`: when a list of the runtime (time.monotonic()) showed a change that no sync has looked at."""

    failures: int = 0
    refused: int = 0
    changed_at: float = 0.0


@dataclass
class PodState:
    """One Pod: `pod` is its manifest with defaults, `runtime` what the runtime held of it when it was last asked, `status` what
    the kubelet last reported. `first_seen` is a time in RFC 3339; `removed` says that the API has the Pod no more."""

    uid: str
    pod: DefaultedPod
    runtime: PodRuntime
    status: Mapping[str, Any]
    first_seen: str = field(default_factory=rfc3339)
    removed: bool = False
    progress: PodProgress = field(default_factory=PodProgress)
    timers: Timers = field(default_factory=Timers)

    @property
    def deleted(self) -> bool:
        """Whether the API wants the Pod gone, or has none any more."""
        return self.removed or "deletionTimestamp" in self.pod["metadata"]

    @property
    def ended(self) -> bool:
        """Whether nothing of the Pod runs any more."""
        return self.progress.stage >= PodStage.TERMINATED

    def deadline_left_s(self) -> float | None:
        """Seconds left of activeDeadlineSeconds, 0 when they are over, None where there are none."""
        deadline, started = self.pod["spec"].get("activeDeadlineSeconds"), self.status.get("startTime")
        if deadline is None or not started or self.status.get("phase") in ENDED:
            return None
        since = datetime.strptime(started, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        return max(deadline - (time.time() - since), 0.0)

    def grace_s(self, of_probe: int | None = None) -> int:
        """Seconds that a container has to stop: at least one, as the kubelet has it."""
        given = self.progress.grace_s
        if given is None:
            given = self.pod["metadata"].get("deletionGracePeriodSeconds")
        if given is None:
            given = of_probe if of_probe is not None else self.pod["spec"]["terminationGracePeriodSeconds"]
        return max(int(given), 1)

    @property
    def name(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"
