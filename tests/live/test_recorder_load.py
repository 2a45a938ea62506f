"""Many Pods at once, and what can go wrong in a recording: nothing is lost unsaid, and what was recorded is kept."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkit.cri import CriClient
from labkit.kernel.events.connector import watch
from labkit.kernel.events.stream import Event, EventStream
from labkit.node import Node
from labkit.recording.flight import Flight
from labkit.recording.recorder import FlightRecorder
from tests.conftest import CI, ROOT, labkit
from tests.live.test_recorder import caused, named, recording, wait_for_quiet
from tests.standin.packages import bring
from tests.waits import wait_for

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root; CI runs it"),
]
WORKERS = 8
SLEEP = {"name": "main", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}


def pod(name: str) -> dict:
    spec = {"terminationGracePeriodSeconds": 0, "containers": [SLEEP]}
    return {"kind": "Pod", "metadata": {"name": name}, "spec": spec}


def forks() -> int:
    """Processes and threads that this kernel has started, by its own count (proc(5))."""
    return int(re.search(r"^processes (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)[1])


@pytest.mark.alone("counts all forks of the machine")
def test_50_pods_at_once_and_no_event_is_lost(node: Node) -> None:
    wait_for_quiet(node)
    before = forks()
    stream = watch()
    told: list[Event] = []
    runtime = node.listener().pid
    begun = forks()
    recorder = FlightRecorder(node.cri, kept(stream, told), node.kernel, runtime=runtime)
    with recorder as flight, ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(node.start_pod, [pod(f"load-{n}") for n in range(50)]))
        ended = forks()
    after = forks()
    starting, stopping = begun - before, after - ended
    seen = sum(event.kind == "fork" for event in told) + stream.threads
    outside = f"{starting} while it began, {stopping} while it ended"
    print(f"kernel {ended - begun} (+ {outside}), seen {seen}, {stream.threads} of them threads")
    assert flight.lost == stream.lost == 0 and flight.notes == ()
    # Outside: what was forked while the recording began and ended, by it and by others.
    assert ended - begun <= seen <= ended - begun + starting + stopping
    for name in (f"load-{n}" for n in range(50)):
        call = next(i for i, c in enumerate(flight.calls) if (c.method, c.pod) == ("RunPodSandbox", name))
        plugins = [p for p in flight.processes if p.role == "cni" and p.call == call and p.execs]
        assert Counter(named(plugins)) == {"loopback": 1, "bridge": 1, "host-local": 1}, name
        assert {p.pod for p in plugins} == {name}
    assert missing(flight) <= 0.01
    read = [p for p in flight.processes if p.from_ns is not None and all(each.argv for each in p.execs)]
    assert [(p.name, p.pod) for p in read if p.call is None] == []
    assert "load-49" in repr(flight.steps()) and flight.plot()
    with recording(node) as teardown, ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(node.remove_pod, [f"load-{n}" for n in range(50)]))
    assert teardown.lost == 0 and teardown.plot() and missing(teardown) <= 0.01
    read = [p for p in teardown.processes if p.from_ns is not None and all(each.argv for each in p.execs)]
    assert [(p.name, p.pod) for p in read if p.call is None] == []


def kept(stream: EventStream, told: list[Event]) -> EventStream:
    """The stream itself, which also puts what it delivers into `told`."""
    deliver, rest = stream.__next__, stream.stop

    class Kept:
        source, precision = stream.source, stream.precision
        lost = property(lambda self: stream.lost)
        threads = property(lambda self: stream.threads)
        waiting = property(lambda self: stream.waiting)

        def __iter__(self) -> Iterator[Event]:
            return self

        def __next__(self) -> Event:
            told.append(deliver())
            return told[-1]

        def stop(self) -> tuple[Event, ...]:
            left = rest()
            told.extend(left)
            return left

    return Kept()  # type: ignore[return-value]


def missing(flight: Flight) -> float:
    """The share of execs below the runtime whose arguments were not read in time."""
    execs = [each for p in flight.processes for each in p.execs]
    return sum(not each.argv for each in execs) / len(execs)


@pytest.mark.soak
@pytest.mark.alone("reads arguments before their processes end")
def test_arguments_of_the_shortest_processes_in_200_starts(node: Node) -> None:
    gone = total = 0
    for number in range(200):
        with recording(node) as flight:
            made = node.start_pod(pod(f"short-{number}"))
        node.remove_pod(made)
        plugins = [each for p in flight.processes if p.role == "cni" for each in p.execs]
        gone, total = gone + sum(not each.argv for each in plugins), total + len(plugins)
    print(f"{gone} of {total} arguments missing")
    assert total >= 600 and gone <= 0.01 * total


def strace() -> tuple[list[str], dict[str, str]]:
    """The command, and the environment that it needs: this machine's own, or Debian's brought beside the system."""
    if found := shutil.which("strace"):
        return [found], dict(os.environ)
    brought = bring("strace", ("strace",))
    return [str(brought.root / "usr/bin/strace")], {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, brought.library_path))}


@pytest.mark.alone("reads arguments before their processes end")
def test_strace_sees_the_same_execs(node: Node, tmp_path: Path) -> None:
    command, environment = strace()
    log = tmp_path / "strace"
    runtime = node.listener().pid
    # Attached for a moment to a process of our own: whether it may be done at all.
    probe = subprocess.run([*command, "-e", "trace=none", "true"], env=environment, capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no process may be traced here: {probe.stderr.strip()}")
    options = ["-f", "-qq", "-s", "4096", "-e", "trace=execve,execveat", "-e", "signal=none"]
    with recording(node) as flight:
        tracer = subprocess.Popen([*command, *options, "-o", log, "-p", str(runtime)], env=environment)
        wait_until_traced(runtime, tracer.pid)
        made = node.start_pod(pod("traced"))
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    node.remove_pod(made)
    theirs = execs_of(log.read_text())
    ours = [(pid, argv) for _, pid, argv in sorted((e.at_ns, p.pid, e.argv) for p in flight.processes for e in p.execs)]
    assert len(theirs) >= 15
    assert plugins_by_pid(ours) == plugins_by_pid(theirs)


def execs_of(log: str) -> list[tuple[int, tuple[str, ...]]]:
    """(pid, argv) of each exec that succeeded, in the order in which strace saw them end. One that another thread of the process
    makes is told in three lines."""
    begun: dict[int, tuple[str, ...]] = {}
    found = []
    for line in log.splitlines():
        pid, _, what = line.partition(" ")
        if argv := re.search(r"execve(?:at)?\(.*?\[(.*)\]", what):
            begun[int(pid)] = tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', argv[1]))
        if thread := re.search(r"superseded by execve in pid (\d+)", what):
            begun[int(pid)] = begun.pop(int(thread[1]))
        if what.endswith(" = 0") and int(pid) in begun:
            found.append((int(pid), begun.pop(int(pid))))
    return found


def plugins_by_pid(execs: list[tuple[int, tuple[str, ...]]]) -> list[tuple[int, tuple[str, ...]]]:
    """CNI plugins that follow each other by pid: they are started at the same time on several CPUs."""
    ordered: list[tuple[int, tuple[str, ...]]] = []
    for plugins, group in itertools.groupby(execs, key=lambda each: "/cni/" in each[1][0]):
        run = list(group)
        ordered += sorted(run) if plugins else run
    return ordered


def wait_until_traced(pid: int, tracer: int) -> None:
    """Until every thread of a process has that tracer (proc(5), TracerPid)."""

    def traced() -> bool:
        statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return all(f"TracerPid:\t{tracer}\n" in status for status in statuses)

    wait_for(traced, "strace to attach")


def test_two_recorders_at_the_same_time(node: Node) -> None:
    with recording(node) as outer, recording(node) as inner:
        made = node.start_pod(pod("twice"))
    node.remove_pod(made)
    assert outer.lost == inner.lost == 0
    assert repr(inner.steps()) == repr(outer.steps()) and inner.steps()
    assert [(p.pid, p.from_ns, p.to_ns) for p in inner.processes if p.from_ns] == [
        (p.pid, p.from_ns, p.to_ns) for p in outer.processes if p.from_ns
    ]


def test_containerd_is_killed_in_the_middle(node: Node) -> None:
    old = node.listener().pid
    with node.record() as flight:
        made = node.start_pod(pod("survives"))
        os.kill(old, signal.SIGKILL)
        node.cri.wait_until_ready(30)
        node.remove_pod(made)
    runtimes = [p for p in flight.processes if p.role == "containerd" and (p.from_ns is None or p.execs)]
    assert [(p.pid, p.signal) for p in runtimes] == [(old, signal.SIGKILL), (node.listener().pid, None)]
    assert {"shim start", "runc create", "pause"} <= set(named(caused(flight, "RunPodSandbox")))
    assert {"RunPodSandbox", "StartContainer", "StopPodSandbox", "RemovePodSandbox"} <= {c.method for c in flight.calls}
    stops = {i for i, c in enumerate(flight.calls) if c.method.startswith(("Stop", "Remove"))}
    assert {"runc kill", "runc delete"} <= {p.name for p in flight.processes if p.call in stops}


OTHER = """
import sys
from labkit.cri import CriClient
with CriClient(sys.argv[1]) as cri:
    print("ready", flush=True)
    sys.stdin.readline()
    sandbox = cri.run_pod_sandbox(config={"metadata": {"name": "theirs", "namespace": "default", "uid": "t-1"}}).pod_sandbox_id
    cri.stop_pod_sandbox(pod_sandbox_id=sandbox)
    cri.remove_pod_sandbox(pod_sandbox_id=sandbox)
    sys.stdin.readline()
