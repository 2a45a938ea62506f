"""Garbage collection: the node's owner removes what containerd leaves behind.

When containerd ends while it makes a sandbox, a shim, a bundle, a network namespace or an address may stay that no sandbox names.
containerd does not look for them when it starts: its CRI plugin's recovery goes by its own records. After a downgrade some shims
outlive their Pods. When a shim dies, containerd 2 has runc delete the sandbox alone and forgets the sandbox's containers, which
may go on running (its issue 10727). What may belong to a call that still runs is left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from labkit.cri import CriClient, CriError, verbose
from labkit.kernel import LocalKernel, Process, Snapshot
from labkit.node.lab import residue
from labkit.node.observe.shims import is_shim
from labkit.node.packages.programs import find_programs
from labkit.node.state.home import Home
from labkit.util.termination import signal_all

log = logging.getLogger("labkit")

COLLECT_EVERY_S = 10.0


@dataclass(frozen=True)
class PreStartState:
    """Shims, bundles, mount points of network namespaces and reserved addresses that existed while no containerd ran. So none of
    them belongs to a call that still runs."""

    shims: frozenset[int]
    bundles: frozenset[Path]
    namespaces: frozenset[str]
    addresses: frozenset[Path]


def pre_start_state(home: Home) -> PreStartState:
    """The state now; no containerd may run."""
    found = shims(home, LocalKernel().snapshot(fds=False))
    return PreStartState(
        frozenset(p.pid for p in found), frozenset(own_bundles(home)), frozenset(namespaces(home)), frozenset(addresses(home))
    )


def remove_unowned(home: Home, before: PreStartState) -> tuple[list[str], frozenset[str]]:
    """Remove what existed before containerd started and has no sandbox. Returns what was removed, and the network namespaces
    whose owner is not known yet. Raises CriError."""
    snapshot = LocalKernel().snapshot(fds=False)
    with CriClient(f"unix://{home.socket}") as cri:
        sandboxes = {s.id for s in cri.list_pod_sandbox().items}
        known = sandboxes | {c.id for c in cri.list_containers().containers}
        unowned, undecided = unowned_namespaces(home, before.namespaces, cri, sandboxes)
    orphans = [p for p in shims(home, snapshot) if p.pid in before.shims and p.option("-id") not in sandboxes]
    removed = [end_shim(home, snapshot, p) for p in orphans]
    removed += [remove_bundle(home, b) for b in own_bundles(home) if b in before.bundles and b.name not in known]
    others = {bundle.name for bundle in set(home.bundles()) - set(own_bundles(home))}
    unowned_addresses = [f for f in addresses(home) if f in before.addresses and owner_of(f) not in sandboxes | others]
    removed += [remove_namespace(n) for n in sorted(unowned)]
    return removed + [release_address(f) for f in unowned_addresses], undecided


def free_namespaces(home: Home, those: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Remove those of the network namespaces that no sandbox owns. Returns what was removed, and the namespaces whose owner is
    not known yet. Raises CriError."""
    with CriClient(f"unix://{home.socket}") as cri:
        unowned, undecided = unowned_namespaces(home, those, cri, {s.id for s in cri.list_pod_sandbox().items})
    return [remove_namespace(n) for n in sorted(unowned)], undecided


def unowned_namespaces(
    home: Home, those: frozenset[str], cri: CriClient, sandboxes: Set[str]
) -> tuple[frozenset[str], frozenset[str]]:
    """Those of the network namespaces that no sandbox owns, and those whose owner is not known yet."""
    there = those & frozenset(namespaces(home))
    owned = owned_namespaces(cri, sandboxes) if there else set()
    return (frozenset(), there) if owned is None else (there - owned, frozenset())


@dataclass(frozen=True)
class Orphans:
    """Pids of shims, bundles, and containers of runc that seem to have no owner. They have none if the next search finds them
    again."""

    shims: frozenset[int] = frozenset()
    bundles: frozenset[Path] = frozenset()
    containers: frozenset[str] = frozenset()

    def __and__(self, other: Orphans) -> Orphans:
        return Orphans(self.shims & other.shims, self.bundles & other.bundles, self.containers & other.containers)


def find_orphans(home: Home) -> Orphans:
    """Shims without a child and without their sandbox; bundles of containers that do not run and that containerd does not know;
    containers that runc knows and that have no bundle. Raises CriError."""
    snapshot = LocalKernel().snapshot(fds=False)
    own = shims(home, snapshot)
    alive = {p.option("-id") for p in own}
    alive |= {path.rpartition("/")[2] for p in snapshot.processes.values() for path in p.cgroups.values()}
    idle = [p for p in own if not snapshot.children(p.pid)]
    dead = [b for b in own_bundles(home) if b.name not in alive]
    if idle or dead:
        with CriClient(f"unix://{home.socket}") as cri:
            sandboxes = {s.id for s in cri.list_pod_sandbox().items}
            known = sandboxes | {c.id for c in cri.list_containers().containers}
        idle = [p for p in idle if p.option("-id") not in sandboxes]
        dead = [b for b in dead if b.name not in known]
    forgotten = {state.name for state in runc_root(home).glob("*")} - {bundle.name for bundle in home.bundles()}
    return Orphans(frozenset(p.pid for p in idle), frozenset(dead), frozenset(forgotten))


