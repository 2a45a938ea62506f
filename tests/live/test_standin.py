"""The stand-in for a kind node is what the tests of node kind `kind` take it for, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.cri import CriClient, CriError
from labkit.node.packages.programs import ensure_programs
from labkit.node.registry.course_images import BUSYBOX, busybox_image
from labkit.podspec.messages.configs import container_config, sandbox_config
from tests.live import machine
from tests.standin import packages
from tests.standin.engine import Engine, remove_stale
from tests.standin.engine import engine as running_engine
from tests.standin.node import SOCKET, StandIn
from tests.standin.node import node as running_node
from tests.standin.system import wait_for

pytest_plugins = ("tests.standin.fixtures",)

ROOT = Path(__file__).resolve().parents[2]
LEFT_ALONE = """
import sys
from tests.standin.engine import engine
from tests.standin.node import node
with engine() as engine, node(engine) as node, engine.user():
    node.pause()
    print(engine.base, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def cri(standin: StandIn) -> Iterator[CriClient]:
    with client(standin) as connected:
        yield connected


def client(node: StandIn) -> CriClient:
    """A client of a node that has busybox's image."""
    node.import_images([busybox_image(ensure_programs(packages.cache().parent).busybox)])
    return CriClient(f"unix://{node.socket}")


@contextlib.contextmanager
def relay(engine: Engine, node: str, directory: Path) -> Iterator[Path]:
    """A socket, each connection to which is a `docker exec`'s stdin and stdout: no more than it takes to ask the node."""
    command = [str(engine.docker), "exec", "--interactive", node, "socat", "-", f"UNIX-CONNECT:{SOCKET}"]
    children: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    fd = connection.fileno()
                    children.append(subprocess.Popen(command, stdin=fd, stdout=fd, env={**os.environ, **engine.env}))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "relay.sock"))
        listener.listen()
        threading.Thread(target=serve, daemon=True).start()
        yield directory / "relay.sock"
        listener.shutdown(socket.SHUT_RDWR)
    for child in children:
        child.wait(10)


