"""One Pod's start and end on the real containerd, as the flight recorder tells of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import labkit as lab
from labkit.cri.v1 import api_pb2
from labkit.kernel.events.connector import watch
from labkit.node import Node
from labkit.node.observe.proxy import RecordingProxy
from labkit.node.packages.programs import ensure_programs
from labkit.recording.calls.log import CallLog
from labkit.recording.flight import Flight, FlightProcess
from labkit.recording.recorder import FlightRecorder, follow
from tests.conftest import labkit
from tests.waits import wait_for

SLEEP = {"image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}
POD = {
    "kind": "Pod",
    "metadata": {"name": "recorded"},
    "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", **SLEEP}, {"name": "side", **SLEEP}]},
}


def recording(node: Node, log: CallLog | None = None):
    wait_for_quiet(node)
    return FlightRecorder(node.cri, watch(), node.kernel, runtime=node.listener().pid, log=log)


def wait_for_quiet(node: Node) -> None:
    """Wait until containerd has tidied up after the Pods of earlier tests, whose `shim delete` would be recorded too."""

    def quiet() -> bool:
        processes = node.kernel.snapshot(fds=False).processes.values()
        own = [p for p in processes if any(str(node.home.run) in word for word in p.cmdline)]
        return not any("delete" in p.cmdline or p.comm.startswith("runc") for p in own)

    wait_for(quiet, "no runc and no shim that deletes")


def caused(flight: Flight, method: str, container: str | None = None) -> list[FlightProcess]:
    """What a call caused, without mere forks that end as what they were."""
    call = next(i for i, c in enumerate(flight.calls) if c.method == method and c.container == container)
    return [p for p in flight.processes if p.call == call and (p.execs or p.to_ns is None)]


def named(processes: list[FlightProcess]) -> list[str]:
    return [p.name for p in processes]


def ends(process: FlightProcess) -> tuple[int | None, int | None]:
    return process.exit_code, process.signal


@pytest.fixture
def started(node: Node) -> tuple[Flight, lab.PodSnapshot, Node]:
    node.cri.pull_image(image={"image": SLEEP["image"]})  # a node that has the image already pulls nothing while it is recorded
    with recording(node) as flight:
        pod = node.start_pod(POD)
    return flight, pod, node


def test_what_others_run_on_the_machine_is_no_part_of_a_recording(node: Node, tmp_path: Path) -> None:
    """Docker's way with the node's own containerd (a namespace of its own), and podman's conmon."""
    programs = ensure_programs(node.home.cache, lambda text: None)
    (tmp_path / "bin").mkdir()
    shutil.copy(programs.busybox, tmp_path / "bin/busybox")
    ctr = [programs.ctr, "--address", node.socket_path, "--namespace", "moby"]
    run = [*ctr, "run", "--rm", "--rootfs", tmp_path, "outside", "/bin/busybox", "echo", "ran"]
    conmon = ["/usr/bin/conmon", "-c", f"{programs.runc} --version; true"]
    try:
        with recording(node) as flight:
            ran = subprocess.run(run, capture_output=True, text=True, timeout=60)
            subprocess.run(conmon, executable="/bin/sh", stdout=subprocess.DEVNULL, check=True, timeout=60)
            node.start_pod(POD)
    finally:
        node.remove_pod("recorded")
        for rest in (("containers", "rm", "outside"), ("namespaces", "rm", "moby")):
            subprocess.run([*ctr, *rest], capture_output=True, timeout=60)
        for cgroup in (Path("/sys/fs/cgroup/moby"), *Path("/sys/fs/cgroup").glob("*/moby")):
            with contextlib.suppress(OSError):  # another engine's, which has containers in it
                cgroup.rmdir()
    assert ran.stdout == "ran\n", ran.stderr
    assert not [p for p in flight.processes if p.from_ns is not None and (p.call is None or p.pod != "recorded")]


