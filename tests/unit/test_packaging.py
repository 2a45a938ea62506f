"""pyproject.toml, constraints.txt and environment.yml name the same packages, and `course` runs before any of them is there."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {"kubernetes": "python-kubernetes", "matplotlib": "matplotlib-base"}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

CORE = [Requirement(line) for line in PROJECT["dependencies"]]
SITE = [Requirement(line) for line in PROJECT["optional-dependencies"]["site"]]
TEST = [r for r in map(Requirement, PROJECT["optional-dependencies"]["test"]) if r.name != PROJECT["name"]]
CONSTRAINTS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def ranges(requirements: list[Requirement]) -> dict[str, str]:
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def exact_version(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==" and not specifier.version.endswith(".*"), f"{requirement} is not an exact version"
    return specifier.version


def test_conda_brings_the_same_ranges() -> None:
    packages = [p for p in ENVIRONMENT["dependencies"] if isinstance(p, str)]
    (with_pip,) = [p["pip"] for p in ENVIRONMENT["dependencies"] if isinstance(p, dict)]
    assert "-e ." in with_pip
    conda = ranges([Requirement(p) for p in packages])
    assert conda.pop("pip") == ""
    assert conda.pop("python") == PROJECT["requires-python"]
    of_conda_name = {conda_name: name for name, conda_name in CONDA_NAMES.items()}
    found = {of_conda_name.get(name, name): specifier for name, specifier in conda.items()}
    found |= ranges([Requirement(line) for line in with_pip if line != "-e ."])
    assert found == ranges(CORE)


@pytest.mark.parametrize("requirement", CORE + SITE + TEST, ids=lambda r: r.name)
def test_ranges_are_bounded_and_hold_the_exact_version(requirement: Requirement) -> None:
    assert sorted(s.operator for s in requirement.specifier) == ["<", ">="]
    versions = [exact_version(c) for c in CONSTRAINTS if canonicalize_name(c.name) == canonicalize_name(requirement.name)]
    assert versions, f"constraints.txt has no {requirement.name}"
    assert all(version in requirement.specifier for version in versions)


def test_what_the_tests_need_brings_what_the_site_needs() -> None:
    (own,) = [r for r in map(Requirement, PROJECT["optional-dependencies"]["test"]) if r.name == PROJECT["name"]]
    assert own.extras == {"site"}


@pytest.mark.parametrize("python", PYTHONS)
def test_one_exact_version_for_each_python(python: str) -> None:
    machine = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    names = [canonicalize_name(c.name) for c in CONSTRAINTS if c.marker is None or c.marker.evaluate(machine)]
    assert names == sorted(set(names))
    assert all(exact_version(c) and not c.url and not c.extras for c in CONSTRAINTS)


def test_constraints_have_everything_that_is_needed_here() -> None:
    exact = {canonicalize_name(c.name): exact_version(c) for c in CONSTRAINTS if c.marker is None or c.marker.evaluate()}
    needed = closure(CORE + SITE + TEST)
    assert {name: exact.get(name) for name in needed} == {name: importlib.metadata.version(name) for name in needed}
    assert set(exact) == needed, "constraints.txt has more than is needed"


def closure(requirements: list[Requirement]) -> set[str]:
    """Canonical names of `requirements` and of all that they need on this machine, as the installed metadata has it."""
    done: set[tuple[str, frozenset[str]]] = set()
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done:
            continue
        done.add(key)
        extras = {"", *requirement.extras}
        for line in importlib.metadata.requires(requirement.name) or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(need)
    return {name for name, _ in done}


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt", "environment.yml", "course", ".ci/run"])
def test_no_file_names_an_address(file: str) -> None:
    text = (ROOT / file).read_text()
    if file == "pyproject.toml":
        text = text.replace("https://github.com/", "")  # [project.urls], at which tests/unit/test_binder.py looks
    assert "://" not in text
    assert not [word for word in ("--index-url", "--extra-index-url", "--find-links", "--hash", "--trusted-host") if word in text]


def course(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "course", *arguments], capture_output=True, text=True, cwd="/", env={**os.environ, **environ})


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("start", "--nonsense"), ("start", "--node"), ("clean", "--nonsense"), ("clean", "--all", "x")]
)
def test_wrong_usage_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = course(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("course: ") and done.stderr.endswith("See ./course help.\n") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("help",), ("start", "--help"), ("test", "-h")])
def test_help_names_every_verb(arguments: tuple[str, ...]) -> None:
    done = course(*arguments)
    assert done.returncode == 0
    assert all(f"./course {verb}" in done.stdout for verb in ("start", "test", "site", "bench", "clean", "help"))


def test_a_python_that_will_not_do_is_named() -> None:
    done = course("start", "--check", PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is not a Python 3.11 or later" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_python_at_all_is_said_with_the_way_to_get_one(tmp_path: Path) -> None:
    copied = tmp_path / "a course"
    copied.mkdir()
    for file in ("course", "pyproject.toml", "constraints.txt"):
        (copied / file).write_bytes((ROOT / file).read_bytes())
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "cat", "cksum", "uname", "id"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    done = subprocess.run(["/bin/sh", copied / "course", "start"], capture_output=True, text=True, env={"PATH": str(tools)})
    assert done.returncode == 1
    assert "needs Python 3.11 or later, and none is on PATH. Get it" in done.stderr
    assert not (copied / ".venv").exists()


def test_course_is_posix_shell() -> None:
    assert os.access(ROOT / "course", os.X_OK) and os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / "course").read_text().startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n", ROOT / "course"]).returncode == 0


def test_the_nodes_programs_need_the_standard_library_alone(tmp_path: Path) -> None:
    """`./course start` brings them while pip brings the packages. An apt-get that fails ends it without a trace."""
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 100\n")
    (tmp_path / "apt-get").chmod(0o755)
    command = [sys.executable, "-I", "-S", ROOT / "labkit/node/packages/prefetch.py", tmp_path / "cache"]
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) in ((0, "", ""), (1, "", ""))  # 0 where they are installed
    assert not list(tmp_path.glob("cache/programs/*/root"))


FAKE_PYTHON = """#!/bin/sh
case "$*" in
*_base_executable*) echo "{folder}/python" ;;
"-m venv"*) mkdir -p .venv/bin; ln -s "{folder}/python" .venv/bin/python ;;
*"pip install"*) : >begun; exec sleep 60 ;;
*) exec {python} "$@" ;;
esac
"""
FAKE_FETCH = """
import pathlib, signal, time
def end(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the test sends one to the whole group, and the script another
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, end)
pathlib.Path("fetching").touch()
try:
    time.sleep(60)
finally:
    pathlib.Path("ended").touch()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose node is made of programs")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(sent: signal.Signals, tmp_path: Path) -> None:
    """Neither .venv nor the process that brings the node's programs beside pip."""
    folder = tmp_path / "course"
    (folder / "labkit/node/packages").mkdir(parents=True)
    for name in ("course", "pyproject.toml", "constraints.txt"):
        shutil.copy2(ROOT / name, folder)
    (folder / "labkit/node/packages/prefetch.py").write_text(FAKE_FETCH)
    (folder / "python").write_text(FAKE_PYTHON.format(folder=folder, python=sys.executable))
    (folder / "python").chmod(0o755)
    environ = {**os.environ, "LABKIT_HOME": str(folder / "lab"), "LABKIT_NODE": "containerd", "PYTHON": str(folder / "python")}
    command, heard = [folder / "course", "start", "--check"], lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    started = subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    for _ in range(3000):
        if (folder / "begun").exists() and (folder / "fetching").exists():
            break
        time.sleep(0.01)
    os.killpg(started.pid, sent)
    said = started.communicate(timeout=60)[1]
    assert started.returncode == 128 + sent, said
    assert (folder / "begun").exists() and (folder / "ended").exists()
    assert not (folder / ".venv").exists()
