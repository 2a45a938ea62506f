"""Recordings of real kubelets and runtimes, to hold the lab against (README.md says where they were made)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRUTH = Path(__file__).parent


def truth(name: str) -> Any:
    """What the JSON file `name` holds."""
    return json.loads((TRUTH / name).read_text())
