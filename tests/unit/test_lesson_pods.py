"""What the figures of a lesson are drawn from: its own Pods, and those of others only when they are asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit import capacity, namespace_matrix, process_tree
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.kernel import Process, Snapshot
from labkit.node import Node
from labkit.node.pods.cluster import Cluster

LESSON = "labkit.lesson"


def pod(name: str, pid: int, **labels: str) -> PodSnapshot:
    """A Pod of one container, whose shim has the pid."""
    members = (PodProcess(pid, 1, "shim", "shim", None, {}), PodProcess(pid + 1, pid, "application", name, name, {"net": pid}))
    containers = (PodContainer(name, name, "Running", 0, "", pid + 1),)
    return PodSnapshot(name, "default", "u", name, "Ready", "", members, containers=containers, labels=labels)


PODS = (pod("mine", 10, **{LESSON: "03"}), pod("earlier", 20, **{LESSON: "02"}), pod("by-kubectl", 30))


def process(pid: int, ppid: int) -> Process:
    return Process(pid, ppid, "a", ("a",), "S", pid, 0, 0, (pid,), {}, {}, "")


def node_of(lesson: str | None, tmp_path: Path) -> Any:
    node: Any = Node(kind="containerd", name="n", endpoint=f"unix://{tmp_path}/s", runtime="", why="", lesson=lesson)
    found = {p.pid: process(p.pid, p.ppid) for each in PODS for p in each.processes} | {1: process(1, 0)}
    snapshot = Snapshot(0, found, {}, ())
    node.kernel = SimpleNamespace(snapshot=lambda **which: snapshot, unix_listener=lambda path: None)
    node.sources = SimpleNamespace(is_runtime=lambda process: False)
    node.__dict__["_pods"] = SimpleNamespace(read=lambda snapshot: PODS)
    return node


@pytest.mark.parametrize(
    ("lesson", "others", "shown"),
    [("03", False, {"mine"}), ("03", True, {"mine", "earlier", "by-kubectl"}), (None, False, {"mine", "earlier", "by-kubectl"})],
)
def test_a_lesson_sees_its_own_pods_unless_it_asks_for_others(
    lesson: str | None, others: bool, shown: set[str], tmp_path: Path
) -> None:
    node = node_of(lesson, tmp_path)
    assert {p.name for p in node.pods(others=others)} == shown
    assert {p.comm for p in node.processes(others=others) if p.role == "application"} == shown
    drawn = str(process_tree(node.processes(others=others), pods=node.pods(others=others)))
    drawn += str(namespace_matrix(node.pods(others=others)))
    assert {p.name for p in PODS if p.name in drawn} == shown


def request(name: str, cpu: str, lesson: str = "", node: str = "n") -> Any:
    made = {"metadata": {"name": name, "labels": {LESSON: lesson} if lesson else {}}, "status": {}}
    return made | {"spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}}


def test_the_requests_of_other_pods_count_and_are_not_named(tmp_path: Path) -> None:
    pods = [request("mine", "100m", "06"), request("earlier", "200m", "05"), request("by-kubectl", "50m")]
    waits = [request("too-large", "9", "06", node=""), request("of-another", "9", "05", node="")]
    status = {"capacity": {"cpu": "2", "memory": "1Gi"}, "allocatable": {"cpu": "1800m", "memory": "1Gi"}}
    kube: Any = SimpleNamespace(
        read_node=lambda name: {"status": status},
        list_pod_for_all_namespaces=lambda: SimpleNamespace(items=[*pods, *waits]),
        api_client=SimpleNamespace(sanitize_for_serialization=lambda each: each),
    )

    def no_kubectl(arguments: Any, stdin: Any) -> str:
        raise AssertionError("capacity() asks the API alone")

    cluster = Cluster(kube, "n", no_kubectl, "06", "/tmp")
    cpu = cluster.capacity()[0]
    assert cpu.free == 1800 - 350
    drawn = str(capacity([cpu]))
    assert "requested by mine and other Pods" in drawn and "too-large waits" in drawn
    assert not [name for name in ("earlier", "by-kubectl", "of-another") if name in drawn]
    everyone = str(capacity(cluster.capacity(others=True)[:1]))
    assert "requested by by-kubectl, earlier and mine" in everyone and "of-another waits" in everyone
