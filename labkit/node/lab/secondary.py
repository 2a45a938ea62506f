"""A second containerd next to the node's own: another version on the same kernel, for the length of a `with` block."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from labkit.node.host import containerd_setup
from labkit.node.host.lab_processes import end, own_processes
from labkit.node.host.services import last_words
from labkit.node.lab import residue
from labkit.node.lab.lifecycle import remove_pods
from labkit.node.packages.programs import find_programs
from labkit.node.packages.releases import Release
from labkit.node.state import status
from labkit.node.state.home import SOCKET_PATH_MAX, Home
from labkit.node.state.locks import home_lock
from labkit.util import environment, trees
from labkit.util.errors import NodeError
from labkit.util.progress import attempts, quiet
from labkit.util.termination import end_child

READY_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
"""So that a notebook's kernel that is killed leaves no process (man 1 setpriv, of util-linux as mount is)."""


class SecondaryHome(Home):
    """The home of a second containerd. It has the lab's network and a cgroup of its own, by which its containers are known."""

    @property
    def cgroup_root(self) -> str:
        return f"{super().cgroup_root}/{self.run.name}"


@contextlib.contextmanager
def running(home: Home, release: Release) -> Iterator[Home]:
    """Run a containerd of this release with a root, a state directory and a socket of its own below the lab's home. Yields its
    Home.

    It shares the lab's bridge, registries and image names, so Pods can run on it. With the block its Pods are removed, its
    process ends and its files are deleted. It is a child of this process and ends with it. Raises NodeError.
    """
    second = claim(home)
    process = None
    try:
        process = start(home, second, release)
        wait_ready(second, release, process)
        yield second
    finally:
        if process:
            remove_pods(second, quiet)
            end_child(process, STOP_WITHIN_S)
        forget(second)


def claim(home: Home) -> Home:
    """Reserve an unused directory of the home and empty it. A reservation ends with its process."""
    with home_lock(home, quiet):
        for number in range(1, 100):
            second = SecondaryHome(home.run / f"b{number}", home.data / f"b{number}", home.cache, home.tag)
            if status.read(second)["state"] == "down":
                forget(second)
                second.make()
                status.write(second, state="starting", pid=os.getpid(), started=status.start_time(os.getpid()))
                break
    if len(os.fsencode(f"{second.socket}.ttrpc")) > SOCKET_PATH_MAX:
        forget(second)
        reason = f"The path {second.socket} is longer than a Unix socket's may be."
        raise NodeError(reason, "Set LABKIT_HOME to a shorter directory.")
    return second


def start(home: Home, second: Home, release: Release) -> subprocess.Popen[bytes]:
    programs = release.programs(find_programs(home.cache))
    for directory in (second.run / "tmp", second.kubelet_root, second.log_root):
        directory.mkdir(parents=True, mode=0o700)
    for shared in ("cni", "certs.d"):
        (second.data / shared).symlink_to(home.data / shared)
    containerd_setup.write_config(second, programs)
    with output(second).open("wb") as words:
        return subprocess.Popen(
            [*DIES_WITH_PARENT, str(programs.containerd), "--config", str(second.data / "containerd.toml")],
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            env=environment.daemon(containerd_setup.environment(second, programs)),
            umask=environment.UMASK,
            start_new_session=True,
        )


def wait_ready(second: Home, release: Release, process: subprocess.Popen[bytes]) -> None:
    for left in attempts(READY_WITHIN_S):
        try:
            containerd_setup.answer(second.socket)
            break
        except Exception as error:
            if process.poll() is not None or not left:
                words = last_words(output(second))
                raise NodeError(f"The containerd {release.version} beside the node's did not start: {words}") from error
    runtime = containerd_setup.runtime_version(second.socket)
    status.write(second, state="ready", runtime=runtime, processes={"containerd": process.pid})


def forget(second: Home) -> None:
    """End its processes, unmount, and remove its cgroups, sockets and directories."""
    sockets = residue.shim_sockets(second)
    for role in ("daemon", "shim", "container"):
        end(p for p in own_processes(second) if p.role == role)
    for point in residue.mounts(second):
        subprocess.run(["umount", "--lazy", point], capture_output=True)
    for directory in residue.cgroups(second):
        with contextlib.suppress(OSError):
            directory.rmdir()
    for socket in sockets:
        socket.unlink(missing_ok=True)
    for tree in (second.run, second.data):
        trees.remove(tree)


def output(second: Home) -> Path:
    return second.data / "containerd.log"
