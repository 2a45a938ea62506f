"""OCI hooks: what a process forked before it became a container's program is no part of that program.

Held against a real kind cluster's recording, where a createContainer hook (bash, jq, cp) runs in each container.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from labkit.cri.pods import PodContainer, PodKernel, pod_processes
from labkit.figures.flight.call_chain import call_chain
from labkit.figures.flight.timeline import flight_timeline
from labkit.kernel import Snapshot
from labkit.kernel.events.stream import Event
from labkit.recording.calls.log import CallRecord
from labkit.recording.flight import Flight, FlightProcess
from labkit.recording.recorder import names
from labkit.recording.recorder.causes import join
from labkit.recording.recorder.follow import event_words
from labkit.recording.recorder.process_roles import Processes
from labkit.util.showable import columns
from tests.truth import TRUTH
from tests.unit.flight_of_a_pod import BEFORE, CONTAINERD, SOCKET, Machine, hexadecimal, process, start

RECORDING = TRUTH / "kind/flight_start.json"
HOOK = ["bash /kind/bin/mount-product-files.sh", "jq -r .bundle", "cp /kind/product_uuid"]
IDS = {
    "pause": "b67c2ef225f65033a5092b4c1606a3eca90a59deba9471b7a6854ff1f5cce25f",
    "web": "49cfd39c7753ca19b3796ae35b4c20f99b3992beda60b0aa3c6718a637e14fd2",
    "sidecar": "303d9e58b2887498c0b63ed607f7b7ece75210646b710ebabd0ea6f3c59b8b8c",
}


def read() -> Flight:
    """What the recording of an earlier labkit is today: its own roles are wrong."""
    return Flight.from_json(RECORDING.read_bytes())


def replayed(cgroups: bool = True) -> Flight:
    """The kernel's events of the recording, followed anew."""
    recorded = json.loads(RECORDING.read_text())
    events = []
    for p in recorded["processes"]:
        id = IDS.get(p.get("container") or "pause", "") if p["role"] in ("application", "pause") else ""
        cgroup = (
            f"1:name=systemd:/docker/{hexadecimal('node')}/kubelet.slice/cri-containerd-{id}.scope" if id else "1:name=systemd:/"
        )
        cgroup = cgroup if cgroups else ""
        events += [Event("fork", p["from_ns"], p["pid"], p["ppid"])] if p["from_ns"] else []
        events += [Event("exec", e["at_ns"], p["pid"], None, tuple(e["argv"]), cgroup=cgroup) for e in p["execs"]]
        events += [Event("exit", p["to_ns"], p["pid"], None, exit_code=0)] if p["to_ns"] else []
    node = f"/docker/{hexadecimal('node')}"
    before = [process(1, 0, "systemd", cgroup=node), process(161, 1, "containerd", "/usr/local/bin/containerd", cgroup=node)]
    followed = Processes(before, 161, "/run/containerd/containerd.sock")
    for event in sorted(events, key=lambda e: e.at_ns):
        followed.feed(event)
    listed = {"sandboxes": {IDS["pause"]: "shop"}, "containers": {IDS[n]: (IDS["pause"], n) for n in ("web", "sidecar")}}
    calls = [
        CallRecord(n, c["service"], c["method"], c["from_ns"], c["to_ns"], c["caller"], c["code"], None, source=c["source"])
        for n, c in enumerate(recorded["calls"])
    ]
    known = names.known(calls, 0, listed)
    about = [IDS[c["container"] or "pause"] for c in recorded["calls"]]
    whole = tuple(
        replace(n, call=replace(n.call, pod=c["pod"], container=c["container"]), ids=frozenset([id]))
        for n, c, id in zip(known.calls, recorded["calls"], about, strict=True)
    )
    known = replace(known, calls=whole)
    return Flight(tuple(n.call for n in whole), join(followed, known), "proc-connector")


@pytest.fixture(params=["read", "replayed", "replayed without cgroups"])
def flight(request) -> Flight:
    return read() if request.param == "read" else replayed(request.param == "replayed")


def hook(flight: Flight, container: str) -> list[FlightProcess]:
    return [p for p in flight.processes if p.role == "other" and p.container == container]


def test_roles_pods_causes_and_parents(flight: Flight) -> None:
    assert [(p.name, p.container) for p in flight.processes if p.role == "application"] == [
        ("httpd -f -h /var/www", "web"),
        ("sleep 1000000", "sidecar"),
    ]
    assert [p.name for p in flight.processes if p.role == "pause"] == ["pause"]
    parents = flight.parents()
    for number, container in ((2, "web"), (4, "sidecar")):
        bash, *others = hook(flight, container)
        assert [p.name.startswith(words) for p, words in zip([bash, *others], HOOK, strict=True)] == [True] * 3
        assert {(p.pod, p.call) for p in [bash, *others]} == {("shop", number)}
        above = flight.processes[parents[flight.processes.index(bash)]]
        assert (above.role, above.container) == ("application", container)
        assert all(flight.processes[parents[flight.processes.index(p)]] is bash for p in others)
    assert {p.role for p in flight.processes} == {"containerd", "cni", "shim", "runc", "pause", "application", "other"}


