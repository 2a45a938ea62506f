"""The background process that owns a node: started so that it stays when notebooks and terminals go, and waited for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from labkit.node.state import status, trust
from labkit.node.state.home import Home
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.progress import attempts
from labkit.util.termination import terminate

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


def wait_ready(home: Home, within_s: float, what: str = "node") -> dict[str, Any]:
    """Wait until the owner says that the node is ready; its status. Raises NodeError."""
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
    """SIGTERM until the owner is gone, then SIGKILL."""
    terminate(lambda: pid, lambda: status.read(home)["state"] not in ("starting", *status.UP), END_WITHIN_S)