def test_the_start_of_a_pod(started: tuple[Flight, lab.PodSnapshot, Node]) -> None:
    flight, pod, node = started
    containerd = next(p for p in flight.processes if p.role == "containerd" and p.from_ns is None)
    assert containerd.pid == node.listener().pid
    assert [str(c) for c in flight.calls if not c.asks and c.method != "PullImage"] == [
        "RunPodSandbox", "CreateContainer main", "StartContainer main", "CreateContainer side", "StartContainer side",
    ]
    assert {c.code for c in flight.calls} == {"OK"} and flight.lost == 0 and flight.notes == ()

    sandbox = caused(flight, "RunPodSandbox")
    assert sorted(named(sandbox)[:3]) == ["bridge", "host-local", "loopback"]
    assert named(sandbox)[3:] == ["shim start", "shim", "runc create", "runc init", "pause", "runc start"]
    by_name = {p.name: p for p in sandbox}
    starter, shim, pause = by_name["shim start"], by_name["shim"], by_name["pause"]
    assert {by_name[n].ppid for n in ("bridge", "loopback", "shim start")} == {containerd.pid}
    assert by_name["host-local"].ppid == by_name["bridge"].pid
    assert shim.ppid == starter.pid and starter.to_ns is not None and shim.to_ns is None
    assert {p.ppid for p in (by_name["runc create"], by_name["runc start"])} == {shim.pid}
    create, start = by_name["runc create"], by_name["runc start"]
    assert pause.ppid == create.pid and pause.to_ns is None and create.to_ns is not None
    assert by_name["runc init"].ppid == create.pid
    assert start.from_ns > create.to_ns
    assert len(pause.execs) == 1 and pause.execs[0].at_ns > start.from_ns > pause.from_ns
    assert {ends(p) for p in sandbox if p.to_ns is not None} == {(0, None)}

    for name in ("main", "side"):
        assert caused(flight, "CreateContainer", name) == []
        container = caused(flight, "StartContainer", name)
        assert named(container) == ["shim start", "runc create", "runc init", "sleep 1000000", "runc start"]
        again, create, _, application, start = container
        assert again.ppid == containerd.pid and again.to_ns is not None
        assert create.ppid == start.ppid == shim.pid and application.ppid == create.pid
        assert application.execs[0].at_ns > start.from_ns and application.to_ns is None
        assert application.pid == pod.container(name).pid
        assert (application.role, application.pod, application.container) == ("application", "recorded", name)
    assert pause.pid == next(p.pid for p in pod.processes if p.role == "pause")
    assert shim.pid == next(p.pid for p in pod.processes if p.role == "shim")
    # Nothing is left that no call caused.
    assert [p for p in flight.processes if p.call is None] == [containerd]
    assert Flight.from_json(flight.to_json()).processes == flight.processes


def test_the_steps_read_the_same_each_time(started: tuple[Flight, lab.PodSnapshot, Node]) -> None:
    flight, pod, node = started
    node.remove_pod(pod)
    with recording(node) as again:
        node.start_pod(POD)
    assert repr(again.steps()) == repr(flight.steps())
    assert repr(again.tree()) == repr(flight.tree())


def test_exec_sync(started: tuple[Flight, lab.PodSnapshot, Node]) -> None:
    _, pod, node = started
    with recording(node) as flight:
        node.cri.exec_sync(container_id=pod.container("main").id, cmd=["cat", "/etc/hostname"], timeout=5)
    ran = caused(flight, "ExecSync", "main")
    assert named(ran) == ["runc exec", "runc init", "cat /etc/hostname"]
    assert ran[2].role == "exec" and ran[2].execs[-1].argv == ("cat", "/etc/hostname")


def test_the_end_of_a_pod(started: tuple[Flight, lab.PodSnapshot, Node]) -> None:
    start, pod, node = started
    with recording(node) as flight:
        node.remove_pod(pod)
    methods = [c.method for c in flight.calls if not c.asks]
    assert methods[0] in ("StopPodSandbox", "StopContainer") and methods[-1] == "RemovePodSandbox"
    ended = {(p.role, p.container): p for p in flight.processes if p.from_ns is None and p.to_ns is not None}
    assert set(ended) == {("shim", None), ("pause", None), ("application", "main"), ("application", "side")}
    assert {p.pid for p in ended.values()} == {p.pid for p in start.processes if p.to_ns is None and p.role != "containerd"}
    assert {ends(ended[key]) for key in (("pause", None), ("application", "main"))} == {(None, signal.SIGKILL)}
    last = ended[("shim", None)].to_ns
    assert last == max(p.to_ns for p in ended.values())
    stops = {i for i, c in enumerate(flight.calls) if c.method.startswith(("Stop", "Remove"))}
    new = [p for p in flight.processes if p.from_ns is not None and p.execs]
    assert {p.call for p in new} <= stops
    assert {"runc kill", "runc delete", "shim delete", "bridge", "loopback"} <= set(named(new))


BARE = """
import grpc, sys
from cri_api.v1 import api_pb2_grpc as v1
from labkit.cri.v1 import api_pb2 as pb
with grpc.insecure_channel(sys.argv[1].replace("unix://", "unix:")) as channel:
    runtime = v1.RuntimeServiceStub(channel)
    config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="bare", namespace="default", uid="bare"), labels={LABELS})
    config.linux.security_context.namespace_options.pid = pb.CONTAINER
    config.log_directory = "/tmp"
    runtime.RunPodSandbox(pb.RunPodSandboxRequest(config=config))
"""


def test_a_caller_that_is_not_labkit(node: Node) -> None:
    log = CallLog()
    labels = {"app.kubernetes.io/managed-by": "labkit", "labkit.lesson": "test"}
    script = BARE.replace("{LABELS}", repr(labels))
    with recording(node, log) as flight, RecordingProxy(node.endpoint, log) as proxy:
        subprocess.run([sys.executable, "-c", script, proxy.endpoint], check=True, timeout=60)
    assert [(c.method, c.code, c.source, c.pod) for c in flight.calls] == [("RunPodSandbox", "OK", "proxy", "bare")]
    assert flight.calls[0].caller.startswith("python")
    assert "pause" in named(caused(flight, "RunPodSandbox"))