def test_steps(flight: Flight) -> None:
    told = repr(flight.steps()).splitlines()
    assert told[told.index("  3 StartContainer web, called by another client") + 1 :][:7] == [
        "    runc create ← shim",
        "    runc init ← runc create",
        "    runc init, then httpd -f -h /var/www (web) ← runc create",
        "    bash /kind/bin/mount-product-files.sh ← runc init",
        "    jq -r .bundle ← bash /kind/bin/mount-product-files.sh",
        "    cp /kind/product_uuid /run/containerd/…/rootfs/ ← bash /kind/bin/mount-product-files.sh",
        "    runc start ← shim",
    ]
    table = flight.steps().table().splitlines()
    assert max(columns(line) for line in table) <= 120
    assert not [line for line in table if re.search("[0-9a-f]{12}", line)]
    row = next(line for line in table if " cp " in line)
    assert "rootfs/" in row and "runc init" not in row
    assert next(line for line in table if " bash " in line).split()[3:5] == ["runc", "init"]


def test_tree(flight: Flight) -> None:
    assert """
        runc init
          bash /kind/bin/mount-product-files.sh
            jq -r .bundle
            cp /kind/product_uuid /run/containerd/…/rootfs/
          becomes httpd -f -h /var/www (web), stays
""" in str(flight.tree())


def test_figures(flight: Flight, tmp_path) -> None:
    chain = call_chain(flight)
    assert "process: web and sidecar; two of them stay." in chain.alt
    timeline = flight_timeline(flight)
    assert "runc init → bash /kind/bin/mount-product-files.sh (other)" in timeline.alt
    assert "→ cp /kind/product_uuid /run/containerd/…/rootfs/ (other)" in timeline.alt
    assert "StartContainer web: httpd -f -h /var/www (application) stays." in timeline.alt
    assert not re.search("(bash|jq|cp) [^;]*\\(application\\)|httpd[^;.]* → ", timeline.alt)
    timeline.save(tmp_path / "x.png")


def test_one_of_several_stays() -> None:
    processes = [
        FlightProcess(n, 1, "application", n, None if n == 7 else 20, 0, container="nginx", name="nginx") for n in (7, 8)
    ]
    assert "process: nginx ×2; one of them stays." in call_chain(Flight((), tuple(processes))).alt


def test_trace(flight: Flight) -> None:
    events = json.loads(flight.to_trace())["traceEvents"]
    httpd = next(e["tid"] for e in events if e["ph"] == "M" and str(e["args"].get("name", "")).startswith("httpd"))
    assert [e["cat"] for e in events if e["ph"] == "X" and e["pid"] == 2 and e["tid"] == httpd] == ["runc", "application"]


def test_a_round_trip_keeps_it(flight: Flight) -> None:
    assert Flight.from_json(flight.to_json()).processes == flight.processes


def test_parts_of_the_recording(flight: Flight) -> None:
    assert "becomes httpd" in str(flight.zoom(3).tree())
    assert [p.role for p in flight.fold("runc").processes if p.container == "web"] == ["application", "other", "other", "other"]


def followed(machine: Machine, before=BEFORE) -> Flight:
    processes = Processes(before, CONTAINERD, SOCKET)
    for event in machine.events:
        processes.feed(event)
    known = names.known(machine.calls, machine.now)
    return Flight(tuple(noted.call for noted in known.calls), join(processes, known), "proc-connector")


def roles(flight: Flight) -> dict[str, str]:
    return {p.name: p.role for p in flight.processes if p.from_ns is not None}


@pytest.mark.parametrize("read", [True, False], ids=["its cgroup is read", "it had ended before that"])
@pytest.mark.parametrize("id", [hexadecimal("y"), hexadecimal("node")], ids=["", "in a container"])
def test_a_hook_that_runc_forks_itself(read: bool, id: str) -> None:
    """prestart and createRuntime: outside of the container's cgroup, which in kind's node names the node's own container."""
    machine = Machine()
    shim = start(machine)["shim"]
    create = machine.run(shim, "runc", "create", "--bundle", "/b", hexadecimal("y"))
    left = machine.fork(create)
    hook = machine.fork(create)
    outside = f"0::/docker/{hexadecimal('node')}" if id == hexadecimal("node") else "0::/system"
    machine.exec(hook, "/bin/hook", cgroup=outside if read else "")
    machine.exit(hook, create)
    machine.exec(left, "/bin/app", cgroup=f"{outside}/kubepods/{hexadecimal('y')}" if read else "")
    before = (*BEFORE[:2], process(CONTAINERD, 1, "containerd", *BEFORE[2].cmdline, cgroup=outside.removeprefix("0::")))
    found = roles(followed(machine, before))
    assert (found["hook"], found["app"]) == ("other", "application")


