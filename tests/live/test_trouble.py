"""Trouble around kubelet and API: the runtime away, a full disk, a second kubelet, manifests that mean harm. Nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import connect
from labkit.kubelet.api import ApiClientError
from labkit.node import Home, NodeSelector
from labkit.node.kinds import discovery
from tests.conftest import labkit
from tests.live.cluster import Cluster, wait_for
from tests.live.remains import containers_alive, unowned, untrue
from tests.live.test_kubeapi import MAPS, Served, config_map

IMAGE = "registry.lab/busybox:1"


@pytest.fixture(scope="module")
def cluster(lab_of_its_own: Home) -> Iterator[Cluster]:
    labkit("up", "--node", "containerd")
    yield Cluster.of(lab_of_its_own)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    app = {"name": "app", "image": IMAGE, "command": ["sleep", "1000000"], **spec.pop("container", {})}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [app], **spec}}


def running(cluster: Cluster, *names: str) -> None:
    wait_for(lambda: all(cluster.phase(name) == "Running" for name in names), f"{', '.join(names)} to run")


def test_the_runtime_is_away_for_a_while(cluster: Cluster) -> None:
    for name in ("stays", "goes", "ends"):
        cluster.create(pod(name))
    running(cluster, "stays", "goes", "ends")
    before = {name: cluster.container(name)["containerID"] for name in ("stays", "ends")}
    daemon = connect("containerd").daemon
    daemon.stop()
    try:
        kill_first_process(cluster, before["ends"])
        cluster.delete("goes")
        cluster.create(pod("comes"))
        said = wait_for(lambda: not_ready(cluster), "the node to be NotReady", 60)
        assert said["reason"] == "KubeletNotReady" and "container runtime is down" in said["message"]
        wait_for(lambda: "NodeNotReady" in reasons(cluster), "the node's event")
        assert cluster.phase("stays") == "Running" and cluster.phase("comes") == "Pending"
        with pytest.raises(ApiClientError):
            cluster.api.get(f"{cluster.path}/pods/stays/log", container="nobody")
    finally:
        daemon.start()
    running(cluster, "stays", "comes")
    wait_for(lambda: cluster.node_ready() == "True", "the node to be Ready again")
    wait_for(lambda: cluster.pod("goes") is None, "the deleted Pod to go")
    wait_for(lambda: cluster.container("ends")["restartCount"] == 1 and cluster.phase("ends") == "Running", "another start")
    kept = cluster.container("stays")
    assert (kept["containerID"], kept["restartCount"]) == (before["stays"], 0)
    settled(cluster)
    emptied(cluster)


def kill_first_process(cluster: Cluster, container: str) -> None:
    """SIGKILL for a container's process, by the kernel alone: there is no runtime to ask."""
    id = container.rpartition("/")[2]
    found = [Path(base, "cgroup.procs") for base, _, _ in os.walk("/sys/fs/cgroup") if base.endswith(id)]
    os.kill(int(found[0].read_text().split()[0]), signal.SIGKILL)
    wait_for(lambda: id not in containers_alive(cluster.home), "it to end")


def reasons(cluster: Cluster) -> set[str]:
    return {event["reason"] for event in cluster.api.get("/api/v1/namespaces/default/events")["items"]}


def not_ready(cluster: Cluster) -> dict[str, str] | None:
    conditions = {c["type"]: c for c in cluster.api.get("/api/v1/nodes/sim-worker")["status"]["conditions"]}
    return conditions["Ready"] if conditions["Ready"]["status"] == "False" else None


def settled(cluster: Cluster) -> None:
    """Nothing without an owner, and the API tells the kernel's truth."""

    def wrong() -> list[str]:
        pods = cluster.api.get(f"{cluster.path}/pods")["items"]
        return unowned(cluster.home, {p["metadata"]["uid"] for p in pods}) + untrue(pods, cluster.home)

    wait_for(lambda: wrong() == [], "the node to be settled")


