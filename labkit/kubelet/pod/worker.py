"""What the kubelet remembers of one Pod between two looks at it.

Everything that must survive the kubelet is in the runtime or the API instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labkit.kubelet.go_format import rfc3339
from labkit.kubelet.images import Login
from labkit.kubelet.pod.runtime import PodRuntime
from labkit.podspec import DefaultedPod


@dataclass
class Worker:
    """One Pod: `pod` is its manifest with defaults and the API's status. `ending` says that it is to be stopped, `killed` why the
    kubelet itself ends it (reason, message), `ended` that nothing of it runs any more, `gone` that nothing of it is left.
    `failures`, `refused`: how many of the last syncs broke off by an exception, and because the runtime refused a call.
    `heard`: when a list of the runtime (time.monotonic()) showed a change of it that came while it was busy. `told`: the
    containers of whose stopping an event told; `seen_ended`: those that were seen to have ended."""

    uid: str
    pod: DefaultedPod
    runtime: PodRuntime
    status: Mapping[str, Any]
    seen: str = field(default_factory=rfc3339)
    busy: bool = False
    again: bool = False
    due: float = 0.0
    heard: float = 0.0
    ending: bool = False
    ended: bool = False
    gone: bool = False
    failures: int = 0
    refused: int = 0
    removed: bool = False
    adopted: bool = False
    grace: int | None = None
    killed: tuple[str, str] | None = None
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    seen_ended: set[str] = field(default_factory=set)
    logins: Sequence[Login] = ()
    cgroup: bool = False
    mounted: bool = False
    mount_tries: int = 0
    mount_since: float = 0.0
    refreshed: float = 0.0

    @property
    def deleted(self) -> bool:
        """Whether the API wants the Pod gone, or has none any more."""
        return self.removed or "deletionTimestamp" in self.pod["metadata"]

    @property
    def name(self) -> str:
        return f"{self.pod['metadata']['namespace']}/{self.pod['metadata']['name']}"
