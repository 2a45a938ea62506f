"""Node kind `vm`: a small virtual machine of labkit's own, for any user on Linux: no root, no Docker, no KVM needed.

It has a kernel, a containerd and pause processes of its own; what is shown are the pids and inodes of that kernel.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kernel.events.connector import watch
from labkit.kernel.events.stream import EventsError
from labkit.kernel.events.tracefs import watch_tracefs
from labkit.kernel.remote import RemoteKernel
from labkit.node.host import lab_processes, relay
from labkit.node.host.access import ByCommands
from labkit.node.lab import control, health, owner_process
from labkit.node.machine import build, guest, machine, packages
from labkit.node.node import Node
from labkit.node.observe.source import Source, Sources, Watch
from labkit.node.pods.api_access import LabApi
from labkit.node.pods.kubelet_pause import NOT_HELD, KubeletPause
from labkit.node.pods.own_pods import OwnPods
from labkit.node.registry import share
from labkit.node.remote import pod_residue
from labkit.node.state import incident_note, node_selector, status, unfinished
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, Cleaned, KindOfNode, Report, node_report
from labkit.node.state.locks import home_lock
from labkit.node.state.node_selector import NodeSelector
from labkit.node.vm import clock, enter, vm_cluster
from labkit.node.vm import run as vm_run
from labkit.node.vm.vm_daemon import VmDaemon
from labkit.node.vm.vm_home import RELAY, MachinePaths
from labkit.node.vm.warm import warm
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

WHAT = "virtual machine"
START_WITHIN_S = 420.0
ANSWER_WITHIN_S = 60.0
REPORTED = ("accelerator", "how", "seconds", "processes", "time_scale", "lost")
NEEDS_MB = 900
"""Of memory: what qemu takes at most with a machine of `machine.MEMORY_MB`."""


class VmNode(Node):
    """The machine that `labkit up --node vm` brings to life."""

    host: InMachine

    def __init__(self, home: Home, *, why: str, lesson: str | None = None) -> None:
        self.home, self.places = home, MachinePaths(home)
        path = self.places.relay()
        if status.read(self.places.home)["state"] == "stopped":  # by an incident, else it was started before
            runtime = f"containerd {VmDaemon(self.places).version}"
        else:
            with CriClient(f"unix://{path}") as cri:
                version = answering(cri)
            runtime = f"{version.runtime_name} {version.runtime_version}"
        host = InMachine(self.places)
        super().__init__(
            kind="vm",
            name=guest.NAME,
            endpoint=f"unix://{path}",
            runtime=runtime,
            why=why,
            lesson=lesson,
            settings=settings(),
            host=host,
            kernel=RemoteKernel(host.run),
            socket_path=guest.SOCKET,
        )
        self.own_pods = OwnPods(self, lambda sandbox: pod_residue.remove_of_pod(host.shell, pod_residue.PLACES, sandbox))
        self.api = LabApi(self.name, home, self.places.home.kubeconfig)
        self.sources = MachineSources(self)

    @property
    def daemon(self) -> VmDaemon:
        """The machine's containerd itself, to be killed, stopped, started, upgraded (see `labkit.node.lab.daemon`)."""
        return VmDaemon(self.places, self)

    def kubelet_held(self) -> KubeletPause:
        return KubeletPause(NOT_HELD)