def test_a_runtime_that_forks_once_more() -> None:
    """crun and youki make the container's process by one that ends at once."""
    machine = Machine()
    shim = start(machine)["shim"]
    create = machine.run(shim, "/usr/bin/crun", "create", "--bundle", "/b", hexadecimal("y"))
    between = machine.fork(create)
    left = machine.fork(between)
    machine.exit(between, create)
    machine.exec(left, "/bin/app", "init", cgroup=f"0::/kubepods/{hexadecimal('y')}")
    assert roles(followed(machine))["app init"] == "application"


def test_a_start_hook_and_what_an_application_forks_before_it_becomes_another_program() -> None:
    machine = Machine()
    shim = start(machine)["shim"]
    create = machine.run(shim, "runc", "create", "--bundle", "/b", hexadecimal("y"))
    left = machine.fork(create)
    machine.exit(create)
    starts = machine.run(shim, "runc", "start", hexadecimal("y"))
    hook = machine.fork(left)
    inside = f"0::/kubepods/{hexadecimal('y')}"
    machine.exec(hook, "/bin/ldconfig", cgroup=inside)
    machine.exit(hook)
    machine.exec(left, "/bin/sh", "-c", "prepare; exec server", cgroup=inside)
    machine.exit(starts)
    prepare = machine.fork(left)
    machine.exec(prepare, "/bin/prepare", cgroup=inside)
    machine.exit(prepare)
    machine.exec(left, "/bin/server", cgroup=inside)
    worker = machine.fork(left)
    made = followed(machine)
    assert {name: role for name, role in roles(made).items() if name in ("ldconfig", "prepare", "server")} == {
        "ldconfig": "other", "prepare": "application", "server": "application",
    }
    assert next(p for p in made.processes if p.pid == worker).role == "application"
    tree = str(made.tree())
    assert re.search(
        r"\n( +)runc init\n\1  ldconfig\n\1  becomes sh -c prepare; exec server\n\1    prepare"
        r"(?: \(.*\))?\n\1    becomes server.*, stays\n\1      server.*, stays",
        tree,
    ), tree
    who = {row.what: row.who for row in made.steps()}
    assert (who["ldconfig"], who["prepare"]) == ("runc init", "sh -c prepare; exec server")


def test_a_hook_that_runs_when_the_recording_begins() -> None:
    init = process(60, 55, "runc:[2:INIT]", "runc", "init", cgroup=f"/kubepods/{hexadecimal('y')}")
    before = (
        *BEFORE,
        process(50, 1, "containerd-shim", "/usr/bin/containerd-shim-runc-v2", "-id", hexadecimal("y"), "-address", SOCKET),
        process(55, 50, "runc", "runc", "create", hexadecimal("y")),
        init,
        process(61, 60, "hook", cgroup=f"/kubepods/{hexadecimal('y')}"),
    )
    assert [each.role for each in Processes(before, CONTAINERD, SOCKET).all if each.pid in (60, 61)] == ["runc", "other"]


def test_a_pid_that_is_used_twice() -> None:
    """A process whose parent is not in the recording is not the child of one that had ended before."""
    old = FlightProcess(7, 1, "runc", 10, 20, 0, name="runc kill")
    late = FlightProcess(8, 7, "cni", 30, 40, 0, name="bridge")
    flight = Flight((), (old, late), "proc-connector")
    assert flight.parents() == (None, None)
    assert "bridge" in str(flight.tree()).splitlines()


def test_what_is_told_live_is_what_it_was_then() -> None:
    machine = Machine()
    shim = start(machine)["shim"]
    create = machine.run(shim, "runc", "create", "--bundle", "/b", hexadecimal("y"))
    left = machine.fork(create)
    hook = machine.fork(left)
    machine.exec(hook, "/bin/hook", cgroup=f"0::/kubepods/{hexadecimal('y')}")
    processes = Processes(BEFORE, CONTAINERD, SOCKET)
    told = [event_words(e, e.pid, p.role) for e in machine.events if (p := processes.feed(e)) and e.kind == "exec"]
    assert told[-1] == f"    [{hook}] other: exec /bin/hook"


@pytest.mark.parametrize(
    ("first", "roles"),
    [
        (("runc:[2:INIT]", "runc", "init"), ["runc", "other", "exec"]),
        (("httpd", "httpd"), ["application", "application", "exec"]),
    ],
)
def test_a_pod_seen_while_a_hook_runs(first: tuple[str, ...], roles: list[str]) -> None:
    id, sandbox = hexadecimal("y"), hexadecimal("web")
    inside = f"/kubepods/{id}"
    seen = [process(60, 50, *first, cgroup=inside), process(61, 60, "sh", cgroup=inside), process(62, 50, "cat", cgroup=inside)]
    snapshot = Snapshot(0, {p.pid: p for p in seen}, {}, ())
    container = PodContainer("main", id, "Created", 0, "busybox", 60)
    found = pod_processes(sandbox, 0, [container], PodKernel(snapshot))
    assert [p.role for p in found] == roles
