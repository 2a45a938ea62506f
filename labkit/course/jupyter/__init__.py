"""The learner's own copy of the notebooks (`copy.py`), and the JupyterLab that serves it (`lab.py`).

This module is also an extension of Jupyter's server. The package's data files enable it in every server of its Python
environment, and it does nothing in a server whose directory has no copy of the notebooks. So a terminal of JupyterLab finds
`labkit` and the lab's cluster however JupyterLab was started. Only light modules are imported here: every server pays for them.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from labkit.course.jupyter.place import enclosing, hand_over, serves_copy
from labkit.course.jupyter.private_kernels import listen_privately

TERMINAL = Path(__file__).parent / "terminal"
"""What a terminal runs, `start.sh`, and the files of the shells that it starts."""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "labkit.course.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Prepare a `jupyter_server.serverapp.ServerApp`. It loads extensions by name, the terminals' before this one."""
    if not serves_copy(Path(server.root_dir)):
        return
    os.environ["PATH"] = path_with_scripts(os.environ.get("PATH", os.defpath))
    terminals = server.web_app.settings.get("terminal_manager")
    if terminals is not None and not server.terminado_settings.get("shell_command"):
        terminals.shell_command = terminal([sys.executable, "-m", "labkit.cli"])
    server.contents_manager.register_post_save_hook(saved)
    listen_privately(server.kernel_manager)


def terminal(labkit: list[str]) -> list[str]:
    """The command of a terminal: the learner's shell with the lab's variables, a prompt for the lab, and labkit's completion."""
    return ["/bin/sh", str(TERMINAL / "start.sh"), str(TERMINAL), *labkit]


def path_with_scripts(path: str) -> str:
    """PATH with the directory of this environment's commands (labkit, kubectl) before all others."""
    scripts = sysconfig.get_path("scripts")
    return os.pathsep.join([scripts, *(place for place in path.split(os.pathsep) if place != scripts)])


def saved(os_path: str, **_: Any) -> None:
    """Jupyter's server calls this after each save."""
    if copy := enclosing(Path(os_path).parent):
        hand_over(copy)
