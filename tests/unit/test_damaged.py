"""Files of the lab's that hold something else than they should: no command fails by them, and nothing else is touched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.node import Home, NodeSelector
from labkit.node.host import relay
from labkit.node.kinds import cri as cri_kind
from labkit.node.lab import residue
from labkit.node.registry import share
from labkit.node.remote import container_access, kind_cluster, undo
from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.remote.loopback_registry import Loopback
from labkit.node.remote.pod_residue import PodPaths
from labkit.node.remote.undo import Place
from labkit.node.state import node_selector, status
from labkit.node.state.ledger import MARK, Ledger, changed_nodes, known_pods, mark_of
from labkit.node.vm import vm_pods
from labkit.util.safepath import component
from tests.unit.foreign_names import names

NODE = NodeSelector("kind", "kind", "kind-control-plane")
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = names | st.none() | st.integers() | st.lists(names, max_size=2) | st.dictionaries(names, names, max_size=2)
KEYS = (
    "change", "kind", "cluster", "node_name", "endpoint", "engine", "name", "id", "uid", "pid", "started", "host", "state",
    "argv", "error", "mark", "directory",
)
entries = values | st.dictionaries(st.sampled_from(KEYS), values, max_size=6)
no_json = st.sampled_from(["", "{", "[" * 100_000, "\0", "null"])
texts = st.lists(entries, max_size=3).map(json.dumps) | entries.map(json.dumps) | no_json


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache", "abcdef")
    home.make()
    (home.data / "changes").mkdir(exist_ok=True)
    return home


@quick
@given(texts)
def test_notes_are_read_or_taken_for_none(home: Home, text: str) -> None:
    data = text.encode(errors="surrogateescape")
    loopback = Loopback(home)
    socket = home.run / "kind-a.sock"
    for file in (home.data / "nodes.json", home.status_file, loopback.note, loopback.port_file, home.data / "pods.json",
                 home.data / "system-directories.json", home.data / "changes/a.jsonl", home.run / "kind-a.sock.json",
                 home.data / "changes/mark"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for known in (*node_selector.remembered(home), *changed_nodes(home)):
        assert all(isinstance(value, str) for value in vars(known).values())
        assert Ledger(home, known).path.parent == home.data / "changes"
    assert isinstance(status.read(home)["state"], str)
    assert loopback.running() is None and isinstance(loopback.port, int)
    assert isinstance(vm_pods.without(vm_pods.left_in(home.data / "pods.json"), ()), list)
    assert residue.left_system_directories(home) == [] or json.loads(text) is not None
    assert isinstance(relay.state(socket), dict) and isinstance(known_pods(home), set)
    assert MARK.fullmatch(mark_of(home))


@quick
@given(names)
def test_a_nodes_name_leads_its_relay_nowhere_else(home: Home, name: str) -> None:
    """`stop` removes the relay's socket and what is beside it."""
    made = container_access.relay_name(Engine("docker"), name)
    assert component(made) == made and made.isascii() and len(made) <= container_access.NAME_LETTERS
    assert container_access.kubeconfig(home, Engine("docker"), name).parent == home.run


@quick
@given(names, names)
def test_a_ledger_makes_clean_delete_nothing_by_an_option_or_of_others(home: Home, one: str, other: str) -> None:
    ledger = Ledger(home, NODE)
    ledger.forget()
    ledger.note("cluster")
    ledger.note("object", kind=one, name=other)
    ledger.note("node label", name=one)
    ledger.note("registry", host=one)
    called: list[Sequence[str]] = []

    def kubectl(*arguments: str) -> str:
        called.append(arguments)
        return '{"items": []}' if "json" in arguments else ""

    node: Any = SimpleNamespace(cluster=SimpleNamespace(kubectl=kubectl))
    place = Place("n", ledger, lambda argv: "", PodPaths("/l", "/p"), node)
    undo.find_objects(place)
    undo.delete_objects(place, [])
    for arguments in called:
        if "--" in arguments:
            assert list(arguments[arguments.index("--") + 1 :]) == [one, other]
        else:
            assert one not in arguments or one.startswith("labkit.")
    assert not cri_kind.is_own(place, "docker.io/library/busybox:1") and not cri_kind.is_own(place, "/x")


@quick
@given(entries)
def test_a_mark_on_a_node_that_is_none_makes_the_cluster_nobodys(home: Home, found: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind_cluster, "files", lambda *_: {"labkit-home.json": json.dumps(found)})
        engine: Any = SimpleNamespace(address=lambda: "docker", inspect=lambda *names: [{"Created": "2026-11-30T02:00:00.5Z"}])
        assert not kind_cluster.made_here(home, engine, [NodeContainer("n", "labkit", "worker", "running")])


def test_the_mark_of_a_home_is_made_anew_where_it_could_lead_away_on_a_node(home: Home) -> None:
    (home.data / "changes/mark").write_text("../../etc")
    called: list[Sequence[str]] = []
    share.leave(lambda argv: called.append(argv) or b"", mark_of(home))
    assert MARK.fullmatch(called[0][-1])
