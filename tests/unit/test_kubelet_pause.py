"""The hold of a kubelet, on a process that is called kubelet: who may end it, and what is said when something fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.node import NodeError
from labkit.node.pods import kubelet_pause
from labkit.node.pods.kubelet_pause import ClusterKubeletPause
from labkit.node.state.node_selector import NodeSelector
from tests.waits import wait_for

AWAY = CriError("ListPodSandbox", "UNAVAILABLE", "connection refused", "")
REFUSED = NodeError("The engine does not run.")


class FakeNode:
    """A node whose commands run here; its API says what `said` holds, the last of it for ever."""

    name = "kind-control-plane"

    def __init__(self, kubelet: int) -> None:
        self.kubelet = kubelet
        self.selector = NodeSelector("kind", "", self.name)
        self.watchers: list[subprocess.Popen[bytes]] = []
        self.pods_error: Exception | None = None
        self.run_error: Exception | None = None
        self.said: list[Any] = [node_object(ready=True)]
        self.engine = SimpleNamespace(run=self.detach)
        self.kernel = SimpleNamespace(snapshot=self.snapshot)
        self.api = SimpleNamespace(kube=SimpleNamespace(read_node=self.read_node), node_name=lambda: self.name)
        self.own_pods = SimpleNamespace(remove_all=self.remove_all)
        self.host = self

    def detach(self, *argv: str) -> str:
        watcher = subprocess.Popen(argv[3:])
        threading.Thread(target=watcher.wait, daemon=True).start()  # an engine collects what it runs, too
        self.watchers.append(watcher)
        return ""

    def run(self, argv: list[str]) -> bytes:
        if self.run_error:
            raise self.run_error
        return subprocess.run(argv, check=True, capture_output=True).stdout

    def snapshot(self, fds: bool) -> Any:
        process = SimpleNamespace(pid=self.kubelet, comm="kubelet", state=state(self.kubelet))
        return SimpleNamespace(processes={self.kubelet: process})

    def read_node(self, name: str, **_: Any) -> Any:
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, Exception):
            raise said
        return said

    def remove_all(self) -> list[str]:
        if self.pods_error:
            raise self.pods_error
        return []


def node_object(*, ready: bool, taints: tuple[str, ...] = ()) -> Any:
    conditions = [SimpleNamespace(type="Ready", status="True" if ready else "False")]
    spec = SimpleNamespace(taints=[SimpleNamespace(key=key) for key in taints] or None)
    return SimpleNamespace(spec=spec, status=SimpleNamespace(conditions=conditions))


def state(pid: int) -> str:
    """man 5 proc: "T" is stopped, "S" sleeps, "R" runs, as one does for a moment that has been continued."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    monkeypatch.setattr(kubelet_pause, "HOLDS", str(tmp_path / "holds"))
    monkeypatch.setattr(kubelet_pause, "lease_of", lambda node: lambda: None)
    monkeypatch.setattr(kubelet_pause, "refuse_limits", lambda node: None)
    program = Path(shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "kubelet"))
    with subprocess.Popen([program, "1000"]) as kubelet:
        made = FakeNode(kubelet.pid)
        yield made
        for watcher in made.watchers:
            watcher.kill()
            watcher.wait()
        kubelet.kill()


def held(node: Any, mark: str = "anne") -> ClusterKubeletPause:
    made = ClusterKubeletPause(node, asks=False, mark=mark)
    made.start()
    return made


def test_the_kubelet_goes_on_though_the_runtime_is_gone(node: FakeNode) -> None:
    holding = held(node)
    assert state(node.kubelet) == "T"
    node.pods_error = AWAY

    assert holding.release() == "The kubelet of kind-control-plane runs again."

    assert state(node.kubelet) in "RS"


