"""What `clean` undoes and what it says: ownership by a mark, and no absence that was not seen."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cli.__main__ import main
from labkit.cri import CriError
from labkit.node import Home, NodeError
from labkit.node.kinds import cleaning, discovery
from labkit.node.kinds import cri as cri_kind
from labkit.node.kinds import kind as kind_of_cluster
from labkit.node.observe import cni
from labkit.node.pods.cluster import Cluster
from labkit.node.registry import node_registry, share
from labkit.node.remote import kind_clean, kind_cluster, pod_residue, undo
from labkit.node.remote.engine import NodeContainer, explain
from labkit.node.remote.pod_residue import PodPaths
from labkit.node.remote.undo import Part, Place
from labkit.node.state import node_selector as choice
from labkit.node.state.ledger import HOME, Ledger, changed_nodes, known_pods, locked, mark_of
from labkit.node.state.node_selector import NodeSelector

NODE = NodeSelector("kind", "kind", "kind-control-plane")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache", "abcdef")


def test_one_process_at_a_time_changes_the_list(home: Home) -> None:
    ledger = Ledger(home, NODE)
    noting = threading.Thread(target=ledger.note, args=("pod",))
    with locked(home) as directory:
        with (directory / "lock").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        noting.start()
        noting.join(0.1)
        assert noting.is_alive() and not ledger.path.exists()
    noting.join()
    assert ledger.noted("pod") == [{"change": "pod"}]


def local(argv: Sequence[str]) -> str:
    return subprocess.run(list(argv), check=True, capture_output=True, text=True).stdout


# Could not look


@pytest.mark.parametrize(
    ("chosen", "module"), [(NODE, kind_clean), (NodeSelector("cri", endpoint="unix:///run/none.sock"), cri_kind)]
)
@pytest.mark.parametrize("error", [NodeError("The engine does not run."), CriError("Version", "UNAVAILABLE", "refused", "")])
def test_a_node_that_cannot_be_looked_at_is_told_and_remembered(
    home: Home, monkeypatch: pytest.MonkeyPatch, chosen: NodeSelector, module: Any, error: Exception
) -> None:
    choice.remember(home, chosen)
    Ledger(home, chosen).note("pod", uid="4711")

    def fails(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(kind_clean, "need_engine", fails)
    monkeypatch.setattr("labkit.node.kinds.cri.open_node", fails)
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    report = cleaning.clean(home)

    assert any(line.startswith("could not look at") and "run `labkit clean` again" in line for line in report["left"])
    assert choice.remembered(home) == [chosen] == changed_nodes(home) and known_pods(home) == {"4711"}
    with pytest.raises(NodeError, match="could not look at"):
        module.down(home, chosen, print)

    report = cleaning.clean(home, forget=True)

    assert report["left"] == [] and "is forgotten" in report["alone"][0] and not home.data.exists()


def test_a_node_that_fails_in_any_way_keeps_no_other_from_being_cleaned(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    cleaned: list[NodeSelector] = []

    def clean(home: Home, choice: NodeSelector, progress: Any) -> tuple[list[str], list[str], list[str]]:
        cleaned.append(choice)
        if choice.node_name == "broken":
            raise ValueError("no JSON")
        return ["Pod a"], [], []

    monkeypatch.setitem(discovery.course_kinds(), "kind", replace(kind_of_cluster.KIND, clean=clean))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    nodes = [NodeSelector("kind", "kind", name) for name in ("broken", "well")]
    for node in nodes:
        choice.remember(home, node)
    report = cleaning.clean(home)
    assert cleaned == nodes and report["removed"]["node well"] == ["Pod a"] and choice.remembered(home) == nodes[:1]
    assert report["left"] == ["could not look at the node broken, because: no JSON. Start it and run `labkit clean` again"]


def test_a_part_that_fails_keeps_no_other_from_being_undone_and_is_told(home: Home) -> None:
    there = ["file /a"]

    def fails(place: Place, *_: Any) -> list[str]:
        raise ConnectionResetError("the API is away")

    def remove(place: Place, found: list[str]) -> None:
        there.clear()

    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"))
    parts = (Part("objects", fails, fails), Part("files", lambda place: list(there), remove))
    found, left = undo.undo(place, parts)
    assert found == ["file /a"] and there == []
    assert left == ["could not look at objects on node, because: the API is away. Start it and run `labkit clean` again"]


def test_what_needs_the_runtime_is_not_called_absent_while_it_is_away(home: Home) -> None:
    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"), None, "containerd does not answer")
    found, left = undo.undo(place, (undo.PODS,))
    assert found == [] and "because: containerd does not answer" in left[0]


# Whose the cluster is


class Engine:
    """An engine with one cluster, whose nodes have the files of `marks`."""

    command = "docker"

    def __init__(self, **marks: str) -> None:
        self.marks = marks
        self.created = "2026-11-30T02:00:00.5Z"
        self.state = "running"
        self.users: dict[str, str] = {}

    def address(self) -> str:
        return self.command

    def node_containers(self) -> list[NodeContainer]:
        return [NodeContainer(name, kind_cluster.CLUSTER, "worker", self.state) for name in self.marks]

    def inspect(self, *names: str) -> list[dict[str, Any]]:
        return [{"Created": self.created} for _ in names]

    def run(self, *argv: str, stdin: bytes = b"", timeout: float = 5.0) -> str:
        self.marks[argv[2]] = stdin.decode()
        return ""

    def run_bytes(self, *argv: str, timeout: float = 5.0, stdin: bytes | None = None) -> bytes:
        name, _, path = argv[1].partition(":")
        files = {f"homes/{mark}": text for mark, text in self.users.items()}
        if path == kind_cluster.MARK:
            files = {"labkit-home.json": self.marks[name]} if self.marks[name] else {}
        if not files:
            raise explain("docker", f"Error: No such container:path: {argv[1]}", 1)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for file, text in files.items():
                member = tarfile.TarInfo(file)
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
        return packed.getvalue()


@pytest.fixture
def deleted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The calls of kind's command line; a deleted cluster is gone."""
    calls: list[tuple[str, ...]] = []

    def kind_command(engine: Any, *arguments: str) -> Any:
        calls.append(arguments)
        if arguments[0] == "delete":
            engine.marks.clear()
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(kind_cluster, "kind", kind_command)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    return calls