def remove_orphans(home: Home, those: Orphans) -> list[str]:
    """Remove them. Returns what was removed."""
    snapshot = LocalKernel().snapshot(fds=False) if those.shims else None
    removed = [end_shim(home, snapshot, p) for p in shims(home, snapshot) if p.pid in those.shims] if snapshot else []
    removed += [remove_bundle(home, bundle) for bundle in sorted(those.bundles)]
    return removed + [delete_container(home, id) for id in sorted(those.containers)]


class GarbageCollector:
    """Removes what an earlier containerd left, once after each start of containerd, and orphans every COLLECT_EVERY_S."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.before: PreStartState | None = None
        self.undecided: frozenset[str] = frozenset()
        self.orphans = Orphans()
        self.next = 0.0

    def before_start(self) -> None:
        """Call this just before containerd starts."""
        self.before = pre_start_state(self.home)

    def collect(self) -> None:
        """Call this while containerd answers, as often as you like. The log lists what is removed."""
        removed: list[str] = []
        try:
            if self.before:
                removed, self.undecided = remove_unowned(self.home, self.before)
                self.before = None
            elif time.monotonic() > self.next:
                self.next = time.monotonic() + COLLECT_EVERY_S
                before, self.orphans = self.orphans, find_orphans(self.home)
                removed = remove_orphans(self.home, before & self.orphans)
                if self.undecided:
                    freed, self.undecided = free_namespaces(self.home, self.undecided)
                    removed += freed
        except (CriError, OSError) as error:
            log.warning("garbage collection failed: %s", error)
        except Exception:
            log.exception("garbage collection failed; it is tried again")
        if removed:
            log.warning("removed leftovers that belong to no Pod: %s", ", ".join(removed))


def shims(home: Home, snapshot: Snapshot) -> list[Process]:
    """The shims of the node's containerd, each named by the sandbox whose containers it holds."""
    return [p for p in snapshot.processes.values() if is_shim(p, str(home.socket))]


def end_shim(home: Home, snapshot: Snapshot, shim: Process) -> str:
    signal_all((process.pid for process in (shim, *snapshot.descendants(shim.pid))), signal.SIGKILL)
    sandbox = shim.option("-id")
    residue.unlink_shim_socket(home, sandbox)
    return f"shim {shim.pid} of the sandbox {sandbox[:13]}"


def remove_bundle(home: Home, bundle: Path) -> str:
    subprocess.run(["umount", "--lazy", str(bundle / "rootfs")], capture_output=True)
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.rmtree(home.data / "containerd" / bundle.relative_to(home.containerd_state), ignore_errors=True)
    return f"bundle {bundle.name[:13]}"


def runc_root(home: Home) -> Path:
    """Where runc keeps a directory for each container that containerd had it make (config.py)."""
    return home.run / "runc" / "k8s.io"


def delete_container(home: Home, id: str) -> str:
    """Kill what still runs of the container, and remove its cgroup and runc's record of it."""
    programs = find_programs(home.cache)
    environment = {**os.environ, **({"LD_LIBRARY_PATH": programs.library_path} if programs.library_path else {})}
    command = [str(programs.runc), "--root", str(runc_root(home)), "delete", "--force", id]
    subprocess.run(command, capture_output=True, env=environment)
    return f"container {id[:13]}"


def own_bundles(home: Home) -> list[Path]:
    return [bundle for bundle in home.bundles() if bundle.is_relative_to(home.containerd_state)]


def namespaces(home: Home) -> list[str]:
    return [m for m in residue.mounts(home) if residue.is_network_namespace(m) and m.startswith(f"{home.containerd_state}/")]


def owned_namespaces(cri: CriClient, sandboxes: Set[str]) -> set[str] | None:
    """The paths of the network namespaces that sandboxes name in their OCI configurations (in the verbose PodSandboxStatus). None
    where a sandbox has no configuration there: then any namespace may belong to it."""
    owned = set()
    for sandbox in sandboxes:
        try:
            info = verbose.info(cri.pod_sandbox_status(pod_sandbox_id=sandbox, verbose=True))
        except CriError as error:
            if error.gone:
                continue  # it has been removed since they were listed
            raise
        if not verbose.at(info, "runtimeSpec", "linux"):
            return None
        owned.add(verbose.namespace_paths(info).get("network", ""))
    return owned


def remove_namespace(path: str) -> str:
    subprocess.run(["umount", "--lazy", path], capture_output=True)
    with contextlib.suppress(OSError):
        os.unlink(path)
    return f"network namespace {os.path.basename(path)}"


def addresses(home: Home) -> list[Path]:
    """host-local's reservations: a file named by the address, whose first line is the sandbox's id."""
    return [f for f in (home.data / "cni" / "networks" / home.network).glob("*.*.*.*") if f.name[0].isdigit()]


def owner_of(reservation: Path) -> str:
    try:
        return reservation.read_text().split()[0]
    except (OSError, IndexError):
        return ""


def release_address(reservation: Path) -> str:
    reservation.unlink(missing_ok=True)
    return f"address {reservation.name}"
