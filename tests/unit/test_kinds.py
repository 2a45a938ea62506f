"""Kinds of node that other packages bring by an entry point."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from labkit.cli.__main__ import parser
from labkit.node.kinds import cleaning, discovery
from labkit.node.node import Node
from labkit.node.state import node_selector
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, Cleaned, KindOfNode, node_report
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

STUB = replace(
    discovery.course_kinds()["containerd"],
    probe=lambda home, selector=None: Availability("stub", True, "it is always there", ""),
    report=lambda home, selector: node_report("stub"),
)
NO_KIND = object()


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EntryPoint]]:
    """The entry points that packages bring."""
    found: list[EntryPoint] = []
    monkeypatch.setattr(discovery, "entry_points", lambda group: [point for point in found if point.group == group])
    for cached in (discovery.plugin_kinds, discovery.kind_names):
        cached.cache_clear()
    yield found
    for cached in (discovery.plugin_kinds, discovery.kind_names):
        cached.cache_clear()


def help_of(verb: str) -> str:
    return next(action.choices for action in parser()._actions if action.dest == "verb")[verb].format_help()  # type: ignore[index]


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, discovery.ENTRY_POINTS)


def test_a_package_brings_a_kind(points: list[EntryPoint], tmp_path: Path) -> None:
    points.append(point("stub", f"{__name__}:STUB"))
    home = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache")
    assert isinstance(discovery.kinds()["stub"], KindOfNode) and list(discovery.kinds())[-1] == "stub"
    assert "it is always there" in [verdict.why for verdict in discovery.probe_all(home)]
    assert discovery.resolve_usable(NodeSelector("stub"), home) == (NodeSelector("stub"), "it is always there")
    assert discovery.report(home, NodeSelector("stub"))["node"] == "stub"
    assert "kind, containerd, vm, stub, cri:ENDPOINT" in " ".join(help_of("up").split())


def test_the_smallest_kind_of_the_guide_is_one(
    points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    (tmp_path / "stubnode.py").write_text(guide.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    points.append(point("stub", "stubnode:KIND"))
    home = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache")
    kind = discovery.kinds()["stub"]
    assert kind.up(home, NodeSelector("stub"), print) == discovery.report(home, NodeSelector("auto"))
    with contextlib.closing(kind.connect(home, NodeSelector("stub"), why="", lesson=None, progress=print)) as node:
        assert node.runtime == "stub 1.0" and node.selector == NodeSelector("stub")
    assert kind.down(home, NodeSelector("stub"), print) == 0
    assert cleaning.clean_node(home, NodeSelector("stub"), print) == ([], [], [])


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("stub", "there.is.no.such.module:KIND", "cannot be loaded"),
        ("stub", f"{__name__}:NO_KIND", "is no KindOfNode"),
        ("vm", f"{__name__}:STUB", "a second kind of node 'vm'"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_package(points: list[EntryPoint], name: str, value: str, says: str) -> None:
    points.append(point(name, value))
    with pytest.raises(NodeError, match=says):
        discovery.kinds()


def test_an_unknown_kind_is_told_those_there_are(points: list[EntryPoint]) -> None:
    points.append(point("stub", f"{__name__}:STUB"))
    with pytest.raises(NodeError, match="Choose one of auto, kind, containerd, vm, stub, cri:ENDPOINT\\."):
        discovery.require_known_kind(NodeSelector("cloud"))


def test_a_kind_that_a_package_brings_is_connected_to_and_cleaned(
    points: list[EntryPoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing but a socket: what a stub does not say of itself a Node has already."""
    cleaned: list[NodeSelector] = []

    def connect(home: Home, choice: NodeSelector, *, why: str, lesson: str | None, progress: Progress) -> Node:
        return Node(kind="stub", name="here", endpoint=f"unix://{tmp_path}/none.sock", runtime="", why=why, lesson=lesson)

    def clean(home: Home, choice: NodeSelector, progress: Progress) -> Cleaned:
        cleaned.append(choice)
        return ["Pod a"], [], []

    monkeypatch.setitem(globals(), "STUB", replace(STUB, connect=connect, clean=clean))
    points.append(point("stub", f"{__name__}:STUB"))
    home = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache")
    home.make()
    made = discovery.kinds()["stub"].connect(home, NodeSelector("stub"), why="", lesson=None, progress=print)
    with contextlib.closing(made) as node:
        assert node.shell(["echo", "a"]) == "a\n" and node.api.environment() == {} and node.socket_path == f"{tmp_path}/none.sock"
        with pytest.raises(NodeError, match="is of no cluster"):
            node.cluster.events()
    node_selector.remember(home, NodeSelector("stub"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cleaning.clean(home)["removed"]["node stub"] == ["Pod a"] and cleaned == [NodeSelector("stub")]