class InMachine(ByCommands):
    """The host of this node. Commands go through the machine's door (`labkit.node.vm.enter`)."""

    def __init__(self, places: MachinePaths) -> None:
        self.places = places

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        return vm_run.run(self.places.door, argv, stdin, timeout)

    def popen(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """A command on the node with its input and output as text (see `labkit.kernel.events.tracefs.Popen`)."""
        return subprocess.Popen(
            [*self.places.enter_argv(), *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            errors="surrogateescape", start_new_session=True,
        )

    def dial(self, address: str, port: int) -> socket.socket:
        """Through the machine: this one has no route to its Pods."""
        return relay.dial(self.places.enter_argv(), address, port)

    def dial_unix(self, path: str) -> socket.socket:
        return enter.enter(self.places.door, "stream", relay.inside([], path))


class MachineSources(Sources):
    """Of the machine's own kernel and clock."""

    def __init__(self, node: VmNode) -> None:
        super().__init__(node, ["containerd"])
        self.places, self.host = node.places, node.host

    def open(self, _: Watch = watch) -> Source:
        """The machine's tracer tells them, exactly; their times are shifted to this machine's clock."""
        try:
            by = clock.offset(self.places.door)
        except (OSError, ValueError) as error:
            raise EventsError(f"The virtual machine cannot be reached ({error}).", "`labkit status` says more.") from None
        events = clock.shifted(watch_tracefs(self.host.popen), by)
        return Source(events, self.node.kernel, self.node.listener().pid, self.node.socket_path)

    def clock_ahead_ns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return clock.ahead_ns(self.places.door)
        return 0


def answering(cri: CriClient) -> Any:
    """The Version answer, waited for: containerd may have been started a moment ago. Raises NodeError."""
    try:
        cri.wait_until_ready(ANSWER_WITHIN_S)
        return cri.version(timeout=20)
    except CriError as error:
        raise NodeError(f"containerd in the virtual machine does not answer ({error.message}).", "Try `labkit up`.") from None


def settings() -> dict[str, Any]:
    return {
        "sandbox": {
            "cgroup_driver": "cgroupfs",
            "cgroup_root": guest.CGROUP_ROOT,
            "log_root": f"{share.DIRECTORY}/log/pods",
        },
        "container": {
            "kubelet_root": f"{share.DIRECTORY}/kubelet",
            "host_ip": guest.GATEWAY,
            "memory_capacity": machine.MEMORY_MB << 20,
        },
    }


def probe(home: Home, selector: NodeSelector | None = None) -> Availability:
    """Whether a virtual machine can run here. Never raises, and starts nothing."""
    if reason := packages.runs_here():
        return Availability("vm", False, reason, "use the kind containerd or kind")
    image = build.find(home.cache)
    if (reason := packages.builds_here()) and not (image and packages.find_tools(home.cache)):
        fix = "install qemu-system-x86_64 and zstd, and bring a machine that was built elsewhere: `labkit vm use FILE`"
        return Availability("vm", False, reason, fix)
    if (free := available_mb()) < NEEDS_MB:
        return Availability("vm", False, f"It needs {NEEDS_MB} MB of memory, and {free} MB are free.", "end other programs")
    what = f"a virtual machine with {image}" if image else "a virtual machine, which the first `labkit up` builds in some minutes"
    return Availability("vm", True, f"{what}; it needs no privilege", "")


def available_mb() -> int:
    """Of memory, as the kernel estimates it for new programs (man 5 proc, MemAvailable)."""
    with open("/proc/meminfo") as lines:
        return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")), NEEDS_MB)


def connect(home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress) -> VmNode:
    """A Node for the machine, which is brought up when it is down. Raises NodeError."""
    before = status.read(MachinePaths(home).home)
    ensure_up(home, progress)
    node = VmNode(home, why=why, lesson=lesson)
    node.remarks += unfinished.of_stopped(before, status.read(node.places.home))
    return node


def up(home: Home, selector: NodeSelector, progress: Progress) -> Report:
    ensure_up(home, progress)
    VmNode(home, why="").close()
    node_selector.remember(home, NodeSelector("vm"), as_last=True)
    return report(home, selector)


def ensure_up(home: Home, progress: Progress) -> None:
    """Bring the machine up, built and saved first where it has to be. Idempotent; two at once are one after the other."""
    places = MachinePaths(home)
    places.make()
    with home_lock(places.home, progress):
        if status.read(places.home)["state"] == "stopped":
            if incident_note.holds(home, incident_note.RUNTIME, "vm"):
                return
            control.ask(places.home, progress, do="start")
        status.refuse_moved(places.home)
        found = status.read(places.home)
        if found["state"] in ("ready", "restarting"):
            owner_process.wait_ready(places.home, START_WITHIN_S, WHAT)
            return
        if found["state"] == "failed":
            progress(f"{found.get('error', 'The machine had ended.')} Starting it again")
        try:
            if image := build.find(home.cache):
                build.verify(image)
            tools = packages.ensure_tools(home.cache, progress, building=image is None)
            image = image or build.build(home.cache, tools, progress)
            accelerator = machine.accelerator(tools)
            build.save_state(image, tools, accelerator, home.cache, progress, warm)
        except machine.MachineError as error:
            raise NodeError(f"The virtual machine could not be made: {error}", "Try `labkit vm build` to see more.") from None
        end_programs(places.home)  # of a machine whose directory was deleted
        progress(f"resuming the virtual machine ({build.described(accelerator)})")
        status.remove(places.home)
        owner_process.start(places.home, "labkit.node.vm.owner", places.lab.environ())
        try:
            owner_process.wait_ready(places.home, START_WITHIN_S, WHAT)
        except BaseException:
            if (found := status.read(places.home))["state"] == "starting":
                owner_process.end(places.home, found["pid"])
            raise
        if lost := status.read(places.home).get("lost"):
            progress(f"lost with the machine that ended, which alone had them: {', '.join(lost)}")
        node_selector.remember(home, NodeSelector("vm"))


def report(home: Home, selector: NodeSelector) -> Report:
    """The machine's state as its owner wrote it last, with its memory; `runtime` is asked."""
    places = MachinePaths(home)
    found = status.read(places.home)
    if found["state"] not in status.UP:
        deleted = found == {"state": "down"} and bool(lab_processes.node_owners(places.home))
        error = found.get("error") if found["state"] == "failed" else None
        return node_report("vm", found["state"], error=error, stale=found.get("stale"), deleted=deleted or None)
    endpoint = f"unix://{relay.socket_of(places.home, RELAY)}"
    runtime = None
    if found["state"] == "ready":
        with contextlib.suppress(CriError), CriClient(endpoint, timeout=health.WITHIN_S) as cri:
            version = cri.version()
            runtime = {"name": version.runtime_name, "version": version.runtime_version}
    return node_report(
        "vm",
        found["state"],
        endpoint=endpoint,
        runtime=runtime,
        pid=found.get("pid"),
        since=found.get("since"),
        memory_mb=resident_mb(found["processes"]["qemu"]),
        **{key: found[key] for key in REPORTED if key in found},
    )


def unanswered(home: Home, report: Report) -> dict[str, Report]:
    """The programs that do not answer now (see `labkit.node.lab.health`): those of this machine, and those in the virtual one."""
    places = MachinePaths(home)
    probes = health.probes(places.home, relay.socket_of(places.home, RELAY))
    pids = {health.OWNER: report["pid"], **(report.get("processes") or {})}
    found = {}
    if health.is_stopped(qemu := pids["qemu"]):
        found["qemu"] = health.stopped(qemu)
        probes = {name: probes[name] for name in probes if name in pids}  # the others run in it
    return found | health.unanswered(probes, pids, places.home.data)


def resident_mb(pid: int) -> int | None:
    """A process's resident memory (man 5 proc, VmRSS)."""
    with contextlib.suppress(OSError, StopIteration), open(f"/proc/{pid}/status") as lines:
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) // 1024
    return None


def down(home: Home, selector: NodeSelector, progress: Progress) -> int:
    """End the machine, and its Pods with it. How many there were. Idempotent."""
    places = MachinePaths(home)
    if not places.home.run.exists() and not lab_processes.own_processes(places.home):
        return 0
    with home_lock(places.home, progress):
        former = status.former_home(places.home)
        found = status.read(places.home)
        pods = 0
        if found["state"] in status.UP:
            with contextlib.suppress(NodeError, CriError), CriClient(f"unix://{relay.socket_of(places.home, RELAY)}") as cri:
                pods = len(cri.list_pod_sandbox(timeout=10).items)
        relay.stop_relay(places.home, RELAY)
        if found["state"] in ("starting", *status.UP):
            progress("ending the virtual machine")
            owner_process.end(places.home, found["pid"])
        vm_cluster.part(places)
        for each in (places.home, former):
            if each:
                end_programs(each)
        status.remove(places.home)
    return pods


def end_programs(home: Home) -> None:
    """End what runs of the machine whose home this is, on this side: its owner, with which qemu ends, relays and the API."""
    for role in ("owner", "daemon"):
        lab_processes.end(p for p in lab_processes.own_processes(home) if p.role == role)


def clean(home: Home, selector: NodeSelector, progress: Progress) -> Cleaned:
    """End the machine and remove its files; what was built stays in the cache."""
    down(home, selector, progress)
    node_selector.forget(home, selector)
    places = MachinePaths(home)
    found = [str(d) for d in (places.home.run, places.home.data) if d.exists()]
    for directory in found:
        subprocess.run(["rm", "-rf", directory], check=False)
    return found, [directory for directory in found if os.path.exists(directory)], []


KIND = KindOfNode(probe, up, connect, report, unanswered, down, clean)
