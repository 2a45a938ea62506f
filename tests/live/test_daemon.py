"""containerd killed, stopped and replaced under running Pods: what goes on, what waits, what is lost, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit import NodeError, connect
from labkit.cri import CriError
from labkit.figures.runtime.load import Load
from labkit.node import Home
from labkit.node.host import containerd_setup
from labkit.node.packages import releases, versions
from tests.conftest import CI, labkit, make_home
from tests.live import machine
from tests.live.web import SERVE, wait_until_it_listens

VERSIONS = ("1.7", "2")
LINES = "i=0; while true; do i=$((i+1)); echo $i; usleep 20000; done"
ENDS = {"zero": ("exit 0", 0), "three": ("exit 3", 3), "segv": ("kill -11 $$$$", 128 + signal.SIGSEGV)}
"""How containers end, and their exit codes. In the node's PID namespace: a process 1 is deaf to such signals. In
a manifest $$ is an escaped $."""


@pytest.fixture(scope="module")
def shared_home(programs: Path) -> Iterator[Home]:
    """A lab of this module's own, which has had two other versions of containerd brought."""
    if os.geteuid() != 0 and not CI:
        pytest.skip("needs root; CI runs it")
    base = make_home(programs)
    for version in VERSIONS:
        releases.ensure(programs, version)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_HOME", str(base))
        yield Home.find()
        labkit("clean", check=False)
    shutil.rmtree(base)


@pytest.fixture
def lab_node(shared_home: Home) -> Iterator[Any]:
    """The module's node, up, on the version that it had first; what a test started or chose is undone."""
    labkit("up", "--node", "containerd")
    node = connect("containerd", lesson="daemon")
    yield node
    node.close()
    labkit("up", "--node", "containerd")
    again = connect("containerd", lesson="daemon")
    again.daemon.downgrade("default", force=True)
    again.close()


def start(node: Any, name: str, script: str, **spec: Any) -> Any:
    container = {"name": "app", "image": node.images["busybox"], "command": ["sh", "-c", script]}
    return node.start_pod(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}
    )


def identity(node: Any, name: str) -> tuple[Any, ...]:
    """What must not change while containerd comes and goes: the address; shim, pause and each container's first process."""
    pod = node.pod(name)
    processes = node.kernel.snapshot(fds=False).processes
    shim = {p.pid for p in pod.processes if p.role == "shim"}
    lasting = [p for p in pod.processes if p.pid in shim or p.ppid in shim]
    return pod.state, pod.ip, tuple((p.pid, p.role, processes[p.pid].start_ns) for p in lasting)


def echo(node: Any, name: str) -> bytes:
    return bytes(node.cri.exec_sync(container_id=node.pod(name).containers[0].id, cmd=["echo", "here"], timeout=10).stdout)


def until(true: Any, what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return found


def end_all(node: Any, containers: dict[str, int]) -> None:
    """Let the containers (id → pid) that wait for a file /go end, while containerd is away: by the kernel alone."""
    for pid in containers.values():
        Path(f"/proc/{pid}/root/go").touch()
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in containers.values()), "the containers to end")


def test_no_request_fails_while_containerd_is_killed_and_replaced_twice(lab_node: Any) -> None:
    node, daemon = lab_node, lab_node.daemon
    web = start(node, "web", SERVE)
    wait_until_it_listens(web.ip)
    before = identity(node, "web")
    old_shim = os.readlink(f"/proc/{next(p.pid for p in web.processes if p.role == 'shim')}/exe")
    seen = [daemon.version]
    with Load(lambda: socket.create_connection((web.ip, 80), 2)) as load:
        until(lambda: len(load.answers) > 50, "some requests")
        daemon.kill()
        asked = len(load.answers)
        until(lambda: len(load.answers) > asked + 50, "requests without containerd")
        with pytest.raises(CriError):
            node.cri.version(timeout=1)
        daemon.start()
        assert (identity(node, "web"), echo(node, "web")) == (before, b"here\n")
        for version in VERSIONS:
            change = daemon.upgrade(version)
            assert change.before == seen[-1] and versions.means(version, change.after)
            seen.append(change.after)
            assert versions.upstream(node.cri.version().runtime_version) == change.after == daemon.version
            assert node.runtime.startswith(f"containerd {change.after}")
            assert (identity(node, "web"), echo(node, "web")) == (before, b"here\n")
            new = start(node, f"new-{version}", "sleep 1000")
            shim = next(p.pid for p in new.processes if p.role == "shim")
            assert os.readlink(f"/proc/{shim}/exe") == os.path.realpath(releases.find(node.home.cache, change.after).shim)
        asked = len(load.answers)
        until(lambda: len(load.answers) > asked + 50, "requests after the upgrades")
    assert load.failed == []
    assert {answer.connection for answer in load.answers} == {"kept", "new"}
    assert os.readlink(f"/proc/{before[2][0][0]}/exe") == old_shim, "the old shim runs on"
    assert sorted(seen, key=versions.order) == seen


