"""Node kind `vm`: a small virtual machine of labkit's own, for any user on Linux: no root, no Docker, no KVM needed.

It has a kernel, a containerd and pause processes of its own; what is shown are the pids and inodes of that kernel.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kernel import Process
from labkit.kernel.events.stream import EventsError, EventStream
from labkit.kernel.events.tracefs import watch_tracefs
from labkit.kernel.remote import RemoteKernel
from labkit.node.host import lab_processes, relay
from labkit.node.lab import control, health, lifecycle
from labkit.node.machine import build, guest, machine, packages
from labkit.node.node import Node
from labkit.node.observe.source import Source
from labkit.node.pods.kubernetes import LabKubernetes
from labkit.node.registry import node_registry
from labkit.node.remote.remote_files import RemoteFiles
from labkit.node.state import node_selector as choices
from labkit.node.state import status, trust
from labkit.node.state.availability import Verdict
from labkit.node.state.home import Home
from labkit.node.state.node_selector import Choice
from labkit.node.vm import clock, cluster, enter
from labkit.node.vm import run as vm_run
from labkit.node.vm.daemon import VmDaemon
from labkit.node.vm.home import RELAY, Places
from labkit.node.vm.warm import warm
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

START_WITHIN_S = 420.0
ANSWER_WITHIN_S = 60.0
TOLD = ("accelerator", "how", "seconds", "processes", "time_scale", "lost")
UP = ("ready", "restarting", "stopped")
"""States (see `labkit.node.state.status`) of a machine that runs."""
NEEDS_MB = 900
"""Of memory: what qemu takes at most with a machine of `machine.MEMORY_MB`."""


class VmNode(RemoteFiles, LabKubernetes, Node):
    """The machine that `labkit up --node vm` brings to life. Commands and CRI go through its door (`labkit.node.vm.enter`)."""

    streams_here = False

    def __init__(self, home: Home, *, why: str, lesson: str | None = None) -> None:
        self.home, self.places = home, Places(home)
        path = self.places.relay()
        with CriClient(f"unix://{path}") as cri:
            said = answering(cri)
        super().__init__(
            kind="vm",
            name=guest.NAME,
            endpoint=f"unix://{path}",
            runtime=f"{said.runtime_name} {said.runtime_version}",
            why=why,
            lesson=lesson,
            settings=settings(),
            kernel=RemoteKernel(self.run),
        )

    def enter_argv(self) -> list[str]:
        """What to put before a command so that it runs in the machine."""
        return self.places.enter_argv()

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        """Run a command on the node; its standard output as bytes. Raises NodeError."""
        return vm_run.run(self.places.door, argv, stdin, timeout)

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return self.run(argv, timeout=timeout).decode(errors="replace")

    def popen(self, argv: Sequence[str]) -> subprocess.Popen[str]:
        """A command on the node with its input and output as text (see `labkit.kernel.events.tracefs.Popen`)."""
        return subprocess.Popen(
            [*self.enter_argv(), *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="surrogateescape",
            start_new_session=True,
        )  # fmt: skip

    def process_events(self) -> EventStream:
        """The kernel's tracer tells them, exactly; their times are shifted to this machine's clock."""
        try:
            by = clock.offset(self.places.door)
        except (OSError, ValueError) as error:
            raise EventsError(f"The virtual machine cannot be reached ({error}).", "`labkit status` says more.") from None
        return clock.shifted(watch_tracefs(self.popen), by)

    def event_source(self) -> Source:
        return Source(self.process_events(), self.kernel, self.listener().pid, self.socket_path())

    def clock_ahead_ns(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return clock.ahead_ns(self.places.door)
        return 0

    def socket_path(self) -> str:
        return guest.SOCKET

    def is_runtime(self, process: Process) -> bool:
        return process.comm == "containerd"

    @property
    def daemon(self) -> VmDaemon:
        """The machine's containerd itself, to be killed, stopped, started, upgraded (see `labkit.node.lab.daemon`)."""
        return VmDaemon(self.places, self)

    @property
    def kubeconfig(self) -> Path:
        return self.places.home.kubeconfig

    def host_paths(self) -> str:
        return f"{node_registry.DIRECTORY}/hostpath"

    def dial_unix(self, path: str) -> socket.socket:
        return enter.enter(self.places.door, "stream", relay.inside([], path))

    def dial(self, address: str, port: int) -> socket.socket:
        """Through the machine: this one has no route to its Pods."""
        return relay.dial(self.enter_argv(), address, port)


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
            "log_root": f"{node_registry.DIRECTORY}/log/pods",
        },
        "container": {
            "kubelet_root": f"{node_registry.DIRECTORY}/kubelet",
            "host_ip": guest.GATEWAY,
            "memory_capacity": machine.MEMORY_MB << 20,
        },
    }


