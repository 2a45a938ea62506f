"""The processes of one lab, found by their arguments and cgroups and not by a list that could be lost."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from labkit.kernel import LocalKernel, Process, Snapshot
from labkit.node.host import relay_loop
from labkit.node.state.home import VM, Home
from labkit.node.state.status import start_time
from labkit.util.progress import attempts
from labkit.util.termination import signal_all

log = logging.getLogger("labkit")

DAEMONS = ("containerd", "docker-registry")
KUBEAPI, KUBELET = "labkit.apiserver", "labkit.kubelet"
OLDER_KUBEAPI = "labkit.kubeapi"
OWNERS = frozenset({"labkit.node.lab.supervisor", "labkit.node.vm.owner", "labkit.node.supervisor"})
"""What `python -m` runs; the last is a name in an older labkit, whose lab may run still."""
RUNTIMES_CGROUP = re.compile(r"/k8s\.io/([0-9a-f]{64})")
"""Where containerd puts a container whose sandbox asks for no cgroup_parent: below its namespace, by the container's id."""


@dataclass(frozen=True)
class OwnProcess:
    """A process of this lab; `role` is "owner" (a background process: a node's owner, a relay), "daemon", "shim" or "container";
    `module` is what `python -m` runs, for a node's owner (OWNERS), the API (KUBEAPI) and the kubelet (KUBELET)."""

    pid: int
    comm: str
    role: str
    module: str = ""


def own_processes(home: Home) -> list[OwnProcess]:
    """Every process of this lab. The arguments of its programs name the home's directories. The cgroup of its containers is below
    the home's root, or has a container's id where the sandbox asks for no cgroup_parent."""
    if sys.platform != "linux":
        return []
    snapshot = LocalKernel().snapshot(fds=False)
    ids = container_ids(home, snapshot)
    found = [
        OwnProcess(p.pid, p.comm, role, module_of(p))
        for p in snapshot.processes.values()
        if (role := role_of(p, home, ids))
    ]
    order = {"owner": 0, "daemon": 1, "shim": 2, "container": 3}
    return sorted(found, key=lambda p: (order[p.role], p.pid))


def container_ids(home: Home, snapshot: Snapshot) -> frozenset[str]:
    """The ids of the lab's containers: the names of their bundles. Where the bundles were deleted, the names of the cgroups in
    which children of the lab's shims run."""
    ids = {bundle.name for bundle in home.bundles()}
    for shim in snapshot.processes.values():
        if not is_shim(shim, home):
            continue
        for child in snapshot.children(shim.pid):
            # A child that is in the shim's own cgroup is a runc that works for it.
            paths = [path for name, path in child.cgroups.items() if path != shim.cgroups.get(name)]
            ids |= {match[1] for path in paths if (match := RUNTIMES_CGROUP.fullmatch(path))}
    return frozenset(ids)


def is_shim(process: Process, home: Home) -> bool:
    """Whether it is a shim (or a runc) of the lab's containerd."""
    named = process.program.startswith(("containerd-shim", "runc"))
    return named and names_home(process.cmdline, home) and not in_a_container(process)


def node_owners(home: Home) -> list[OwnProcess]:
    """The background processes that own the home's node; at most one, unless the home's files were deleted while it ran."""
    return [p for p in own_processes(home) if p.module in OWNERS]


def role_of(process: Process, home: Home, ids: Collection[str]) -> str | None:
    if process.pid == os.getpid():
        return None
    if any(
        (path + "/").startswith(home.cgroup_root + "/") or path.rpartition("/")[2] in ids for path in process.cgroups.values()
    ):
        return "container"
    if not names_home(process.cmdline, home) or in_a_container(process):
        return None
    if (module := module_of(process)) in OWNERS or str(relay_loop.PROGRAM) in process.cmdline:
        return "owner"
    if module or process.program in DAEMONS:
        return "daemon"
    return "shim" if is_shim(process, home) else None


def in_a_container(process: Process) -> bool:
    """Whether it runs in another PID namespace than this process. The paths that it names are then not those of this machine."""
    return process.namespaces.get("pid", own_pid_namespace()) != own_pid_namespace()


@cache
def own_pid_namespace() -> int:
    return os.stat("/proc/self/ns/pid").st_ino


def module_of(process: Process) -> str:
    """The module that `python -m` runs if it is one of labkit's, else ""."""
    module = process.cmdline[2] if process.cmdline[1:2] == ("-m",) and len(process.cmdline) > 2 else ""
    return module if module in {KUBEAPI, KUBELET, OLDER_KUBEAPI, *OWNERS} else ""


def names_home(cmdline: tuple[str, ...], home: Home) -> bool:
    """Whether one of its arguments is a path in the home's directories, other than those of the virtual machine's home below
    them."""
    roots = (str(home.run), str(home.data))
    return any(
        arg == root or (arg.startswith(f"{root}/") and not arg.startswith(f"{root}/{VM}/") and arg != f"{root}/{VM}")
        for arg in cmdline
        for root in roots
    )


def end(processes: Iterable[OwnProcess], grace_s: float = 3.0) -> list[OwnProcess]:
    """Send SIGTERM, wait, send SIGKILL. Containers and shims get SIGKILL at once, since nobody waits for them. Returns what was
    ended."""
    listed = list(processes)
    for process in listed:
        signal_all([process.pid], signal.SIGKILL if process.role in ("shim", "container") else signal.SIGTERM)
    signal_all((process.pid for process in wait_gone(listed, grace_s)), signal.SIGKILL)
    wait_gone(listed, grace_s)
    wait_reaped(listed)
    return listed


def end_orphaned_daemons(home: Home) -> None:
    """End the daemons of an owner that was killed by SIGKILL. Shims and containers stay: they are the Pods, and containerd finds
    them again."""
    for process in end(p for p in own_processes(home) if p.role == "daemon"):
        log.warning("ended %s (pid %d), left by an owner that was killed", process.comm, process.pid)


def wait_gone(processes: Sequence[OwnProcess], within_s: float) -> Sequence[OwnProcess]:
    """Wait until none of them runs. Returns those that still run after `within_s` seconds."""
    for _ in attempts(within_s):
        if not (processes := [p for p in processes if start_time(p.pid) is not None]):
            break
    return processes


REAPED_WITHIN_S = 5.0


def wait_reaped(processes: Iterable[OwnProcess]) -> None:
    """Wait until the parents have reaped these processes. A shim's parent is the machine's init, which may be slow."""
    waiting = list(processes)
    for _ in attempts(REAPED_WITHIN_S, 0.05):
        if not (waiting := [p for p in waiting if os.path.exists(f"/proc/{p.pid}")]):
            break
