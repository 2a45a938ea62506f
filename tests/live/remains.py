"""What a lab's Pods hold in the kernel and on its disk, what of it has no owner, and whether the API tells the kernel's truth.

Everything is read from /proc, sysfs and the file system; of labkit only its directories' names are used, of containerd its lists.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kernel import LocalKernel, Snapshot
from labkit.node import Home

POD_UID, CONTAINER = "io.kubernetes.pod.uid", "io.kubernetes.container.name"


@dataclass(frozen=True)
class Runtime:
    """What containerd lists: id → sandbox, id → container (items of the CRI lists)."""

    sandboxes: Mapping[str, Any]
    containers: Mapping[str, Any]

    @classmethod
    def of(cls, cri: CriClient) -> Runtime:
        """Raises CriError."""
        boxes, containers = cri.list_pod_sandbox().items, cri.list_containers().containers
        return cls({box.id: box for box in boxes}, {each.id: each for each in containers})

    @property
    def ids(self) -> set[str]:
        return {*self.sandboxes, *self.containers}

    def twice(self) -> list[str]:
        """Pods with two ready sandboxes, containers that run twice."""
        ready = Counter(box.metadata.uid for box in self.sandboxes.values() if box.state == pb.SANDBOX_READY)
        running = Counter(
            (c.labels[POD_UID], c.labels[CONTAINER]) for c in self.containers.values() if c.state == pb.CONTAINER_RUNNING
        )
        return [f"{n} of {what}" for what, n in (*ready.items(), *running.items()) if n > 1]


def unowned(home: Home, uids: set[str]) -> list[str]:
    """What there is of Pods, of which the API has only those of `uids`: one line for each thing that belongs to none of them.

    Raises CriError.
    """
    with CriClient(f"unix://{home.socket}") as cri:
        known = Runtime.of(cri)
        named = set(network_namespaces_named(cri, known))
    snapshot = LocalKernel().snapshot(fds=False)
    found = [f"sandbox {box.id[:12]} of {box.metadata.uid}" for box in known.sandboxes.values() if box.metadata.uid not in uids]
    found += [f"container {c.id[:12]}" for c in known.containers.values() if c.labels.get(POD_UID) not in uids]
    found += [f"twice: {words}" for words in known.twice()]
    found += processes(home, snapshot, known)
    found += [f"cgroup {path}" for path in cgroups(home) if not owned_cgroup(path, uids, known.ids)]
    found += mounts(home, snapshot, known, uids, named)
    found += links(home)
    found += [f"address {f.name}" for f in reservations(home) if owner(f) not in known.sandboxes]
    found += [f"bundle {bundle.name[:12]}" for bundle in home.bundles() if bundle.name not in known.ids]
    found += [f"directory {path}" for path in records(home) if path.name not in known.ids]
    found += [f"Pod directory {p.name}" for p in (home.kubelet_root / "pods").glob("*") if p.name not in uids]
    found += [f"log directory {p.name}" for p in home.log_root.glob("*") if p.name.rpartition("_")[2] not in uids]
    return found + [f"FIFO {path}" for path in fifos(home) if not known.ids.intersection(path.parts)]


def untrue(pods: list[dict[str, Any]], home: Home) -> list[str]:
    """Where the statuses in the API and the processes in /proc differ: containers called running without a process, and those
    with a process that are not called so (but for Pods that are being deleted)."""
    alive = containers_alive(home)
    told: dict[str, str] = {}
    for pod in pods:
        status = pod.get("status") or {}
        for shown in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
            if "containerID" in shown:
                told[shown["containerID"].rpartition("/")[2]] = next(iter(shown["state"]))
    going = {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" in pod["metadata"]}
    with CriClient(f"unix://{home.socket}") as cri:
        pauses = set(Runtime.of(cri).sandboxes)
    found = [f"{id[:12]} runs by the API's word, and has no process" for id, state in told.items()
             if state == "running" and id not in alive]
    return found + [f"{id[:12]} has a process, and is {told.get(id, 'unknown')} to the API" for id, uid in alive.items()
                    if id not in pauses and uid not in going and told.get(id) != "running"]


def containers_alive(home: Home) -> dict[str, str]:
    """Container or sandbox id → Pod uid, for each that has a process that is no zombie: by the processes' cgroups."""
    found = {}
    for process in LocalKernel().snapshot(fds=False).processes.values():
        for path in process.cgroups.values():
            parts = path.split("/")
            if process.state not in "ZX" and path.startswith(f"{home.cgroup_root}/") and parts[-2].startswith("pod"):
                found[parts[-1]] = parts[-2].removeprefix("pod")
    return found


