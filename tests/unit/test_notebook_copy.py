"""The learner's copy of the notebooks: made once, without outputs, and never overwritten."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cli import __main__ as cli
from labkit.course import jupyter
from labkit.course.jupyter import copy, lab, place
from labkit.node import NodeError
from tests.conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"
NOTEBOOK_03 = "03-from-a-call-to-a-process.ipynb"
ELSEWHERE = 65534


def files(directory: Path) -> dict[str, bytes]:
    """Each file's content but the mark's, by name."""
    found = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if name != place.MARK}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    copy.update(tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture
def course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The course's notebooks, where a test may change them."""
    theirs = tmp_path / "course" / "notebooks"
    theirs.mkdir(parents=True)
    for name, data in copy.given().items():
        (theirs / name).parent.mkdir(exist_ok=True)
        (theirs / name).write_bytes(data)
    monkeypatch.setattr(copy, "source", lambda: theirs)
    return theirs


def changed(notebook: Path, words: str) -> bytes:
    content = json.loads(notebook.read_text())
    content["cells"][0]["source"] = [words]
    notebook.write_text(json.dumps(content))
    return notebook.read_bytes()


def labkit(*arguments: str) -> int:
    return cli.main(["course", *arguments])


def test_it_has_every_file_that_git_knows_and_no_output(mine: Path) -> None:
    known = subprocess.run(["git", "ls-files", "."], cwd=NOTEBOOKS, capture_output=True, text=True, check=True).stdout.split()
    assert set(files(mine)) >= set(known)
    for notebook in mine.glob("*.ipynb"):
        ours, theirs = json.loads(notebook.read_text()), json.loads((NOTEBOOKS / notebook.name).read_text())
        assert [(c["cell_type"], c["source"]) for c in ours["cells"]] == [(c["cell_type"], c["source"]) for c in theirs["cells"]]
        code = [cell for cell in ours["cells"] if cell["cell_type"] == "code"]
        assert code and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for solution in (NOTEBOOKS / "solutions").glob("*.py"):
        assert (mine / "solutions" / solution.name).read_bytes() == solution.read_bytes()


def test_links_lead_to_files_of_the_copy(mine: Path) -> None:
    links = 0
    for notebook in mine.glob("*.ipynb"):
        for cell in json.loads(notebook.read_text())["cells"]:
            for link in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", "".join(cell["source"])):
                target = link[0] or link[1]
                if cell["cell_type"] == "markdown" and "://" not in target:
                    links += 1
                    assert (mine / target).is_file(), f"{notebook.name}: {target}"
    assert links


