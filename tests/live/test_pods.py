"""Pods on the real containerd, held against what the kernel's own tools and bare CRI stubs say."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc

import labkit as lab
from labkit.cri import CriClient
from labkit.cri.v1 import api_pb2
from labkit.node import Node
from labkit.node.packages.programs import find_programs
from labkit.node.pods.operations import remove_sandbox
from tests.conftest import labkit
from tests.live.cluster import wait_for
from tests.unit.test_kernel_snapshot import lsns

SLEEP = {"name": "main", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}
WEB = {"name": "web", "image": "registry.lab/busybox:1", "command": ["httpd", "-f", "-h", "/var/www"]}


def manifest(name: str, *containers: dict, **spec: object) -> dict:
    return {"kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "containers": list(containers or (SLEEP,))}}


@pytest.fixture
def five_pods(node: Node) -> Iterator[list[lab.PodSnapshot]]:
    yield [
        node.start_pod(pod)
        for pod in (
            manifest("two-containers", SLEEP, WEB),
            manifest("shared-pid", SLEEP, WEB, shareProcessNamespace=True),
            manifest("host-network", hostNetwork=True),
            manifest("plain"),
            manifest("limited", {**SLEEP, "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}}}),
        )
    ]


def test_namespaces_are_those_of_lsns(node: Node, five_pods: list[lab.PodSnapshot]) -> None:
    pods = json.loads(labkit("ps", "--json").stdout)["pods"]
    told = {int(n["ns"]): n for n in lsns()}
    processes = [p for pod in pods for p in pod["processes"]]
    assert {p["name"] for p in pods} >= {p.name for p in five_pods}
    assert len(processes) >= 5 * 3 + 2
    for process in processes:
        for type, inode in process["namespaces"].items():
            assert told[inode]["type"] == type
            assert f"{type}:[{inode}]" == Path(f"/proc/{process['pid']}/ns/{type}").readlink().name
    host = {i for p in processes if p["role"] == "shim" for i in p["namespaces"].values()}
    for inode in {i for p in processes for i in p["namespaces"].values()} - host:
        assert int(told[inode]["nprocs"]) == sum(inode in p["namespaces"].values() for p in processes)


def test_pids_are_those_of_the_cgroups(node: Node, five_pods: list[lab.PodSnapshot]) -> None:
    for pod in five_pods:
        for container in pod.containers:
            listed = {c.procs for c in node.kernel.cgroups(container.pid) if container.id in c.path}
            assert listed == {tuple(sorted(p.pid for p in pod.processes if p.container == container.name))}


def test_bare_stubs_see_the_same(node: Node, five_pods: list[lab.PodSnapshot]) -> None:
    endpoint = json.loads(labkit("env", "--json").stdout)["endpoint"]
    with grpc.insecure_channel(endpoint.replace("unix://", "unix:")) as channel:
        runtime = api_pb2_grpc.RuntimeServiceStub(channel)
        sandboxes = {s.id for s in runtime.ListPodSandbox(api_pb2.ListPodSandboxRequest()).items}
        containers = {c.id for c in runtime.ListContainers(api_pb2.ListContainersRequest()).containers}
    seen = node.pods(others=True)
    assert {p.id for p in seen} == sandboxes
    assert {c.id for p in seen for c in p.containers} == containers


def test_limits_reach_the_cgroup(node: Node) -> None:
    pod = node.start_pod(manifest("limited", {**SLEEP, "resources": {"limits": {"memory": "32Mi"}}}))
    files = {name: text for cgroup in node.kernel.cgroups(pod.container("main").pid) for name, text in cgroup.files().items()}
    assert "33554432" in (files.get("memory.max"), files.get("memory.limit_in_bytes"))


def test_host_network_and_shared_pid(node: Node) -> None:
    host = node.start_pod(manifest("host", hostNetwork=True))
    shared = node.start_pod(manifest("shared", SLEEP, WEB, shareProcessNamespace=True))
    assert all(p.namespaces["net"] == node.host_namespaces()["net"] for p in host.processes)
    inside = [p for p in shared.processes if p.role != "shim"]
    assert len({p.namespaces["pid"] for p in inside}) == 1
    assert [p.role for p in shared.processes] == ["shim", "pause", "application", "application"]


def test_init_containers_and_empty_dirs(node: Node) -> None:
    mount = [{"name": "work", "mountPath": "/work"}]
    pod = node.start_pod(
        manifest(
            "init",
            {**WEB, "command": ["httpd", "-f", "-h", "/work"], "volumeMounts": mount},
            volumes=[{"name": "work", "emptyDir": {}}],
            initContainers=[
                {**SLEEP, "name": "prepare", "command": ["sh", "-c", "echo made > /work/index.html"], "volumeMounts": mount}
            ],
        )
    )
    said = node.cri.exec_sync(container_id=pod.container("web").id, cmd=["wget", "-q", "-O-", "http://localhost/"])
    assert said.stdout == b"made\n"


def test_an_init_container_that_fails_leaves_no_pod(node: Node) -> None:
    with pytest.raises(lab.NodeError, match="prepare exited with code 3"):
        node.start_pod(
            manifest("failing", SLEEP, initContainers=[{**SLEEP, "name": "prepare", "command": ["sh", "-c", "exit 3"]}])
        )
    assert "failing" not in [p.name for p in node.pods(others=True)]


def test_private_image_wants_the_password(node: Node) -> None:
    image = "private.registry.lab/busybox:1"
    node.cri.remove_image(image={"image": image})  # another test of this node may have brought it
    private = manifest("private", {**SLEEP, "image": image})
    with pytest.raises(lab.CriError, match=r"401|authoriz|credentials"):
        node.start_pod(private)
    assert "private" not in [p.name for p in node.pods(others=True)]
    pod = node.start_pod(private, auth={"username": "learner", "password": "container"})
    assert pod.container("main").state == "Running"
    node.cri.remove_image(image={"image": image})


def test_an_image_that_does_not_exist(node: Node) -> None:
    with pytest.raises(lab.CriError, match="not found") as refused:
        node.start_pod(manifest("nope", {**SLEEP, "image": "registry.lab/nope:1"}))
    assert refused.value.rpc == "PullImage"
    assert "nope" not in [p.name for p in node.pods(others=True)]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spec": {"containers": []}}, "spec.containers"),
        ({"spec": {"containers": [{**SLEEP, "command": "sleep 1"}]}}, "command"),
        ({"spec": {"containers": [{"name": "x"}]}}, "image"),
        ({"metadata": {"name": "Not A Name"}}, "metadata.name"),
    ],
)
def test_a_wrong_manifest_names_the_field(node: Node, change: dict, says: str) -> None:
    with pytest.raises(lab.ManifestError, match=says):
        node.start_pod({**manifest("wrong"), **change})


def test_a_pod_started_twice_is_replaced_and_another_lessons_pod_of_that_name_is_not(node: Node) -> None:
    first, second = (node.start_pod(manifest("twin")) for _ in range(2))
    assert [p.id for p in node.pods(others=True)] == [second.id] != [first.id]
    already = pytest.raises(lab.NodeError, match="runs on this node already")
    with contextlib.closing(lab.connect(lesson="other")) as other, already:
        other.start_pod(manifest("twin"))
    assert node.pod("twin").id == second.id


def test_a_lesson_removes_its_own_leftovers_only(node: Node) -> None:
    with contextlib.closing(lab.connect(lesson="other")) as other:
        node.start_pod(manifest("mine"))
        other.start_pod(manifest("theirs"))
        assert lab.connect(lesson="test") and "mine" not in [p.name for p in node.pods(others=True)]
        assert "theirs" in [p.name for p in node.pods(others=True)]
        assert other.remove_leftovers() == ["theirs"]


def test_what_figures_are_drawn_from_leaves_out_the_pods_of_other_lessons(node: Node) -> None:
    mine = node.start_pod(manifest("mine", {**SLEEP, "name": "a"}))
    with contextlib.closing(lab.connect(lesson="other")) as other:
        theirs = other.start_pod(manifest("theirs", {**SLEEP, "name": "b"}))
        assert "b (" not in str(lab.process_tree(node.processes(), pods=node.pods())) + str(lab.namespace_matrix(node.pods()))
        assert {hold.pod for hold in node.shims()} == {p.name for p in node.pods()} == {"mine"}
        assert "theirs" not in {line.name for line in node.cgroups.tree()}
        assert {p.pid for p in mine.processes} <= (own := {p.pid for p in node.processes()})
        assert not own & {p.pid for p in theirs.processes}
        assert {p.pid for p in theirs.processes} <= {p.pid for p in node.processes(others=True)}
        assert "theirs" in {line.name for line in node.cgroups.tree(others=True)}
        assert {hold.pod for hold in node.shims(others=True)} >= {"mine", "theirs"}
        other.remove_leftovers()


def test_foreign_processes_and_pods_are_left_alone(node: Node) -> None:
    with pytest.raises(lab.NodeError, match="belongs to no Pod"):
        node.kill(1)
    config = node.sandbox_config(manifest("foreign"))
    sandbox = node.cri.run_pod_sandbox(config=config).pod_sandbox_id
    try:
        with pytest.raises(lab.NodeError, match="not made by labkit"):
            node.remove_pod("foreign")
    finally:
        node.cri.stop_pod_sandbox(pod_sandbox_id=sandbox)
        node.cri.remove_pod_sandbox(pod_sandbox_id=sandbox)


def test_removing_a_pod_leaves_nothing(node: Node) -> None:
    pod = node.start_pod(manifest("brief", SLEEP, WEB))
    pids = [p.pid for p in pod.processes]
    node.remove_pod(pod)
    snapshot = node.kernel.snapshot()
    assert not [pid for pid in pids if pid in snapshot.processes and snapshot.processes[pid].state != "Z"]
    assert not [m for m in snapshot.mounts if pod.id in m.mount_point or m.mount_point == pod.pinned[0].path]
    for mount in node.kernel.cgroup_mounts().values():
        assert not list(Path(mount.mount_point).glob(f"labkit*/kubepods/*/pod{pod.uid}"))
    node.remove_pod("brief")


def test_the_listener_is_containerd(node: Node) -> None:
    assert node.listener().comm == "containerd"
    assert [p.pid for p in node.processes() if p.role == "containerd"] == [node.listener().pid]


def test_files_behind_a_mount_in_the_pods_directory_are_kept(node: Node, tmp_path: Path) -> None:
    """A privileged container mounts a host's directory into its emptyDir, and the mount reaches the host."""
    (tmp_path / "precious").write_text("keep me")
    mounts = [{"name": "e", "mountPath": "/e", "mountPropagation": "Bidirectional"}, {"name": "h", "mountPath": "/h"}]
    pod = manifest("mounter", {**SLEEP, "securityContext": {"privileged": True}, "volumeMounts": mounts},
                   volumes=[{"name": "e", "emptyDir": {}}, {"name": "h", "hostPath": {"path": str(tmp_path)}}])
    directory = Path(node.settings["container"]["kubelet_root"])
    subprocess.run(["mount", "--bind", str(directory), str(directory)], check=True)
    subprocess.run(["mount", "--make-shared", str(directory)], check=True)
    try:
        started = node.start_pod(pod)
        command = ["sh", "-c", "mkdir /e/in && mount --bind /h /e/in"]
        assert node.cri.exec_sync(container_id=started.container("main").id, cmd=command).exit_code == 0
        assert [m for m in node.kernel.mounts() if m.mount_point.endswith("/e/in")]
        node.remove_pod(started)
        assert (tmp_path / "precious").read_text() == "keep me"
        assert not [m for m in node.kernel.mounts() if m.mount_point.endswith("/e/in")]
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_sidecar_goes_on_beside_the_others(node: Node) -> None:
    pod = node.start_pod(manifest("sidecar", SLEEP, initContainers=[{**SLEEP, "name": "log", "restartPolicy": "Always"}]))
    assert {c.name: c.state for c in pod.containers} == {"log": "Running", "main": "Running"}