def with_engine(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Engine:
    monkeypatch.setattr(kind_cluster.Engine, "find", lambda: engine)
    return engine


def mark_text(home: Home) -> str:
    return json.dumps({"mark": mark_of(home), "home": str(home.data)})


def test_only_the_home_that_made_the_cluster_deletes_it(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]]
) -> None:
    hers = Home(tmp_path / "hers/run", tmp_path / "hers/data", tmp_path / "cache", "fedcba")
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": mark_text(hers), "labkit-control-plane": mark_text(hers)}))

    assert kind_cluster.delete(home, print) == ([], [f"the cluster labkit was made by another lab ({hers.data})"])
    assert deleted == [] and len(engine.marks) == 2

    assert kind_cluster.delete(hers, print) == ([], [])
    assert deleted == [("delete", "cluster", "--name", "labkit")]


def test_a_cluster_without_a_mark_is_nobodys_but_that_which_was_being_made(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]]
) -> None:
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": ""}))
    assert kind_cluster.delete(home, print) == ([], ["the cluster labkit was not made by this lab"])
    kind_cluster.ledger(home, engine).note("cluster", begun="2026-11-30T02:00:01+00:00")  # after it was there: somebody else's
    assert kind_cluster.delete(home, print)[1] and deleted == []
    engine.created = "2026-11-30T02:00:09.1Z"
    assert kind_cluster.delete(home, print) == ([], []) and len(deleted) == 1