def test_a_second_run_changes_nothing(mine: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    assert copy.update(mine) == copy.Update()
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before


def test_what_a_learner_wrote_stays_and_what_is_missing_comes_back(mine: Path) -> None:
    written = changed(mine / NOTEBOOK_03, "my words")
    (mine / "own.ipynb").write_text("{}")
    (mine / "solutions/00.1.py").unlink()
    assert copy.update(mine).added == ("solutions/00.1.py",)
    assert (mine / NOTEBOOK_03).read_bytes() == written and (mine / "own.ipynb").exists()


def test_a_newer_notebook_is_offered_and_not_forced(
    mine: Path, course: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(mine)
    changed(course / NOTEBOOK_03, "better words")
    (course / "08-new.ipynb").write_bytes(before[NOTEBOOK_03])
    assert labkit(str(mine)) == 0
    assert f"The course has a newer version of 03. `labkit course {mine} --reset 03` takes it" in capsys.readouterr().out
    after = files(mine)
    assert set(after) - set(before) == {"08-new.ipynb"} and {name: after[name] for name in before} == before
    assert labkit(str(mine), "--json") == 0
    assert json.loads(capsys.readouterr().out)["newer"] == ["03"]
    monkeypatch.chdir(mine)
    assert labkit() == 0
    assert "`labkit course --reset 03` takes it" in capsys.readouterr().out


def test_outputs_of_the_course_are_no_newer_version(mine: Path, course: Path) -> None:
    notebook = json.loads((course / NOTEBOOK_03).read_text())
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code.update(outputs=[{"output_type": "stream", "name": "stdout", "text": ["x"]}], execution_count=7)
    (course / NOTEBOOK_03).write_text(json.dumps(notebook))
    assert copy.update(mine) == copy.Update()


def test_reset_takes_the_newer_one_and_keeps_the_learners(mine: Path, course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = {name: data for name, data in files(mine).items() if copy.lesson_of(name) != "03"}
    changed(course / NOTEBOOK_03, "better words")
    written = changed(mine / NOTEBOOK_03, "my words")
    (mine / "solutions/03.1.py").write_text("mine")
    assert labkit(str(mine), "--reset", "03") == 0
    said = capsys.readouterr().out
    aside = "03-from-a-call-to-a-process.yours.ipynb"
    assert f"Your {NOTEBOOK_03} is now {aside}." in said and "newer version" not in said
    assert (mine / aside).read_bytes() == written and (mine / "solutions/03.1.yours.py").read_text() == "mine"
    assert (mine / NOTEBOOK_03).read_bytes() == copy.given()[NOTEBOOK_03]
    assert {name: data for name, data in files(mine).items() if copy.lesson_of(name) != "03"} == others
    assert copy.update(mine) == copy.Update()
    changed(mine / NOTEBOOK_03, "again")
    assert labkit(str(mine), "--reset", "3") == 0
    assert (mine / "03-from-a-call-to-a-process.yours-2.ipynb").exists() and (mine / aside).read_bytes() == written


def test_a_reset_of_what_is_as_the_course_has_it_changes_nothing(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(mine)
    assert labkit(str(mine), "--reset", NOTEBOOK_03) == 0
    assert "03 is as the course has it; nothing had to be changed." in capsys.readouterr().out
    assert files(mine) == before


@pytest.mark.parametrize("lesson", ["100", "99", "x", "", "0333", "solutions", "-1"])
def test_an_unknown_lesson_is_named_and_nothing_made(lesson: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labkit(str(tmp_path / "x"), f"--reset={lesson}") == 1
    assert f"There is no lesson {lesson!r}. There are: 00, 01, " in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def refused(directory: Path) -> str:
    with pytest.raises(NodeError) as caught:
        copy.update(directory)
    return str(caught.value)


def test_a_directory_that_is_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a.txt").write_text("x")
    (tmp_path / "changed").mkdir()
    (tmp_path / "changed" / NOTEBOOK_03).write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    assert "file is not a directory. Name a directory" in refused(tmp_path / "file")
    assert "dangling is not a directory. Name a directory" in refused(tmp_path / "dangling")
    assert "cannot be written" in refused(tmp_path / "file/x/y")
    assert "is not empty, and is no copy of the notebooks: it has a.txt. Name" in refused(tmp_path / "full")
    assert f"it has {NOTEBOOK_03}. Name" in refused(tmp_path / "changed")
    assert "is not empty" in refused(NOTEBOOKS)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_directory_that_cannot_be_written_is_named_and_nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "write_whole", failing(PermissionError(13, "Permission denied"), after=3))
    assert "x: Permission denied. Name a directory that you can write to" in refused(tmp_path / "deep/x")
    assert list(tmp_path.iterdir()) == []


def failing(error: BaseException, after: int) -> Any:
    """`write_whole`, which raises `error` in place of one write: the partial file of a process that was stopped is never seen."""
    calls = iter(range(1000))

    def write(path: Path, data: bytes) -> Path:
        if next(calls) == after:
            raise error
        return copy_write_whole(path, data)

    return write


copy_write_whole = copy.write_whole


@pytest.mark.parametrize("after", [0, 1, 5, 21])
def test_ctrl_c_leaves_nothing_half_made(after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy, "write_whole", failing(KeyboardInterrupt(), after))
    (tmp_path / "empty").mkdir()
    for directory in (tmp_path / "new", tmp_path / "empty"):
        monkeypatch.setattr(copy, "write_whole", failing(KeyboardInterrupt(), after))
        with pytest.raises(KeyboardInterrupt):
            copy.update(directory)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_ctrl_c_in_a_reset_leaves_what_was_there(after: int, mine: Path, course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (NOTEBOOK_03, "solutions/03.1.py", "solutions/03.2.py"):
        (mine / name).write_text("mine")
    before = files(mine)
    changed(course / NOTEBOOK_03, "better words")
    monkeypatch.setattr(copy, "write_whole", failing(KeyboardInterrupt(), after))
    with pytest.raises(KeyboardInterrupt):
        copy.reset(mine, "03")
    assert files(mine) == before
    assert copy.update(mine).newer == (NOTEBOOK_03,)


def test_a_killed_run_is_finished_by_the_next(tmp_path: Path) -> None:
    """SIGKILL in the middle: nothing is undone, and the lock goes with its process."""
    text = """if True:
        import os, pathlib
        from labkit.course.jupyter import copy
        write, calls = copy.write_whole, iter(range(9))
        copy.write_whole = lambda path, data: write(path, data) if next(calls) < 5 else os.kill(os.getpid(), 9)
        copy.update(pathlib.Path("x"))
    """
    assert subprocess.run([sys.executable, "-c", text], cwd=tmp_path).returncode == -signal.SIGKILL
    assert 0 < len(files(tmp_path / "x")) < len(copy.given())
    copy.update(tmp_path / "x")
    assert files(tmp_path / "x") == copy.given() and copy.update(tmp_path / "x") == copy.Update()


def test_a_damaged_mark_costs_no_file(mine: Path) -> None:
    written = changed(mine / NOTEBOOK_03, "my words")
    for damage in (b"", b"{", b'{"files": [1]}', b"[]", b"\xff"):
        (mine / place.MARK).write_bytes(damage)
        assert copy.update(mine).newer == (NOTEBOOK_03,)
        assert (mine / NOTEBOOK_03).read_bytes() == written


def test_the_copy_around_the_working_directory_is_meant(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(mine / "solutions")
    assert copy.default() == mine
    monkeypatch.chdir("/")
    assert copy.default() == ROOT / copy.NAME
    monkeypatch.setattr(copy, "PACKAGE", mine)
    with pytest.raises(NodeError, match="Name one: labkit course my-notebooks"):
        copy.default()


def test_git_ignores_it_and_the_script_names_the_same() -> None:
    assert subprocess.run(["git", "check-ignore", "-q", f"{copy.NAME}/x"], cwd=ROOT).returncode == 0
    assert f"\nCOPY={copy.NAME} " in (ROOT / "course").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be sudo's")
def test_under_sudo_it_belongs_to_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", str(ELSEWHERE))
    monkeypatch.setenv("SUDO_GID", str(ELSEWHERE))
    os.chown(tmp_path, ELSEWHERE, ELSEWHERE)
    mine = tmp_path / "a/mine"
    copy.update(mine)
    (mine / ".ipynb_checkpoints").mkdir()
    (mine / "link").symlink_to("/etc/passwd")
    jupyter.saved(os_path=str(mine / NOTEBOOK_03), model={}, contents_manager=None)
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in tmp_path.rglob("*")} == {(ELSEWHERE, ELSEWHERE)}
    assert os.stat("/etc/passwd").st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_makes_none_where_others_could_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    os.chown(tmp_path, ELSEWHERE, ELSEWHERE)
    assert "root would run what is in it" in refused(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_without_sudo_files_stay_their_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.learner({"SUDO_UID": "x", "SUDO_GID": "1"}) is place.learner({}) is None
    monkeypatch.setattr(place.os, "geteuid", lambda: 1000)
    assert place.learner({"SUDO_UID": "1", "SUDO_GID": "1"}) is None


class Server(SimpleNamespace):
    """What the extension uses of jupyter_server's ServerApp."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.hooks: list[Any] = []
        self.configured: list[Any] = []
        terminals = SimpleNamespace(shell_command=["/bin/bash", "-l"])
        kernels = SimpleNamespace(connection_dir=str(root), update_config=self.configured.append)
        super().__init__(root_dir=str(root), terminado_settings=settings, terminals=terminals, kernel_manager=kernels,
                         web_app=SimpleNamespace(settings={"terminal_manager": terminals}),
                         contents_manager=SimpleNamespace(register_post_save_hook=self.hooks.append))


@pytest.fixture
def path() -> Iterator[None]:
    before = os.environ["PATH"]
    yield
    os.environ["PATH"] = before


def test_the_server_of_a_copy_gets_its_terminals(mine: Path, path: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    for root in (mine, mine.parent):
        server = Server(root)
        jupyter._load_jupyter_server_extension(server)
        assert server.hooks == [jupyter.saved] and "-l" not in server.terminals.shell_command
    scripts = Path(jupyter.sysconfig.get_path("scripts"))
    assert os.environ["PATH"] == f"{scripts}:/usr/bin" and (scripts / "labkit").exists() and (scripts / "kubectl").exists()
    chosen = Server(mine, shell_command=["zsh"])
    jupyter._load_jupyter_server_extension(chosen)
    assert chosen.terminals.shell_command == ["/bin/bash", "-l"]


def test_another_server_stays_as_it_is(tmp_path: Path, path: None) -> None:
    before, server = os.environ["PATH"], Server(tmp_path)
    jupyter._load_jupyter_server_extension(server)
    assert (server.hooks, server.terminals.shell_command, os.environ["PATH"]) == ([], ["/bin/bash", "-l"], before)
    assert server.configured == []


def test_a_terminal_has_the_labs_variables_or_says_why_not(tmp_path: Path) -> None:
    words = "echo \"export KUBECONFIG='/a b'\"; echo 'labkit: a word' >&2"
    (tmp_path / "labkit").write_text(f'#!/bin/sh\n[ "$1" = env ] && {{ {words}; }}\n')
    (tmp_path / "labkit").chmod(0o755)
    command = jupyter.terminal([str(tmp_path / "labkit")])
    shell = {"SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, input='echo "<$KUBECONFIG>"', capture_output=True, text=True, env=shell)
    assert (done.stdout, done.stderr) == ("</a b>\n", "labkit: a word\n")


def test_a_terminals_bash_has_the_labs_prompt_and_completion_after_the_learners_own_file(tmp_path: Path) -> None:
    """Her own file sets the prompt; the first Tab after `labkit` fetches the completion."""
    (tmp_path / ".bashrc").write_text("PS1='mine> '\n")
    (tmp_path / "labkit").write_text("#!/bin/sh\necho 'complete -W status labkit'\n")
    (tmp_path / "labkit").chmod(0o755)
    asks = 'echo "<$PS1>"; _labkit_first; echo $?; complete -p labkit\n'
    shell = {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path)}
    command = ["bash", "--rcfile", str(jupyter.TERMINAL / "bashrc"), "-i"]
    done = subprocess.run(command, input=asks, capture_output=True, text=True, env=shell, start_new_session=True)
    assert done.stdout.splitlines() == ["<(lab) mine> >", "124", "complete -W 'status' labkit"]


def test_jupyterlab_opens_notebook_00_without_announcements() -> None:
    words = lab.command()
    assert f"--LabApp.default_url=/lab/workspaces/course/tree/{copy.first_notebook()}" in words
    (extensions,) = [Path(word.partition("=")[2]) for word in words if "extra_labextensions_path" in word]
    (package,) = extensions.glob("*/package.json")
    assert json.loads(package.read_text())["jupyterlab"]["disabledExtensions"] == ["@jupyterlab/apputils-extension:announcements"]
    static = Path(jupyter.sysconfig.get_path("data"), "share/jupyter/lab/static")
    assert any("@jupyterlab/apputils-extension:announcements" in file.read_text() for file in static.glob("*.js"))