def test_a_kubelet_that_cannot_be_told_is_still_called_held_and_the_next_call_tells_it(node: FakeNode) -> None:
    holding = held(node)
    node.run_error = REFUSED
    with pytest.raises(NodeError, match=r"could not be resumed.*15 s"):
        holding.release()
    assert state(node.kubelet) == "T"
    node.run_error = None

    assert "runs again" in holding.release() and state(node.kubelet) in "RS"
    assert holding.release() == "No kubelet was suspended."


def test_a_cell_that_holds_again_leaves_one_hold_which_one_release_ends(node: FakeNode) -> None:
    held(node)
    again = kubelet_pause.kubelet_held(node, asks=False, mark="anne")
    again.start()
    assert len(kubelet_pause.holders(node)) == 1 and state(node.kubelet) == "T"

    again.release()

    assert kubelet_pause.holders(node) == [] and state(node.kubelet) in "RS"


def test_two_homes_hold_one_kubelet_and_it_goes_on_with_the_last(node: FakeNode) -> None:
    hers, his = held(node, "anne"), held(node, "bob")
    kubelet_pause.resume_kubelet(node, "bob.")  # what bob's `labkit clean` does
    assert state(node.kubelet) == "T" and [name.partition(".")[0] for name in kubelet_pause.holders(node)] == ["anne"]
    assert "another one holds" in ClusterKubeletPause(node, asks=False, mark="bob").release()

    hers.release()

    assert state(node.kubelet) in "RS" and kubelet_pause.holders(node) == []
    his.done.set()


def test_a_watcher_that_was_killed_leaves_no_kubelet_held(node: FakeNode) -> None:
    holding = held(node)
    for watcher in node.watchers:
        watcher.kill()
        watcher.wait()
    holding.done.set()

    kubelet_pause.resume_kubelet(node, "anne.")

    assert state(node.kubelet) in "RS" and not os.path.exists(kubelet_pause.HOLDS)


def test_release_waits_until_the_node_is_ready_and_untainted(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """As recorded on a real cluster: Ready for a moment still, then NotReady and tainted, then as before."""
    monkeypatch.setattr(kubelet_pause, "STALE_AFTER_S", 0.0)
    monkeypatch.setattr(kubelet_pause, "SETTLED_S", 0.5)
    holding = held(node)
    well, ill = node_object(ready=True), node_object(ready=False)
    tainted = node_object(ready=True, taints=("node.kubernetes.io/not-ready",))
    node.said = [well, ill, ConnectionResetError(), ill, tainted, well]

    assert holding.release() == "The kubelet of kind-control-plane runs again."

    assert node.said == [well]


def test_a_trouble_that_was_there_before_is_not_waited_for_and_a_new_one_is_told(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.said = [node_object(ready=False)]
    assert held(node).release() == "The kubelet of kind-control-plane runs again."
    monkeypatch.setattr(kubelet_pause, "READY_WITHIN_S", 0.3)
    node.said = [node_object(ready=True)]
    holding = held(node)
    node.said = [node_object(ready=False)]
    assert "its node is not ready" in holding.release()


def test_a_hold_that_its_notebook_slept_through_begins_again(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_pause, "BEAT_S", 0.1)
    monkeypatch.setattr(kubelet_pause, "SILENT_S", 1)
    holding = held(node)
    awake = node.run
    node.run = lambda argv: b""  # type: ignore[method-assign]  # asleep: nothing is touched
    wait_for(lambda: state(node.kubelet) in "RS")
    node.run = awake  # type: ignore[method-assign]

    wait_for(lambda: state(node.kubelet) == "T")

    holding.release()
    assert state(node.kubelet) in "RS" and not os.path.exists(kubelet_pause.HOLDS)


def test_what_has_let_go_is_not_held_again_by_a_notebook_that_lives(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubelet_pause, "BEAT_S", 0.05)
    holding = held(node)
    kubelet_pause.resume_kubelet(node, "anne.")  # what `labkit clean` does
    time.sleep(0.5)
    assert state(node.kubelet) in "RS" and len(node.watchers) == 1
    assert "runs again" in holding.release()