def run_pod(cri: CriClient, name: str, uid: str = "", driver: str = "cgroupfs") -> tuple[str, str]:
    """A sandbox with one container, running: their ids."""
    container = {"name": "main", "image": BUSYBOX, "command": ["sleep", "1000000"]}
    metadata = {"name": name, "namespace": "default", "uid": uid or str(uuid.uuid4())}
    manifest = {"kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
    config = sandbox_config(manifest, cgroup_driver=driver)
    sandbox = cri.run_pod_sandbox(config=config).pod_sandbox_id
    made = cri.create_container(pod_sandbox_id=sandbox, config=container_config(manifest, "main"), sandbox_config=config)
    cri.start_container(container_id=made.container_id)
    return sandbox, made.container_id


def remove_pod(cri: CriClient, sandbox: str) -> None:
    cri.stop_pod_sandbox(pod_sandbox_id=sandbox)
    cri.remove_pod_sandbox(pod_sandbox_id=sandbox)


def sandboxes(cri: CriClient) -> set[str]:
    return {item.id for item in cri.list_pod_sandbox().items}


def test_containerd_answers_root_and_docker_exec(engine: Engine, standin: StandIn, cri: CriClient, tmp_path: Path) -> None:
    direct = cri.version()
    assert direct.runtime_name == "containerd" and direct.runtime_version.startswith("1.7.")
    conditions = {c.type: c.status for c in cri.status().status.conditions}
    assert conditions["RuntimeReady"] and conditions["NetworkReady"]
    with relay(engine, standin.name, tmp_path) as path, CriClient(f"unix://{path}") as relayed:
        assert relayed.version() == direct
        images = [sorted(client.list_images().images, key=lambda i: i.id) for client in (relayed, cri)]
        assert images[0] == images[1] and images[0]


def test_a_pod_runs_in_namespaces_that_the_nodes_own_tools_see(standin: StandIn, cri: CriClient) -> None:
    sandbox, container = run_pod(cri, "seen")
    try:
        address = cri.pod_sandbox_status(pod_sandbox_id=sandbox).status.network.ip
        assert address.startswith("10.244.0.")
        assert address.encode() in cri.exec_sync(container_id=container, cmd=["ip", "address"]).stdout
        tasks = standin.exec("ctr", "--namespace", "k8s.io", "tasks", "list").splitlines()[1:]
        pids = {id: pid for id, pid, status in map(str.split, tasks) if status == "RUNNING"}
        lsns = standin.exec("lsns", "--noheadings", "--type", "net", "--output", "PID,NPROCS").splitlines()
        assert [pids[sandbox], "2"] in [line.split() for line in lsns]
        assert address in standin.exec("nsenter", "--net", "--target", pids[container], "ip", "address")
    finally:
        remove_pod(cri, sandbox)


def test_kind_lists_every_cluster_and_node(engine: Engine, standin: StandIn) -> None:
    program = packages.bring("kind", ("kind",), suite=packages.NEWER_SUITE).root / "usr/bin/kind"

    def kind(*arguments: str) -> list[str]:
        done = subprocess.run([program, *arguments], env={**os.environ, **engine.env}, capture_output=True, text=True, check=True)
        return done.stdout.split()

    with running_node(engine, "two-control-plane", "two"), running_node(engine, "two-worker", "two", "worker") as worker:
        assert kind("get", "clusters") == ["kind", "two"]
        assert kind("get", "nodes", "--name", "kind") == [standin.name]
        assert sorted(kind("get", "nodes", "--name", "two")) == ["two-control-plane", "two-worker"]
        assert standin.exec("getent", "hosts", "two-worker").split()[0] == worker.exec("hostname", "--ip-address")
    assert kind("get", "clusters") == ["kind"]


def test_an_ordinary_user_needs_the_group_and_nothing_else(engine: Engine, standin: StandIn) -> None:
    command = (engine.docker, "exec", standin.name, "hostname")
    with engine.user() as user:
        assert user.run("id", "-u").stdout.strip() == str(user.uid) != "0"
        assert user.run(*command).stdout.strip() == standin.name
        refused = user.run(*command, in_group=False)
        assert refused.returncode and "permission denied" in refused.stderr


def test_a_node_comes_back_from_stop_kill_pause_and_restart(engine: Engine) -> None:
    with running_node(engine, "shaken-control-plane", "shaken") as node:
        with client(node) as cri:
            before, _ = run_pod(cri, "before")
            node.pause()
            with pytest.raises(CriError):
                cri.version(timeout=0.5)
            node.unpause()
            assert sandboxes(cri) == {before}
            node.exec("pkill", "-KILL", "-x", "containerd")
            cri.wait_until_ready()
        for end in (node.stop, node.kill):
            end()
            assert node.pid == 0
            node.start()
        node.restart()
        with CriClient(f"unix://{node.socket}") as cri:
            assert [item.state for item in cri.list_pod_sandbox().items] == [1], "its Pod has not outlived the restart"
            assert run_pod(cri, "after")[0] in sandboxes(cri)


def test_its_kubelet_removes_what_it_does_not_know_unless_held(engine: Engine) -> None:
    known = str(uuid.uuid4())
    with running_node(engine, "watched-control-plane", "watched") as node, client(node) as cri:
        spared, _ = run_pod(cri, "known", known)
        stranger, container = run_pod(cri, "stranger")
        node.start_kubelet([known])
        wait_for(lambda: stranger not in sandboxes(cri), "the stranger to be removed")
        with pytest.raises(CriError):
            cri.container_status(container_id=container)
        pid = node.kubelet_pid()
        node.exec("kill", "-STOP", str(pid))
        held, _ = run_pod(cri, "held")
        time.sleep(3)  # several rounds of a kubelet that is not held
        assert sandboxes(cri) == {spared, held}
        node.exec("kill", "-CONT", str(pid))
        wait_for(lambda: sandboxes(cri) == {spared}, "the held one to be removed")
        node.stop_kubelet()
        assert run_pod(cri, "later")[0] in sandboxes(cri)


@pytest.mark.alone("compares the whole machine before and after")
def test_nothing_of_an_engine_is_left() -> None:
    before, accounts = look(), Path("/etc/passwd").read_text() + Path("/etc/group").read_text()
    with running_engine() as engine, running_node(engine) as node, client(node) as cri, engine.user():
        run_pod(cri, "left")
        assert {"processes", "links", "cgroups"} <= machine.changed(before, look()).keys()
    assert_unchanged(before)
    assert engine.daemon.returncode is not None
    assert Path("/etc/passwd").read_text() + Path("/etc/group").read_text() == accounts


@pytest.mark.alone("compares the whole machine before and after")
def test_what_killed_tests_leave_is_removed_by_the_next() -> None:
    before = look()
    with subprocess.Popen([sys.executable, "-c", LEFT_ALONE], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        base = Path(tests.stdout.readline().decode().strip())
        assert (base / "docker.sock").is_socket()
        tests.send_signal(signal.SIGKILL)
    remove_stale()
    assert not base.exists()
    assert_unchanged(before)


def look() -> dict[str, set[str]]:
    wait_for(lambda: "tentative" not in machine.run("ip", "-6", "addr"), "new links to have settled")
    seen = machine.look(packages.cache().parent)
    # What lost its parent is reaped by the machine's init when that has time; a bridge of the session's lab has a
    # carrier or none.
    return seen | {
        "processes": {process for process in seen["processes"] if "<defunct>" not in process},
        "addresses and routes": {line.replace("linkdown ", "") for line in seen["addresses and routes"]},
    }


def assert_unchanged(before: dict[str, set[str]]) -> None:
    """Soon, not at once: the kernel takes down links and network namespaces after their last user has gone."""
    with contextlib.suppress(AssertionError):
        wait_for(lambda: not machine.changed(before, look()), "the machine to be as before", 60)
    assert machine.changed(before, look()) == {}