@pytest.mark.parametrize("version", ["default", *VERSIONS])
def test_what_becomes_of_an_exit_code_that_nobody_was_there_to_collect(lab_node: Any, version: str) -> None:
    """containerd 1.6 asks the shim, which has kept the code. Since 1.7 a shim without a process counts as leaked when containerd
    starts (core/runtime/v2, shim_load.go) and is removed unasked: the code is lost, which CRI says as 255, "Unknown"."""
    node, daemon = lab_node, lab_node.daemon
    if version != "default":
        daemon.upgrade(version)
    for name, (how, code) in ENDS.items():
        assert node.wait_exit(start(node, f"{name}-seen", how, hostPID=True).containers[0].id) == code, (
            "while containerd is there"
        )
    wait = "until [ -e /go ]; do usleep 20000; done"
    started = {name: start(node, name, f"{wait}; {how}", hostPID=True).containers[0] for name, (how, _) in ENDS.items()}
    daemon.kill()
    end_all(node, {c.id: c.pid for c in started.values()})
    kept = {hold.pod: hold.containers[-1].exit_code for hold in node.shims() if hold.pod in ENDS}
    assert kept == {name: code for name, (_, code) in ENDS.items()}, "the shim has it, whatever its version"
    daemon.start()
    statuses = {name: node.cri.container_status(container_id=started[name].id).status for name in ENDS}
    found = {name: (status.exit_code, status.reason) for name, status in statuses.items()}
    if versions.order(daemon.version) < versions.order("1.7.0"):
        assert found == {name: (code, "Completed" if code == 0 else "Error") for name, (_, code) in ENDS.items()}
    else:
        assert found == dict.fromkeys(ENDS, (255, "Unknown"))
    node.remove_leftovers()


def test_no_line_of_a_log_is_lost_while_containerd_is_away(lab_node: Any) -> None:
    pod = start(lab_node, "log", LINES)
    path = Path(lab_node.cri.container_status(container_id=pod.containers[0].id).status.log_path)

    def lines() -> list[int]:
        return [int(line.split()[3]) for line in path.read_text().splitlines()]

    until(lambda: len(lines()) > 5, "some lines")
    lab_node.daemon.stop()
    written = len(lines())
    time.sleep(1)
    assert len(lines()) == written, "containerd writes the file, and it is away"
    lab_node.daemon.upgrade("1.7")
    until(lambda: len(lines()) > written + 50, "the lines that waited in the pipe")
    assert lines() == list(range(1, len(lines()) + 1))


def test_downgrading_below_shims_that_an_older_containerd_cannot_reach_is_refused(lab_node: Any) -> None:
    node, daemon = lab_node, lab_node.daemon
    start(node, "old", "sleep 1000")
    daemon.upgrade("2")
    old = identity(node, "old")
    start(node, "new", "sleep 1000")
    with pytest.raises(NodeError, match="would kill 2 containers"):
        daemon.downgrade("1.7")
    assert versions.means("2", daemon.version) and node.pod("new").state == "Ready"
    refused = labkit("containerd", "downgrade", "1.7", check=False)
    assert refused.returncode == 1 and "--force" in refused.stderr
    daemon.downgrade("1.7", force=True)
    assert node.pod("new").state == "NotReady", "1.7 took its shim for dead"
    assert identity(node, "old") == old, "and reaches the one that an older containerd started"
    node.remove_leftovers()
    daemon.downgrade("default")
    assert start(node, "again", "sleep 1000").state == "Ready"


def test_the_choice_stays_over_down_and_up_and_goes_with_clean(lab_node: Any) -> None:
    first = lab_node.daemon.version
    chosen = lab_node.daemon.upgrade("1.7").after
    labkit("down")
    up = json.loads(labkit("up", "--node", "containerd", "--json").stdout)
    assert versions.upstream(up["runtime"]["version"]) == chosen
    half_way = f"Notebook daemon was left half-way: containerd is {chosen} instead of {first}; its last cell brings that back"
    assert [remark[: len(half_way)] for remark in connect("containerd").remarks] == [half_way]
    labkit("clean")
    labkit("up", "--node", "containerd")
    assert json.loads(labkit("containerd", "status", "--json").stdout)["version"] == first