def processes(home: Home, snapshot: Snapshot, known: Runtime) -> Iterator[str]:
    """Shims and containers' processes of nobody; zombies that nobody collects."""
    shims = set()
    for process in snapshot.processes.values():
        arguments = dict(zip(process.cmdline, process.cmdline[1:], strict=False))
        if arguments.get("-address") == str(home.socket) and "start" not in process.cmdline:
            shims.add(process.pid)
            if arguments.get("-id") not in known.sandboxes:
                yield f"shim {process.pid} of {arguments.get('-id', '')[:12]}"
        ours = [path.split("/")[-1] for path in process.cgroups.values() if path.startswith(f"{home.cgroup_root}/")]
        if process.state != "Z" and ours and not known.ids.intersection(ours):
            yield f"process {process.pid} ({process.comm}) of {ours[0][:12]}"
    owners = json.loads(home.status_file.read_text())
    collectors = {*shims, owners["pid"], *owners["processes"].values()}
    for process in snapshot.processes.values():
        if process.state == "Z" and process.ppid in collectors:
            yield f"zombie {process.pid} ({process.comm}) of {process.ppid}"


def mounts(home: Home, snapshot: Snapshot, known: Runtime, uids: set[str], named: set[str]) -> Iterator[str]:
    """Mounts below the lab's directories that name no container, no sandbox and no Pod that there is."""
    for mount in snapshot.mounts:
        point = Path(mount.mount_point)
        if "/netns/" in mount.mount_point and home.run in point.parents:
            if mount.mount_point not in named:
                yield f"network namespace {point.name}"
        elif home.run in point.parents:
            if not known.ids.intersection(point.parts):
                yield f"mount {point}"
        elif home.data in point.parents and not uids.intersection(point.parts):
            yield f"mount {point}"


def network_namespaces_named(cri: CriClient, known: Runtime) -> Iterator[str]:
    for id in known.sandboxes:
        with contextlib.suppress(CriError):  # gone since it was listed
            info = json.loads(cri.pod_sandbox_status(pod_sandbox_id=id, verbose=True).info.get("info", "{}"))
            for namespace in ((info.get("runtimeSpec") or {}).get("linux") or {}).get("namespaces") or ():
                yield namespace.get("path", "")


def links(home: Home) -> Iterator[str]:
    """Host's ends of veth pairs on the bridge whose other ends are in no network namespace of the lab."""
    kernel = LocalKernel()
    spaces = [m.mount_point for m in kernel.mounts() if "/netns/" in m.mount_point and m.mount_point.startswith(f"{home.run}/")]
    owned = set()
    for space in spaces:
        try:
            owned |= {interface.peer_index for interface in kernel.interfaces(space)}
        except OSError:
            continue
    for port in Path(f"/sys/class/net/{home.bridge}/brif").glob("*"):
        if int(Path(f"/sys/class/net/{port.name}/ifindex").read_text()) not in owned:
            yield f"link {port.name}"


def cgroups(home: Home) -> Iterator[Path]:
    """Cgroups of Pods and containers in every hierarchy."""
    for mount in LocalKernel().cgroup_mounts().values():
        top = Path(mount.mount_point + home.cgroup_root) / "kubepods"
        for base, names, _ in os.walk(top):
            yield from (Path(base, name) for name in names if name not in ("besteffort", "burstable"))


def owned_cgroup(path: Path, uids: set[str], ids: set[str]) -> bool:
    if path.name.startswith("pod"):
        return path.name.removeprefix("pod") in uids
    return path.parent.name.removeprefix("pod") in uids and path.name in ids


def reservations(home: Home) -> list[Path]:
    """host-local's: a file named by the address, whose first line is the sandbox's id."""
    return [f for f in (home.data / "cni" / "networks" / home.network).glob("*.*.*.*") if f.name[0].isdigit()]


def owner(reservation: Path) -> str:
    return (reservation.read_text().split() or [""])[0]


def records(home: Home) -> Iterator[Path]:
    """containerd's directories for containers, on disk and in its state, and runc's."""
    yield from home.run.glob("runc/k8s.io/*")
    for base in (home.data / "containerd", home.containerd_state):
        yield from base.glob("io.containerd.grpc.v1.cri/sandboxes/*")
        yield from base.glob("io.containerd.grpc.v1.cri/containers/*")
        yield from base.glob("io.containerd.runtime.v2.task/k8s.io/*")


def fifos(home: Home) -> Iterator[Path]:
    for base, _, names in os.walk(home.run):
        for name in names:
            path = Path(base, name)
            try:
                if stat.S_ISFIFO(path.lstat().st_mode):
                    yield path
            except FileNotFoundError:
                continue
