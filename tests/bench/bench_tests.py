"""How long somebody waits who changes something: for one live test, and for the tiers, as they last passed here."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.__main__ import TOOK
from tests.conftest import ROOT

GOALS_S = {"single": 15, "quick": 600, "all": 2700}
SINGLE = "tests/live/test_pods.py::test_limits_reach_the_cgroup"


def run() -> dict[str, Any]:
    """{"name", "ratio" (of the slowest to its goal), "goal", "seconds": {"single", "quick" and "all" where they passed here}}."""
    began = time.perf_counter()
    subprocess.run([ROOT / "course", "test", SINGLE], check=True, capture_output=True)
    seconds = {"single": round(time.perf_counter() - began, 1), **(json.loads(TOOK.read_text()) if TOOK.exists() else {})}
    ratios = {name: round(seconds[name] / goal, 3) for name, goal in GOALS_S.items() if name in seconds}
    return {"name": "tests / 15 s, 10 min, 45 min", "ratio": max(ratios.values()), "goal": 1.0, "seconds": seconds, **ratios}
