"""Every fault of the incident: made, found true, refused, repaired with the course's tools, checked, and undone."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import labkit
from labkit.cli.__main__ import main
from labkit.course.incident import image_faults, node_faults, pod_faults
from labkit.course.incident import incident_store as store
from labkit.course.incident.fault import (
    FAULTS,
    FIRST,
    NEXT,
    NO_NEW_PODS,
    NOT_REACHED,
    NOT_READY,
    POD,
    READY_WITHIN_S,
    Scene,
    is_ready,
    possible,
)
from labkit.node import Home, Node
from labkit.node.packages.programs import find_programs
from tests.waits import wait_for

Repair = Callable[[Node], object]


def kubectl(*arguments: str) -> Repair:
    return lambda node: node.cluster.kubectl(*arguments)


def by_hand(change: Callable[[dict[str, Any]], object]) -> Repair:
    """Apply the user's manifest again with a change of its spec."""

    def repair(node: Node) -> None:
        manifest = labkit.open_incident(node).manifest()
        change(manifest["spec"])
        node.cluster.recreate(manifest)

    return repair


def reserved(node: Node) -> None:
    """Let the other user's Pod request what it needs."""
    manifest = labkit.open_incident(node).manifest(pod_faults.NIGHTLY)
    manifest["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "100m"
    node.cluster.recreate(manifest)


def configured(old: str, new: str) -> Repair:
    """Edit containerd's configuration and restart it."""

    def repair(node: Node) -> None:
        node.shell(["sed", "-i", f"s|{old}|{new}|", str(Home.find().data / "containerd.toml")])
        node.daemon.restart()

    return repair


def plugins_back(node: Node) -> None:
    configured('bin_dir = ".*"', f'bin_dir = "{find_programs(Home.find().cache).cni_dir}"')(node)


REPAIRS: dict[str, tuple[str, Repair]] = {
    "image-tag": ("registry.lab/busybox:2", kubectl("set", "image", f"pod/{POD}", "web=registry.lab/busybox:1")),
    "image-platform": ("no match for platform", kubectl("set", "image", f"pod/{POD}", "web=registry.lab/busybox:1")),
    "image-login": ("401 Unauthorized", lambda n: n.cluster.recreate(image_faults.login("private.registry.lab", "container"))),
    "volume-key": ("prices.conf", lambda n: n.cluster.apply(pod_faults.settings(**{"prices.conf": "apple=1"}))),
    "variable-key": ("currency", lambda n: n.cluster.apply(pod_faults.settings(currency="EUR"))),
    "requests": (pod_faults.NIGHTLY, reserved),
    "cpu-limit": ("limits.cpu 10m", by_hand(lambda spec: spec["containers"][0].pop("resources"))),
    "memory-limit": ("OOMKilled", by_hand(lambda spec: spec["containers"][0].update(resources={"limits": {"memory": "96Mi"}}))),
    "probe": ("8081", by_hand(lambda spec: spec["containers"][0]["readinessProbe"]["tcpSocket"].update(port=80))),
    "volume-full": ("no space left on device", by_hand(lambda spec: spec["volumes"][0]["emptyDir"].update(sizeLimit="8Mi"))),
    "pids": ("pids.max", lambda n: pod_faults.write_pids(Scene(n), "max")),
    "cni-plugin": ("labkit-no-such-plugin", lambda n: n.cni.repair()),
    "cni-absent": ("NetworkReady=false", lambda n: n.cni.repair()),
    "address-pool": ("no IP addresses available", lambda n: n.cni.repair()),
    "containerd-stopped": ("containerd does not run", lambda n: n.daemon.start()),
    "disk-full": ("no space left on device", lambda n: n.shell(["umount", node_faults.working_directories(Scene(n))])),
    "shim-stopped": ("State: T (stopped)", lambda n: node_faults.signal_shims(Scene(n), "CONT")),
    "shim-missing": ("containerd-shim-runc-v3", configured("runc.v3", "runc.v2")),
    "cgroup-driver": ("SystemdCgroup = true", configured("SystemdCgroup = true", "SystemdCgroup = false")),
    "cni-directory": ("cni/plugins", plugins_back),
}
"""Of each fault what a learner would name, and how she would repair it."""
RESTARTED = {"image-login", "volume-key", "variable-key", *(name for name in FAULTS if FAULTS[name].another_pod)}
"""Here she makes the Pod again after the repair, rather than wait until the kubelet tries again."""


def parts(node: Node) -> dict[str, str]:
    """What an incident may change on the node, and has to leave as it was."""
    data = Home.find().data
    files = [data / "containerd.toml", *(data / "cni" / "net.d").iterdir()]
    stored = sorted(str(file) for file in (data / "registries").rglob("*") if file.is_file())
    mounted = [mount.mount_point for mount in node.kernel.mounts() if mount.mount_point.startswith(f"{data}/")]
    texts = {file.name: file.read_text() if file.is_file() else "" for file in files}
    return {"containerd": node.daemon.state, "stored": "\n".join(stored), "mounted": "\n".join(mounted), **texts}


def objects(node: Node) -> set[str]:
    """What an incident makes besides. An earlier test's Pods may be on their way out."""
    made = node.cluster.kubectl("get", "pods,secrets,configmaps", "-o", "name").split()
    return {*made, *(sandbox.id for sandbox in node.cri.list_pod_sandbox().items)}


def is_well(node: Node) -> bool:
    return is_ready(json.loads(node.cluster.kubectl("get", "pod", POD, "-o", "json")))


def assert_complaints_are_true(node: Node, name: str) -> None:
    """All that the user may say of this fault."""
    complaints = FAULTS[name].complaints
    assert not is_well(node)
    if complaints is NO_NEW_PODS:  # asked of the API, which knows the address while no runtime runs
        node.host.dial(node.cluster.kubectl("get", "pod", FIRST, "-o", "jsonpath={.status.podIP}"), 80).close()
    if complaints is NOT_REACHED:
        assert node.cluster.kubectl("get", "pod", POD, "-o", "jsonpath={.status.phase}") == "Running"
    if name == "requests":  # of the faults after which other Pods start as always, the one that is not in the Pod alone
        assert NOT_READY in complaints
        again = {**labkit.open_incident(node).manifest(), "metadata": {"name": NEXT}}
        again["spec"] = {"containers": [{"name": "web", "image": node.images["busybox"], "command": ["httpd", "-f"]}]}
        node.cluster.recreate(again)
        assert Scene(node).wait_ready(NEXT)
        node.cluster.delete(NEXT)


def nothing_repairs_or_tells(node: Node, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a learner calls in passing: her next notebook's first cells, and the commands about the node."""
    before = parts(node)
    capsys.readouterr()
    for lesson in ("05", "08"):
        with contextlib.closing(labkit.connect("containerd", lesson=lesson)) as again:
            labkit.review(lesson)
            words = [*again.remarks, repr(again), again.cluster.kubectl("version")]
    for command in ("doctor", "status", "up"):
        assert main([command, "--node", "containerd"]) == 0
    words += capsys.readouterr()
    assert parts(node) == before and not is_well(node)
    tells = (*FAULTS[name].evidence, FAULTS[name].cause)
    assert not [each for each in tells if re.search(each, " ".join(words), re.IGNORECASE)], words


def test_every_fault_that_this_node_can_have_is_tried_here() -> None:
    assert sorted(REPAIRS) == [each.name for each in possible("containerd")]


@pytest.mark.parametrize("name", sorted(REPAIRS))
def test_a_fault_is_made_found_repaired_and_undone(node: Node, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before, made_before = parts(node), objects(node)
    evidence, repair = REPAIRS[name]
    try:
        incident = labkit.open_incident(node, fault=name)
        assert_complaints_are_true(node, name)

        refused = incident.check(cause="probe" if name != "probe" else "requests", evidence="I do not know")
        assert not refused.done and refused.missing.startswith("cause and evidence and repair.")
        assert "is not the cause" in refused.saw and "judged when the cause is found" in refused.saw

        nothing_repairs_or_tells(node, name, capsys)
        repair(node)
        if name in RESTARTED:
            Scene(node).start_again()
        wait_for(lambda: is_well(node), "the Pod is ready", READY_WITHIN_S)
        assert incident.check(cause=name, evidence=f"It is {evidence}.").done
        assert incident.result().state.points == 100 - store.WRONG
    finally:
        labkit.end_incident(node)
    assert parts(node) == before
    wait_for(lambda: objects(node) <= made_before, "what the incident made is gone")