"""


@pytest.mark.alone("reads arguments before their processes end")
def test_calls_of_other_programs(node: Node) -> None:
    program = [sys.executable, "-c", OTHER, node.endpoint]
    other = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        other.stdout.readline()
        with node.record() as flight:
            other.stdin.write("go\n")
            other.stdin.flush()
            wait_for_sandbox(node, "theirs")
            made = node.start_pod(pod("ours"))
    finally:
        other.communicate("end\n")
    node.remove_pod(made)
    theirs = [c for c in flight.calls if c.pod == "theirs" and not c.asks]
    assert [c.method for c in theirs] == ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"]
    assert {(c.caller, c.source, c.code) for c in theirs} == {("?", "log", "OK")}
    assert {(c.caller, c.source) for c in flight.calls if c.pod == "ours"} == {("labkit", "interceptor")}
    run = next(i for i, c in enumerate(flight.calls) if c.pod == "theirs")
    assert {"bridge", "shim", "pause", "runc create"} <= {p.name for p in flight.processes if p.call == run}
    assert flight.notes == () and "runtime's log" in flight.precision


def wait_for_sandbox(node: Node, name: str) -> None:
    """Until it was made and is gone again."""
    seen, deadline = False, time.monotonic() + 60
    with CriClient(node.endpoint) as asking:
        while time.monotonic() < deadline:
            there = any(s.metadata.name == name for s in asking.list_pod_sandbox().items)
            if seen and not there:
                return
            seen = seen or there
            time.sleep(0.01)
    raise AssertionError(f"{name} was not made and removed")


def refused(*prefix: str) -> str:
    """What `labkit record` says when it may not record; one sentence what happened, one what to do, and no traceback."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "labkit.cli", "record", "--json", "-", "--", "true"],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_without_the_capability(lab: None) -> None:
    drop = ("setpriv", "--inh-caps", "-net_admin", "--bounding-set", "-net_admin")
    assert "CAP_NET_ADMIN" in refused(*drop)


