"""The background process that owns a node: how it is started, how it becomes a daemon, and how others wait for it."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import subprocess
import sys
import threading
from typing import Any, TextIO

from labkit.node.state import status, trust
from labkit.node.state.home import Home
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.progress import attempts
from labkit.util.showable import start_log
from labkit.util.termination import terminate

log = logging.getLogger("labkit")

END_WITHIN_S = 15.0


def start(home: Home, module: str, environ: dict[str, str]) -> None:
    """Run `python -m MODULE RUN-DIRECTORY`, which makes a daemon of itself. Raises NodeError."""
    with trust.append(home.log_file) as log:
        started = subprocess.run(
            environment.launched([sys.executable, "-m", module, str(home.run)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment.daemon(environ),
            start_new_session=True,
            cwd="/",
        )
    if started.returncode:
        raise NodeError(f"The node's owner did not start (exit code {started.returncode}).", f"The log is {home.log_file}.")


def become_owner(home: Home, name: str) -> TextIO | None:
    """Make this process the owner of the home's node, under the name `name` in ps. Returns the lock, which the owner must keep
    open until it ends, or None where another process owns the node.

    It returns in a child that nobody waits for. The calling process ends as soon as `node.json` names the child.
    """
    set_process_name(name)
    threading.excepthook = log_thread_failure
    os.umask(0o077)
    start_log(trust.append(home.log_file))
    lock = trust.append(home.run / "owner.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.error("another process owns the node in %s", home.run)
        return None
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    status.write(home, state="starting", pid=os.getpid(), started=status.start_time(os.getpid()))
    os.close(write_end)
    return lock


def set_process_name(name: str) -> None:
    """Show up under this name in ps and in the process tree (man 2 prctl, PR_SET_NAME)."""
    ctypes.CDLL(None).prctl(15, name.encode(), 0, 0, 0)


def log_thread_failure(failed: threading.ExceptHookArgs) -> None:
    """Log the exception that ended a thread of the owner; `labkit status` reports it from the log."""
    log.error("the thread %s failed", failed.thread.name if failed.thread else "", exc_info=failed.exc_value)


def wait_ready(home: Home, within_s: float, what: str = "node") -> dict[str, Any]:
    """Wait until the owner reports that the node is ready. Returns the status. Raises NodeError."""
    log = f"The log is {home.log_file}."
    for _ in attempts(within_s):
        found = status.read(home)
        if found["state"] == "ready":
            return found
        if found["state"] == "failed":
            raise NodeError(f"The {what} did not start. {found.get('error', '')}".strip(), log)
        if found["state"] == "down":
            raise NodeError(f"The {what}'s owner ended before the {what} was ready.", log)
    raise NodeError(f"The {what} was not ready after {within_s:.0f} s.", log)


def end(home: Home, pid: int) -> None:
    """Send SIGTERM until the owner is gone, then SIGKILL."""
    terminate(lambda: pid, lambda: status.read(home)["state"] not in ("starting", *status.UP), END_WITHIN_S)