def test_a_killed_containerd_stays_away_until_somebody_wants_the_node(lab_node: Any) -> None:
    daemon = lab_node.daemon
    start(lab_node, "pod", "sleep 1000")
    daemon.kill()
    assert (daemon.state, daemon.pid) == ("stopped", None)
    time.sleep(1)
    assert daemon.state == "stopped"
    for again in ("kill", "stop"):
        getattr(daemon, again)()
        assert (daemon.state, daemon.pid) == ("stopped", None)
    said = labkit("containerd", "status").stdout
    assert "stopped" in said and "labkit containerd start" in said
    assert labkit("status", check=False).returncode == 1
    other = connect("containerd")
    assert other.pod("pod").state == "Ready" and daemon.state == "running"
    stopped = "Notebook daemon was left half-way: its containerd was stopped, and has been started again."
    assert other.remarks == [stopped, "Notebook daemon has left the Pod pod; its last cell removes it."]
    other.close()


def test_down_removes_pods_well_while_containerd_is_stopped(lab_node: Any) -> None:
    start(lab_node, "pod", "sleep 1000")
    lab_node.daemon.kill()
    assert "1 Pods removed" in labkit("down").stdout
    assert list((lab_node.home.data / "cni" / "networks" / lab_node.home.network).glob("10.*")) == []


def test_a_version_that_does_not_start_gives_way_to_the_old_one(lab_node: Any) -> None:
    node, daemon = lab_node, lab_node.daemon
    pod = start(node, "pod", "sleep 1000")
    before = identity(node, "pod")
    broken = releases._place(node.home.cache) / "9.9.9"
    root = broken / "root" / "usr" / "bin"
    root.mkdir(parents=True)
    try:
        for name in releases.FILES:
            (root / name).write_text("#!/bin/sh\necho 'containerd: the metadata is of a newer format' >&2\nexit 1\n")
            (root / name).chmod(0o755)
        releases.write_record(broken, [releases.PACKAGE], {releases.PACKAGE: "9.9.9"})
        with pytest.raises(NodeError, match=r"9\.9\.9 did not start, so the node runs .* again: .*newer format"):
            daemon.upgrade("9.9.9")
    finally:
        shutil.rmtree(broken)
    assert identity(node, "pod") == before and daemon.state == "running"
    assert containerd_setup.chosen(node.home).default and versions.upstream(node.cri.version().runtime_version) == daemon.version
    assert pod.ip


