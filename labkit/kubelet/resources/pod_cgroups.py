"""The Pods' cgroups below the kubelet's root: one for each QoS class and each Pod, with the Pod's limits. cgroup v1 and v2.

Knowledge: kubelet's cm/pod_container_manager_linux.go, cm/qos_container_manager_linux.go, cm/helpers_linux.go; man 7 cgroups.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.kubelet.resources import slices
from labkit.podspec.messages.linux_resources import (
    MIN_SHARES,
    SHARES_PER_CPU,
    MachineInfo,
    cgroup_parent,
    cgroup_path,
    pod_limits,
    qos_of,
)
from labkit.podspec.requests import pod_requests
from labkit.util.safepath import component

REMOVE_WITHIN_S = 5.0
V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma")


@dataclass(frozen=True)
class Allowance:
    """What all Pods together may have: `cpu` millicores, by which their part of the CPUs is weighed against the system's, and
    `memory` bytes, a limit."""

    cpu: int
    memory: int


@dataclass(frozen=True)
class PodCgroups:
    """Pod cgroups below `root` (the kubelet's --cgroup-root, "/labkit"), on the hierarchies mounted below `mount`. With the
    driver "systemd" they are its slices.

    The cgroup of all Pods, kubepods, gets the `allowance`, that of the Burstable class the weight of its Pods' requests together.
    """

    root: str
    machine: MachineInfo
    mount: Path = Path("/sys/fs/cgroup")
    allowance: Allowance | None = None
    driver: str = "cgroupfs"
    burstable: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def name(self, pod: Mapping[str, Any]) -> str:
        """The Pod's cgroup as the kubelet names it in messages: [kubepods burstable podUID]."""
        return f"[{' '.join(cgroup_parent(pod).strip('/').split('/'))}]"

    def make(self, pod: Mapping[str, Any]) -> None:
        """Make the Pod's cgroup and set its limits. Raises OSError."""
        parent, resources = self._of(pod), pod_limits(pod, self.machine)
        if self.driver == "systemd":
            slices.start(parent, resources, self.machine.cgroup_version)
        if self.machine.cgroup_version == 2:
            self._make_v2(parent, pod, resources)
        else:
            self._make_v1(parent, pod, resources)
        with self.lock:
            if qos_of(pod) == "Burstable":
                self.burstable[pod["metadata"]["uid"]] = pod_requests(pod).get("cpu", 0)
            self._weigh_classes()

    def remove(self, uid: str) -> bool:
        """Remove a Pod's cgroup; whether it is gone. A process that is still in it, left by a runtime whose client died in the
        middle of a call, is killed (pod_container_manager_linux.go, Destroy). Raises OSError."""
        own = f"pod{component(uid, 'uid')}"
        paths = [self._path("kubepods", qos, own) for qos in ("", "burstable", "besteffort")]
        left = [base / path for path in paths for base in self._bases()]
        if self.driver == "systemd":
            for path in paths:
                slices.stop(path)
        if not remove_all(left):
            return False
        with self.lock:
            if self.burstable.pop(uid, None):
                self._weigh_classes()
        return True

    def end_left(self, pod: Mapping[str, Any], container_id: str) -> int:
        """SIGKILL for what still runs of a container of which the runtime says that it has ended; how many processes it were.

        containerd 2 ends only the sandbox when a shim died, and leaves the containers' processes (its issue 10727). Their cgroup
        is removed with them: the runtime has forgotten it.
        """
        name = component(container_id, "container id")
        own = name if self.driver == "cgroupfs" else f"cri-containerd-{name}.scope"
        directories = [base / self._of(pod) / own for base in self._bases()]
        killed = {pid for directory in directories for pid in kill_all(directory)}
        if killed:
            remove_all(directories)
        return len(killed)

    def _weigh_classes(self) -> None:
        """kubepods, burstable and besteffort (qos_container_manager_linux.go, node_container_manager_linux.go)."""
        kubepods = self._path("kubepods")
        shares = {
            self._path("kubepods", "besteffort"): MIN_SHARES,
            self._path("kubepods", "burstable"): shares_of(sum(self.burstable.values())),
        }
        if self.allowance:
            shares[kubepods] = shares_of(self.allowance.cpu)
            v1, v2 = (self.mount / "memory" / kubepods / "memory.limit_in_bytes", self.mount / kubepods / "memory.max")
            write_there(v2 if self.machine.cgroup_version == 2 else v1, self.allowance.memory)
        for path, value in shares.items():
            if self.machine.cgroup_version == 2:
                write_there(self.mount / path / "cpu.weight", slices.weight(value))
            else:
                write_there(self.mount / "cpu" / path / "cpu.shares", value)

    def memory_limit(self, pod: Mapping[str, Any]) -> int | None:
        """Bytes; None where the kernel names no limit (cgroup v2's "max") or there is no such cgroup."""
        path = self._of(pod)
        file = (
            self.mount / path / "memory.max"
            if self.machine.cgroup_version == 2
            else (self.mount / "memory" / path / "memory.limit_in_bytes")
        )
        try:
            text = file.read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdigit() else None

    def _of(self, pod: Mapping[str, Any]) -> str:
        """The Pod's cgroup, relative to the mount of a hierarchy."""
        return cgroup_parent(pod, self.root, self.driver).lstrip("/")

    def _path(self, *names: str) -> str:
        return cgroup_path([*self.root.strip("/").split("/"), *names], self.driver).lstrip("/")

    def _bases(self) -> list[Path]:
        """The root directory of each hierarchy."""
        if self.machine.cgroup_version == 2:
            return [self.mount]
        # systemd makes a directory for each controller that it knows, also where nothing is mounted on it.
        return [path for path in self.mount.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]

    def _make_v1(self, parent: str, pod: Mapping[str, Any], resources: Any) -> None:
        for base in self._bases():
            directory = base / parent
            directory.mkdir(parents=True, exist_ok=True)
            if base.name == "cpuset":
                inherit_cpuset(base, directory)
        here = self.mount / "cpu" / parent
        if here.is_dir():
            write(here / "cpu.shares", resources.cpu_shares)
            if resources.cpu_quota > 0:
                write(here / "cpu.cfs_period_us", resources.cpu_period)
                write(here / "cpu.cfs_quota_us", resources.cpu_quota)
        memory = self.mount / "memory" / parent
        if memory.is_dir() and resources.memory_limit_in_bytes > 0:
            write(memory / "memory.limit_in_bytes", resources.memory_limit_in_bytes)

    def _make_v2(self, parent: str, pod: Mapping[str, Any], resources: Any) -> None:
        directory = self.mount
        for part in parent.split("/"):
            enable_controllers(directory)
            directory /= part
            directory.mkdir(exist_ok=True)
        enable_controllers(directory)
        write(directory / "cpu.weight", slices.weight(resources.cpu_shares))
        if resources.cpu_quota > 0:
            write(directory / "cpu.max", f"{resources.cpu_quota} {resources.cpu_period}")
        if resources.memory_limit_in_bytes > 0:
            write(directory / "memory.max", resources.memory_limit_in_bytes)


def shares_of(millicores: int) -> int:
    """cpu.shares of a request."""
    return max(millicores * SHARES_PER_CPU // 1000, MIN_SHARES)


def enable_controllers(directory: Path) -> None:
    """Let the children of a cgroup v2 directory have every controller that the kubelet uses and the kernel has here."""
    there = (directory / "cgroup.controllers").read_text().split()
    on = (directory / "cgroup.subtree_control").read_text().split()
    for name in there:
        if name in V2_CONTROLLERS and name not in on:
            with contextlib.suppress(OSError):
                (directory / "cgroup.subtree_control").write_text(f"+{name}")


def inherit_cpuset(base: Path, directory: Path) -> None:
    """A new cpuset cgroup has no CPU and no memory node, and nothing can run in it: take the parent's (man 7 cpuset)."""
    path = base
    for part in directory.relative_to(base).parts:
        parent, path = path, path / part
        for file in ("cpuset.cpus", "cpuset.mems"):
            if not (path / file).read_text().strip():
                write(path / file, (parent / file).read_text().strip())


def write(file: Path, value: object) -> None:
    file.write_text(str(value))


def write_there(file: Path, value: object) -> None:
    """Write to a cgroup that may not be there (yet, or any more)."""
    if file.parent.is_dir():
        write(file, value)


def remove_all(directories: list[Path]) -> bool:
    """Remove cgroups, and kill what is in them; whether all are gone."""
    end, left = time.monotonic() + REMOVE_WITHIN_S, directories
    while left := [directory for directory in left if not remove_tree(directory)]:
        if time.monotonic() > end:
            return False
        for directory in left:
            kill_all(directory)
        time.sleep(0.05)
    return True


def kill_all(directory: Path) -> set[int]:
    """SIGKILL for every process in a cgroup and those below it; their pids."""
    killed = set()
    for path, _, _ in os.walk(directory):
        with contextlib.suppress(OSError):
            for pid in map(int, Path(path, "cgroup.procs").read_text().split()):
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
    return killed


def remove_tree(directory: Path) -> bool:
    """Remove a cgroup and those below it; whether it is gone. One that a process is still in stays."""
    try:
        below = [entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)]
        if [path for path in below if not remove_tree(Path(path))]:
            return False
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True
