"""What other programs get to reach the node: `labkit env`, `labkit record -- CMD`, and a relay for each container engine."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cli import __main__ as cli
from labkit.cli import node_commands as commands
from labkit.cli.pod_commands import chosen
from labkit.cli.record_command import proxied
from labkit.cri.pods import PodSnapshot
from labkit.node import Home, NodeError, NodeSelector
from labkit.node import node as base
from labkit.node.host import relay
from labkit.node.host.access import ThisMachine
from labkit.node.kinds import discovery, kind
from labkit.node.pods import kubectl
from labkit.node.pods.api_access import LabApi
from labkit.node.remote import container_access, kind_node
from labkit.node.remote.container_access import InContainer
from labkit.node.remote.engine import DECIDE, KIND_CLUSTER, Engine, NodeContainer
from labkit.node.state import node_selector as choice
from labkit.node.state.ledger import Ledger
from tests.unit.test_node_selector import run

SERVERS = {"kind-a": "https://127.0.0.1:1", "kind-b": "https://127.0.0.1:2", "prod": "https://prod.example"}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home of its own, and a user whose kubeconfig has three clusters; the current one is somebody's production."""
    for name in ("LABKIT_NODE", "LABKIT_CLUSTER", "LABKIT_NODE_NAME", kubectl.USERS_OWN, *DECIDE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "lab"))
    (tmp_path / "ca.pem").write_text("a certificate")
    users = {
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{"name": n, "cluster": {"server": s, "certificate-authority": "ca.pem"}} for n, s in SERVERS.items()],
        "users": [{"name": n, "user": {"token": f"secret of {n}"}} for n in SERVERS],
        "contexts": [{"name": n, "context": {"cluster": n, "user": n}} for n in SERVERS],
    }
    (tmp_path / "config").write_text(json.dumps(users))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    home = Home.find()
    home.make()
    return home


def node_of(home: Home, cluster: str) -> kind_node.KindNode:
    """A node as far as no container is needed."""
    node = object.__new__(kind_node.KindNode)
    node.home, node.engine, node.kind = home, Engine("docker"), "kind"
    node.container = NodeContainer(f"{cluster}-worker", cluster, "worker", "running", labels={KIND_CLUSTER: cluster})
    node.name, node.endpoint, node.images = node.container.name, f"unix://{home.run}/kind.sock", {}
    node.selector = NodeSelector("kind", cluster, node.name)
    node.ledger = Ledger(home, node.selector)
    node.host = InContainer(node.engine, node.container)
    node.api = kind_node.users_api(home, node.host)
    return node