@pytest.mark.parametrize("state", ["running", "exited"])
def test_a_cluster_that_another_lab_uses_stays_whether_it_runs_or_not(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]], state: str
) -> None:
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": mark_text(home)}))
    engine.state, engine.users = state, {mark_of(home): "/home/me\n", "hers": "/home/her\n"}
    alone = ["the cluster labkit is used by another lab (/home/her): let that one clean first"]
    assert kind_cluster.delete(home, print) == ([], alone) and deleted == []
    engine.users = {mark_of(home): "/home/me\n"}
    assert kind_cluster.delete(home, print) == ([], []) and len(deleted) == 1


@pytest.mark.parametrize("half", ["", '{"mark": "ab'])
def test_a_cluster_of_which_one_node_was_marked_when_labkit_was_killed_is_its_own(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]], half: str
) -> None:
    with_engine(monkeypatch, Engine(**{"labkit-control-plane": mark_text(home), "labkit-worker": half}))
    assert kind_cluster.delete(home, print) == ([], []) and len(deleted) == 1


def test_a_cluster_made_by_hand_after_the_labs_own_was_deleted_is_left_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]]
) -> None:
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": ""}))
    kind_cluster.make(home, engine, print)  # type: ignore[arg-type]
    assert changed_nodes(home) == [NodeSelector("kind", "labkit", engine="docker")]  # also if it was killed just now
    engine.marks, engine.created = {"labkit-worker": ""}, "2199-01-01T00:00:00.5Z"

    assert kind_cluster.delete(home, print) == ([], ["the cluster labkit was not made by this lab"])
    assert [arguments[0] for arguments in deleted] == ["create"]


def test_a_cluster_that_another_lab_is_making_just_now_is_left_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]]
) -> None:
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": ""}))
    engine.created = "2199-01-01T00:00:00.5Z"
    words = 'ERROR: failed to create cluster: node(s) already exist for a cluster with the name "labkit"'

    def kind_command(engine: Any, *arguments: str) -> Any:
        deleted.append(arguments)
        return SimpleNamespace(returncode=1, stderr=words)

    monkeypatch.setattr(kind_cluster, "kind", kind_command)
    with pytest.raises(NodeError, match="already exist"):
        kind_cluster.make(home, engine, print)  # type: ignore[arg-type]
    assert kind_cluster.delete(home, print)[1] and [arguments[0] for arguments in deleted] == ["create"]


def test_another_lab_that_was_killed_while_it_left_its_mark_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(share, "OTHERS", share.OTHERS.replace(share.HOMES, str(tmp_path)))
    for mark, directory in (("mine", "/home/me\n"), ("hers", "/home/her\n"), ("his", "")):
        (tmp_path / mark).write_text(directory)
    assert share.others(lambda argv: local(argv).encode(), "mine") == ["/home/her", "his"]
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(share, "OTHERS", share.OTHERS.replace(str(tmp_path), f"{tmp_path}/empty"))
    assert share.others(lambda argv: local(argv).encode(), "mine") == []


def test_a_cluster_that_was_made_carries_the_mark_and_one_that_was_interrupted_is_deleted(
    home: Home, monkeypatch: pytest.MonkeyPatch, deleted: list[tuple[str, ...]]
) -> None:
    engine = with_engine(monkeypatch, Engine(**{"labkit-worker": ""}))
    kind_cluster.make(home, engine, print)  # type: ignore[arg-type]
    assert json.loads(engine.marks["labkit-worker"])["mark"] == mark_of(home)
    engine.marks["labkit-worker"] = ""
    engine.created = "2199-01-01T00:00:00.5Z"

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kind_cluster, "put_mark", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kind_cluster.make(home, engine, print)  # type: ignore[arg-type]
    assert deleted[-1][0] == "delete"


# What is undone


def test_the_network_comes_back_without_a_runtime_and_a_newer_file_stays(tmp_path: Path, home: Home) -> None:
    saved = tmp_path / ".labkit-saved"
    saved.mkdir()
    for name, now in (("10-gone", None), ("20-broken", f'{{"type": "{cni.NO_SUCH_PLUGIN}"}}'), ("30-newer", "newer")):
        (saved / name).write_text("before")
        if now:
            (tmp_path / name).write_text(now)
    (tmp_path / ".labkit-saved.new").mkdir()
    ledger = Ledger(home, NODE)
    ledger.note("network", directory=str(tmp_path))
    place = Place("node", ledger, local, PodPaths("/none", "/none"))

    found, left = undo.undo(place, (undo.NETWORK,))

    assert len(found) == 1 and left == [] and sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []
    assert [(tmp_path / n).read_text() for n in ("10-gone", "20-broken", "30-newer")] == ["before", "before", "newer"]
    assert undo.undo(place, (undo.NETWORK,)) == ([], [])


