"""Unix sockets of the lab's own: nobody else can connect, at no moment."""

from __future__ import annotations

import ast
import os
import socket
from pathlib import Path

import pytest

from labkit.util.unix_sockets import private_socket
from tests.conftest import ROOT


@pytest.mark.parametrize("umask", [0, 0o077])
def test_a_private_socket_has_its_mode_from_its_first_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int) -> None:
    """Without a later chmod, and without another umask for the process, which other threads would share."""
    seen = []
    monkeypatch.setattr(os, "chmod", lambda path, mode: seen.append(Path(path).stat().st_mode & 0o777))
    before = os.umask(umask)
    try:
        with private_socket(tmp_path / "s") as listener:
            assert os.umask(umask) == umask
            assert seen == [0o600] and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    finally:
        os.umask(before)


def test_an_old_socket_is_replaced_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "s").symlink_to(tmp_path / "victim")
    for _ in range(2):
        private_socket(tmp_path / "s").close()
    assert (tmp_path / "victim").read_text() == "kept" and (tmp_path / "s").is_socket()


def test_every_unix_socket_with_a_path_is_a_private_one() -> None:
    """All of labkit listens by `private_socket`. The relay's program, which imports nothing, has its own."""
    own = {"labkit/util/unix_sockets.py", "labkit/node/host/relay_process.py"}
    listening = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "labkit").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr == "bind_unix_socket" or (node.func.attr == "bind" and is_path(node)))
    }
    assert listening == own


def is_path(call: ast.Call) -> bool:
    """Whether bind is called with a path: str(path)."""
    return any(isinstance(each, ast.Call) and getattr(each.func, "id", "") == "str" for each in call.args)
