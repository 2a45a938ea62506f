"""A node of its own from nothing to nothing: up, down, clean, and what goes wrong on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import labkit as lab
from labkit.node import Home
from labkit.node.host import containerd_setup, lab_processes
from tests.conftest import labkit
from tests.live import machine
from tests.live.test_pods import manifest


def wait_for(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited {seconds} s for: {what}"
        time.sleep(0.05)


def state() -> dict:
    return json.loads(labkit("status", "--json", check=False).stdout)


def start(*arguments: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "labkit.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more
    )


@pytest.mark.alone("compares the whole machine before and after")
def test_clean_leaves_the_machine_as_it_was(own_home: Home) -> None:
    before = machine.at_rest(own_home.cache, own_home.run.parent)
    up = json.loads(labkit("up", "--json").stdout)
    assert up["state"] == "ready" and up["node"] == "containerd" and up["runtime"]["name"] == "containerd"
    node = lab.connect(lesson="test")
    node.start_pod(manifest("a"))
    node.start_pod(manifest("b", hostNetwork=True))
    assert machine.changed(before, machine.look(own_home.cache, own_home.run.parent)).keys() >= {
        "processes",
        "mounts",
        "links",
        "cgroups",
    }
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == []
    assert {kind for kind, names in report["removed"].items() if names} >= {
        "processes",
        "mounts",
        "network namespaces",
        "links",
        "cgroups",
        "files",
    }
    assert machine.changed(before, machine.look(own_home.cache, own_home.run.parent)) == {}
    assert not own_home.run.exists() and not own_home.data.exists()


def test_clean_after_everything_was_killed(own_home: Home) -> None:
    labkit("up")
    node = lab.connect(lesson="test")
    for name in ("a", "b"):
        node.start_pod(manifest(name))
    node.cri.run_pod_sandbox(config={"metadata": {"name": "by-hand", "namespace": "default", "uid": "1-2-3"}, "linux": {}})
    os.kill(state()["pid"], signal.SIGKILL)
    daemons = set(json.loads(own_home.status_file.read_text())["processes"].values())
    for pid in daemons | {p.pid for pod in node.pods(others=True) for p in pod.processes}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert machine.of(own_home).keys() >= {"mounts", "links", "addresses and routes", "cgroups"}
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == []
    assert machine.of(own_home) == {}


def test_a_lab_whose_directory_was_moved_or_deleted_while_it_ran_is_ended_and_leaves_nothing(own_home: Home) -> None:
    base, elsewhere = own_home.run.parent, own_home.run.parent.with_name(f"{own_home.run.parent.name}-moved")
    labkit("up")
    lab.connect(lesson="test").start_pod(manifest("a"))
    base.rename(elsewhere)
    moved = labkit("up", check=False, LABKIT_HOME=str(elsewhere))
    assert moved.returncode == 1 and f"{own_home.run} was moved" in moved.stderr
    assert f"{own_home.run} was moved" in labkit("status", check=False, LABKIT_HOME=str(elsewhere)).stdout
    assert labkit("down", LABKIT_HOME=str(elsewhere)).returncode == 0
    assert machine.of(own_home).keys() <= {"files"}

    elsewhere.rename(base)
    labkit("up")
    node = lab.connect(lesson="test")
    node.start_pod(manifest("b"))
    node.cri.run_pod_sandbox(config={"metadata": {"name": "by-hand", "namespace": "default", "uid": "1-2-3"}, "linux": {}})
    owners = lab_processes.node_owners(own_home)
    subprocess.run(["rm", "-rf", own_home.run, own_home.data], stderr=subprocess.DEVNULL)  # what is mounted stays
    assert "Its programs still run; `labkit clean` ends them." in labkit("status", check=False).stdout
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == [] and any(str(owners[0].pid) in found for found in report["removed"]["processes"])
    assert machine.of(own_home) == {} and not own_home.run.exists() and not own_home.data.exists()


def test_up_twice_and_down_twice(own_home: Home) -> None:
    first = json.loads(labkit("up", "--json").stdout)
    again = json.loads(labkit("up", "--json").stdout)
    assert first == again == state()
    lab.connect(lesson="test").start_pod(manifest("a"))
    assert json.loads(labkit("down", "--json").stdout) == {"state": "down", "pods_removed": 1, "still_up": []}
    assert state()["state"] == "down"
    assert labkit("down").returncode == 0
    assert labkit("ps", check=False).stderr == "labkit: The node is down. Start it with `labkit up`.\n"


def test_what_the_environment_names_wrongly_is_said(own_home: Home) -> None:
    assert "'pod' is no kind of node" in labkit("status", check=False, LABKIT_NODE="pod").stderr
    for place in ("/proc/nowhere", "/etc/passwd"):
        said = labkit("up", check=False, LABKIT_HOME=place, LABKIT_NODE="containerd").stderr
        assert place in said and "set LABKIT_HOME to a directory of your own" in said


def test_two_at_once_start_one_node(own_home: Home) -> None:
    both = [start("up", "--json") for _ in range(2)]
    answers = [json.loads(p.communicate(timeout=120)[0]) for p in both]
    assert answers[0] == answers[1] and answers[0]["state"] == "ready"


def test_ctrl_c_in_the_middle_of_up_leaves_nothing(own_home: Home) -> None:
    up = start("up", start_new_session=True)
    wait_for(lambda: own_home.status_file.exists(), "the owner to begin")
    up.send_signal(signal.SIGINT)
    assert up.wait(90) == 130
    assert state()["state"] == "down"
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    assert machine.of(own_home) == {}


def test_containerd_killed_under_a_running_pod(own_home: Home) -> None:
    labkit("up")
    node = lab.connect(lesson="test")
    pod = node.start_pod(manifest("survivor"))
    os.kill(node.listener().pid, signal.SIGKILL)
    wait_for(lambda: "containerd answers again" in own_home.log_file.read_text(), "the owner to restart containerd")
    assert "containerd (pid" in own_home.log_file.read_text() and "SIGKILL" in own_home.log_file.read_text()
    after = node.pod("survivor")
    assert [p.pid for p in after.processes] == [p.pid for p in pod.processes] and after.ip == pod.ip
    assert state()["state"] == "ready"


def test_owner_killed_and_the_next_up_finds_the_pods(own_home: Home) -> None:
    labkit("up")
    pod = lab.connect(lesson="test").start_pod(manifest("survivor"))
    os.kill(state()["pid"], signal.SIGKILL)
    assert state()["state"] == "down"
    labkit("up")
    found = lab.connect(lesson="another").pod("survivor")
    assert [p.pid for p in found.processes] == [p.pid for p in pod.processes]


def test_registry_killed_comes_back_on_a_free_port(own_home: Home) -> None:
    labkit("up")
    old = containerd_setup.registry_url(own_home)
    os.kill(json.loads(own_home.status_file.read_text())["processes"]["registry"], signal.SIGKILL)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_for(
            lambda: bound(taken, int(old.rpartition(":")[2])) or containerd_setup.registry_url(own_home) != old,
            "the old port or a new registry",
        )
        wait_for(lambda: "registry answers again" in own_home.log_file.read_text(), "the registry")
        assert lab.connect(lesson="test").start_pod(manifest("puller")).state == "Ready"


def bound(taken: socket.socket, port: int) -> bool:
    try:
        taken.bind(("127.0.0.1", port))
        return True
    except OSError:
        return False


def test_a_stale_socket_is_no_obstacle(own_home: Home) -> None:
    own_home.run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(own_home.socket))
    assert json.loads(labkit("up", "--json").stdout)["state"] == "ready"


def test_a_full_disk_is_said_and_leaves_nothing(own_home: Home) -> None:
    base = own_home.run.parent
    cache = (base / "cache").resolve()
    (base / "cache").unlink()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(base)], check=True)
    try:
        (base / "cache").symlink_to(cache)
        failed = labkit("up", check=False)
        assert failed.returncode == 1 and "MB are free" in failed.stderr and "Traceback" not in failed.stderr
        assert state()["state"] == "down"
        assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    finally:
        subprocess.run(["umount", "--lazy", str(base)], check=True)


def test_a_containerd_that_cannot_start_is_said_with_its_last_words(own_home: Home) -> None:
    own_home.data.mkdir(parents=True)
    (own_home.data / "containerd").write_text("a file where containerd wants its directory")
    failed = labkit("up", check=False)
    assert failed.returncode == 1
    assert (
        "containerd ended while it started" in failed.stderr
        and "not a directory" in failed.stderr
        and "Traceback" not in failed.stderr
    )
    assert labkit("status", check=False).returncode == 1
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []


def test_without_root(own_home: Home) -> None:
    code = "import os, sys; from labkit.cli.__main__ import main; os.setuid(65534); sys.exit(main(sys.argv[1:]))"
    failed = subprocess.run([sys.executable, "-c", code, "up", "--node", "containerd"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "needs root" in failed.stderr and "sudo" in failed.stderr and "Traceback" not in failed.stderr
    for verb in ("status", "down"):  # who may not enter a lab's directory sees none of its nodes
        seen = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True)
        assert "The node is down" in seen.stdout and seen.stderr == ""


def test_without_apt_and_programs(own_home: Home) -> None:
    (own_home.run.parent / "cache").unlink()
    hidden = 'mount --bind /dev/null "$(command -v apt-get)" && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", hidden, "sh", sys.executable, "-m", "labkit.cli", "up"]
    failed = subprocess.run(argv, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "containerd" in failed.stderr and "install" in failed.stderr.lower() and "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["up", "--node", "podman"], 1, "no kind of node"),
        (["fly"], 2, "invalid choice"),
        ([], 2, "required"),
    ],
)
def test_wrong_usage(own_home: Home, arguments: list[str], code: int, says: str) -> None:
    failed = labkit(*arguments, check=False)
    assert failed.returncode == code and says in failed.stderr and "Traceback" not in failed.stderr


def test_every_verb_has_help_with_an_example() -> None:
    verbs = labkit("--help").stdout
    for verb in ("doctor", "up", "status", "down", "clean", "ps", "env", "version"):
        assert verb in verbs
        assert "example: " in labkit(verb, "--help").stdout