def exported(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`eval "$(labkit env)"`, for the rest of the test."""
    script = f'eval "$1"; exec {shlex.quote(sys.executable)} -c "import os, json; print(json.dumps(dict(os.environ)))"'
    said = subprocess.run(["sh", "-c", script, "sh", text], capture_output=True, check=True).stdout
    for name, value in json.loads(said).items():
        monkeypatch.setenv(name, value)


def contexts() -> tuple[str, list[str]]:
    """The current context and all contexts that kubectl knows in this environment."""
    said = json.loads(subprocess.check_output([kubectl.program(own_first=True), "config", "view", "-o", "json"]))
    return said["current-context"], [c["name"] for c in said["contexts"]]


def test_kubectl_reaches_the_nodes_cluster_after_eval_of_env_and_no_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "running_node", lambda: node_of(home, "a"))
    exported(run("env"), monkeypatch)
    assert contexts() == ("kind-a", ["kind-a"])
    file = Path(os.environ["KUBECONFIG"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and file.parent == home.run
    assert "a certificate" not in file.read_text() and "certificate-authority-data" in file.read_text(), "valid in any directory"
    assert "prod" not in file.read_text()
    kind_node.stop(home, "a-worker")
    assert not file.exists(), "it has the cluster's credentials"


def test_labkit_still_knows_the_users_other_clusters_after_eval_of_env(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    users_own = os.environ["KUBECONFIG"]
    assert node_of(home, "a").api.environment() == {}
    for cluster in "aba":
        monkeypatch.setattr(commands, "running_node", lambda cluster=cluster: node_of(home, cluster))
        exported(run("env"), monkeypatch)
        assert contexts()[0] == f"kind-{cluster}"
        assert kubectl.users_own(home) == users_own
    assert node_of(home, "b").api.environment() == {"KUBECONFIG": users_own}
    assert node_of(home, "b").kube.api_client.configuration.host == SERVERS["kind-b"]


def test_the_users_default_file_is_found_again(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".kube").mkdir()
    (tmp_path / "config").rename(tmp_path / ".kube/config")
    (tmp_path / "ca.pem").rename(tmp_path / ".kube/ca.pem")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG")
    for cluster in "ab":
        monkeypatch.setattr(commands, "running_node", lambda cluster=cluster: node_of(home, cluster))
        exported(run("env"), monkeypatch)
        assert contexts() == (f"kind-{cluster}", [f"kind-{cluster}"])
    assert node_of(home, "a").kube.api_client.configuration.host == SERVERS["kind-a"]


def test_after_eval_of_a_private_nodes_env_a_kind_node_is_found_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    private = object.__new__(base.Node)
    private.host, private.api = ThisMachine(), LabApi("n", home, home.kubeconfig)
    private.kind, private.name, private.endpoint, private.images = "containerd", "n", "unix:///x", {}
    private.selector = NodeSelector("containerd")
    users_own = os.environ["KUBECONFIG"]
    for _ in range(2):
        monkeypatch.setattr(commands, "running_node", lambda: private)
        exported(run("env"), monkeypatch)
        assert os.environ["KUBECONFIG"] == str(home.kubeconfig)
        assert node_of(home, "b").api.environment() == {"KUBECONFIG": users_own}


def test_a_cluster_of_which_kubectl_knows_nothing_is_a_sentence_and_no_other_cluster(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "running_node", lambda: node_of(home, "c"))
    lines = run("env")
    assert "KUBECONFIG" not in lines and "CONTAINER_RUNTIME_ENDPOINT" in lines
    assert "kind export kubeconfig --name c" in capsys.readouterr().err


def test_the_engine_is_the_same_in_the_other_shell(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/it's another/docker.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "a password")
    monkeypatch.setattr(commands, "running_node", lambda: node_of(home, "a"))
    lines = run("env")
    assert "password" not in lines and "DOCKER_CONTEXT" not in lines
    exported(lines.replace("another", "a third"), monkeypatch)
    assert os.environ["DOCKER_HOST"] == "unix:///run/it's a third/docker.sock"


def test_a_recorded_command_runs_kubectl_on_the_nodes_cluster(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with proxied(node_of(home, "b")) as (_, environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert contexts() == ("kind-b", ["kind-b"])


# Engines


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a `docker` of that name first on PATH, of which each `exec` says which engine it asks."""

    def put(name: str) -> None:
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        program = directory / "docker"
        program.write_text(f'#!/bin/sh\necho "{name} asks ${{DOCKER_HOST:-the default}}"\ncat\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")

    put("docker-1")
    return put


@pytest.fixture
def relays(home: Home) -> Iterator[Callable[[], Path]]:
    """Starts the relay of the node `worker`, in the environment of the moment."""
    names = set()

    def start() -> Path:
        engine = Engine("docker")
        names.add(container_access.relay_name(engine, "worker"))
        return container_access.start_relay(home, engine, NodeContainer("worker", "a", "worker", "running"), "/run/x.sock")

    yield start
    for name in names:
        relay.stop_relay(home, name)


def heard(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        return client.recv(100).decode().strip()


def test_nodes_of_the_same_name_in_two_engines_are_not_mixed_up(
    relays: Callable[[], Path], docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = relays()
    assert heard(first) == "docker-1 asks the default"
    monkeypatch.setenv("DOCKER_HOST", "unix:///b.sock")
    second = relays()
    assert heard(second) == "docker-1 asks unix:///b.sock"
    assert heard(first) == "docker-1 asks the default", "a notebook that uses the first goes on"
    docker("docker-2")
    assert relays() == second and heard(second) == "docker-2 asks unix:///b.sock"
    monkeypatch.setenv("DOCKER_HOST", "")
    assert relays() == first


def test_what_does_not_decide_which_engine_is_asked_restarts_no_relay(
    relays: Callable[[], Path], docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = Path(f"{relays()}.lock").read_text()
    for name in ("CONTAINER_RUNTIME_ENDPOINT", "SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_BUILDKIT"):
        monkeypatch.setenv(name, "other")
    assert Path(f"{relays()}.lock").read_text() == pid


def test_long_names_that_begin_alike_have_relays_of_their_own() -> None:
    long = f"a-cluster-of-a-very-long-name-{'x' * 20}-worker"
    names = [container_access.relay_name(Engine("docker"), f"{long}{number}") for number in ("", 2, 3)]
    assert len(set(names)) == 3 and all(len(name) <= 40 for name in names)


def test_the_state_of_a_node_is_not_asked_through_another_engines_relay(
    home: Home, relays: Callable[[], Path], docker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relays().exists()
    monkeypatch.setattr(Engine, "node_containers", lambda self: [NodeContainer("worker", "a", "worker", "running")])
    monkeypatch.setenv("DOCKER_HOST", "unix:///b.sock")
    report = kind.report(home, NodeSelector("kind", "a"))
    assert report["state"] == "down" and "error" not in report


# Status


@pytest.fixture
def stopped_kubelet(tmp_path: Path) -> Iterator[int]:
    """A process called kubelet that is stopped, as a hold stops it; its pid."""
    (tmp_path / "kubelet").symlink_to("/bin/sleep")
    process = subprocess.Popen([tmp_path / "kubelet", "60"])
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    yield process.pid
    process.kill()
    process.wait()


def test_a_stopped_kubelet_is_held_and_one_that_goes_on_is_not(stopped_kubelet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    script = kind.KUBELET_STOPPED.replace("/proc/[0-9]*/", f"/proc/{stopped_kubelet}/")
    assert script != kind.KUBELET_STOPPED
    monkeypatch.setattr(kind, "KUBELET_STOPPED", script)
    monkeypatch.setattr(Engine, "run", lambda self, verb, name, *argv: subprocess.check_output(argv, text=True))
    box = NodeContainer("box", "a", "worker", "running")
    assert kind.kubelet_is_held(Engine("docker"), box)
    os.kill(stopped_kubelet, signal.SIGCONT)
    os.waitid(os.P_PID, stopped_kubelet, os.WCONTINUED | os.WNOWAIT)
    assert not kind.kubelet_is_held(Engine("docker"), box)


@pytest.mark.parametrize("held", [True, False])
def test_status_says_that_a_kubelet_is_held(home: Home, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    report = {"node": "kind", "state": "ready", "endpoint": "unix:///x", "runtime": {"name": "r", "version": "1"}, "pid": 1,
              "since": "now", "kubelet_held": held}
    made = replace(discovery.course_kinds()["kind"], report=lambda home, choice: report)
    monkeypatch.setitem(discovery.course_kinds(), "kind", made)
    assert ("kubelet is suspended" in run("status", "--node", "kind")) == held
    assert json.loads(run("status", "--node", "kind", "--json"))["kubelet_held"] is held


def test_ps_counts_pods_and_not_their_dead_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    def sandbox(name: str, uid: str, state: str, namespace: str = "default") -> PodSnapshot:
        return PodSnapshot(name, namespace, uid, f"{uid}-{state}", state, "", ())

    found = [sandbox("web", "1", "Ready"), sandbox("web", "1", "NotReady"), sandbox("job", "2", "NotReady")]
    node = SimpleNamespace(name="n", runtime="r 1", pods=lambda: found, host=ThisMachine())
    monkeypatch.setattr("labkit.cli.pod_commands.running_node", lambda: node)
    assert "n (r 1), 2 Pods\n" in run("ps")
    found += [sandbox("web", "3", "Ready"), sandbox("web", "4", "Ready", "kube-system")]
    assert "n (r 1), 4 Pods\n" in run("ps"), "another Pod of the same name is one more"
    del found[1:]
    assert "n (r 1), 1 Pod\n" in run("ps")
    assert [pod["id"] for pod in json.loads(run("ps", "--json"))["pods"]] == ["1-Ready"]


def test_the_logs_of_a_pod_without_a_container_say_so() -> None:
    sandbox = SimpleNamespace(id="1", metadata=SimpleNamespace(name="orders", namespace="default"))
    cri = SimpleNamespace(list_pod_sandbox=lambda: SimpleNamespace(items=[sandbox]),
                          list_containers=lambda: SimpleNamespace(containers=[]))
    arguments = argparse.Namespace(pod="orders", namespace=None, container=None, previous=False)
    with pytest.raises(NodeError, match=r"^No container of orders was created yet\. See `kubectl describe pod orders`"):
        chosen(SimpleNamespace(cri=cri), arguments)


# Failures of commands


def failed(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, Any, str]:
    """Exit code, the JSON on standard output (None for nothing there) and what is said on standard error."""
    code = cli.main(argv)
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if printed.out else None, printed.err


JSON = [["ps"], ["env"], ["down"], ["up"], ["containerd", "status"], ["containerd", "kill"]]


@pytest.mark.parametrize("words", JSON, ids=" ".join)
def test_a_failure_with_json_is_json_too(home: Home, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*words, "--node", "kind:nonsense"]
    assert failed(capsys, *argv)[:2] == (1, None)
    code, answer, said = failed(capsys, *argv, "--json")
    assert code == 1 and "is no kind of node" in answer["error"] and answer["error"].splitlines()[0] in said


def test_an_interrupt_and_a_file_of_the_system_are_json_too(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("labkit.cli.containerd_commands.the_daemon", lambda: SimpleNamespace(restart=interrupted))
    assert failed(capsys, "containerd", "restart", "--json")[:2] == (130, {"error": "stopped"})
    monkeypatch.setattr(commands, "probe_all", interrupted)
    assert failed(capsys, "doctor", "--json")[0] == 130

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(commands, "probe_all", full)
    assert failed(capsys, "doctor", "--json")[:2] == (1, {"error": "No space left on device."})


def test_down_of_all_goes_on_after_one_that_fails(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []

    def down(home: Home, node: NodeSelector, progress: Any) -> int:
        if node.cluster == "a":
            raise NodeError("The node a is stuck.", "Look at it.")
        stopped.append(node)
        return 1

    monkeypatch.setitem(discovery.course_kinds(), "kind", replace(discovery.course_kinds()["kind"], down=down))
    for cluster in "abc":
        choice.remember(home, NodeSelector("kind", cluster, f"{cluster}-worker"))
    with pytest.raises(SystemExit):
        run("down", "--all")
    assert [c.cluster for c in stopped] == ["b", "c"]
