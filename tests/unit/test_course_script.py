"""`./course` itself, with a Python that only does as if: what an interruption leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

PYTHON = """#!/bin/sh
case "$*" in
*sys.version_info*) echo 3.11 ;;
*_base_executable*) echo "$0" ;;
*ensurepip*) echo "$FAKES" ;;
*"-m venv"*) mkdir -p .venv/bin .venv/lib/python3.11/site-packages/pip && cp "$0" .venv/bin/python ;;
*prefetch.py*) exec sleep 60 ;;
*"-m pip install"*) [ -z "$PIP_WAITS" ] || { echo pip works >&2 && exec sleep 60; } ;;
esac
"""


@pytest.mark.parametrize(("waits", "kept"), [("", True), ("yes", False)], ids=["it waits for apt", "pip works"])
def test_ctrl_c_removes_an_environment_that_is_not_finished_and_no_other(tmp_path: Path, waits: str, kept: bool) -> None:
    fakes, course = tmp_path / "fakes", tmp_path / "course"
    for name, text in (("python", PYTHON), ("id", "#!/bin/sh\necho 0\n"), ("pip-1.whl", "")):
        fakes.mkdir(exist_ok=True)
        (fakes / name).write_text(text)
        (fakes / name).chmod(0o755)
    course.mkdir()
    for name in ("course", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, course / name)
    env = {"PATH": f"{fakes}:{os.environ['PATH']}", "PYTHON": str(fakes / "python"), "FAKES": str(fakes), "PIP_WAITS": waits,
           "SUDO_UID": str(os.getuid()), "HOME": str(tmp_path)}
    begins = "pip works" if waits else "waiting for apt"
    command = ["./course", "start"]
    with subprocess.Popen(command, cwd=course, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        assert run.stderr
        assert any(begins in line for line in run.stderr)
        os.killpg(run.pid, signal.SIGINT)
        run.stderr.read()
    assert run.returncode == 130
    assert (course / ".venv" / "course.core").exists() is kept
    assert (course / ".venv").exists() is kept


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (["mine"], "mine is not a site that ./course site has built. Name a new directory, or remove it.", 1),
        (["mine/file"], "mine/file is not a site that ./course site has built", 1),
        (["mine/file/site"], "mine/file/site cannot be written, because mine/file is no directory", 1),
        (["one", "two"], "./course site takes one directory.", 2),
        (["--fast"], "./course site does not know '--fast'.", 2),
    ],
)
def test_a_directory_that_the_site_cannot_have_is_refused_before_packages_are_installed(
    tmp_path: Path, arguments: list[str], says: str, code: int
) -> None:
    shutil.copy(ROOT / "course", tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("mine")
    env = {"PATH": os.environ["PATH"], "PYTHON": "/bin/false", "HOME": str(tmp_path)}
    done = subprocess.run(["./course", "site", *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert (tmp_path / "mine/file").read_text() == "mine" and not (tmp_path / ".venv").exists()
