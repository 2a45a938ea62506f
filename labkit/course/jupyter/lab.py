"""JupyterLab on the learner's copy of the notebooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from labkit.course.jupyter.copy import first_notebook
from labkit.course.jupyter.place import hand_over
from labkit.figures.style import JUPYTERLAB_EXTENSIONS

WORKSPACE = "course"
"""Of JupyterLab. The extension (labkit/figures/jupyterlab) puts a terminal beside the notebook there, and JupyterLab keeps what
is open in it."""


def command() -> list[str]:
    """JupyterLab on notebook 00. The extension draws figures in the page's colours and switches JupyterLab's announcements off:
    nothing asks the network, and no message covers the notebook."""
    allow_root = ["--allow-root"] if os.geteuid() == 0 else []
    return [
        sys.executable, "-m", "jupyterlab", f"--LabApp.default_url=/lab/workspaces/{WORKSPACE}/tree/{first_notebook()}",
        f"--LabApp.extra_labextensions_path={JUPYTERLAB_EXTENSIONS}", *allow_root,
    ]


def serve(directory: Path) -> int:
    """Serve `directory` until JupyterLab ends; its exit code. For the main thread of a command: it takes over its signals."""
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches JupyterLab too, which asks before it ends
    server = subprocess.Popen(command(), cwd=directory, env={**os.environ, "LABKIT_THEME": "page"})
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        return server.wait()
    finally:
        hand_over(directory)
