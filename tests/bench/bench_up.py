"""How long a learner waits for a node: `labkit up` with the programs there, and `connect` to a node that is up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from labkit.node import Home

UP_GOAL_S, CONNECT_GOAL_S = 3.0, 0.2
CONNECT = "import time, labkit; t = time.perf_counter(); labkit.connect('containerd'); print(time.perf_counter() - t)"


def run() -> dict[str, Any]:
    """{"name", "ratio" (of `up` to its goal of 3 s), "goal", "seconds": {"up", "connect"}}. In a home of its own. Needs root."""
    cache = Home.find().cache
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(cache)
    env = {**os.environ, "LABKIT_HOME": str(base)}

    def labkit(*arguments: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "labkit.cli", *arguments], env=env, check=True, capture_output=True)
        return time.perf_counter() - began

    try:
        labkit("up", "--node", "containerd")
        labkit("down")
        up = labkit("up", "--node", "containerd")
        said = subprocess.run([sys.executable, "-c", CONNECT], env=env, check=True, capture_output=True, text=True)
        connect = float(said.stdout)
    finally:
        labkit("clean")
        shutil.rmtree(base, ignore_errors=True)
    seconds = {"up": round(up, 2), "connect": round(connect, 3)}
    return {"name": "labkit up / 3 s", "ratio": round(up / UP_GOAL_S, 3), "goal": 1.0, "seconds": seconds,
            "connect / 0.2 s": round(connect / CONNECT_GOAL_S, 3)}
