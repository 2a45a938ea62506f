"""Up and down: bring a private node to life, and stop it, whatever state the machine is in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.node.host import links
from labkit.node.host.lab_processes import end, own_processes, wait_reaped
from labkit.node.lab import control, residue
from labkit.node.packages.programs import ensure_programs
from labkit.node.pods import kubernetes, operations
from labkit.node.state import status, trust
from labkit.node.state.home import Home
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

START_WITHIN_S = 90.0
STOP_WITHIN_S = 45.0


def quiet(text: str) -> None:
    """A progress that shows nothing."""


def up(home: Home, progress: Progress = quiet) -> dict[str, Any]:
    """Bring the private node up, or find it up; returns its status (see `status.read`).

    Idempotent. Two at once are one after the other. Ctrl-C and any failure take down what this call started. Raises NodeError.
    """
    require_root()
    with only_one(home, progress):
        if status.read(home)["state"] == "stopped":
            control.ask(home, progress, do="start")
        if status.read(home)["state"] in ("ready", "restarting"):
            return wait_ready(home)
        ensure_programs(home.cache, progress)
        if room_mb(home) < 200:
            raise NodeError(
                f"Only {room_mb(home):.0f} MB are free in {home.data}, and a node needs 200.",
                "Free some, or set LABKIT_HOME to another disk.",
            )
        progress("starting containerd, the registries, API and kubelet")
        status.remove(home)
        try:
            start_owner(home)
            return wait_ready(home)
        except BaseException:
            end((p for p in own_processes(home) if p.role == "owner"), STOP_WITHIN_S)
            raise


def start_owner(home: Home) -> None:
    """Start the background process; it is nobody's child, so that it stays when notebooks and terminals go. Raises NodeError."""
    with trust.append(home.log_file) as log:
        started = subprocess.run(
            environment.launched([sys.executable, "-m", "labkit.node.lab.supervisor", str(home.run)]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment.daemon(home.environ()),
            start_new_session=True,
            cwd="/",
        )
    if started.returncode:
        raise NodeError(f"The node's owner did not start (exit code {started.returncode}).", f"The log is {home.log_file}.")


def wait_ready(home: Home) -> dict[str, Any]:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        said = status.read(home)
        if said["state"] == "ready":
            return said
        if said["state"] == "failed":
            raise NodeError(f"The node did not start. {said.get('error', '')}".strip(), f"The log is {home.log_file}.")
        if said["state"] == "down":
            raise NodeError("The node's owner ended before the node was ready.", f"The log is {home.log_file}.")
        time.sleep(0.02)
    raise NodeError(f"The node was not ready after {START_WITHIN_S:.0f} s.", f"The log is {home.log_file}.")


def down(home: Home, progress: Progress = quiet) -> int:
    """Stop the node: its Pods are stopped and removed, containerd and the registries end, the bridge goes. Images and logs stay.
    What its Kubernetes API holds stays too: its Pods are started again with the next `up`.

    Returns how many Pods were removed. Idempotent; works on what a killed owner left, too.
    """
    require_root()
    if not home.run.exists():
        return 0
    with only_one(home, progress):
        if status.read(home)["state"] == "stopped":
            with contextlib.suppress(NodeError):
                control.ask(home, progress, do="start")  # only containerd can remove its Pods well
        with kubernetes.kubelet_stopped(home):
            removed = remove_pods(home, progress)
            progress("stopping containerd, the registries, kubelet and API")
            said = status.read(home)
            if said["state"] in ("starting", "ready", "restarting", "stopped"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(said["pid"], signal.SIGTERM)
        deadline = time.monotonic() + 20.0
        while status.read(home)["state"] not in ("down", "failed") and time.monotonic() < deadline:
            time.sleep(0.02)
        sockets = residue.shim_sockets(home)
        for role in ("owner", "daemon", "shim", "container"):
            end(p for p in own_processes(home) if p.role == role)
        for socket in sockets:
            socket.unlink(missing_ok=True)
        residue.remove_kernel_objects(home)
        links.remove_links(home.bridge)
        status.remove(home)
    return removed


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


@contextlib.contextmanager
def only_one(home: Home, progress: Progress) -> Iterator[None]:
    """One `up`, `down` or `clean` at a time; a second one waits, and says that it does."""
    home.make()
    lock = trust.append(home.run / "up.lock")
    with trust.locked(lock, lambda: progress("another labkit is at work on this node; waiting for it")):
        yield


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


def clean(home: Home, progress: Progress = quiet, *, keep: bool = False) -> residue.Traces:
    """Stop the node and remove every trace of it from this machine; what there was, by kind. `traces.find` tells what is left.
    keep: the list of nodes elsewhere stays (see `labkit.node.kinds.cleaning`)."""
    require_root()
    found = residue.find(home)
    own = own_processes(home)
    down(home, progress)
    wait_reaped(own)  # shims end by themselves when their Pods are removed
    progress("removing files")
    residue.remove_files(home, keep)
    return found
