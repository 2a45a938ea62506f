"""`sudo ./course` in a folder into which somebody else put what root would run."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CI, ROOT

OTHER = 65534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """The script in a folder whose `.venv` is complete, as far as the script can see, and tells who ran it."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    folder = base / "course"
    folder.mkdir()
    for name in ("course", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    planted = folder / ".venv" / "bin" / "labkit"
    for program, words in (("python", "echo 3.11"), ("labkit", f"id -u >{base}/ran-as")):
        file = planted.with_name(program)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{words}\n")
        file.chmod(0o755)
    (folder / ".venv/lib/python3.11/site-packages/pip").mkdir(parents=True)
    yield folder
    shutil.rmtree(base)


def clean(folder: Path, **environ: str) -> tuple[str, bool]:
    """What `./course clean` says on stderr, and whether the planted program ran."""
    env = {name: value for name, value in os.environ.items() if name not in ("SUDO_UID", "PYTHON")}
    done = subprocess.run(["./course", "clean"], cwd=folder, capture_output=True, text=True, env={**env, **environ}, timeout=60)
    ran = (folder.parent / "ran-as").exists()
    assert ran == (done.returncode == 0), done.stderr
    return done.stderr, ran


def give(folder: Path, uid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.lchown(path, uid, uid)


def test_ones_own_folder_is_trusted(checkout: Path) -> None:
    assert clean(checkout) == ("", True)


def test_the_folder_of_who_called_sudo_is_trusted(checkout: Path) -> None:
    give(checkout, OTHER)
    checkout.chmod(0o775)  # umask 002, and a group that is the user's alone
    assert clean(checkout, SUDO_UID=str(OTHER)) == ("", True)


def test_the_folder_of_another_user_is_refused(checkout: Path) -> None:
    give(checkout, OTHER)
    for environ in ({}, {"SUDO_UID": "1000"}, {"SUDO_UID": "x"}):
        said, ran = clean(checkout, **environ)
        assert not ran and f"{checkout} belongs to another user ({OTHER}), and root would run what lies in" in said
        assert ("Run ./course with sudo as the owner" in said) == bool(environ)


def test_root_without_sudo_names_the_owner_that_it_trusts(checkout: Path) -> None:
    """doas, su and a container leave no SUDO_UID."""
    give(checkout, OTHER)
    said, ran = clean(checkout)
    assert not ran and "run it as SUDO_UID=NUMBER ./course" in said and "sudo as" not in said
    assert clean(checkout, SUDO_UID=str(OTHER)) == ("", True)


@pytest.mark.parametrize("what", [".venv", ".venv/bin/labkit"])
def test_what_another_user_planted_is_refused(checkout: Path, what: str) -> None:
    os.chown(checkout / what, OTHER, OTHER)
    said, ran = clean(checkout)
    assert not ran and f"{checkout}/{what} belongs to another user" in said


@pytest.mark.parametrize("where", ["..", ".", ".venv/lib"])
def test_a_folder_that_others_may_write_to_is_refused(checkout: Path, where: str) -> None:
    (checkout / where).chmod(0o777)
    said, ran = clean(checkout)
    assert not ran and "everybody can write" in said
    (checkout / where).chmod(0o775)
    os.chown(checkout / where, 0, OTHER)
    if where != ".venv/lib":
        said, ran = clean(checkout)
        assert not ran and f"the group {OTHER} can write to" in said


@pytest.mark.parametrize("arguments", [(), ("--all",)])
def test_clean_keeps_a_learners_notebooks_and_names_them(checkout: Path, arguments: tuple[str, ...]) -> None:
    mine = checkout / "my-notebooks"
    work = [mine / "00.ipynb", mine / ".ipynb_checkpoints/00.ipynb"]
    for file in work:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    environ = {**os.environ, "LABKIT_HOME": str(checkout / "lab")}  # whose cache --all removes
    command = ["./course", "clean", *arguments]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environ, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(file.read_text() == "{}" for file in work)
    assert (checkout / ".venv").exists() == (not arguments)
    assert (f"your copy of the notebooks stays; remove it with: rm -r '{mine}'" in done.stderr) == bool(arguments)
