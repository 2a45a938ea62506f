"""A JupyterLab server as `./course start` opens it, but on a copy of the notebooks and with settings of its own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from labkit.course.jupyter import copy, lab
from tests.conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@dataclass(frozen=True)
class JupyterLab:
    """A running server: `url` ends in /, `notebooks` is the copy that it serves, `settings` its users' settings."""

    url: str
    token: str
    notebooks: Path
    settings: Path

    def start_with(self, theme: str) -> None:
        """The theme of pages opened from now on: "light" or "dark"."""
        self._set("themes", {"theme": THEMES[theme]})

    def address(self, notebook: str) -> str:
        return f"{self.url}lab/tree/{notebook}?token={self.token}&reset"

    def _set(self, schema: str, settings: dict[str, object]) -> None:
        file = self.settings / "@jupyterlab" / "apputils-extension" / f"{schema}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))


@contextmanager
def serve(directory: Path) -> Iterator[JupyterLab]:
    """A server whose files are all below `directory`; it ends with its kernels. Its log is `directory`/server.log."""
    notebooks, settings, runtime = directory / "notebooks", directory / "settings", directory / "runtime"
    copy.update(notebooks)
    places = {
        "JUPYTER_CONFIG_DIR": directory / "config",
        "JUPYTER_DATA_DIR": directory / "data",
        "JUPYTER_RUNTIME_DIR": runtime,
        "JUPYTERLAB_SETTINGS_DIR": settings,
        "JUPYTERLAB_WORKSPACES_DIR": directory / "workspaces",
        "IPYTHONDIR": directory / "ipython",
    }
    environment = {**os.environ, "LABKIT_THEME": "page", **{name: str(place) for name, place in places.items()}}
    environment["PATH"] = os.defpath  # as where no environment was activated
    command = [*lab.command(), "--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0"]
    with (directory / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=notebooks, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=subprocess.STDOUT)
    try:
        told = _wait_for(runtime / f"jpserver-{server.pid}.json", server, directory / "server.log")
        yield JupyterLab(told["url"], told["token"], notebooks, settings)
    finally:
        server.terminate()
        server.wait(30)


def _wait_for(file: Path, server: subprocess.Popen[bytes], log: Path) -> dict[str, str]:
    for _ in range(600):
        if file.exists() and (text := file.read_text()).endswith("}"):
            return json.loads(text)
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start; it said:\n{log.read_text()}")
