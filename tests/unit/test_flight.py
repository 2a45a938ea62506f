"""A recording as data: JSON, trace, steps, tree, and parts of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from labkit.figures.flight.rows import Family
from labkit.recording.flight import Flight, FlightError, label
from labkit.recording.recorder import names
from labkit.recording.recorder.causes import join
from labkit.recording.recorder.process_roles import Processes
from tests.unit.flight_of_a_pod import BEFORE, CONTAINERD, Machine, start, stop


def recorded(machine: Machine) -> Flight:
    followed = Processes(BEFORE, CONTAINERD)
    for event in machine.events:
        followed.feed(event)
    known = names.known(machine.calls, machine.now)
    return Flight(tuple(noted.call for noted in known.calls), join(followed, known), "proc-connector")


@pytest.fixture
def flight() -> Flight:
    machine = Machine()
    start(machine, "web", "main")
    return recorded(machine)


@pytest.fixture
def two_pods() -> Flight:
    machine = Machine()
    for pod in ("web-10", "web-2"):
        start(machine, pod, "main")
    return recorded(machine)


CALLS = ["RunPodSandbox", "PullImage", "CreateContainer main", "StartContainer main"]
STEPS = """Pod web
  1 RunPodSandbox, called by labkit
    bridge ← containerd
    host-local ← bridge
    loopback ← containerd
    shim start ← containerd
    shim ← shim start
    runc create ← shim
    runc init ← runc create
    runc init, then pause ← runc create
    runc start ← shim
  2 PullImage, called by labkit
  3 CreateContainer main, called by labkit
  4 StartContainer main, called by labkit
    shim start ← containerd
    runc create ← shim
    runc init ← runc create
    runc init, then sleep 1000 (main) ← runc create
    runc start ← shim"""


def test_steps(flight: Flight) -> None:
    steps = flight.steps()
    assert repr(steps) == STEPS
    assert [row.step for row in steps][:4] == ["1", "1.1", "1.2", "1.3"]
    assert [row.what for row in steps if not row.role] == CALLS
    call = steps[0]
    assert call.duration_ns == call.to_ns - call.from_ns
    assert all(row.cause == "RunPodSandbox" and row.from_ns > call.from_ns for row in steps if row.step.startswith("1."))
    pause = next(row for row in steps if row.role == "pause")
    assert pause.to_ns is None and pause.from_ns == next(p.from_ns for p in flight.processes if p.role == "pause")
    assert len({(row.what, row.from_ns) for row in steps}) == len(steps)
    table = steps.table().splitlines()
    assert table[0].split() == ["step", "what", "by", "from", "ms", "took", "ms", "cause"]
    assert table[1].split()[:4] == ["1", "RunPodSandbox", "labkit", "0.000"]
    assert steps._repr_html_().count("<tr") == len(steps) + 1
    assert [
        steps._repr_html_().count(f'style="text-align:{side}">{name}</th>')
        for name, side in (("what", "left"), ("took ms", "right"))
    ] == [1, 1], "a heading has the place of what is below it"


def test_a_figure_finds_the_same_parents_as_the_recording(two_pods: Flight) -> None:
    """Also where a pid was used again."""
    processes = [replace(p, pid=7, ppid=7 if n % 3 else p.ppid) if n % 2 else p for n, p in enumerate(two_pods.processes)]
    for flight in (two_pods, replace(two_pods, processes=tuple(processes))):
        family = Family(flight)
        above = [None if n is None else flight.processes[n] for n in flight.parents()]
        assert [family.parent(process) for process in flight.processes] == above and any(above)


def test_the_end_of_a_pod_in_steps() -> None:
    machine = Machine()
    stop(machine, start(machine, "web", "main"), "web", "main")
    both = recorded(machine)
    old = ("shim", "pause", "sleep 1000")
    later = replace(both, processes=tuple(replace(p, from_ns=None, call=None) if p.name in old else p for p in both.processes))
    assert repr(later.zoom("StopPodSandbox").steps()).splitlines() == [
        "Pod web", "  1 StopPodSandbox, called by labkit",
        "    runc kill ← shim", "    sleep 1000 (main) ends (ended by signal 9)", "    runc delete ← shim",
        "    runc kill ← shim", "    pause ends (ended by signal 9)", "    runc delete ← shim",
        "    bridge ← containerd", "    loopback ← containerd",
    ]
    ends = [(row.what, row.result, row.cause) for row in later.steps() if row.what.endswith(" ends")]
    assert ("sleep 1000 (main) ends", "ended by signal 9", "StopPodSandbox") in ends
    assert ("pause ends", "ended by signal 9", "StopPodSandbox") in ends
    assert ("shim ends", "", "RemovePodSandbox") in ends


def test_steps_of_several_pods_and_a_failure(two_pods: Flight) -> None:
    pods = [line for line in repr(two_pods.steps()).splitlines() if line.startswith("Pod")]
    assert pods == ["Pod web-2", "Pod web-10"]
    failed = replace(two_pods, calls=(replace(two_pods.calls[0], code="UNKNOWN"), *two_pods.calls[1:]))
    assert "1 RunPodSandbox (UNKNOWN), called by labkit" in repr(failed.steps())


def test_what_runs_side_by_side_is_told_in_one_order(flight: Flight) -> None:
    first, second, *rest = flight.processes[1:]
    assert {first.name, second.name} == {"loopback", "bridge"}
    swapped = replace(
        flight,
        processes=(
            flight.processes[0], replace(second, from_ns=first.from_ns), replace(first, from_ns=second.from_ns), *rest,
        ),
    )
    assert repr(swapped.steps()) == repr(flight.steps())
    assert repr(swapped.tree()) == repr(flight.tree())


def test_tree(flight: Flight) -> None:
    assert (
        repr(flight.tree())
        == """containerd, stays
  bridge
    host-local
  loopback
  shim start
    shim, stays
      runc create
        runc init
        pause, stays
      2 × runc start
      runc create
        runc init
        sleep 1000 (main), stays
  shim start"""
    )


def test_text_holds_no_number_of_the_machine(two_pods: Flight) -> None:
    numbers = {str(p.pid) for p in two_pods.processes}
    for text in (repr(two_pods), repr(two_pods.steps()), repr(two_pods.tree())):
        assert not numbers & set(re.findall(r"\d+", text))


def test_json_there_and_back(flight: Flight) -> None:
    text = flight.to_json()
    data = json.loads(text)
    assert list(data) == ["version", "clock", "unit", "source", "lost", "calls", "processes"]
    assert (data["version"], data["clock"], data["unit"], data["source"]) == (1, "CLOCK_MONOTONIC", "ns", "proc-connector")
    assert list(data["calls"][0]) == ["service", "method", "from_ns", "to_ns", "caller", "pod", "container", "code", "source"]
    assert list(data["processes"][0]) == [
        "pid", "ppid", "role", "from_ns", "to_ns", "exit_code", "signal", "call", "name", "execs",
    ]
    back = Flight.from_json(text)
    assert back.processes == flight.processes
    assert back.to_json() == text and repr(back.steps()) == repr(flight.steps()) and repr(back.tree()) == repr(flight.tree())
    assert back.precision.startswith("exact")


def changed(flight: Flight, **values: object) -> str:
    return json.dumps({**json.loads(flight.to_json()), **values})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version": 2}, r"format version 2, and this labkit reads version 1\. Update labkit\."),
        ({"version": 0}, r"Record it again"),
        ({"version": "1"}, r"it has no version"),
        ({"version": True}, r"it has no version"),
        ({"unit": "ms"}, r"times are not CLOCK_MONOTONIC in ns"),
        ({"calls": [{"service": "RuntimeService"}]}, r"damaged \(KeyError"),
        ({"calls": 3}, r"damaged"),
        ({"processes": [{"pid": 1}]}, r"damaged"),
        ({"lost": None}, r"damaged"),
    ],
)
def test_json_that_cannot_be_read(flight: Flight, change: dict[str, object], says: str) -> None:
    with pytest.raises(FlightError, match=says):
        Flight.from_json(changed(flight, **change))


def test_json_of_something_else(flight: Flight) -> None:
    for text in ("", "[]", "{}", "\x00", b"\xff\xfe"):
        with pytest.raises(FlightError, match="recording"):
            Flight.from_json(text)
    processes = json.loads(flight.to_json())["processes"]
    for wrong in ({"role": "kernel"}, {"call": 99}):
        with pytest.raises(FlightError, match="damaged"):
            Flight.from_json(changed(flight, processes=[{**processes[0], **wrong}]))
    assert Flight.from_json(changed(flight, comment="a key that is not known")).calls


def test_parts(flight: Flight, two_pods: Flight) -> None:
    start_container = flight.zoom("StartContainer")
    assert [c.method for c in start_container.calls] == ["StartContainer"]
    assert {p.call for p in start_container.processes} == {0, None}
    assert {(p.name, p.from_ns) for p in start_container.processes if p.call is None} == {("containerd", None), ("shim", None)}
    assert flight.zoom(4) == start_container
    with pytest.raises(KeyError, match="it has 1 to 4: RunPodSandbox, PullImage"):
        flight.zoom(5)
    alone = two_pods.pod("web-2")
    assert {c.pod for c in alone.calls} == {"web-2"} and {p.pod for p in alone.processes} == {"web-2", None}
    with pytest.raises(KeyError, match="it has web-10, web-2"):
        two_pods.pod("web")
    folded = flight.fold("runc", "cni")
    assert {p.role for p in folded.processes} == {"containerd", "shim", "pause", "application"}
    shim = next(p.pid for p in folded.processes if p.name == "shim")
    assert {p.ppid for p in folded.processes if p.role in ("pause", "application")} == {shim}


def test_trace(flight: Flight) -> None:
    trace = json.loads(flight.to_trace())
    events = trace["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    assert [e["name"] for e in slices if e["pid"] == 1] == CALLS
    assert all(e["dur"] >= 0 for e in slices)
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name" and e["pid"] == 2}
    assert len(tracks) == len(flight.processes) and len(set(tracks.values())) == len(tracks)
    pause = next(tid for tid, name in tracks.items() if name.startswith("pause"))
    assert [e["name"] for e in slices if e["pid"] == 2 and e["tid"] == pause] == ["fork", "pause"]
    for tail in (e for e in events if e["ph"] == "s"):
        assert [e["ts"] for e in events if e["ph"] == "f" and e["id"] == tail["id"]] == [tail["ts"]]
    new = sum(p.from_ns is not None for p in flight.processes)
    assert sum(e["name"] == "fork" and e["ph"] == "s" for e in events) == new
    # Slices of one track lie one after the other or one in the other, or Perfetto drops them.
    for pid, tid in {(e["pid"], e["tid"]) for e in slices}:
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if (e["pid"], e["tid"]) == (pid, tid))
        assert all(end <= begin for (_, end), (begin, _) in pairwise(own))


def test_calls_at_one_time_have_lanes_of_their_own(flight: Flight) -> None:
    call = flight.calls[0]
    trace = json.loads(replace(flight, calls=(call, call, call), processes=()).to_trace())
    assert [e["tid"] for e in trace["traceEvents"] if e["ph"] == "X"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("role", "argv", "name"),
    [
        ("runc", ("/usr/bin/runc", "--root", "/run/x", "--log", "/l", "create", "--bundle", "/b", "id"), "runc create"),
        ("runc", ("/proc/self/exe", "init"), "runc init"),
        ("runc", ("crun", "start", "id"), "crun start"),
        ("shim", ("/usr/bin/containerd-shim-runc-v2", "-id", "x", "start"), "shim start"),
        ("shim", ("/usr/bin/conmon", "-c", "x"), "conmon"),
        ("cni", ("/opt/cni/bin/bridge",), "bridge"),
        ("pause", ("/pause", "-P"), "pause"),
        ("application", ("/bin/httpd", "-f"), "httpd -f"),
        ("application", (), "application"),
    ],
)
def test_labels(role: str, argv: tuple[str, ...], name: str) -> None:
    assert label(role, argv) == name


def test_a_recording_of_calls_that_only_read_says_so(flight: Flight) -> None:
    asked = [replace(call, method="ListPodSandbox", code="OK") for call in flight.calls[:2]]
    assert Flight(calls=tuple(asked)).steps().table() == (
        "No step was recorded.\nThe calls made only read, which is no step: ListPodSandbox × 2. --json writes them all."
    )
