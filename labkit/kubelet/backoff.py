"""Exponential back-off by key, for crashes and pulls. Knowledge: client-go's util/flowcontrol/backoff.go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Delay:
    """`seconds` to wait, counted from `since` (seconds since 1970)."""

    seconds: float
    since: float


class Backoff:
    """Delays that double with each `next`, from `initial` to `longest` seconds. A key that was quiet for twice the longest
    delay starts anew. Safe to use from several threads."""

    def __init__(self, initial: float, longest: float, clock: Callable[[], float] = time.time) -> None:
        self.initial, self.longest, self.clock = initial, longest, clock
        self._delays: dict[str, Delay] = {}
        self._lock = threading.Lock()

    def next(self, key: str, event_time: float) -> None:
        """Something failed at `event_time` (seconds since 1970): the delay doubles, and counts from now."""
        with self._lock:
            known = self._known(key, event_time)
            seconds = min(known.seconds * 2, self.longest) if known else self.initial
            self._delays[key] = Delay(seconds, self.clock())

    def left_since(self, key: str, event_time: float) -> float:
        """Seconds to wait still, when the delay counts from `event_time`; 0 when there is none."""
        with self._lock:
            known = self._known(key, event_time)
        return max(known.seconds - (self.clock() - event_time), 0.0) if known else 0.0

    def left(self, key: str) -> float:
        """Seconds to wait still, when the delay counts from the last `next`."""
        now = self.clock()
        with self._lock:
            known = self._known(key, now)
        return max(known.seconds - (now - known.since), 0.0) if known else 0.0

    def seconds(self, key: str) -> float:
        """The whole delay as it is now; 0 when there is none."""
        with self._lock:
            known = self._delays.get(key)
        return known.seconds if known else 0.0

    def remember(self, key: str, failures: int, event_time: float) -> None:
        """Take up a delay where an earlier process left it: after `failures` times `next`, the last at `event_time`."""
        with self._lock:
            if failures > 0 and key not in self._delays:
                self._delays[key] = Delay(min(self.initial * 2 ** min(failures - 1, 30), self.longest), event_time)

    def forget(self, prefix: str) -> None:
        """Drop every key that begins with `prefix`."""
        with self._lock:
            for key in [key for key in self._delays if key.startswith(prefix)]:
                del self._delays[key]

    def _known(self, key: str, event_time: float) -> Delay | None:
        known = self._delays.get(key)
        return None if known is None or event_time - known.since > self.longest * 2 else known