def test_pods_at_once_are_told_apart(node: Node) -> None:
    pods = [{**POD, "metadata": {"name": f"many-{n}"}} for n in range(4)]
    with recording(node) as flight, ThreadPoolExecutor(4) as pool:
        list(pool.map(node.start_pod, pods))
    for number in range(4):
        alone = flight.pod(f"many-{number}")
        made = [p for p in alone.processes if p.call is not None and p.execs and p.role != "cni"]
        assert len(made) == 6 + 2 * 5
        assert {alone.calls[p.call].pod for p in made} == {f"many-{number}"}
        ids = {c.response["container_id"] for c in alone.calls if c.method == "CreateContainer"}
        ids |= {c.response["pod_sandbox_id"] for c in alone.calls if c.method == "RunPodSandbox"}
        named_in = [a for p in made for e in p.execs for a in e.argv if p.role in ("runc", "shim") and len(a) == 64]
        assert named_in and set(named_in) <= ids


def test_follow_one_pod(node: Node) -> None:
    lines: list[tuple[str, str]] = []
    ready, over = threading.Event(), threading.Event()

    def work() -> None:
        ready.wait()
        for name in ("recorded", "unwatched"):
            node.start_pod({**POD, "metadata": {"name": name}})
        over.set()

    worker = threading.Thread(target=work)
    worker.start()
    listener = node.listener().pid
    recorder = FlightRecorder(node.cri, watch(), node.kernel, runtime=listener)
    flight = follow(recorder, lambda *line: lines.append(line), pod="recorded", until=over, begun=ready.set)
    worker.join()
    told = [line for line, role in lines if role != "call" and ": exec " in line]
    wanted = flight.pod("recorded")
    execs = [each for p in wanted.processes if p.from_ns is not None for each in p.execs]
    assert sorted(line.partition(": exec ")[2] for line in told) == sorted(" ".join(each.argv) for each in execs)
    assert {role for _, role in lines} == {"call", "cni", "shim", "runc", "pause", "application"}


def test_the_reader_is_killed_in_the_middle(node: Node) -> None:
    with recording(node) as flight:
        node.cri.run_pod_sandbox(config=node.sandbox_config(node.manifest(POD)))
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        readers = [int(c) for c in children if b"connector" in Path(f"/proc/{c}/cmdline").read_bytes()]
        assert readers
        time.sleep(0.1)  # what happened is handed on within 10 ms
        for reader in readers:
            os.kill(reader, signal.SIGKILL)
        node.cri.version()
    assert "shim start" in {p.name for p in flight.processes}
    assert [c.method for c in flight.calls] == ["RunPodSandbox", "Version"]
    assert any("What was recorded until then is kept." in note for note in flight.notes)


def test_messages_are_kept_and_credentials_are_not(node: Node) -> None:
    with recording(node) as flight:
        image = api_pb2.ImageSpec(image=node.images["private"])
        node.cri.pull_image(image=image, auth={"username": "learner", "password": "container"})
    call = flight.calls[0]
    assert call.request["auth"] == {"username": "learner", "password": "(not recorded)"}
    assert call.response["image_ref"].startswith("sha256:")


BARE_CALLS = """
import os, grpc
from cri_api.v1 import api_pb2, api_pb2_grpc
channel = grpc.insecure_channel(os.environ["CONTAINER_RUNTIME_ENDPOINT"].replace("unix://", "unix:"))
runtime = api_pb2_grpc.RuntimeServiceStub(channel)
config = api_pb2.PodSandboxConfig(metadata=api_pb2.PodSandboxMetadata(name="bare", namespace="default", uid="b-a-r-e"))
sandbox = runtime.RunPodSandbox(api_pb2.RunPodSandboxRequest(config=config)).pod_sandbox_id
runtime.StopPodSandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox))
runtime.RemovePodSandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
raise SystemExit(7)
"""


@pytest.mark.alone("reads arguments before their processes end")
def test_the_command_records_what_another_client_does(lab: None) -> None:
    """`labkit record --json - -- CMD`, where CMD is bare gRPC: its calls, its processes, its exit code."""
    done = labkit("record", "--json", "-", "--", sys.executable, "-c", BARE_CALLS, check=False)
    assert done.returncode == 7, done.stderr
    flight = json.loads(done.stdout)
    assert flight["source"] == "proc-connector" and flight["lost"] == 0
    # Of this Pod: the lab's kubelet may still be removing another test's.
    methods = [call["method"] for call in flight["calls"] if call["pod"] == "bare"]
    assert methods == ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
    assert {"shim", "runc", "pause", "cni"} <= {process["role"] for process in flight["processes"]}
