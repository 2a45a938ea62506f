"""binder/ as repo2docker reads it, .devcontainer/ as a code host does, without either: what they name is there, and agrees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from labkit.course.jupyter import copy
from labkit.course.jupyter.lab import WORKSPACE
from labkit.figures.style import JUPYTERLAB_EXTENSIONS
from labkit.node.machine.packages import TOOLS, kernel_packages
from labkit.node.packages.apt import Apt, Package
from tests.unit.test_packaging import ENVIRONMENT, PROJECT, PYTHONS, ROOT

BINDER = ROOT / "binder"
DEVCONTAINER = ROOT / ".devcontainer"
READ_BY_REPO2DOCKER = {"environment.yml", "apt.txt", "postBuild", "start"}
COPIED_BY_POSTBUILD = {"jupyter_lab_config.json"}


def test_the_folder_has_what_repo2docker_reads_and_nothing_that_it_would_read_besides() -> None:
    """Only one of binder/ and .binder/ may be there; a Dockerfile, a runtime.txt and others would take the place of these."""
    assert {path.name for path in BINDER.iterdir()} == READ_BY_REPO2DOCKER | COPIED_BY_POSTBUILD
    assert not (ROOT / ".binder").exists()


def test_the_packages_are_those_of_conda_users() -> None:
    ours = yaml.safe_load((BINDER / "environment.yml").read_text())
    theirs = ENVIRONMENT["dependencies"]
    assert ours["channels"] == ENVIRONMENT["channels"]
    packages, pip = [d for d in ours["dependencies"] if isinstance(d, str)], ours["dependencies"][-1]["pip"]
    known = [d for d in theirs if isinstance(d, str) and d != python(theirs)]
    assert [p for p in packages if p != python(packages)] == known
    assert [*pip, "-e ."] == theirs[-1]["pip"]


def test_repo2docker_knows_the_python() -> None:
    """It reads "python=3.13" and the like (its CondaBuildPack, PYTHON_REGEX); of ">=" it makes Python 3.10."""
    named = python(yaml.safe_load((BINDER / "environment.yml").read_text())["dependencies"])
    match = re.fullmatch(r"python=(3\.\d+)", named)
    assert match and match[1] in PYTHONS and match[1] in SpecifierSet(PROJECT["requires-python"])


def python(dependencies: list[object]) -> str:
    return next(d for d in dependencies if isinstance(d, str) and re.match(r"python\b", d))


def test_apt_brings_what_the_virtual_machine_is_made_and_run_by() -> None:
    """A package a line, and no version: repo2docker takes each line as a name."""
    lines = [line.partition("#")[0].strip() for line in (BINDER / "apt.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.+-]+", name) for name in names)
    assert sorted(names) == sorted(TOOLS.values())


@pytest.mark.parametrize("script", [BINDER / "postBuild", BINDER / "start", DEVCONTAINER / "postCreate"], ids=lambda p: p.name)
def test_scripts_are_executable_and_shell(script: Path) -> None:
    assert os.access(script, os.X_OK)
    shell = script.read_text().splitlines()[0].removeprefix("#!")
    assert shell in ("/bin/sh", "/bin/bash")
    subprocess.run([shell, "-n", script], check=True)


def test_jupyterlab_opens_what_is_there() -> None:
    config = json.loads((BINDER / "jupyter_lab_config.json").read_text())
    opened = f"lab/workspaces/{WORKSPACE}/tree/{copy.NAME}/{copy.first_notebook()}"
    assert config["LabApp"]["default_url"] == f"/{opened}"
    assert f"labkit course {copy.NAME}\n" in (BINDER / "postBuild").read_text()
    assert Path(JUPYTERLAB_EXTENSIONS) == ROOT / "labkit/figures/jupyterlab"
    assert "cp -R labkit/figures/jupyterlab/. " in (BINDER / "postBuild").read_text()


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is first on PATH; programs in it are of the test's making."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory


def program(directory: Path, name: str, text: str) -> None:
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


def test_start_becomes_the_sessions_command(stubs: Path) -> None:
    """Its words as they are, its exit code, the same process (signals reach it), and labkit's settings in its environment."""
    program(stubs, "labkit", ":")
    command = [BINDER / "start", "sh", "-c", 'echo $$ "$LABKIT_NODE" "$LABKIT_THEME" "$1"; exit 7', "sh", "two  words"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.read() == f"{session.pid} vm page two  words\n"
    assert session.returncode == 7


def test_start_does_not_wait_for_the_machine(stubs: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hold")
    program(stubs, "labkit", f'echo "$LABKIT_NODE" "$@" >{tmp_path}/said; cat {tmp_path}/hold')
    done = subprocess.run([BINDER / "start", "echo", "JupyterLab"], capture_output=True, text=True, timeout=60)
    with (tmp_path / "hold").open("w"):  # opens when labkit has said what it was called with, and lets it end
        assert (done.stdout, (tmp_path / "said").read_text()) == ("JupyterLab\n", "vm up\n")


def test_devcontainer_is_json_whose_files_are_there() -> None:
    said = json.loads(without_comments((DEVCONTAINER / "devcontainer.json").read_text()))
    context = (DEVCONTAINER / said["build"]["context"]).resolve()
    assert context == ROOT
    dockerfile = (DEVCONTAINER / said["build"]["dockerfile"]).read_text()
    copied = re.findall(r"^COPY (\S+) ", dockerfile, re.MULTILINE)
    assert copied == ["binder/apt.txt"] and (context / copied[0]).is_file()
    assert os.access(ROOT / said["postCreateCommand"], os.X_OK)


def without_comments(text: str) -> str:
    """JSON with comments (JSONC) as JSON: strings stay whole."""
    return re.sub(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', lambda match: match[1] or "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    ("docker", "kind", "asked"),
    [
        (0, 0, ["start --check --node kind"]),
        (0, 1, ["start --check --node kind", "start --check --node vm"]),
        (1, 0, ["start --check --node vm"]),
    ],
)
def test_a_dev_container_has_the_best_kind(docker: int, kind: int, asked: list[str], stubs: Path, tmp_path: Path) -> None:
    """kind where Docker answers and a cluster can be made, else the virtual machine."""
    (tmp_path / ".devcontainer").mkdir()
    shutil.copy(DEVCONTAINER / "postCreate", tmp_path / ".devcontainer")
    program(stubs, "docker", f"exit {docker}")
    program(tmp_path, "course", f'echo "$@" >>said; case "$*" in *kind*) exit {kind} ;; esac')
    done = subprocess.run([tmp_path / ".devcontainer/postCreate"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0
    assert (tmp_path / "said").read_text().splitlines() == asked
    assert done.stdout.endswith(f"./course start --node {asked[-1].split()[-1]}\n")


def test_a_dev_container_that_has_no_node_is_said(stubs: Path, tmp_path: Path) -> None:
    (tmp_path / ".devcontainer").mkdir()
    shutil.copy(DEVCONTAINER / "postCreate", tmp_path / ".devcontainer")
    program(stubs, "docker", "exit 1")
    program(tmp_path, "course", "exit 3")
    assert subprocess.run([tmp_path / ".devcontainer/postCreate"], capture_output=True).returncode == 3


def test_the_badge_opens_notebook_00_and_names_the_repository_once() -> None:
    """A placeholder: whoever publishes the course, or a fork of it, changes README's line and pyproject's."""
    readme = (ROOT / "README.md").read_text()
    link = r"https://mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/HEAD\?urlpath=([^\s)]+)"
    [(repository, opened)] = re.findall(link, readme)
    assert opened == f"lab/workspaces/{WORKSPACE}/tree/{copy.NAME}/{copy.first_notebook()}"
    folders = (ROOT, ROOT / "docs", BINDER, DEVCONTAINER)
    texts = [p.read_text() for folder in folders for p in folder.iterdir() if p.is_file() and p.name != "pyproject.toml"]
    assert sum(text.count(repository) for text in texts) == 1
    addresses = [address for address in PROJECT["urls"].values() if not address.startswith(f"https://github.com/{repository}")]
    assert addresses == []


@pytest.mark.parametrize(
    "depends",
    [
        {
            "linux-image-cloud-amd64": ["linux-image-6.1.0-41-cloud-amd64"],
            "linux-image-6.1.0-41-cloud-amd64": ["kmod", "linux-base"],
        },
        {
            "linux-image-virtual": ["linux-image-6.8.0-31-generic"],
            "linux-image-6.8.0-31-generic": ["kmod", "linux-base", "linux-modules-6.8.0-31-generic"],
            "linux-modules-6.8.0-31-generic": ["wireless-regdb"],
        },
    ],
    ids=["debian", "ubuntu"],
)
def test_the_machines_kernel_comes_with_its_modules(depends: dict[str, list[str]], tmp_path: Path) -> None:
    class Index(Apt):
        def plan(self, packages: Sequence[str], *, dependencies: bool = False) -> tuple[Package, ...]:
            return tuple(Package(name, "1", "amd64", 1, 1, tuple(depends[name])) for name in packages)

    assert kernel_packages(Index(tmp_path), next(iter(depends))) == list(depends)