def test_what_start_pod_cannot_do_is_refused_before_anything_runs(node: Node) -> None:
    absent = {**SLEEP, "image": "registry.lab/absent:1", "imagePullPolicy": "Never"}
    claim = [{"name": "d", "persistentVolumeClaim": {"claimName": "none"}}]
    wanted = {**SLEEP, "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "a"}}}]}
    refused = {
        "pull policy is Never": manifest("never", absent),
        "persistentVolumeClaim": manifest("claim", SLEEP, volumes=claim),
        "cannot be configured": manifest("config", wanted),
    }
    for says, pod in refused.items():
        with pytest.raises(lab.NodeError, match=says):
            node.start_pod(pod)
    assert node.pods(others=True) == ()


def test_the_downward_api_knows_the_node(node: Node) -> None:
    fields = {"NODE": "spec.nodeName", "HOST": "status.hostIP", "IP": "status.podIP", "ACCOUNT": "spec.serviceAccountName"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    pod = node.start_pod(manifest("downward", {**SLEEP, "env": env}))
    said = node.cri.exec_sync(container_id=pod.container("main").id, cmd=["env"]).stdout.decode().splitlines()
    values = dict(line.split("=", 1) for line in said)
    assert (values["NODE"], values["ACCOUNT"], values["IP"]) == ("sim-worker", "default", pod.ip)
    assert values["HOST"].endswith(".0.1")


def test_a_killed_shim_leaves_no_socket(node: Node) -> None:
    pod = node.start_pod(manifest("shimless"))
    shim = next(p.pid for p in pod.processes if p.role == "shim")
    socket = Path(next(hold.socket for hold in node.shims() if hold.pid == shim))
    assert socket.is_socket()
    node.kill(shim, 9)
    node.remove_pod(pod)
    assert not socket.exists()


def shown(node: Node, name: str) -> lab.PodSnapshot:
    """A Pod among those that one `node.pods` shows."""
    return next(pod for pod in node.pods(others=True) if pod.name == name)


def test_what_others_end_is_seen_at_the_next_look(node: Node) -> None:
    """A node that has looked before and found all as it was sees what another program does meanwhile, and does not ask again."""
    programs = find_programs(node.home.cache)
    ctr = [programs.ctr, "--address", node.cri.path, "--namespace", "k8s.io"]
    environment = {**os.environ, "LD_LIBRARY_PATH": programs.library_path}
    killed, deleted, removed = (node.start_pod(manifest(name, SLEEP, WEB)) for name in ("killed", "deleted", "removed"))
    for _ in range(3):
        assert [[p.pid for p in pod.processes] for pod in node.pods()] == [[p.pid for p in pod.processes] for pod in node.pods()]

    main, web = killed.container("main").pid, killed.container("web").pid
    os.kill(main, signal.SIGKILL)
    wait_for(lambda: not is_alive(main), "the process to end")
    running = [p.pid for p in shown(node, "killed").processes if p.role == "application" and not p.ended]
    assert running == [web]
    node.wait_exit(killed.container("main").id)
    assert shown(node, "killed").container("main").exit_code == 137
    assert shown(node, "killed").container("web").state == "Running"

    target = deleted.container("web")
    # The command fails where containerd's own CRI service, which hears of the end, has deleted the task first.
    subprocess.run([*ctr, "task", "rm", "--force", target.id], env=environment, capture_output=True)
    wait_for(lambda: not is_alive(target.pid), "the process to end")
    after = shown(node, "deleted")
    assert target.pid not in {p.pid for p in after.processes if not p.ended}
    node.wait_exit(target.id)
    assert shown(node, "deleted").container("web").state == "Exited"

    with CriClient(node.endpoint) as other:
        remove_sandbox(other, removed.id)
    assert "removed" not in {pod.name for pod in node.pods(others=True)}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False
