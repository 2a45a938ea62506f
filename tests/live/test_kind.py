"""Node kinds `kind` and `cri:docker://…` on a stand-in for a kind node, in a real Docker engine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import labkit as lab
from labkit.cri import CriClient
from labkit.figures.runtime.load import exchange
from labkit.node import Home
from labkit.node.host import relay
from labkit.node.registry import node_registry
from tests.conftest import ROOT, labkit
from tests.live import exposed
from tests.live.test_pods import SLEEP, WEB, manifest
from tests.standin.engine import Engine, User
from tests.standin.node import StandIn
from tests.standin.node import node as running_node
from tests.standin.system import wait_for

pytest_plugins = ("tests.standin.fixtures",)

AS_USER = """
mount --bind "$1" "$3/python" && mount --bind "$2" "$3/course" && cd "$3/course" && shift 3
exec setpriv --reuid "$1" --regid "$2" --groups "$3" -- sh -c 'shift 3; exec "$@"' sh "$@"
"""
INSIDE = """
for link in /proc/[0-9]*/ns/*; do printf '%s ' "$link"; readlink "$link"; done
"""


@pytest.fixture
def docker(engine: Engine, standin: StandIn, own_home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The engine as this process's own, a home of its own, and the node as it was afterwards."""
    for name, value in engine.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABKIT_NODE", "kind")
    monkeypatch.setenv("LABKIT_HOLD", "yes")
    yield engine
    if standin.pid:
        labkit("clean", check=False)


def up(*arguments: str) -> dict:
    return json.loads(labkit("up", "--json", *arguments).stdout)


def state_of(engine: Engine) -> dict[str, set[str]]:
    """What Docker has."""
    return {
        "containers": set(engine.run("ps", "--all", "--format", "{{.Names}} {{.Image}}").splitlines()),
        **{what: set(engine.run(what, "ls", "--quiet").split()) for what in ("network", "volume", "image")},
    }


def on_node(standin: StandIn) -> dict[str, set[str]]:
    """What the node has, by its own tools; not what its own runtime and init make of themselves when they are first used."""
    own = " ".join(f"-path {path} -prune -o" for path in ("/run/containerd", "/run/cni-ipam-state", "/run/netns", "/run/utmp"))
    ask = {
        "processes": "ps -eo comm=",
        "mounts": "grep -v -e /proc/ /proc/mounts",
        "namespaces": "ls /run/netns 2>/dev/null",
        "images": "ctr -n k8s.io images ls -q",
        "containers": "ctr -n k8s.io containers ls -q",
        "tenants": "ctr namespaces ls -q",
        "files": f"find /etc /var/lib/labkit /var/log/pods /run {own} -print 2>/dev/null",
        "cgroups": "find /sys/fs/cgroup -type d",
    }
    return {what: set(standin.exec("sh", "-c", f"{script}; true").splitlines()) for what, script in ask.items()}


def test_ps_is_what_the_node_itself_says(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    for pod in (
        manifest("two", SLEEP, WEB),
        manifest("shared", SLEEP, WEB, shareProcessNamespace=True),
        manifest("host", hostNetwork=True),
    ):
        node.start_pod(pod)
    processes = [p for pod in json.loads(labkit("ps", "--json").stdout)["pods"] for p in pod["processes"]]
    links = dict(line.split(" ", 1) for line in standin.exec("sh", "-c", INSIDE).splitlines() if line.count(" ") == 1)
    lsns = json.loads(standin.exec("lsns", "-J", "-o", "NS,TYPE,NPROCS"))["namespaces"]
    counted = {int(n["ns"]): (n["type"], int(n["nprocs"])) for n in lsns}
    host = {i for p in processes if p["role"] == "shim" for i in p["namespaces"].values()}
    assert [p["role"] for p in processes].count("application") == 5
    for process in processes:
        for type, inode in process["namespaces"].items():
            assert links[f"/proc/{process['pid']}/ns/{type}"] == f"{type}:[{inode}]"
            assert counted[inode][0] == type
            if inode not in host:
                assert counted[inode][1] == sum(inode in p["namespaces"].values() for p in processes)
        on_host = Path(f"/proc/{process['host_pid']}/status").read_text()
        assert str(process["pid"]) in next(line for line in on_host.splitlines() if line.startswith("NSpid:")).split()


def test_what_it_shows_is_what_the_documentation_lists(docker: Engine, standin: StandIn, own_home: Home) -> None:
    up()
    sockets, files = exposed.documented("kind")
    assert exposed.sockets(own_home, exposed.in_node(standin.pid, "docker-registry")) == sockets
    assert exposed.files(own_home) == files


def test_pulls_are_real_and_the_password_is_wanted(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    node.cri.remove_image(image={"image": "registry.lab/busybox:1"})
    assert node.start_pod(manifest("puller")).state == "Ready"
    private = manifest("private", {**SLEEP, "image": "private.registry.lab/busybox:1"})
    with pytest.raises(lab.CriError, match=r"401|authoriz|credentials"):
        node.start_pod(private)
    assert node.start_pod(private, auth={"username": "learner", "password": "container"}).state == "Ready"
    registries = [line.split() for line in standin.exec("ps", "-eo", "uid=,comm=").splitlines() if "docker-registry" in line]
    assert {uid for uid, _ in registries} == {str(node_registry.ACCOUNT)}, "it owns nothing of the node"


def test_clean_leaves_docker_and_the_node_as_they_were(docker: Engine, standin: StandIn) -> None:
    docker_before, node_before = state_of(docker), on_node(standin)
    up()
    node = lab.connect(lesson="test")
    node.start_pod(manifest("a", SLEEP, WEB))
    assert on_node(standin) != node_before
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == []
    assert any("Pod a" in found for names in report["removed"].values() for found in names)
    assert state_of(docker) == docker_before
    after = on_node(standin)
    assert {what: after[what] ^ node_before[what] for what in after if after[what] != node_before[what]} == {}


def test_another_learners_pods_are_left_alone(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    config = {"metadata": {"name": "theirs", "namespace": "default", "uid": "4711"}, "linux": {}}
    with CriClient(f"unix://{standin.socket}") as other_client:
        theirs = other_client.run_pod_sandbox(config=config).pod_sandbox_id
    try:
        with pytest.raises(lab.NodeError, match="not made by labkit"):
            node.remove_pod("theirs")
        labkit("clean")
        assert theirs in standin.exec("ctr", "-n", "k8s.io", "containers", "ls", "-q")
    finally:
        up()
        with contextlib.closing(lab.connect()) as again:
            again.cri.stop_pod_sandbox(pod_sandbox_id=theirs)
            again.cri.remove_pod_sandbox(pod_sandbox_id=theirs)


def test_relay_killed_and_node_restarted(docker: Engine, standin: StandIn) -> None:
    """The next call works, or says in a sentence what to run; `labkit up` always helps."""
    up()
    node = lab.connect(lesson="test")
    relay = int(Path(f"{node.cri.path}.lock").read_text())
    os.kill(relay, signal.SIGKILL)
    try:
        assert node.cri.version().runtime_name == "containerd"  # the connection's own command outlives the relay
    except lab.CriError as refused:
        assert "labkit up" in str(refused)
    again = lab.connect(lesson="test")
    assert again.cri.version().runtime_name == "containerd"
    standin.restart()
    assert again.cri.version(timeout=30).runtime_name == "containerd"
    assert lab.connect(lesson="test").start_pod(manifest("after")).state == "Ready"


def test_a_node_stopped_paused_or_deleted(docker: Engine) -> None:
    with running_node(docker, name="brief-control-plane", cluster="brief") as brief:
        up("--cluster", "brief")
        brief.pause()
        assert "docker unpause brief-control-plane" in labkit("up", "--cluster", "brief", check=False).stderr
        brief.unpause()
        brief.stop()
        failed = labkit("up", "--cluster", "brief", check=False)
        assert failed.returncode == 1 and "docker start brief-control-plane" in failed.stderr
        brief.remove()
        failed = labkit("status", check=False)
        assert failed.returncode == 1 and "no cluster brief" in failed.stdout
        assert json.loads(labkit("clean", "--json").stdout)["left"] == []


def test_two_clusters_are_listed(docker: Engine, standin: StandIn) -> None:
    with running_node(docker, name="second-control-plane", cluster="second"):
        failed = labkit("up", check=False)
        assert failed.returncode == 1 and "kind-control-plane" in failed.stderr and "second-control-plane" in failed.stderr
        assert up("--cluster", "second")["name"] == "second-control-plane"
        assert up("--node-name", "kind-control-plane")["cluster"] == "kind"
        assert "no cluster nowhere" in labkit("up", "--cluster", "nowhere", check=False).stderr


def test_a_socket_inside_of_a_container(docker: Engine, standin: StandIn) -> None:
    said = up("--node", f"cri:docker://{standin.name}/run/containerd/containerd.sock")
    assert said["node"] == "cri" and said["runtime"]["name"] == "containerd"
    node = lab.connect(f"cri:docker://{standin.name}/run/containerd/containerd.sock", lesson="test")
    assert node.start_pod(manifest("there", {**SLEEP, "image": node.images["busybox"]})).state == "Ready"
    failed = labkit("up", "--node", f"cri:docker://{standin.name}/etc/hostname", check=False)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []


def test_an_engine_that_does_not_answer(docker: Engine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    failed = labkit("up", check=False)
    assert failed.returncode == 1 and "engine does not run" in failed.stderr
    silent = tmp_path / "silent.sock"
    code = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind({str(silent)!r}); s.listen(); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code]) as listener:
        while not silent.exists():
            time.sleep(0.02)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{silent}")
        failed = labkit("up", check=False, timeout=30)
        listener.kill()
    assert failed.returncode == 1 and "did not answer within 5 s" in failed.stderr


def test_the_kubelet_is_held_and_goes_on(docker: Engine, standin: StandIn) -> None:
    """A process called kubelet removes each Pod that it does not know. Held, it does not; released, it does again."""
    standin.start_kubelet()
    try:
        up()
        node = lab.connect(lesson="test")
        with node.kubelet_held():
            pod = node.start_pod(manifest("by-hand"))
            time.sleep(3)
            assert node.pod(pod).state == "Ready"
        assert "by-hand" not in [p.name for p in node.pods(others=True)]
        node.cri.run_pod_sandbox(config=node.sandbox_config(node.manifest(manifest("unheld"))))
        gone_within(node, "unheld", 20)
    finally:
        standin.stop_kubelet()


def test_a_notebook_that_dies_lets_the_kubelet_go_on(docker: Engine, standin: StandIn) -> None:
    standin.start_kubelet()
    try:
        up()
        hold = "import labkit, os; n = labkit.connect(lesson='test'); n.kubelet_held().start(); os.kill(os.getpid(), 9)"
        subprocess.run([sys.executable, "-c", hold], check=False)
        node = lab.connect(lesson="test")
        node.start_pod(manifest("orphan"))
        time.sleep(3)
        assert node.pod("orphan").state == "Ready"
        gone_within(node, "orphan", 40)
    finally:
        standin.stop_kubelet()


def gone_within(node: lab.Node, name: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while name in [p.name for p in node.pods(others=True) if p.state == "Ready"]:
        assert time.monotonic() < end, f"the kubelet did not remove {name} within {seconds} s"
        time.sleep(0.2)


@pytest.fixture
def learner(docker: Engine) -> Iterator[User]:
    with docker.user() as made:
        yield made


def as_user(
    engine: Engine, user: User, *command: str, in_group: bool = True, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run this Python, with this course, as an ordinary user, who may not look into root's directories: both are bound to places
    that she may, in a mount namespace of the command's own."""
    for directory in ("python", "course"):
        (engine.base / directory).mkdir(exist_ok=True)
    python = str(engine.base / "python" / "bin" / Path(sys.executable).resolve().name)
    site = Path(sysconfig.get_path("purelib")).relative_to(ROOT)
    course = engine.base / "course"
    roots = ("LABKIT_HOME", "XDG_", "KUBECONFIG")
    own = {k: v for k, v in os.environ.items() if not k.startswith(roots) and not v.startswith(str(ROOT))}
    env = {**own, **user.env,
           "LABKIT_NODE": "kind",
           "PYTHONPATH": f"{course}:{course / site}", "PYTHONDONTWRITEBYTECODE": "1",
           "LD_LIBRARY_PATH": str(engine.base / "python" / "lib")}
    groups = str(user.docker_gid) if in_group else str(user.gid)
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", AS_USER, "sh", sys.base_prefix,
            str(ROOT), str(engine.base),
            str(user.uid), str(user.gid), groups, python, *command]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=timeout)


@pytest.mark.soak
def test_an_ordinary_user_runs_the_notebooks(docker: Engine, standin: StandIn, learner: User) -> None:
    """Those that need no Kubernetes; test_kind_cluster.py has all."""
    started = as_user(docker, learner, "-m", "labkit.cli", "up", "--json")
    assert started.returncode == 0, started.stderr
    found = sorted((ROOT / "notebooks").glob("*.ipynb"))
    notebooks = [str(path.relative_to(ROOT)) for path in found if "node.cluster" not in path.read_text()]
    assert len(notebooks) >= 4
    done = as_user(docker, learner, "-m", "pytest", "-q", "--nbval", "-p", "no:cacheprovider", "-c", "/dev/null",
                   "--nbval-sanitize-with", "tests/notebooks/sanitize.cfg", *notebooks)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    cleaned = as_user(docker, learner, "-m", "labkit.cli", "clean", "--json")
    assert cleaned.returncode == 0 and json.loads(cleaned.stdout)["left"] == [], cleaned.stderr


def test_a_user_outside_of_the_docker_group(docker: Engine, standin: StandIn, learner: User) -> None:
    failed = as_user(docker, learner, "-m", "labkit.cli", "up", in_group=False)
    assert failed.returncode == 1 and "usermod -aG docker" in failed.stderr and "Traceback" not in failed.stderr
    shutil.rmtree(learner.home / ".cache", ignore_errors=True)


def test_a_thousand_calls_through_docker_exec(docker: Engine, standin: StandIn, own_home: Home) -> None:
    """16 threads, streams and cancels among them: each answer is the one asked for; no process and no descriptor is left."""
    up()
    node = lab.connect(lesson="test")
    pods = [node.start_pod(manifest(f"pod-{number}")) for number in range(4)]
    socat = "pgrep -c socat || true"
    path = relay.start_relay(own_home, "exec", relay.inside(["docker", "exec", "--interactive", standin.name], node.socket_path))
    try:
        serving = int(Path(f"{path}.lock").read_text())

        def held() -> tuple[int, int, int]:
            """Descriptors of the relay, socats on the node, descriptors of this process."""
            return len(os.listdir(f"/proc/{serving}/fd")), int(standin.exec("sh", "-c", socat)), len(os.listdir("/proc/self/fd"))

        before = held()

        def ask(thread: int) -> int:
            answered = 0
            with CriClient(f"unix://{path}") as cri:
                for number in range(63):
                    pod = pods[(thread + number) % len(pods)]
                    if number % 21 == 20:
                        with cri.get_container_events():
                            pass  # leaving the block cancels the stream
                    assert cri.pod_sandbox_status(pod_sandbox_id=pod.id, timeout=60).status.metadata.name == pod.name
                    answered += 1
            return answered

        with ThreadPoolExecutor(16) as threads:
            assert sum(threads.map(ask, range(16))) == 16 * 63 >= 1000

        wait_for(lambda: held() == before, f"every connection to be gone (before: {before}, now: {held()})")
    finally:
        relay.stop_relay(own_home, "exec")
    assert not path.exists()


def test_several_ups_and_downs_at_once(docker: Engine, standin: StandIn) -> None:
    argv = [sys.executable, "-m", "labkit.cli"]
    ups = [subprocess.Popen([*argv, "up", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [json.loads(p.communicate(timeout=120)[0]) for p in ups]
    assert [p.returncode for p in ups] == [0, 0, 0] and answers[0] == answers[1] == answers[2]
    both = [subprocess.Popen([*argv, verb], stderr=subprocess.PIPE, text=True) for verb in ("down", "up")]
    assert [p.wait(120) for p in both] == [0, 0], [p.stderr.read() for p in both if p.stderr]


def test_a_connection_to_a_port_of_a_pod(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    pod = node.start_pod(manifest("web", WEB))
    before = int(standin.exec("sh", "-c", "pgrep -c socat || true"))
    for _ in range(2):
        with node.host.dial(pod.ip, 80) as connection:
            assert b"<title>" in exchange(connection)
    with pytest.raises(ConnectionRefusedError, match="Connection refused"):
        node.host.dial(pod.ip, 81)
    wait_for(lambda: int(standin.exec("sh", "-c", "pgrep -c socat || true")) == before, "every socat to end")


def test_the_nodes_network_is_broken_and_repaired(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    kept = standin.exec("sh", "-c", "cd /etc/cni/net.d && ls -A && cat *")
    node.cni.name_no_such_plugin()
    with pytest.raises(lab.CriError, match="labkit-no-such-plugin"):
        node.start_pod(manifest("unconnected"))
    node.cni.take_away()
    assert not node.cni.network_ready()
    node.cni.repair()
    assert standin.exec("sh", "-c", "cd /etc/cni/net.d && ls -A && cat *") == kept
    pod = node.start_pod(manifest("connected", {**SLEEP, "resources": {"limits": {"cpu": "500m", "memory": "32Mi"}}}))
    assert node.cgroups.file(pod.name, "main", "cpu.max", "cpu.cfs_quota_us").split()[0] == "50000"
    lines = [line for line in node.cgroups.tree() if line.name in ("main", "connected")]
    limits = {line.role: (line.cpu_limit, line.memory_limit) for line in lines}
    assert limits["container"] == (500, 32 << 20) and "pod" in limits


def test_a_command_on_the_node_speaks_for_itself(docker: Engine, standin: StandIn) -> None:
    up()
    node = lab.connect(lesson="test")
    with pytest.raises(lab.NodeError, match="sh exited with code 3: connection refused"):
        node.shell(["sh", "-c", "echo connection refused >&2; exit 3"])
    with pytest.raises(lab.NodeError, match="no program nope"):
        node.shell(["nope"])
    with pytest.raises(lab.NodeError, match="sleep did not end within 1 s"):
        node.shell(["sleep", "4711"], timeout=1)
    assert "4711" not in standin.exec("ps", "-eo", "args=")
