"""Brings a private node up and down, whatever state the machine is in."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.node.host.lab_processes import end, node_owners, own_processes, wait_gone, wait_reaped
from labkit.node.lab import control, kubernetes, owner_process, residue
from labkit.node.packages.programs import ensure_programs
from labkit.node.pods import operations
from labkit.node.state import incident_note, status
from labkit.node.state.home import Home
from labkit.node.state.locks import home_lock
from labkit.util.errors import NodeError
from labkit.util.progress import Progress, attempts, quiet

START_WITHIN_S = 90.0
STOP_WITHIN_S = 45.0
OWNER_LEAVES_WITHIN_S = 2.0
"""Between the removal of its status and its end, an owner needs milliseconds."""
OWNER_ENDS_WITHIN_S = 20.0


def up(home: Home, progress: Progress = quiet) -> dict[str, Any]:
    """Bring the private node up where it is not. Returns its status (see `status.read`).

    Idempotent. Of two calls at once one waits for the other. Ctrl-C and any failure take down what this call started. A
    containerd that an open incident has stopped stays stopped. Raises NodeError.
    """
    require_root()
    with home_lock(home, progress):
        if (found := status.read(home))["state"] == "stopped":
            if incident_note.holds(home, incident_note.RUNTIME, "containerd"):
                return found
            control.ask(home, progress, do="start")
        if status.read(home)["state"] in ("ready", "restarting"):
            return owner_process.wait_ready(home, START_WITHIN_S)
        status.refuse_moved(home)
        if status.read(home)["state"] == "down" and wait_gone(node_owners(home), OWNER_LEAVES_WITHIN_S):
            progress("ending the node whose directory was deleted while it ran")
            end_all(home)
        ensure_programs(home.cache, progress)
        if room_mb(home) < 200:
            raise NodeError(
                f"Only {room_mb(home):.0f} MB are free in {home.data}, and a node needs 200.",
                "Free some, or set LABKIT_HOME to another disk.",
            )
        progress("starting containerd, the registries, API and kubelet")
        status.remove(home)
        try:
            owner_process.start(home, "labkit.node.lab.supervisor", home.environ())
            return owner_process.wait_ready(home, START_WITHIN_S)
        except BaseException:
            end((p for p in own_processes(home) if p.role == "owner"), STOP_WITHIN_S)
            raise


def down(home: Home, progress: Progress = quiet) -> int:
    """Stop the node: its Pods are stopped and removed, containerd and the registries end, the bridge is deleted. Images and logs
    stay. So do the objects of its Kubernetes API, whose Pods are started again by the next `up`.

    Returns how many Pods were removed. Idempotent. It also ends what a killed owner left, and a node whose directories were
    deleted or moved while it ran; the Pods of such a node are killed.
    """
    require_root()
    if not home.run.exists() and not residue.in_kernel(home):
        return 0
    with home_lock(home, progress):
        if former := status.former_home(home):
            progress(f"ending the node that was started in {former.run}")
            end_all(former)
            end_all(home)
            return 0
        if status.read(home)["state"] == "stopped":
            with contextlib.suppress(NodeError):
                control.ask(home, progress, do="start")  # only containerd can remove its Pods well
        with kubernetes.kubelet_stopped(home):
            removed = remove_pods(home, progress)
            progress("stopping containerd, the registries, kubelet and API")
            found = status.read(home)
            if found["state"] in ("starting", "ready", "restarting", "stopped"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(found["pid"], signal.SIGTERM)
        for _ in attempts(OWNER_ENDS_WITHIN_S):
            if status.read(home)["state"] in ("down", "failed"):
                break
        end_all(home)
    return removed


def end_all(home: Home) -> None:
    """End every process of the node, and remove its mounts, links and cgroups."""
    sockets, cgroups = residue.shim_sockets(home), residue.cgroups(home)
    for role in ("owner", "daemon", "shim", "container"):
        end(p for p in own_processes(home) if p.role == role)
    for socket in sockets:
        socket.unlink(missing_ok=True)
    residue.remove_kernel_objects(home, cgroups)
    status.remove(home)


def remove_pods(home: Home, progress: Progress) -> int:
    """Stop and remove every Pod through CRI while containerd can still do it well (CNI DEL, unmounts)."""
    if not home.socket.exists():
        return 0
    removed = 0
    with CriClient(f"unix://{home.socket}", timeout=20.0) as cri, contextlib.suppress(CriError):
        sandboxes = cri.list_pod_sandbox(timeout=3.0).items
        if sandboxes:
            progress(f"removing {len(sandboxes)} Pod{'s' * (len(sandboxes) != 1)}")
        for sandbox in sandboxes:
            with contextlib.suppress(CriError):
                operations.remove_sandbox(cri, sandbox.id)
                residue.unlink_shim_socket(home, sandbox.id)
                removed += 1
    return removed


def require_root() -> None:
    if os.geteuid() != 0 or sys.platform != "linux":
        raise NodeError(
            "A private containerd needs root on Linux, and this is neither."
            if sys.platform != "linux"
            else "A private containerd needs root, and this is an ordinary user.",
            "Run the same command with sudo, or see `labkit doctor` for other kinds of node.",
        )


def room_mb(home: Home) -> float:
    room = os.statvfs(home.data)
    return room.f_bavail * room.f_frsize / 1e6


def clean(home: Home, progress: Progress = quiet, *, keep: bool = False) -> residue.Residue:
    """Stop the node and remove everything of it from this machine. Returns what was found, by kind; `residue.find` tells what is
    left. keep: keep the list of nodes elsewhere (see `labkit.node.kinds.cleaning`)."""
    require_root()
    found = residue.find(home, status.former_home(home))
    own = own_processes(home)
    down(home, progress)
    wait_reaped(own)  # shims end by themselves when their Pods are removed
    progress("removing files")
    residue.remove_files(home, keep, found["files"])
    return found
