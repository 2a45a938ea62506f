"""What `connect` says of what earlier notebooks have left on a node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri.v1 import api_pb2
from labkit.node import Home, NodeError
from labkit.node.host import containerd_setup
from labkit.node.pods.kubelet_pause import KubeletPause
from labkit.node.state import unfinished
from labkit.node.state.ledger import HOME, INCIDENT, LESSON

READY = {"state": "ready"}
FIRST = SimpleNamespace(version="1.6.20", first_version="1.6.20", changed_by="")


def sandbox(name: str, lesson: str = "", home: str = "") -> api_pb2.PodSandbox:
    made = api_pb2.PodSandbox(labels={**({LESSON: lesson} if lesson else {}), **({HOME: home} if home else {})})
    made.metadata.name = made.metadata.uid = name
    return made


def node(*sandboxes: api_pb2.PodSandbox, daemon: Any = FIRST, holds: tuple[str, ...] = (), ledger: Any = None) -> Any:
    runtime = SimpleNamespace(list_pod_sandbox=lambda: SimpleNamespace(items=sandboxes))
    hold = SimpleNamespace(others=lambda: list(holds))
    cri = SimpleNamespace(unrecorded=lambda: runtime)
    parts = {"ledger": ledger, "cri": cri, "daemon": daemon, "kubelet_held": lambda: hold}
    return SimpleNamespace(kind="containerd", name="n", lesson="03", **parts)


def test_of_a_node_as_it_was_nothing_is_said() -> None:
    assert unfinished.sentences(node(sandbox("mine", "03"), sandbox("by-kubectl"))) == []
    assert KubeletPause().others() == [] and unfinished.of_stopped({"state": "ready", "stopped_by": "04"}, READY) == []


def test_another_version_is_named_with_the_notebook_that_brings_the_first_back() -> None:
    changed = SimpleNamespace(version="2.1.9", first_version="1.6.20", changed_by="04")
    assert unfinished.sentences(node(daemon=changed)) == [
        "Notebook 04 was left half-way: containerd is 2.1.9 instead of 1.6.20; its last cell brings that back,"
        " or `labkit containerd downgrade default`."
    ]
    by_hand = SimpleNamespace(**{**vars(changed), "changed_by": ""})
    assert unfinished.sentences(node(daemon=by_hand)) == [
        "Containerd is 2.1.9 instead of 1.6.20; `labkit containerd downgrade default` brings that back."
    ]


def test_a_suspended_kubelet_is_named() -> None:
    [said] = unfinished.sentences(node(holds=("another",)))
    assert said.startswith("Another notebook has suspended the kubelet of n") and "last cell" in said


def test_pods_are_named_by_the_notebook_that_left_them() -> None:
    left = [sandbox("shop", "02"), sandbox("family", "02"), sandbox("web", "01"), sandbox("mine", "03"), sandbox("by-kubectl")]
    assert unfinished.sentences(node(*left)) == [
        "Notebook 01 has left the Pod web; its last cell removes it.",
        "Notebook 02 has left the Pods family, shop; its last cell removes them.",
    ]


def test_the_pods_of_an_incident_are_not_named() -> None:
    nightly = sandbox("nightly-report", "08")
    nightly.labels[INCIDENT] = "open"
    assert unfinished.sentences(node(nightly)) == []


def test_on_a_node_of_several_homes_only_this_homes_pods_are_named() -> None:
    ledger = SimpleNamespace(mark="aa", has_pod=lambda uid: uid == "by-hand")
    left = [
        sandbox("by-hand", "02"),
        sandbox("through-the-api", "05", "aa"),
        sandbox("theirs", "06", "bb"),
        sandbox("alien", "02"),
    ]
    said = " ".join(unfinished.sentences(node(*left, ledger=ledger)))
    assert "by-hand" in said and "through-the-api" in said and "theirs" not in said and "alien" not in said


def test_what_cannot_be_found_out_keeps_nothing_else_back() -> None:
    class NoDaemon:
        def __getattr__(self, name: str) -> Any:
            raise NodeError("not labkit's", "")

    assert unfinished.sentences(node(sandbox("web", "01"), daemon=NoDaemon())) == [
        "Notebook 01 has left the Pod web; its last cell removes it."
    ]


def test_a_stopped_containerd_is_named_with_who_stopped_it() -> None:
    assert unfinished.of_stopped({"state": "stopped", "stopped_by": "04"}, READY) == [
        "Notebook 04 was left half-way: its containerd was stopped, and has been started again."
    ]
    assert unfinished.of_stopped({"state": "stopped"}, {"state": "stopped"}) == []
    [again] = unfinished.of_stopped({"state": "stopped"}, READY)
    assert again == "The node's containerd was stopped, and has been started again."


@pytest.mark.parametrize("lesson", ["04", ""])
def test_the_choice_of_a_version_remembers_the_lesson(lesson: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    home = Home.find()
    home.make()
    assert containerd_setup.chosen_by(home) == ""
    here: Any = [SimpleNamespace(version="1.6.20", default=True), SimpleNamespace(version="2.1.9", default=False)]
    containerd_setup.choose(home, here[1], lesson)
    assert containerd_setup.chosen(home, here) is here[1]
    assert containerd_setup.chosen_by(home) == lesson
    containerd_setup.choose(home, None)
    assert containerd_setup.chosen(home, here) is here[0] and containerd_setup.chosen_by(home) == ""
