"""What the runtime holds of a Pod, as data: its sandboxes and containers. `core.runtime` reads it.

The real kubelet's are PodStatus and Status in container/runtime.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING, CREATED, EXITED, UNKNOWN = "running", "created", "exited", "unknown"


@dataclass(frozen=True)
class Sandbox:
    """One sandbox of a Pod. `ips` are its addresses, empty on the host's network; `created` is ns since 1970."""

    id: str
    attempt: int
    ready: bool
    ips: tuple[str, ...]
    created: int
    host_network: bool = False


@dataclass(frozen=True)
class Container:
    """One attempt of a container as the runtime tells of it. Times are ns since 1970, 0 where there is none.

    `state` is "created" (and never started), "running", "exited" or "unknown"; `message` is what the container left as its last
    words.
    """

    id: str
    name: str
    state: str
    attempt: int
    hash: str
    image: str
    image_id: str
    created: int
    started: int
    finished: int
    exit_code: int
    reason: str
    message: str
    user: Mapping[str, Any] | None = None
    log_path: str = ""
    stop_signal: str = ""


@dataclass(frozen=True)
class PodRuntime:
    """All of a Pod in the runtime: `sandboxes` and `containers` newest first, dead ones too. It was asked at `at`
    (time.monotonic()): what happened before is in it."""

    uid: str
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
    at: float = field(default=0.0, compare=False)

    def newest(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name), None)

    def attempts(self, name: str) -> list[Container]:
        return [c for c in self.containers if c.name == name]

    @property
    def running(self) -> list[Container]:
        return [c for c in self.containers if c.state == RUNNING]

    @property
    def states(self) -> dict[str, object]:
        """Id → state of everything: differs when something came, went or changed."""
        return {**{box.id: box.ready for box in self.sandboxes}, **{c.id: c.state for c in self.containers}}

    @property
    def ips(self) -> tuple[str, ...]:
        return self.sandboxes[0].ips if self.sandboxes and self.sandboxes[0].ready else ()


@dataclass(frozen=True)
class Probed:
    """What the probes found, container id → True (success) or False (failure); nothing where none has run yet."""

    liveness: Mapping[str, bool] = field(default_factory=dict)
    readiness: Mapping[str, bool] = field(default_factory=dict)
    startup: Mapping[str, bool] = field(default_factory=dict)