def emptied(cluster: Cluster) -> None:
    cluster.api.delete(f"{cluster.path}/pods")
    wait_for(lambda: unowned(cluster.home, set()) == [], "all Pods to be gone")


def asked(cluster: Cluster) -> dict[str, Any]:
    return discovery.probed_report(cluster.home, NodeSelector("containerd"))


@pytest.mark.parametrize("name", ["labkit", "containerd", "kubeapi", "kubelet", "registry", "registry-private"])
def test_status_asks_each_program(cluster: Cluster, name: str) -> None:
    """One that is stopped has not ended: nobody restarts it, and only who asks it learns."""
    report = asked(cluster)
    assert (report["state"], report.get("unanswered")) == ("ready", None)
    pid = {"labkit": report["pid"], **report["processes"]}[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        report = asked(cluster)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert report["state"] == "degraded"
    assert report["unanswered"] == {name: {"pid": pid, "error": "a signal stopped it", "todo": f"Resume it: kill -CONT {pid}"}}
    wait_for(lambda: asked(cluster)["state"] == "ready", "it to answer again")


def test_status_believes_no_other_program_at_the_apis_port(cluster: Cluster) -> None:
    """The address of the API belongs to whoever holds the port: without the lab's certificate that is no answer."""
    kubeconfig = cluster.home.kubeconfig
    text = kubeconfig.read_text()
    with socket.create_server(("127.0.0.1", 0)) as other:
        try:
            kubeconfig.write_text(re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{other.getsockname()[1]}", text))
            told, words = labkit("status", "--json", check=False), labkit("status", check=False)
        finally:
            kubeconfig.write_text(text)
    assert told.returncode == words.returncode == 1
    report = json.loads(told.stdout)
    pid = report["processes"]["kubeapi"]
    assert report["state"] == "degraded" and set(report["unanswered"]) == {"kubeapi"}
    assert f"kubeapi (pid {pid}) does not answer" in words.stdout and f"kill -KILL {pid}" in words.stdout


def test_a_second_kubelet_is_refused_in_a_sentence(cluster: Cluster, tmp_path: Path) -> None:
    home = cluster.home
    argv = Path(f"/proc/{cluster.process('kubelet')}/cmdline").read_text().split("\0")[:-1]
    same_root = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert same_root.returncode == 1 and same_root.stderr.startswith(f"Another kubelet runs with --root {home.kubelet_root}.\n")
    other = [str(tmp_path) if before in ("--root", "--run") else word for before, word in zip(["", *argv], argv, strict=False)]
    same_runtime = subprocess.run(other, capture_output=True, text=True, timeout=60)
    assert same_runtime.returncode == 1 and f"Another kubelet runs Pods at unix://{home.socket}" in same_runtime.stderr
    cluster.create(pod("still"))
    running(cluster, "still")
    emptied(cluster)


OUTSIDE = {
    "a sub-path that climbs": ({"name": "v", "emptyDir": {}}, {"subPath": "../../../../escaped"}),
    "a sub-path from a variable": ({"name": "v", "emptyDir": {}}, {"subPathExpr": "$(UP)/escaped"}),
    "a host path that climbs": ({"name": "v", "hostPath": {"path": "/proc/../root/escaped", "type": "DirectoryOrCreate"}}, {}),
    "a host path anywhere": ({"name": "v", "hostPath": {"path": "/root/escaped", "type": "FileOrCreate"}}, {}),
    "a key that climbs": ({"name": "v", "configMap": {"name": "m", "items": [{"key": "k", "path": "../../escaped"}]}}, {}),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_path_of_a_manifest_leads_out_of_the_lab(cluster: Cluster, name: str) -> None:
    """Refused by the API as Kubernetes does, or told by an event; nothing is written in either case."""
    volume, mount = OUTSIDE[name]
    hostile = f"hostile-{list(OUTSIDE).index(name)}"  # events are found by the Pod's name
    with contextlib.suppress(ApiClientError):
        cluster.create({"metadata": {"name": "m"}, "data": {"k": "text"}}, "configmaps")
    container = {"volumeMounts": [{"name": "v", "mountPath": "/v", **mount}], "env": [{"name": "UP", "value": "../../../.."}]}
    try:
        uid = cluster.create(pod(hostile, volumes=[volume], container=container))["metadata"]["uid"]
    except ApiClientError as refused:
        assert refused.code == 422 and ".." in refused.message
        return
    said = wait_for(lambda: cluster.messages(hostile, "FailedMount") + cluster.messages(hostile, "Failed"), "the event")
    assert "this lab forbids hostPath" in said[0] or "subpath" in said[0].lower(), said
    found = [path for base in (cluster.home.data, "/root", "/tmp") for path in Path(base).glob("escaped*")]
    assert found == [] and not list((cluster.home.kubelet_root / "pods" / uid).rglob("escaped*"))
    emptied(cluster)


def test_a_link_in_a_volume_does_not_lead_out_of_it(cluster: Cluster) -> None:
    """A Pod makes a link to the node's root in its volume; its next container's sub-path goes through that link."""
    shared = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    init = {"name": "init", "image": IMAGE, "command": ["ln", "-s", "/", "/v/link"], **shared}
    through = {"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "link/tmp/escaped"}]}
    cluster.create(pod("hostile", container=through, initContainers=[init], volumes=[{"name": "v", "emptyDir": {}}]))
    said = wait_for(lambda: cluster.messages("hostile", "Failed"), "the event")
    assert "subPath" in said[0] and not Path("/tmp/escaped").exists()
    emptied(cluster)


def test_a_termination_log_and_names_stay_in_their_places(cluster: Cluster) -> None:
    odd = {"terminationMessagePath": "/../../etc/passwd", "command": ["true"]}
    cluster.create(pod("logs", container=odd, restartPolicy="Never"))
    wait_for(lambda: cluster.phase("logs") in ("Succeeded", "Failed"), "it to end")
    for name in ("../../escaped", "a/b", "..", "x" * 254):
        with pytest.raises(ApiClientError) as refused:
            cluster.create(pod(name))
        assert refused.value.code in (400, 422)
        with pytest.raises(ApiClientError) as refused:
            cluster.create(pod("fine", container={"name": name}))
        assert refused.value.code in (400, 422)
    assert {path.parent for path in cluster.home.log_root.glob("*/*")} == set(cluster.home.log_root.glob("default_logs_*"))
    emptied(cluster)


@pytest.fixture
def on_a_small_disk(lab_of_its_own: Home, tmp_path: Path) -> Iterator[Served]:
    """An API whose database is on a file system of a few MB."""
    base = tmp_path / "small"
    base.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(base)], check=True)
    served = Served(base)
    try:
        served.start()
        yield served
        assert served.end() == 0
    finally:
        subprocess.run(["umount", "--lazy", str(base)], check=True)


def test_the_disk_is_full_under_the_apis_database(on_a_small_disk: Served) -> None:
    """Writes are refused with a Status, reads go on, and what was acknowledged is there after a kill and with room again."""
    served, kept = on_a_small_disk, []
    full = served.base / "full"
    with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    refused = None
    for number in range(200):
        code, said = served.ask("POST", MAPS, config_map(f"m{number}", text="x" * 20_000))
        if code != 201:
            refused = (code, said)
            break
        kept.append(f"m{number}")
    assert refused and refused[0] in (503, 507) and refused[1]["kind"] == "Status"
    assert "cannot be written" in refused[1]["message"] and "Free space" in refused[1]["message"]
    assert names(served) == kept
    served.end(signal.SIGKILL)
    full.unlink()
    served.start()
    assert names(served) == kept
    assert served.ask("POST", MAPS, config_map("again"))[0] == 201
    with contextlib.closing(sqlite3.connect(served.base / "data" / "objects.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def names(served: Served) -> list[str]:
    found = [item["metadata"]["name"] for item in served.ask("GET", MAPS)[1]["items"]]
    return sorted((name for name in found if name != "kube-root-ca.crt"), key=lambda name: int(name.removeprefix("m")))
