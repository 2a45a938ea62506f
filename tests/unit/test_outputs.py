"""Files that a learner asked for are whole or as they were; what cannot be written is told before anything is recorded."""

import os
import stat
import subprocess
import sys

import pytest

from labkit.cli import record_command
from labkit.figures.figure import Figure
from labkit.node import NodeError
from labkit.util import outputs
from labkit.util.outputs import check_writable, write_whole


def test_a_file_is_written_by_the_umask_and_keeps_its_mode(tmp_path):
    file = tmp_path / "x.json"
    before = os.umask(0o027)
    try:
        write_whole(file, b"one")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.chmod(0o600)
    write_whole(file, b"two")
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"two", 0o600)
    assert os.listdir(tmp_path) == ["x.json"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_whole(tmp_path / "link", b"one")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"one"


def test_a_pipe_is_written_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE)
    write_whole(tmp_path / "pipe", b"one")
    assert reader.communicate()[0] == b"one"


def test_what_fails_leaves_what_was_there(tmp_path, monkeypatch):
    (tmp_path / "x.svg").write_text("old")
    monkeypatch.setattr(outputs.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"x\.svg"):
        write_whole(tmp_path / "x.svg", b"new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"x.svg": "old"}


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path):
    def paint(canvas):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        Figure("x", paint, 10, 10).save(tmp_path / "x.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("plot", "x.gif", "ends in .svg, .png or .pdf"),
        ("plot", "x", "ends in .svg, .png or .pdf"),
        ("plot", "-", "ends in .svg, .png or .pdf"),
        ("plot", "missing/x.svg", "There is no directory"),
        ("json", "missing/x.json", "There is no directory"),
        ("trace", "directory", "Is a directory"),
        ("json", "a\x1b\udcff/x.json", r"a\\x1b\\xff"),
    ],
)
def test_what_cannot_be_written_is_told_in_a_sentence(tmp_path, monkeypatch, kind, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "directory").mkdir()
    with pytest.raises(NodeError) as raised:
        record_command.check({kind: name})
    assert words in str(raised.value)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_directory_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs.os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "x")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_command_prints_whatever_the_output_encoding(tmp_path, encoding):
    code = "import sys; from labkit.cli.__main__ import main; sys.exit(main(['record', '--plot', '日\\udcff/x.svg']))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "LABKIT_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 1 and done.stderr.startswith(b"labkit: '") and b"Traceback" not in done.stderr
