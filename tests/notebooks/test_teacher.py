"""README's command for teachers, as it is there: no program fetched, no font looked for, no node up."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CI, ROOT, labkit

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def newcomer() -> Iterator[dict[str, str]]:
    """The environment of somebody who has nothing but the checkout and its .venv."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))  # a socket's path may not be long
    own = {"LABKIT_HOME": base / "lab", "HOME": base / "home", "MPLCONFIGDIR": base / "fonts", "IPYTHONDIR": base / "ipython"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "JUPYTER", "LABKIT_", "PYTEST_", "CI"))}
    environment = {**kept, **{name: str(path) for name, path in own.items()}, "LABKIT_NODE": "containerd"}
    own["HOME"].mkdir(parents=True)
    yield environment
    report = json.loads(labkit("clean", "--all", "--json", **environment).stdout)
    shutil.rmtree(base)
    assert report["left"] == []


def test_the_notebooks_pass_where_nothing_is_there(newcomer: dict[str, str]) -> None:
    [command] = re.findall(r"(?m)^(?:sudo )?\.venv/bin/(pytest --nbval .*)$", (ROOT / "README.md").read_text())
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "-p", "no:cacheprovider"],
        capture_output=True, text=True, cwd=ROOT, env=newcomer, timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    count = sum(cell["cell_type"] == "code" for each in NOTEBOOKS for cell in json.loads(each.read_text())["cells"])
    assert f"{count} passed" in done.stdout
