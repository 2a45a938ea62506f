"""Which Pods must be synced, and when. A Pod is queued at most once and is never given to two threads at a time.

Knowledge: client-go's util/workqueue (queue.go, delaying_queue.go), kubelet's util/queue/work_queue.go.
"""

from __future__ import annotations

import threading
import time


class WorkQueue:
    """Uids of Pods. What is added while it is being worked on is given out once more afterwards. Safe to use from any thread."""

    def __init__(self) -> None:
        self._ready: dict[str, None] = {}  # in the order in which they were added
        self._due: dict[str, float] = {}  # time.monotonic()
        self._processing: set[str] = set()
        self._changed = threading.Condition()

    def add(self, uid: str) -> None:
        with self._changed:
            self._ready[uid] = None
            self._changed.notify()

    def add_after(self, uid: str, seconds: float) -> None:
        """Add the Pod later, unless it is added before."""
        with self._changed:
            self._due[uid] = time.monotonic() + seconds
            self._changed.notify()

    def get(self) -> str:
        """Wait for the next Pod that nobody works on. `done` must follow."""
        with self._changed:
            while True:
                now = time.monotonic()
                for uid in [uid for uid, due in self._due.items() if due <= now]:
                    self._ready[uid] = None
                    del self._due[uid]
                free = next((uid for uid in self._ready if uid not in self._processing), None)
                if free is not None:
                    del self._ready[free]
                    self._due.pop(free, None)
                    self._processing.add(free)
                    return free
                self._changed.wait(min(self._due.values()) - now if self._due else None)

    def done(self, uid: str) -> None:
        with self._changed:
            self._processing.discard(uid)
            self._changed.notify()

    def busy(self, uid: str) -> bool:
        """Whether somebody works on the Pod now."""
        with self._changed:
            return uid in self._processing

    def due(self, uid: str) -> float | None:
        """When the Pod is given out (time.monotonic()): 0 where it is ready, None where it is neither ready nor due."""
        with self._changed:
            return 0.0 if uid in self._ready else self._due.get(uid)
