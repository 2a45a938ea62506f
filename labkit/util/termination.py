"""Ending processes: SIGTERM, time to clean up, then SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterable

from labkit.util.progress import attempts

KILLED_WITHIN_S = 10.0


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def terminate(find_pid: Callable[[], int | None], gone: Callable[[], object], grace_s: float) -> bool:
    """Send SIGTERM until `gone()` is true, SIGKILL after `grace_s` seconds. Whether it is gone.

    find_pid: called each time, since a process that has just started may not have noted its pid yet; None where it has not.
    """
    for number, within_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILLED_WITHIN_S)):
        for _ in attempts(within_s):
            if gone():
                return True
            if (pid := find_pid()) is not None:
                signal_all([pid], number)
    return False


def end_child(process: subprocess.Popen[bytes], grace_s: float) -> bool:
    """End a child of this process and collect it. Whether SIGTERM was enough."""
    process.terminate()
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
