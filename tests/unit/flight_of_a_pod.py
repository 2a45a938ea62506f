"""The events and calls of a Pod's start and end, written by hand after what containerd 1.6 and runc 1.1 do on a real machine."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from google.protobuf.message import Message

from labkit.cri.v1 import api_pb2 as pb
from labkit.kernel import Process
from labkit.kernel.events.stream import Event
from labkit.recording.calls.log import CallRecord

CONTAINERD, ELSEWHERE = 100, 50
SOCKET = "/run/lab/containerd.sock"
SHIM = "/usr/bin/containerd-shim-runc-v2"


def hexadecimal(name: str) -> str:
    """An id of 64 digits that is the same for the same name."""
    return name.encode().hex().ljust(64, "0")[:64]


def process(pid: int, ppid: int, comm: str, *argv: str, cgroup: str = "/") -> Process:
    return Process(pid, ppid, comm, argv or (comm,), "S", 0, 0, 0, (pid,), {}, {"": cgroup}, "")


BEFORE = (
    process(1, 0, "init"),
    process(ELSEWHERE, 1, "bash"),
    process(CONTAINERD, 1, "containerd", "/usr/bin/containerd", "--config", "/lab.toml"),
)


class Machine:
    """Makes events and calls with times that rise by 1 ms."""

    def __init__(self) -> None:
        self.pids = itertools.count(4000)
        self.now = 0
        self.events: list[Event] = []
        self.calls: list[CallRecord] = []

    def tick(self) -> int:
        self.now += 1_000_000
        return self.now

    def fork(self, parent: int) -> int:
        pid = next(self.pids)
        self.events.append(Event("fork", self.tick(), pid, parent))
        return pid

    def exec(self, pid: int, *argv: str, cgroup: str = "0::/system") -> None:
        self.events.append(Event("exec", self.tick(), pid, None, argv=argv, exe=argv[0], cgroup=cgroup))

    def exit(self, *pids: int, code: int | None = 0, signal: int | None = None) -> None:
        for pid in pids:
            self.events.append(Event("exit", self.tick(), pid, None, exit_code=code, signal=signal))

    def run(self, parent: int, *argv: str) -> int:
        pid = self.fork(parent)
        self.exec(pid, *argv)
        return pid

    def call(self, method: str, request: Message, code: str = "OK") -> int:
        service = "ImageService" if "Image" in method else "RuntimeService"
        number = len(self.calls)
        self.calls.append(CallRecord(number, service, method, self.tick(), None, "labkit", "", request))
        return number

    def answer(self, number: int, response: Message | None = None, code: str = "OK") -> None:
        self.calls[number] = replace(self.calls[number], to_ns=self.tick(), code=code, response=response)


def start(machine: Machine, pod: str = "web", *containers: str) -> dict[str, int]:
    """RunPodSandbox, then PullImage, CreateContainer and StartContainer of each; pids by name."""
    steps = starting(machine, pod, *containers)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            pids: dict[str, int] = done.value
            return pids


def starting(machine: Machine, pod: str, *containers: str) -> Iterator[None]:
    """The same in steps, so that several Pods can be started at once."""
    sandbox, pids = hexadecimal(pod), {}
    config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name=pod, namespace="default"))
    call = machine.call("RunPodSandbox", pb.RunPodSandboxRequest(config=config))
    yield None
    loopback = machine.run(CONTAINERD, "/usr/lib/cni/loopback")
    bridge = machine.run(CONTAINERD, "/usr/lib/cni/bridge")
    machine.exit(machine.run(bridge, "/usr/lib/cni/host-local"), loopback, bridge)
    yield None
    starter = machine.run(CONTAINERD, SHIM, "-namespace", "k8s.io", "-address", SOCKET, "-id", sandbox, "start")
    shim = pids["shim"] = machine.run(starter, SHIM, "-namespace", "k8s.io", "-id", sandbox, "-address", SOCKET)
    machine.exit(starter)
    pids["pause"] = runc(machine, shim, sandbox, "/pause", "-P")
    yield None
    machine.answer(call, pb.RunPodSandboxResponse(pod_sandbox_id=sandbox))
    for name in containers:
        spec = pb.ContainerConfig(metadata=pb.ContainerMetadata(name=name), image=pb.ImageSpec(image="busybox"))
        pull = pb.PullImageRequest(image=spec.image, sandbox_config=config)
        machine.answer(machine.call("PullImage", pull), pb.PullImageResponse())
        request = pb.CreateContainerRequest(pod_sandbox_id=sandbox, config=spec, sandbox_config=config)
        container = hexadecimal(f"{pod}/{name}")
        machine.answer(machine.call("CreateContainer", request), pb.CreateContainerResponse(container_id=container))
        call = machine.call("StartContainer", pb.StartContainerRequest(container_id=container))
        again = machine.run(CONTAINERD, SHIM, "-namespace", "k8s.io", "-address", SOCKET, "-id", container, "start")
        machine.exit(again)
        pids[name] = runc(machine, shim, container, "/bin/sleep", "1000")
        machine.answer(call, pb.StartContainerResponse())
        yield None
    return pids


def runc(machine: Machine, shim: int, id: str, *argv: str) -> int:
    """`runc create` leaves a process behind, `runc start` lets it become the program; its pid."""
    create = machine.run(shim, "runc", "--root", "/run/runc", "create", "--bundle", f"/run/{id}", id)
    init = machine.run(create, "runc", "init")
    stage = machine.fork(create)
    left = machine.fork(create)
    machine.exit(stage, init, create)
    started = machine.run(shim, "runc", "--root", "/run/runc", "start", id)
    machine.exec(left, *argv, cgroup=f"0::/kubepods/podabc/{id}")
    machine.exit(started)
    return left


def stop(machine: Machine, pids: dict[str, int], pod: str = "web", *containers: str) -> None:
    """StopPodSandbox, which stops the containers too, and RemovePodSandbox."""
    sandbox, shim = hexadecimal(pod), pids["shim"]
    call = machine.call("StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox))
    for name in (*containers, "pause"):
        id = sandbox if name == "pause" else hexadecimal(f"{pod}/{name}")
        machine.exit(machine.run(shim, "runc", "--root", "/run/runc", "kill", "--all", id, "9"))
        machine.exit(pids[name], code=None, signal=9)
        machine.exit(machine.run(shim, "runc", "--root", "/run/runc", "delete", id))
    machine.exit(machine.run(CONTAINERD, "/usr/lib/cni/bridge"), machine.run(CONTAINERD, "/usr/lib/cni/loopback"))
    machine.answer(call, pb.StopPodSandboxResponse())
    call = machine.call("RemovePodSandbox", pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox))
    machine.exit(shim)
    machine.exit(machine.run(CONTAINERD, SHIM, "-namespace", "k8s.io", "-address", SOCKET, "-id", sandbox, "delete"))
    machine.answer(call, pb.RemovePodSandboxResponse())
