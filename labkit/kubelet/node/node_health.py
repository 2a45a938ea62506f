"""Is the runtime up, is its network, is the machine short of anything: what makes the node Ready or not.

Knowledge: kubelet.go (updateRuntimeUp), runtime.go (runtimeState), eviction's helpers and nodestatus/setters.go.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError

LOOK_EVERY_S = 5.0
DOWN_AFTER_S = 30.0
"""A runtime that did not answer for so long is called down (baseRuntimeSyncThreshold)."""


class RuntimeState:
    """What the runtime last reported of itself. Safe to use from several threads.

    `pleg` gives the words of a relist that hangs, or "" (it is asked whenever `errors` is).
    """

    def __init__(self, cri: CriClient, pleg: Callable[[], str] = lambda: "", clock: Callable[[], float] = time.monotonic) -> None:
        self.cri, self.pleg, self.clock = cri, pleg, clock
        self.lock = threading.Lock()
        self.answered: float | None = None
        self.started, self.looked = clock(), float("-inf")
        self.runtime = ""
        self.network = "container runtime network not ready: <nil>"
        self.handlers: list[dict[str, Any]] = []
        self.strict_groups = False

    def look(self, max_age_s: float = 0.0) -> None:
        """Ask the runtime (CRI Status), unless its last answer is younger than `max_age_s`. Never raises."""
        with self.lock:
            if self.clock() - self.looked <= max_age_s:
                return
            self.looked = self.clock()
            try:
                status = self.cri.status(timeout=5.0)
            except CriError:
                return
            found = {c.type: c for c in status.status.conditions}
            self.network = words_of("container runtime network not ready", found.get("NetworkReady"))
            self.runtime = words_of("container runtime not ready", found.get("RuntimeReady"))
            self.handlers = [handler(h) for h in status.runtime_handlers]
            self.strict_groups = status.features.supplemental_groups_policy
            self.answered = self.clock()

    def network_error(self, max_age_s: float = 1.0) -> str:
        """Why no Pod can have a network now, "" where one can: "container runtime network not ready: NetworkReady=false …"."""
        self.look(max_age_s)
        return self.network

    def read_only_recursively(self, name: str = "") -> bool:
        """Whether the runtime's handler of that name can make a mount read-only with all that is mounted below it."""
        return any(h["name"] == name and h["features"]["recursiveReadOnlyMounts"] for h in self.handlers)

    def runtime_errors(self) -> list[str]:
        """What is wrong with the runtime or with relisting it."""
        since = self.clock() - (self.started if self.answered is None else self.answered)
        if self.answered is None:
            down = "container runtime status check may not have completed yet"
        else:
            down = "container runtime is down" if since > DOWN_AFTER_S else ""
        return [text for text in (down, self.runtime, self.pleg()) if text]

    def errors(self) -> list[str]:
        """Everything for which the node is not Ready."""
        return [*self.runtime_errors(), *([self.network] if self.network else [])]


def words_of(what: str, condition: Any) -> str:
    """ "" where a condition of the runtime holds, else the kubelet's words for it."""
    if condition is None:
        return f"{what}: <nil>"
    if condition.status:
        return ""
    return f"{what}: {condition.type}=false reason:{condition.reason} message:{condition.message}"


def handler(runtime_handler: Any) -> dict[str, Any]:
    features = runtime_handler.features
    known = {"recursiveReadOnlyMounts": features.recursive_read_only_mounts, "userNamespaces": features.user_namespaces}
    return {"name": runtime_handler.name, "features": known}


@dataclass(frozen=True)
class Thresholds:
    """Below these the node says that it is under pressure: bytes of memory, bytes of disk, process ids."""

    memory: int = 100 * 2**20
    disk: int = 100 * 2**20
    pids: int = 100


def pressures(root: Path, thresholds: Thresholds = Thresholds(), proc: Path = Path("/proc")) -> tuple[bool, bool, bool]:
    """Whether memory, the disk that `root` is on, and process ids run short.

    Sources: MemAvailable of /proc/meminfo, statvfs, and the threads of /proc/loadavg against kernel/pid_max.
    """
    disk = os.statvfs(root)
    threads = int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    pids = int((proc / "sys/kernel/pid_max").read_text()) - threads
    return (
        meminfo(proc)["MemAvailable"] < thresholds.memory,
        disk.f_bavail * disk.f_frsize < thresholds.disk,
        pids < thresholds.pids,
    )


def meminfo(proc: Path = Path("/proc")) -> dict[str, int]:
    """/proc/meminfo in bytes (man 5 proc_meminfo); what is no size is left out."""
    lines = (line.split() for line in (proc / "meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}
