"""Which engine is asked: noted where a node was found, and asked again from a shell that has chosen another."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from labkit.node import Home, NodeSelector
from labkit.node.remote import kind_clean
from labkit.node.remote.engine import DECIDE, Engine, asked
from labkit.node.state import node_selector
from labkit.util.errors import NodeError

DOCKER = """#!/bin/sh
[ "${DOCKER_HOST:-}${DOCKER_CONTEXT:-}" = "$(cat "$(dirname "$0")/right")" ] || exit 0
case $1 in
ps) echo n ;;
inspect) echo '[{"Name": "/n", "Config": {}, "State": {"Status": "exited"}}]' ;;
esac
"""
"""An engine's command line: the engine `right` has one container, others have none."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    for name in DECIDE:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "home"))
    return Home.find()


def use_context(tmp_path: Path, name: str) -> None:
    """What `docker context use` does."""
    (tmp_path / ".docker").mkdir(exist_ok=True)
    (tmp_path / ".docker/config.json").write_text(json.dumps({"currentContext": name}))


@pytest.mark.parametrize(
    ("before", "after"),
    [({"DOCKER_HOST": "unix:///a"}, {"DOCKER_HOST": "unix:///b"}), ({"DOCKER_HOST": "unix:///a"}, {}),
     ({}, {"DOCKER_HOST": "unix:///b"}), ({"context": "a"}, {"context": "b"}), ({"context": "a"}, {"DOCKER_HOST": "unix:///b"}),
     ({"context": "default"}, {"context": "b"}), ({"DOCKER_CONTEXT": "a"}, {"context": "b"})],
    ids=str,
)
def test_clean_asks_the_engine_that_the_node_was_found_by(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: dict[str, str], after: dict[str, str]
) -> None:
    """In another one there is no such container, which would mean that nothing is left."""

    def choose(what: dict[str, str]) -> None:
        for name in DECIDE:
            monkeypatch.delenv(name, raising=False)
        use_context(tmp_path, what.get("context", "default"))
        for name, value in what.items():
            if name != "context":
                monkeypatch.setenv(name, value)

    choose(before)
    (tmp_path / "bin/right").write_text("".join(Engine("docker").pinned().values()))
    node = NodeSelector("kind", "c", "n", engine=Engine("docker").address())
    node_selector.remember(home, node)
    choose(after)
    shell = {**os.environ}
    found, left, alone = kind_clean.clean(home, *node_selector.remembered(home), progress=print)
    assert [line.partition(". Start")[0] for line in left] == ["could not look at the node n, because: its container is exited"]
    assert dict(os.environ) == shell and (found, alone) == ([], [])


def test_another_command_is_not_asked_in_its_place(home: Home) -> None:
    with pytest.raises(NodeError, match="a container of podman, and labkit finds docker on PATH"), asked("podman"):
        pass
    _, left, _ = kind_clean.clean(home, NodeSelector("kind", "c", "n", engine="podman"), print)
    assert left and left[0].startswith("could not look at the node n")


def test_a_list_of_an_earlier_labkit_is_read(home: Home) -> None:
    home.data.mkdir(parents=True)
    (home.data / "nodes.json").write_text('[{"kind": "kind", "cluster": "c", "node_name": "n", "endpoint": ""}]')
    assert node_selector.remembered(home) == [NodeSelector("kind", "c", "n")]
