"""Paths that another user may have prepared."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.node import Home, NodeError
from labkit.node.state import trust

OTHER = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0 and os.environ.get("CI") != "true", reason="needs root; CI runs it")
ME = frozenset({0, os.geteuid()})


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory of one's own in /tmp, which everybody may write to, and which is sticky."""
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as made:
        yield Path(made)


def test_a_directory_of_ones_own_in_tmp_is_safe_whether_it_is_there_or_not(base: Path) -> None:
    assert trust.unsafe(base, ME) == trust.unsafe(base / "not" / "yet", ME) == ""
    assert trust.unsafe(Path("/tmp/lk-not-there-yet"), ME) == ""


def test_a_directory_that_everybody_may_write_to_is_unsafe(base: Path) -> None:
    base.chmod(0o777)
    assert trust.unsafe(base / "home", ME) == f"{base} can be written by everybody."
    base.chmod(0o1777)
    (base / "home").mkdir()
    assert trust.unsafe(base / "home", ME) == "", "sticky, and what is in it is ours"
    assert "can be written by everybody" in trust.unsafe(base, ME), "as a home it takes files of others"


def test_a_group_of_others_may_write(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.chmod(0o770)
    monkeypatch.setattr(trust, "members", lambda gid: frozenset({os.geteuid()}))
    assert trust.unsafe(base, ME) == ""
    monkeypatch.setattr(trust, "members", lambda gid: frozenset({os.geteuid(), OTHER}))
    assert trust.unsafe(base, ME) == f"{base} can be written by {trust.name(OTHER)}, by its group."


def test_a_link_of_ones_own_is_followed_and_its_target_judged(base: Path) -> None:
    (base / "shared").mkdir()
    (base / "cache").symlink_to("shared")
    assert trust.unsafe(base / "cache" / "programs", ME) == ""
    (base / "shared").chmod(0o777)
    assert trust.unsafe(base / "cache" / "programs", ME) == f"{base}/shared can be written by everybody."
    (base / "loop").symlink_to("loop")
    assert trust.unsafe(base / "loop", ME) == "", "the kernel refuses it in its own words"


@ROOT
def test_what_belongs_to_another_user_is_unsafe(base: Path) -> None:
    (base / "theirs").mkdir()
    os.chown(base / "theirs", OTHER, OTHER)
    assert trust.unsafe(base / "theirs" / "home", ME) == f"{base}/theirs belongs to {trust.name(OTHER)}."
    (base / "link").symlink_to("theirs")
    os.lchown(base / "link", OTHER, OTHER)
    assert trust.unsafe(base / "link", ME) == f"{base}/link is a link of {trust.name(OTHER)}."
    assert trust.unsafe(base / "theirs" / "home", ME | {OTHER}) == "", "who called sudo"


def test_who_called_sudo_is_believed_by_root_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert trust.trusted({"SUDO_UID": "1000"}) == {0, 1000}
    assert trust.trusted({"SUDO_UID": "x"}) == trust.trusted({}) == {0}
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert trust.trusted({"SUDO_UID": "1000"}) == {0, 1}


@ROOT
@pytest.mark.parametrize("planted", ["run", "data", "cache"])
def test_a_home_that_another_user_prepared_is_refused(base: Path, planted: str) -> None:
    (base / planted).mkdir()
    os.chown(base / planted, OTHER, OTHER)
    with pytest.raises(NodeError, match=rf"^{base}/{planted} belongs to .*\. Remove it, or set LABKIT_HOME to a directory"):
        Home.find({"LABKIT_HOME": str(base)})


@ROOT
def test_a_home_behind_a_link_of_another_user_is_refused(base: Path) -> None:
    (base / "own").mkdir()
    (base / "link").symlink_to("own")
    assert Home.find({"LABKIT_HOME": str(base / "link")}).data == base / "own" / "data"
    os.lchown(base / "link", OTHER, OTHER)
    with pytest.raises(NodeError, match=rf"^{base}/link is a link of "):
        Home.find({"LABKIT_HOME": str(base / "link")})


@pytest.mark.parametrize("variable", ["LABKIT_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"])
def test_a_place_that_everybody_may_write_to_is_refused(base: Path, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base.chmod(0o777)
    monkeypatch.delenv("LABKIT_HOME", raising=False)
    monkeypatch.setenv(variable, str(base))
    if variable != "XDG_CACHE_HOME" and os.geteuid() == 0 and variable != "LABKIT_HOME":
        monkeypatch.setattr(os, "geteuid", lambda: OTHER)
        monkeypatch.setattr(trust, "trusted", lambda: ME)
    with pytest.raises(NodeError, match=rf"^{base} can be written by everybody\. "):
        Home.find()


def test_a_home_is_its_owners_whatever_the_umask_and_whatever_was_there(base: Path) -> None:
    home = Home.find({"LABKIT_HOME": str(base / "new" / "home")})
    before = os.umask(0)
    try:
        home.data.mkdir(parents=True)
        home.data.chmod(0o755)
        os.chmod(base / "new", 0o755)
        os.chmod(base / "new/home", 0o755)
        home.make()
    finally:
        os.umask(before)
    assert {directory.stat().st_mode & 0o777 for directory in (home.run, home.data)} == {0o700}


def test_a_lock_or_log_that_is_a_link_is_not_followed(base: Path) -> None:
    victim, log = base / "victim", base / "labkit.log"
    victim.write_text("precious")
    log.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        trust.append(log)
    assert victim.read_text() == "precious"
    log.unlink()
    log.write_text("kept\n")
    log.chmod(0o666)
    with trust.append(log) as file:
        file.write("new\n")
    assert log.read_text() == "kept\nnew\n" and log.stat().st_mode & 0o777 == 0o600