def probe(home: Home, choice: Choice | None = None) -> Verdict:
    """Whether a virtual machine can run here. Never raises, and starts nothing."""
    if reason := packages.runs_here():
        return Verdict("vm", False, reason, "use the kind containerd or kind")
    image = build.find(home.cache)
    if (reason := packages.builds_here()) and not (image and packages.find_tools(home.cache)):
        fix = "install qemu-system-x86_64 and zstd, and bring a machine that was built elsewhere: `labkit vm use FILE`"
        return Verdict("vm", False, reason, fix)
    if (free := available_mb()) < NEEDS_MB:
        return Verdict("vm", False, f"It needs {NEEDS_MB} MB of memory, and {free} MB are free.", "end other programs")
    what = f"a virtual machine with {image}" if image else "a virtual machine, which the first `labkit up` builds in some minutes"
    return Verdict("vm", True, f"{what}; it needs no privilege", "")


def available_mb() -> int:
    """Of memory, as the kernel estimates it for new programs (man 5 proc, MemAvailable)."""
    with open("/proc/meminfo") as lines:
        return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")), NEEDS_MB)


def connect(home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Progress) -> VmNode:
    """A Node for the machine, which is brought up when it is down. Raises NodeError."""
    ensure_up(home, progress)
    return VmNode(home, why=why, lesson=lesson)


def up(home: Home, choice: Choice, progress: Progress) -> dict[str, Any]:
    ensure_up(home, progress)
    VmNode(home, why="").close()
    choices.remember(home, Choice("vm"), as_last=True)
    return report(home, choice)


def ensure_up(home: Home, progress: Progress) -> None:
    """Bring the machine up, built and saved first where it has to be. Idempotent; two at once are one after the other."""
    places = Places(home)
    places.make()
    with lifecycle.only_one(places.home, progress):
        if status.read(places.home)["state"] == "stopped":
            control.ask(places.home, progress, do="start")
        said = status.read(places.home)
        if said["state"] in ("ready", "restarting"):
            return wait_ready(places)
        if said["state"] == "failed":
            progress(f"{said.get('error', 'The machine had ended.')} Starting it anew")
        try:
            if image := build.find(home.cache):
                build.verify(image)
            tools = packages.ensure_tools(home.cache, progress, building=image is None)
            image = image or build.build(home.cache, tools, progress)
            accelerator = machine.accelerator(tools)
            build.save_state(image, tools, accelerator, home.cache, progress, warm)
        except machine.MachineError as error:
            raise NodeError(f"The virtual machine could not be made: {error}", "Try `labkit vm build` to see more.") from None
        progress(f"resuming the virtual machine ({build.described(accelerator)})")
        status.remove(places.home)
        start_owner(places)
        try:
            wait_ready(places)
        except BaseException:
            if (said := status.read(places.home))["state"] == "starting":
                end_owner(places, said["pid"])
            raise
        if lost := status.read(places.home).get("lost"):
            progress(f"lost with the machine that had ended, since nobody but it knew them: {', '.join(lost)}")
        choices.remember(home, Choice("vm"))