def test_a_network_of_which_half_was_written_when_labkit_was_killed_is_written_again(tmp_path: Path) -> None:
    saved = tmp_path / ".labkit-saved"
    saved.mkdir()
    for name in ("10-a.conflist", "20-b.conflist"):
        (saved / name).write_text("before")
        (tmp_path / name).write_text("bef")
    (saved / ".writing").write_text("10-a.conflist\n")
    assert cni.put_back(local, str(tmp_path)) == ["10-a.conflist", "20-b.conflist"]
    assert [(tmp_path / name).read_text() for name in ("10-a.conflist", "20-b.conflist")] == ["before", "bef"]
    assert not cni.is_saved(local, str(tmp_path))


def test_a_kind_of_object_that_the_cluster_no_longer_knows_hides_no_other(home: Home) -> None:
    asked: list[str] = []

    def kubectl(verb: str, kinds: str, *options: str) -> str:
        asked.append(kinds)
        if "widget" in kinds:
            raise NodeError('error: the server doesn\'t have a resource type "widget"')
        return '{"items": [{"kind": "Pod", "metadata": {"name": "a"}}]}'

    node: Any = SimpleNamespace(cluster=SimpleNamespace(kubectl=kubectl))
    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"), node)
    for noted in ("pod", "widget", "job"):
        place.ledger.note("cluster", kind=noted)
    assert undo.find_objects(place) == ["Pod a"]
    assert asked[-1] == "pod,persistentvolumeclaim,persistentvolume,configmap,secret,job" and len(asked) == 2


def test_leavings_are_known_by_the_pods_uid_in_either_form_of_cgroups() -> None:
    places = PodPaths("/logs", "/pods")
    mine, theirs = "1c8df74f-0836-4d30-a91b-9254b7ec6452", "5f85ada7-92af-4f0e-b1ed-c68c87e43db9"
    top = "cgroup /sys/fs/cgroup/memory/labkit"
    lines = [f"file /logs/default_shop_{mine}", f"file /logs/default_shop_{theirs}", f"file /pods/{mine}",
             f"{top}/kubepods/besteffort/pod{mine}/{64 * 'a'}", f"{top}/kubepods/besteffort/pod{mine}", f"{top}/kubepods", top,
             f"unit labkit-kubepods-besteffort-pod{mine.replace('-', '_')}.slice", "unit labkit.slice"]
    own = [line for line in lines if pod_residue.owner(line, places) == mine]
    assert len(own) == 5

    def shell(argv: Sequence[str]) -> str:
        return "\n".join(lines)

    assert pod_residue.find(shell, places, [mine]) == [*own, f"{top}/kubepods", top, "unit labkit.slice"]
    lines.append(f"{top}/kubepods/pod{theirs}")
    assert pod_residue.find(shell, places, [mine]) == own
    assert pod_residue.find(shell, places, ["", "..", "/etc", "a/b"]) == []


def test_leavings_are_removed_and_a_path_stays_one_argument(tmp_path: Path) -> None:
    logs, pods = tmp_path / "logs", tmp_path / "pods"
    for directory in (logs / "default_a pod_uid-1", logs / "default_b_uid-2", pods / "uid-1/volumes"):
        directory.mkdir(parents=True)
    places = PodPaths(str(logs), str(pods), "no-such-cgroup-of-labkit")
    pod_residue.remove(local, pod_residue.find(local, places, ["uid-1"]))
    assert [p.name for p in logs.iterdir()] == ["default_b_uid-2"] and not list(pods.iterdir())


