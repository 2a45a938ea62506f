"""Which node is selected: the same words, the same answer, for every command; and every command that a message advises is one."""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.cli import __main__ as cli
from labkit.cli import common
from labkit.cli import node_commands as commands_of_node
from labkit.node import Home, NodeError, NodeSelector
from labkit.node import node as base
from labkit.node.host.access import NO_STREAMS, ThisMachine
from labkit.node.kinds import cri as cri_kind
from labkit.node.kinds import discovery
from labkit.node.pods import api_client
from labkit.node.pods.cluster import Cluster
from labkit.node.remote import container_selection, kind_node
from labkit.node.remote.container_access import InContainer
from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.state import node_selector as choice
from tests.conftest import ROOT

NAMES = ("LABKIT_NODE", "LABKIT_CLUSTER", "LABKIT_NODE_NAME")
TWO = {"a-control-plane": ("a", "control-plane", "running"), "b-control-plane": ("b", "control-plane", "running")}
A, B = NodeSelector("kind", "a", "a-control-plane"), NodeSelector("kind", "b", "b-control-plane")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of its own, and an engine with the containers of TWO."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    has(monkeypatch, TWO)
    return Home.find()


def has(patch: pytest.MonkeyPatch, nodes: dict[str, tuple[str, str, str]]) -> None:
    """The engine has these containers: name -> (cluster, role, state)."""
    found = [NodeContainer(name, *of) for name, of in nodes.items()]
    patch.setattr(Engine, "find", lambda: Engine("docker"))
    patch.setattr(Engine, "node_containers", lambda self: found)
    patch.setattr(Engine, "node_container", lambda self, name: next(n for n in found if n.name == name))


def chosen(home: Home, node: str = "auto", cluster: str = "", node_name: str = "") -> str:
    """The container that `connect` would take, having seen to it that `status` and `look` mean the same one."""
    wanted = NodeSelector.parse(node, cluster, node_name)
    selected, _ = discovery.resolve_usable(wanted, home)
    picked = container_selection.pick(Engine("docker"), selected)
    assert discovery.report(home, wanted)["name"] == picked.name
    return picked.name


def test_the_last_one_brought_up_is_meant_where_the_words_leave_it_open(home: Home) -> None:
    choice.remember(home, A)
    choice.remember(home, B)
    assert chosen(home) == chosen(home, "kind") == chosen(home, cluster="b") == "b-control-plane"
    assert chosen(home, cluster="a") == chosen(home, node_name="a-control-plane") == "a-control-plane"
    choice.remember(home, A)  # `connect` to one that is known changes nothing for other commands
    assert chosen(home, "kind") == "b-control-plane"
    choice.remember(home, A, as_last=True)
    assert chosen(home, "kind") == "a-control-plane"


def test_several_nodes_and_none_brought_up_is_an_error_that_names_a_command_for_each(home: Home) -> None:
    with pytest.raises(NodeError) as refused:
        container_selection.pick(Engine("docker"), discovery.resolve(NodeSelector("kind"), home))
    for name in "ab":
        words = f"labkit up --node kind --cluster {name}"
        assert f"`{words}`" in refused.value.todo
        assert parsed(words).cluster == name


