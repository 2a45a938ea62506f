"""How long a newcomer waits: `./course start --check` in a fresh clone, with no package and no program fetched before."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

GOAL_S = 40.0
ROOT = Path(__file__).resolve().parents[2]


def run() -> dict[str, Any]:
    """{"name", "ratio" (of the whole to its goal of 40 s), "goal", "seconds"}. Needs root and the package registries."""
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as base:
        clone, home = Path(base, "course"), Path(base, "home")
        subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
        own = {"HOME": home, "LABKIT_HOME": home / "lab", "PIP_CACHE_DIR": home / "pip", "XDG_CACHE_HOME": home / "cache"}
        env = {**os.environ, **{name: str(place) for name, place in own.items()}, "LABKIT_NODE": "containerd"}
        home.mkdir()
        try:
            began = time.perf_counter()
            subprocess.run([clone / "course", "start", "--check"], env=env, check=True, capture_output=True)
            seconds = time.perf_counter() - began
        finally:
            subprocess.run([clone / "course", "clean"], env=env, check=False, capture_output=True)
    return {"name": "fresh clone to notebook 00 / 40 s", "ratio": round(seconds / GOAL_S, 3), "goal": 1.0,
            "seconds": round(seconds, 1)}