def test_in_another_pid_namespace(lab: None) -> None:
    assert "in its initial pid namespace only" in refused("unshare", "--pid", "--fork")


def test_a_recorder_that_is_killed_leaves_no_reader(lab: None) -> None:
    recorder = subprocess.Popen([sys.executable, "-m", "labkit.cli", "record"], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert "recording" in recorder.stderr.readline()
    children = [int(pid) for pid in Path(f"/proc/{recorder.pid}/task/{recorder.pid}/children").read_text().split()]
    assert any(b"connector_process" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children)
    recorder.kill()
    recorder.wait()
    recorder.stderr.close()
    wait_for(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in children), "the readers to end")


def test_what_cannot_be_written_is_said_before_it_is_recorded(lab: None, tmp_path: Path) -> None:
    done = labkit("record", "--json", f"{tmp_path}/none/flight.json", "--", "touch", f"{tmp_path}/ran", check=False)
    assert done.returncode == 1 and "cannot be written: There is no directory" in done.stderr and not (tmp_path / "ran").exists()
    assert labkit("record", "--", "no-such-command", check=False).returncode == 1


@pytest.mark.alone("reads arguments before their processes end")
def test_trace_tells_what_a_command_does(lab: None) -> None:
    script = OTHER.replace("sys.argv[1]", '__import__("os").environ["CONTAINER_RUNTIME_ENDPOINT"]')
    script = script.replace('print("ready", flush=True)', "")
    done = labkit("trace", "--pod", "theirs", "--", sys.executable, "-c", f"{script}\nraise SystemExit(3)", check=False)
    assert done.returncode == 3, done.stderr
    lines = done.stdout.splitlines()
    calls = [line.split(None, 1)[1] for line in lines if "→" in line or "←" in line]
    assert [call.partition(" =")[0].partition(" (")[0] for call in calls] == [
        f"{arrow} {method} theirs" for method in ("RunPodSandbox", "StopPodSandbox", "RemovePodSandbox") for arrow in "→←"
    ]
    assert {line.split()[2] for line in lines if "exec" in line} == {"cni:", "shim:", "runc:", "pause:"}
    assert "\x1b[" not in done.stdout


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_trace_ends_cleanly(lab: None, signal_number: int) -> None:
    live = subprocess.Popen([sys.executable, "-m", "labkit.cli", "trace"], stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert "Ctrl-C ends it" in live.stderr.readline()
        live.send_signal(signal_number)
        assert live.communicate(timeout=60)[1] == "" and live.returncode == 0
    finally:
        live.kill()


def test_a_recording_for_some_time_of_nothing(lab: None) -> None:
    done = labkit("record", "--for", "0.1", "--json", "-")
    assert json.loads(done.stdout)["calls"] == [] and "recording;" in done.stderr