def test_a_node_that_cannot_be_used_is_not_silently_another(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    choice.remember(home, A)
    choice.remember(home, B)
    has(monkeypatch, {name: of for name, of in TWO.items() if of[0] == "a"})
    for words in ({}, {"node": "kind"}, {"cluster": "b"}):
        selected, _ = discovery.resolve_usable(NodeSelector.parse(**words), home)
        with pytest.raises(NodeError, match="no cluster b") as refused:
            container_selection.pick(Engine("docker"), selected)
        assert "labkit up --node kind --cluster a" in refused.value.todo
        report = discovery.report(home, NodeSelector.parse(**words))
        assert report["state"] == "down" and "no cluster b" in report["error"]


def test_options_and_environment_are_the_same_words(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--cluster", "a"], ["--node", "kind"], ["--node", "vm"], ["--node", "cri:/run/x.sock"], ["--node-name", "n"]):
        by_option = parsed(shlex.join(["labkit", "up", *words]))
        with monkeypatch.context() as patch:
            for name in NAMES:
                patch.setenv(name, "")
            common.choose_node(by_option)
            after = NodeSelector.parse()
        option = words[0].removeprefix("--").replace("-", "_")
        assert after == NodeSelector.parse(**{option: words[1]}, environ={})
        assert NodeSelector.parse(environ=after.environ()) == after


@pytest.mark.parametrize(
    ("words", "environ", "selected"),
    [
        ({"cluster": "b"}, {"LABKIT_CLUSTER": "a", "LABKIT_NODE_NAME": "a-worker"}, NodeSelector("kind", "b")),
        ({"node_name": "b-worker"}, {"LABKIT_CLUSTER": "a"}, NodeSelector("kind", "", "b-worker")),
        ({"node": "vm"}, {"LABKIT_NODE": "kind", "LABKIT_CLUSTER": "a"}, NodeSelector("vm")),
        ({}, {"LABKIT_NODE": "containerd", "LABKIT_CLUSTER": "a"}, NodeSelector("containerd")),
        ({}, {"LABKIT_CLUSTER": "a"}, NodeSelector("kind", "a")),
        ({"cluster": "a"}, {"LABKIT_NODE": "vm"}, NodeSelector("kind", "a")),
        ({"node": "kind"}, {"LABKIT_NODE": "vm", "LABKIT_CLUSTER": "a"}, NodeSelector("kind")),
        ({}, {"LABKIT_NODE": "cri:unix:/run/x.sock"}, NodeSelector("cri", endpoint="unix:///run/x.sock")),
        ({"node": "cri:/run/x.sock"}, {}, NodeSelector("cri", endpoint="unix:///run/x.sock")),
        ({"node": "cri:docker://n/run/x.sock"}, {}, NodeSelector("cri", endpoint="docker://n/run/x.sock")),
    ],
)
def test_what_is_given_overrules_the_environment(words: dict[str, str], environ: dict[str, str], selected: NodeSelector) -> None:
    assert NodeSelector.parse(**words, environ=environ) == selected


def test_words_that_contradict_each_other_are_refused(home: Home) -> None:
    for words in ({"node": "vm", "cluster": "a"}, {"node": "cri:tcp://1.2.3.4:5"}):
        with pytest.raises(NodeError):
            NodeSelector.parse(**words, environ={})
    for node in ("kind:a", "containerd:x", "pod", "KIND"):
        with pytest.raises(NodeError, match="is no kind of node"):
            discovery.resolve(NodeSelector.parse(node, environ={}), home)


@pytest.mark.parametrize(
    "made",
    [
        A, NodeSelector("kind", "it's", "a b"), NodeSelector("containerd"), NodeSelector("vm"),
        NodeSelector("cri", endpoint="unix:///run/a b/it's.sock"),
        NodeSelector("cri", endpoint="docker://kind-control-plane/run/containerd/containerd.sock"),
    ],
)
def test_the_environment_of_a_choice_makes_it_again_in_another_shell(made: NodeSelector) -> None:
    lines = "\n".join(f"export {name}={shlex.quote(word)}" for name, word in made.environ().items())
    script = f'eval "$1"; exec {shlex.quote(sys.executable)} -c "import os, json; print(json.dumps(dict(os.environ)))"'
    for before in ({}, {"LABKIT_NODE": "vm"}, {"LABKIT_NODE": "kind", "LABKIT_CLUSTER": "other", "LABKIT_NODE_NAME": "other-w"}):
        said = subprocess.run(["sh", "-c", script, "sh", lines], env=before, capture_output=True, check=True).stdout
        assert NodeSelector.parse(environ=json.loads(said)) == made


def test_a_list_of_nodes_that_was_half_written_loses_nothing(home: Home) -> None:
    choice.remember(home, A)
    choice.remember(home, B)
    choice.forget(home, A)
    assert choice.remembered(home) == [B]
    assert [p.name for p in home.data.iterdir()] == ["nodes.json"]


def test_down_stops_the_node_that_is_meant_and_names_the_others(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[NodeSelector] = []
    made = replace(
        discovery.course_kinds()["kind"],
        down=lambda home, choice, progress: stopped.append(choice) or 0,  # type: ignore[func-returns-value]
        report=lambda home, choice: {"state": "down" if choice in stopped else "ready"},
    )
    monkeypatch.setitem(discovery.course_kinds(), "kind", made)
    choice.remember(home, A)
    choice.remember(home, B)
    said = run("down", "--node", "kind")
    assert stopped == [B] and "`labkit down --node kind --cluster a --node-name a-control-plane`" in said
    with pytest.raises(SystemExit):
        run("down", "--cluster", "nowhere")
    assert stopped == [B]
    monkeypatch.setenv("LABKIT_CLUSTER", "b")
    run("down", "--all")
    assert stopped == [B, A, B]


def test_a_cri_node_needs_an_endpoint(home: Home) -> None:
    with pytest.raises(NodeError, match="needs an endpoint"):
        cri_kind.open_node(home, "")


# What messages advise


VERBS = next(action.choices for action in cli.parser()._actions if action.dest == "verb") or {}


def run(*argv: str) -> str:
    """What a command prints. Raises SystemExit with its code where that is not 0."""
    before = {name: os.environ.get(name) for name in NAMES}
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            if code := cli.main(argv):
                raise SystemExit(code)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    return said.getvalue()


def parsed(command: str) -> argparse.Namespace:
    return cli.parser().parse_args(shlex.split(command)[1:])


def texts(path: Path) -> list[str]:
    """Every string of a module, docstrings apart; what is filled in is the word 1.7, which fits everywhere."""
    tree = ast.parse(path.read_text())
    doc = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and id(node) not in doc:
            found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "1.7" for v in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in doc | inner:
            found.append(node.value)
    return found


def advised() -> list[tuple[str, str]]:
    """(where, command) of every command of labkit's or ./course that a message names, examples of --help among them."""
    verbs = "|".join(VERBS)
    command = re.compile(rf"((?:(?:[^\s'`]*/)?labkit (?:{verbs})|\./course (?:start|test|bench|clean))\b[^`'\"();,→]*)")
    found = []
    for path in sorted([*(ROOT / "labkit").rglob("*.py"), ROOT / "course"]):
        for text in texts(path) if path.suffix else path.read_text().splitlines():
            if not text.lstrip().startswith(("#", "labkit", "*) misuse")):  # in the script: its own commands
                found += [(path.name, each) for match in command.findall(text) for each in re.split(r" (?:&&|\|) ", match)]
    return found


ENDS = "makes|says|said|finds|removes|shows|lists|brings|puts|stops|and|or|to|in|by|first|again|builds|for|takes|does"
PROSE = re.compile(rf"\.?(?: (?:{ENDS})\b.*)?$")


def command_of(text: str) -> str:
    """A command as a learner would type it: without the sentence that goes on after it."""
    words = PROSE.sub("", text.strip().split("  ")[0].split(": ")[0].rstrip(" .:")).replace("…", "1.7")
    return re.sub(r"\[[^]]*\]", "", words).strip()


def test_messages_advise_commands_that_there_are() -> None:
    found = advised()
    assert len(found) > 50 and {"course", "kind.py", "cri_errors.py"} <= {where for where, _ in found}
    for where, text in found:
        words = command_of(text)
        if "./course" in words:
            assert course(*shlex.split(words)[1:]).returncode == 0, (where, text, words)
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()) as complaint:
                parsed(words)
        except SystemExit:
            pytest.fail(f"{where}: {text!r} as {words!r}: {complaint.getvalue()}")


def course(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """./course up to where it has understood its arguments; then what it would hand on to the notebooks is printed."""
    script = (ROOT / "course").read_text().rpartition('main "$@"')[0]
    stop = "; ".join(f"{name}() {{ env | grep ^LABKIT_ || true; exit 0; }}" for name in ("environment", "whole", "node_traces"))
    argv = ["sh", "-c", f'{script}\n{stop}\nmain "$@"', str(ROOT / "course"), *arguments]
    own = {name: value for name, value in os.environ.items() if name not in NAMES}
    return subprocess.run(argv, env={**own, **env}, capture_output=True, text=True)


def test_course_start_takes_the_options_that_choose_a_node() -> None:
    def said(*arguments: str, **env: str) -> NodeSelector:
        lines = course("start", *arguments, **env).stdout.splitlines()
        return NodeSelector.parse(environ=dict(line.split("=", 1) for line in lines))

    for arguments in (("--cluster", "b"), ("--cluster=b",), ("--node", "kind", "--cluster", "b")):
        assert said(*arguments) == said(*arguments, LABKIT_CLUSTER="a", LABKIT_NODE_NAME="a-worker") == NodeSelector("kind", "b")
    assert said("--node-name", "w", LABKIT_CLUSTER="a") == NodeSelector("kind", "", "w")
    assert said("--node", "vm", LABKIT_NODE="kind", LABKIT_CLUSTER="a") == NodeSelector("vm")
    assert said(LABKIT_NODE="kind", LABKIT_CLUSTER="a") == NodeSelector("kind", "a")
    assert course("start", "--cluster").returncode == 2


# Defaults that are somebody else's


def test_a_node_of_no_cluster_has_no_kubectl_and_no_context() -> None:
    alone = base.Node(kind="cri", name="here", endpoint="/run/x.sock", runtime="r 1", why="")
    with pytest.raises(NodeError, match="is of no cluster"):
        alone.api.kubectl_options()
    inside = kind_node.users_api(Home.find(), InContainer(Engine("docker"), NodeContainer("box", "", "", "running")))
    for ask in (lambda: inside.context, inside.kubectl_options, lambda: inside.kube):
        with pytest.raises(NodeError, match="is of no cluster"):
            ask()


def test_an_api_that_is_away_is_a_sentence(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = f"http://127.0.0.1:{closed.getsockname()[1]}"
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
                  "clusters": [{"name": "k", "cluster": {"server": server}}],
                  "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}]}
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        kube = api_client.core_v1(tmp_path / "kubeconfig")
        kube.api_client.configuration.retries = False
        cluster = Cluster(kube, "n", lambda arguments, stdin: " ".join(arguments), None, "/tmp")
        for ask in (kube.list_node, cluster.events, cluster.capacity, lambda: cluster.status("p")):
            with pytest.raises(NodeError, match=r"API at http://127.0.0.1:\d+ does not answer \(.*refused"):
                ask()


def test_doctor_examines_the_socket_that_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    named = NodeSelector.parse("cri:unix:///nowhere/containerd.sock")
    found = {verdict.kind: verdict for verdict in discovery.probe_all(home, named)}
    assert "a CRI socket of your own" not in found["cri"].why and "/nowhere/containerd.sock" in found["cri"].why
    assert "a CRI socket of your own" in {verdict.kind: verdict for verdict in discovery.probe_all(home)}["cri"].why


def test_clean_counts_what_it_removed_in_words() -> None:
    found = {"node unix:///run/x.sock": ["Pod a", "Pod b", "image i"], "processes": ["x"], "files": ["a", "b"], "rules": ["r"]}
    told = [commands_of_node.counted(kind, names) for kind, names in found.items()]
    assert told == ["2 Pods and 1 image from the node unix:///run/x.sock", "1 process", "2 files", "1 rule"]


def test_whether_crictl_exec_can_work_is_known_of_each_node() -> None:
    assert ThisMachine.shares_loopback and not InContainer.shares_loopback and "crictl exec --sync" in NO_STREAMS