def test_two_upgrades_at_once_one_is_refused(lab_node: Any) -> None:
    outcomes: list[str] = []
    gate = threading.Barrier(2)

    def upgrade(version: str) -> None:
        from labkit.node.lab.daemon import Daemon

        gate.wait()
        try:
            outcomes.append(Daemon(lab_node.home).upgrade(version).after)
        except NodeError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=upgrade, args=[version]) for version in ("1.7", "2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [o for o in outcomes if "busy" in o]
    done = [o for o in outcomes if re.fullmatch(r"[\d.]+", o)]
    assert len(refused) == len(done) == 1, outcomes
    assert lab_node.daemon.version == done[0]


def test_an_interrupt_in_the_middle_ends_on_one_version_and_says_which(lab_node: Any) -> None:
    """SIGINT at many moments of `labkit containerd upgrade`, each as Ctrl-C in a terminal."""
    known = {"default": lab_node.daemon.version, **{v: releases.find(lab_node.home.cache, v).version for v in VERSIONS}}
    for wait in (0.05, 0.3, 0.4, 0.5):
        wanted = next(v for v in VERSIONS if lab_node.daemon.version != known[v])
        verb = "upgrade" if versions.order(known[wanted]) > versions.order(lab_node.daemon.version) else "downgrade"
        process = subprocess.Popen(
            [sys.executable, "-m", "labkit.cli", "containerd", verb, wanted],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(wait)
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=60)
        running = versions.upstream(until(lambda: lab_node.cri.wait_until_ready(20), "containerd").runtime_version)
        until(lambda: lab_node.daemon.state == "running", "the owner to be done")
        assert running == lab_node.daemon.version and running in known.values()
        if process.returncode == 130 and "had begun and is done" in error:
            assert running in error
        elif process.returncode == 0:
            assert running in out


def test_pods_that_start_during_an_upgrade_fail_whole_and_leave_nothing(lab_node: Any) -> None:
    node = lab_node
    stop = threading.Event()
    failures: list[str] = []

    def go(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                start(node, f"during-{number}-{turn}", "sleep 1000")
            except (CriError, NodeError) as error:
                failures.append(str(error))
                node.cri.wait_until_ready(20)

    threads = [threading.Thread(target=go, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for version in VERSIONS:
        time.sleep(0.6)
        node.daemon.upgrade(version)
    node.daemon.kill()
    node.daemon.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures, "nothing was under way when containerd went"
    # containerd 2 still lists the Pods of other tests that 1.7 removed after a downgrade.
    own = [pod for pod in node.pods(others=True) if pod.name.startswith("during-")]
    states = {(pod.state, *(c.state for c in pod.containers)) for pod in own}
    assert states <= {("Ready", "Running")}, "start_pod either starts a whole Pod or leaves none"
    node.remove_leftovers()
    with contextlib.suppress(AssertionError):
        until(lambda: unowned(node) == [], "what belongs to nobody to go", 40)
    assert unowned(node) == []


def unowned(node: Any) -> list[str]:
    """What is left of Pods when there is none any more."""
    home = node.home
    processes = machine.run("ps", "-ww", "-e", "-o", "args=").splitlines()
    found = [line for line in processes if "containerd-shim" in line and f"-address {home.socket}" in line]
    found += [line for line in Path("/proc/mounts").read_text().splitlines() if f" {home.run}/" in line]
    found += machine.run("ip", "-o", "link", "show", "master", home.bridge).splitlines()
    found += [str(p) for p in (home.data / "cni" / "networks" / home.network).glob("10.*")]
    return found + [str(p) for p in home.bundles()]


def test_a_notebook_that_dies_in_the_middle_leaves_the_node_running(lab_node: Any) -> None:
    code = f"from labkit import connect; connect('containerd').daemon.upgrade({VERSIONS[0]!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    log = lab_node.home.log_file
    until(lambda: "asked to replace" in log.read_text() or process.poll() is not None, "the upgrade to begin")
    process.kill()
    process.wait()
    until(lambda: lab_node.daemon.state == "running", "the owner to be done")
    assert versions.upstream(lab_node.cri.wait_until_ready(20).runtime_version) == lab_node.daemon.version


def test_an_unknown_version_and_a_wrong_direction_are_refused(lab_node: Any) -> None:
    daemon = lab_node.daemon
    pid = daemon.pid
    with pytest.raises(NodeError, match="is no version of containerd"):
        daemon.upgrade("newest")
    with pytest.raises(NodeError, match=r"containerd 7\.3.*--from FILE"):
        daemon.upgrade("7.3")
    with pytest.raises(NodeError, match=r"newer than the node's.*Use upgrade"):
        daemon.downgrade("2")
    same = daemon.upgrade(daemon.version)
    assert (same.before, daemon.pid) == (same.after, pid)


def test_another_version_beside_the_nodes_own(lab_node: Any) -> None:
    home = lab_node.home
    own = start(lab_node, "own", "sleep 1000")
    before = identity(lab_node, "own")
    with lab_node.daemon.beside("1.7") as other, lab_node.daemon.beside("2") as third:
        said = [versions.upstream(n.cri.version().runtime_version) for n in (lab_node, other, third)]
        assert len(set(said)) == 3 and other.runtime.startswith(f"containerd {said[1]}")
        pods = [start(n, "own", "sleep 1000") for n in (other, third)]
        assert len({own.ip, *(p.ip for p in pods)}) == 3, "one network, no address twice"
        assert [len(n.pods(others=True)) for n in (lab_node, other, third)] == [1, 1, 1]
        with pytest.raises(NodeError, match="beside the node's own"):
            _ = other.daemon
    assert identity(lab_node, "own") == before
    lab_node.remove_leftovers()
    assert unowned(lab_node) == [] and not list(home.run.glob("b*")) and not list(home.data.glob("b*"))


def test_nothing_is_left_when_a_notebook_with_a_second_containerd_is_killed(lab_node: Any) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [
        {"name": "a", "image": lab_node.images["busybox"], "command": ["sleep", "1000"]}]}}
    code = (
        "import os, signal; from labkit import connect\n"
        f"with connect('containerd').daemon.beside('2') as other: other.start_pod({pod!r}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
    home = lab_node.home

    def gone() -> bool:
        processes = machine.run("ps", "-ww", "-e", "-o", "args=").splitlines()
        return not [p for p in processes if f"{home.data}/b" in p and "-shim" not in p]

    until(gone, "the second containerd to die with its parent")
    report = json.loads(labkit("clean", "--json").stdout)
    assert report["left"] == [] and any("shim" in p for p in report["removed"]["processes"])


def test_clean_leaves_nothing_after_three_versions(own_home: Home) -> None:
    labkit("up", "--node", "containerd")
    node = connect("containerd", lesson="daemon")
    for number, version in enumerate(VERSIONS):
        start(node, f"p{number}", "sleep 1000")
        node.daemon.upgrade(version)
    start(node, "last", "sleep 1000")
    node.daemon.kill()
    node.close()
    assert json.loads(labkit("clean", "--json").stdout)["left"] == []
    assert machine.of(own_home) == {}
