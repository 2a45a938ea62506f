"""Waiting in a test for what must come about. The limit is one that a machine under load does not reach: only a fault does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WITHIN_S = 60.0


def wait_for(true: Callable[[], Any], what: str = "", seconds: float = WITHIN_S) -> Any:
    """Poll until something is true; what it was. An AssertionError says what was waited for."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for: {what or 'what the test waits for'}"
        time.sleep(0.01)
    return found