def start_owner(places: Places) -> None:
    with trust.append(places.home.log_file) as log:
        started = subprocess.run(
            environment.launched([sys.executable, "-m", "labkit.node.vm.owner", str(places.home.run)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment.daemon(places.lab.environ()),
            start_new_session=True,
            cwd="/",
        )
    if started.returncode:
        raise NodeError(f"The machine's owner did not start (exit code {started.returncode}).", f"See {places.home.log_file}.")


def wait_ready(places: Places) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        said = status.read(places.home)
        if said["state"] == "ready":
            return
        if said["state"] in ("failed", "down"):
            raise NodeError(f"The virtual machine did not start. {said.get('error', '')}".strip(), f"See {places.home.log_file}.")
        time.sleep(0.02)
    raise NodeError(f"The virtual machine was not ready after {START_WITHIN_S:.0f} s.", f"See {places.home.log_file}.")


def report(home: Home, choice: Choice) -> dict[str, Any]:
    """The machine's state as its owner wrote it last, with its memory; `runtime` is asked."""
    places = Places(home)
    said = status.read(places.home)
    up = said["state"] in UP
    endpoint = f"unix://{relay.socket_of(places.home, RELAY)}"
    runtime = None
    if said["state"] == "ready":
        with contextlib.suppress(CriError), CriClient(endpoint, timeout=health.WITHIN_S) as cri:
            version = cri.version()
            runtime = {"name": version.runtime_name, "version": version.runtime_version}
    more: dict[str, Any] = {key: said[key] for key in TOLD if up and key in said}
    return {
        "node": "vm",
        "state": said["state"],
        "endpoint": endpoint if up else None,
        "runtime": runtime,
        "pid": said.get("pid") if up else None,
        "since": said.get("since") if up else None,
        **more,
        **({"memory_mb": resident_mb(said["processes"]["qemu"])} if up else {}),
        **({"error": said["error"]} if "error" in said and said["state"] == "failed" else {}),
        **({"stale": True} if said.get("stale") else {}),
    }


def unanswered(home: Home, report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The programs that do not answer now (see `labkit.node.lab.health`): those of this machine, and those in the virtual one."""
    places = Places(home)
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


def down(home: Home, choice: Choice, progress: Progress) -> int:
    """End the machine, and its Pods with it. How many there were. Idempotent."""
    places = Places(home)
    if not places.home.run.exists():
        return 0
    with lifecycle.only_one(places.home, progress):
        said = status.read(places.home)
        pods = 0
        if said["state"] in UP:
            with contextlib.suppress(NodeError, CriError), CriClient(f"unix://{relay.socket_of(places.home, RELAY)}") as cri:
                pods = len(cri.list_pod_sandbox(timeout=10).items)
        relay.stop_relay(places.home, RELAY)
        if said["state"] in ("starting", *UP):
            progress("ending the virtual machine")
            end_owner(places, said["pid"])
        cluster.part(places)
        lab_processes.end(p for p in lab_processes.own_processes(places.home) if p.role == "daemon")
        status.remove(places.home)
    return pods


def end_owner(places: Places, pid: int) -> None:
    """SIGTERM, and SIGKILL where that does not help: qemu ends with its owner."""
    deadline = time.monotonic() + 15.0
    number = signal.SIGTERM
    while status.read(places.home)["state"] in ("starting", *UP):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        time.sleep(0.05)
        if time.monotonic() > deadline:
            number = signal.SIGKILL


def clean(home: Home, choice: Choice, progress: Progress) -> tuple[dict[str, list[str]], list[str]]:
    """End the machine and remove its files; what was built stays in the cache. ({kind: [what was there]}, [what is left])."""
    down(home, choice, progress)
    choices.forget(home, choice)
    places = Places(home)
    found = [str(d) for d in (places.home.run, places.home.data) if d.exists()]
    for directory in found:
        subprocess.run(["rm", "-rf", directory], check=False)
    return {"virtual machine": found}, [directory for directory in found if os.path.exists(directory)]