@pytest.mark.parametrize("uid", ["uid-1", "a b", "a\\\\b"])
def test_nothing_is_removed_where_something_is_mounted_whatever_the_pod_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    mounted = tmp_path / "pods" / uid / "mounted"
    mounted.mkdir(parents=True)
    mounts = tmp_path / "mounts"
    mounts.write_text("none " + str(mounted).replace("\\", "\\134").replace(" ", "\\040") + " tmpfs rw 0 0\n")
    monkeypatch.setattr(pod_residue, "REMOVE", pod_residue.REMOVE.replace("/proc/mounts", str(mounts)))
    places = PodPaths(str(tmp_path / "logs"), str(tmp_path / "pods"), "no-such-cgroup-of-labkit")
    found = pod_residue.find(local, places, [uid])
    assert found == [f"file {tmp_path}/pods/{uid}"]
    with pytest.raises(subprocess.CalledProcessError) as error:
        pod_residue.remove(local, found)
    assert "is still mounted" in error.value.stderr and mounted.exists()


def test_systemd_that_does_not_answer_is_not_taken_for_one_without_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho Failed to connect to bus >&2\nexit 1\n")
    (tmp_path / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(pod_residue, "FIND", pod_residue.FIND.replace("/run/systemd/system", str(tmp_path)))
    with pytest.raises(subprocess.CalledProcessError):
        pod_residue.find(local, PodPaths("/none", "/none", "no-such-cgroup-of-labkit"), ["uid-1"])


def listing(*answers: Any) -> Any:
    """A node whose runtime answers ListPodSandbox so, the last answer for ever: sandboxes, or an error."""
    coming = list(answers)

    def list_pod_sandbox(**_: Any) -> Any:
        answer = coming.pop(0) if len(coming) > 1 else coming[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(items=answer)

    return SimpleNamespace(cri=SimpleNamespace(list_pod_sandbox=list_pod_sandbox))


def sandbox(id: str, uid: str, **labels: str) -> Any:
    return SimpleNamespace(id=id, metadata=SimpleNamespace(name=f"pod-{id}", uid=uid), labels=labels)


def test_a_sandbox_of_a_configuration_of_the_learners_own_is_the_labs_too(home: Home) -> None:
    ours = {"app.kubernetes.io/managed-by": "labkit"}
    listed = [sandbox("a", "1", **ours), sandbox("b", "2", **ours), sandbox("c", ""), sandbox("d", "1")]
    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"), listing(listed))
    place.ledger.note("pod", uid="1")
    place.ledger.note("sandbox", id="c")
    assert undo.find_pods(place) == ["Pod pod-a", "Pod pod-c"]
    assert place.alone == ["the Pod pod-b on node: another lab made it"]


def test_a_sandbox_that_goes_while_they_are_listed_does_not_make_the_list_empty(home: Home) -> None:
    gone, stays = CriError("ListPodSandbox", "NOT_FOUND", "sandbox x", ""), [sandbox("a", "1")]
    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"), listing(gone, stays))
    place.ledger.note("sandbox", id="a")
    assert undo.find_pods(place) == ["Pod pod-a"]
    place.node = listing(gone)
    assert "could not look at Pods" in undo.undo(place, (undo.PODS,))[1][0]


def test_a_ledger_is_written_once_and_survives_a_line_cut_off(home: Home) -> None:
    ledger = Ledger(home, NODE)
    for _ in range(3):
        ledger.note("pod", uid="1")
    Ledger(home, NODE).note("pod", uid="1")
    with ledger.path.open("a") as file:
        file.write('{"change": "pod", "ui')
    assert Ledger(home, NODE).values("pod", "uid") == {"1"} and len(ledger.path.read_text().splitlines()) == 3
    ledger.note("pod", uid="2")  # the line that was cut off does not take this one with it
    assert known_pods(home) == {"1", "2"}
    ledger.drop("pod")
    assert known_pods(home) == set()
    assert changed_nodes(home) == [NODE] and mark_of(home) == mark_of(home)
    ledger.forget()
    assert changed_nodes(home) == []


def test_a_change_is_written_down_again_after_another_process_has_cleaned(home: Home) -> None:
    ledger = Ledger(home, NODE)
    ledger.note("network", directory="/etc/cni/net.d")
    Ledger(home, NODE).forget()
    ledger.note("network", directory="/etc/cni/net.d")
    assert changed_nodes(home) == [NODE] and ledger.values("network", "directory") == {"/etc/cni/net.d"}


def test_each_node_has_a_ledger_of_its_own_whatever_it_is_called(home: Home) -> None:
    nodes = [NodeSelector("cri", endpoint=f"unix:///run/{name}.sock") for name in ("a/b", "a_b", 200 * "x", 200 * "x" + "y")]
    nodes += [NodeSelector("kind", "labkit"), NodeSelector("kind", "minikube", "labkit")]
    for node in nodes:
        Ledger(home, node).note("pod", uid=str(node))
    assert len({Ledger(home, node).path for node in nodes}) == len(nodes) and set(changed_nodes(home)) == set(nodes)


def test_a_mark_and_a_header_that_were_cut_off_are_written_anew(home: Home) -> None:
    (home.data / "changes").mkdir(parents=True)
    (home.data / "changes/mark").touch()
    assert len(mark_of(home)) == 12 and mark_of(home) == mark_of(home)
    Ledger(home, NODE).path.write_text('{"change": "node", "clu')
    assert changed_nodes(home) == []
    Ledger(home, NODE).note("pod", uid="1")
    assert changed_nodes(home) == [NODE] and known_pods(home) == {"1"}


def test_objects_carry_the_mark_of_the_home_also_those_that_kubectl_makes(home: Home) -> None:
    called: list[tuple[list[str], Any]] = []

    def run(arguments: Sequence[str], stdin: str | None) -> str:
        called.append((list(arguments), stdin))
        if arguments[0] == "get":
            return ""
        return '{"kind": "Secret", "metadata": {"name": "login"}}' if "--dry-run=client" in arguments else "done\n"

    cluster = Cluster(None, "node", run, "05", "/tmp", Ledger(home, NODE))
    cluster.apply({"kind": "Pod", "metadata": {"name": "a", "labels": {"mine": "1"}}})
    labels = json.loads(called[-1][1])["items"][0]["metadata"]["labels"]
    assert labels == {"mine": "1", "labkit.lesson": "05", "labkit.home": mark_of(home)}
    cluster.kubectl("create", "secret", "generic", "login")
    assert called[-1][0] == ["create", "-f", "-", "--namespace", "default"]
    assert json.loads(called[-1][1])["items"][0]["metadata"]["labels"] == {"labkit.home": mark_of(home)}
    cluster.remove_leftovers()
    assert f"labkit.lesson=05,labkit.home={mark_of(home)},!labkit.incident" in called[-1][0]


def test_what_a_container_runs_is_no_option_of_kubectls(home: Home) -> None:
    called: list[list[str]] = []

    def run(arguments: Sequence[str], stdin: str | None) -> str:
        called.append(list(arguments))
        if stdin:
            called[-1].append(stdin)
        return '{"kind": "Service", "metadata": {"name": "a"}}\n{"kind": "Pod", "metadata": {"name": "a"}}\n'

    cluster = Cluster(None, "node", run, "05", "/tmp", Ledger(home, NODE))
    cluster.kubectl("run", "a", "--image=i", "--expose", "--port=80", "--", "httpd", "-f", "-o")
    assert called[0][4:] == ["--port=80", "--dry-run=client", "-o", "json", "--", "httpd", "-f", "-o"]
    assert [i["metadata"]["labels"] for i in json.loads(called[1][-1])["items"]] == 2 * [{"labkit.home": mark_of(home)}]
    cluster.kubectl("run", "a", "--image=i", "-o", "yaml", "--dry-run=client")
    assert len(called) == 3 and called[-1][-1] == "--dry-run=client"


class Kubectl:
    """kubectl, and a cluster in which `there` are the objects."""

    def __init__(self, *there: dict[str, Any]) -> None:
        self.there, self.called, self.sent = there, list[list[str]](), list[dict[str, Any]]()

    def __call__(self, arguments: Sequence[str], stdin: str | None) -> str:
        self.called.append(list(arguments))
        if "--dry-run=client" in arguments or arguments[0] == "get":
            found = [self.object("a"), self.object("b")] if arguments[0] == "create" else self.there
            return json.dumps({"kind": "List", "items": found})
        self.sent += json.loads(stdin or "{}").get("items", [])
        return "done\n"

    @staticmethod
    def object(name: str, **labels: str) -> dict[str, Any]:
        return {"kind": "Pod", "metadata": {"name": name, "namespace": "other", "labels": labels}}

    def marked(self) -> dict[str, bool]:
        return {each["metadata"]["name"]: HOME in each["metadata"]["labels"] for each in self.sent}


@pytest.mark.parametrize("file", [["-f", "a.yaml"], ["-fa.yaml"], ["--filename=a.yaml", "-R"], ["-k", "."], ["-f", "-"]], ids=str)
@pytest.mark.parametrize("verb", ["apply", "create"])
def test_what_kubectl_makes_of_a_file_carries_the_mark_too(home: Home, verb: str, file: list[str]) -> None:
    kubectl = Kubectl()
    Cluster(None, "node", kubectl, "05", "/tmp", Ledger(home, NODE)).kubectl("-n", "other", verb, *file, "--force", stdin="x")
    assert kubectl.called[0] == ["create", "-n", "other", *file, "--dry-run=client", "-o", "json"]
    assert kubectl.called[-1] == [verb, "-f", "-", "--namespace", "other", "--force"]
    assert kubectl.marked() == {"a": True, "b": True} and Ledger(home, NODE).values("cluster", "kind") == {"pod"}


def test_an_object_of_somebody_elses_that_is_changed_stays_hers(home: Home) -> None:
    """`clean` would delete what carries the mark."""
    kubectl = Kubectl(Kubectl.object("a"), Kubectl.object("b", **{HOME: mark_of(home)}))
    cluster = Cluster(None, "node", kubectl, "05", "/tmp", Ledger(home, NODE))
    cluster.kubectl("apply", "-f", "a.yaml")
    assert kubectl.marked() == {"a": False, "b": True}
    cluster.apply(Kubectl.object("a"), Kubectl.object("c"))
    assert kubectl.marked() == {"a": False, "b": True, "c": True}


@pytest.mark.parametrize(
    "arguments",
    [["create", "token", "a"], ["apply", "view-last-applied", "-f", "a"], ["apply", "-f", "a", "--dry-run=server"],
     ["get", "-f", "a"], ["delete", "-f", "a"], ["exec", "a", "--", "create", "-f", "a"]],
    ids=" ".join,
)
def test_what_makes_nothing_is_run_as_it_is(home: Home, arguments: list[str]) -> None:
    kubectl = Kubectl()
    Cluster(None, "node", kubectl, "05", "/tmp", Ledger(home, NODE)).kubectl(*arguments)
    assert kubectl.called == [arguments]


def test_clean_says_that_what_the_learners_own_kubectl_made_stays(home: Home) -> None:
    place = Place("node", Ledger(home, NODE), local, PodPaths("/none", "/none"))
    assert undo.find_objects(place) == [] and place.alone == []
    place.ledger.note("kubectl")
    assert undo.find_objects(place) == [] and ["`labkit kubectl` made" in line for line in place.alone] == [True]


def test_objects_of_several_namespaces_are_sent_each_with_its_own() -> None:
    """`kubectl --namespace default apply` refuses a manifest of another one."""
    called: list[tuple[str, list[str]]] = []

    def run(arguments: Sequence[str], stdin: str | None) -> str:
        called.append((arguments[-1], [item["metadata"]["name"] for item in json.loads(stdin or "")["items"]]))
        return f"configmap/{arguments[-1]} created\n"

    of = [("a", {}), ("b", {"namespace": "other"}), ("c", {"namespace": "default"})]
    cluster = Cluster(None, "node", run, None, "/tmp")
    said = cluster.apply(*({"kind": "ConfigMap", "metadata": {"name": name, **more}} for name, more in of))
    assert called == [("default", ["a", "c"]), ("other", ["b"])]
    assert said == "configmap/default created\nconfigmap/other created"


def test_an_address_in_a_directory_that_the_configuration_no_longer_names_is_found_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labkit").mkdir()
    monkeypatch.setattr(node_registry, "DIRECTORY", str(tmp_path / "labkit"))
    monkeypatch.setattr(node_registry, "STOP", "true")
    monkeypatch.setattr(node_registry, "REMOVE_MADE", "true")
    monkeypatch.setattr(node_registry.certs, "places", lambda *_: [str(tmp_path / "now")])
    (tmp_path / "labkit/places").write_text(f"{tmp_path}/before\n")
    for place in ("before", "now"):
        (tmp_path / place / "registry.lab").mkdir(parents=True)
    cri: Any = SimpleNamespace(list_images=lambda: SimpleNamespace(images=[]))

    def run(argv: Sequence[str], **_: Any) -> bytes:
        return local(argv).encode()

    left = node_registry.left(cri, run, "/run/x.sock")
    assert left == [f"file {tmp_path}/{name}" for name in ("labkit", "before/registry.lab", "now/registry.lab")]
    node_registry.remove(cri, run, "/run/x.sock")
    assert node_registry.left(cri, run, "/run/x.sock") == []


def test_an_image_that_a_user_named_too_keeps_that_name() -> None:
    def image(*tags: str) -> Any:
        repository = tags[0].rpartition(":")[0]
        return SimpleNamespace(id=repository.rpartition("/")[2], repo_tags=tags, repo_digests=[f"{repository}@sha256:1"])

    removed: list[Any] = []
    listed = [image("localhost:15055/pause:1", "localhost:5000/pause:1"), image("localhost:15055/busybox:1"), image("x:1")]
    cri: Any = SimpleNamespace(
        list_images=lambda: SimpleNamespace(images=listed), remove_image=lambda image: removed.append(image["image"])
    )
    node_registry.forget(cri, lambda argv, **_: removed.append(argv[5:]) or b"", lambda name: name.startswith("localhost:15055/"))
    assert removed == [["--sync", "localhost:15055/pause:1", "localhost:15055/pause@sha256:1"], "busybox"]


def test_programs_that_another_lab_brings_meanwhile_do_not_stop_clean(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept is measured last. A directory in which programs are being unpacked goes when they are there."""
    brought = home.cache.parent / "brought"
    (brought / ".partial").mkdir(parents=True)
    (brought / "program").write_bytes(b"x" * 2_000_000)
    home.cache.symlink_to(brought)
    scandir = os.scandir

    @contextlib.contextmanager
    def and_then_it_goes(place: Any) -> Iterator[Any]:
        found = list(scandir(place))
        if (brought / ".partial").exists():
            (brought / ".partial").rmdir()
        yield iter(found)

    monkeypatch.setattr(os, "scandir", and_then_it_goes)
    assert cleaning.kept(home) == {"path": str(home.cache), "mb": 2}


# What stays


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("left", [[], ["files: x"]])
def test_clean_says_that_a_learners_progress_stays_and_how_to_remove_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], made: bool, left: list[str]
) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    report = {"removed": {"files": []}, "left": left, "alone": [], "looked": ["files"], "kept": None}
    monkeypatch.setattr(cleaning, "clean", lambda *_, **__: dict(report))
    file = tmp_path / "state/progress.sqlite"
    if made:
        file.parent.mkdir()
        file.touch()
    assert main(["clean", "--all"]) == bool(left)
    said = f"Your progress in the course stays in {file}: `labkit progress --reset all` forgets it, or remove the file."
    assert (said in capsys.readouterr().out) is made
    assert main(["clean", "--json"]) == bool(left)
    assert json.loads(capsys.readouterr().out)["progress"] == (str(file) if made else None)
