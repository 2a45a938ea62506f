"""A process in a root directory as a container engine runs it: namespaces of its own, no capability for an ordinary user, /sys
and /proc/sys read-only, no device but the usual ones; for a session a limit of memory, and no network but loopback."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.standin import system

CLONE_NEWNET = 0x40000000
RUNTIME = """
set -e
root=$1 user=$2 cwd=$3 procs=$4 network=$5; shift 5
[ -z "$procs" ] || echo $$ >"$procs"
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/dev/shm"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for link in pts/ptmx:ptmx /proc/self/fd:fd /proc/self/fd/0:stdin /proc/self/fd/1:stdout /proc/self/fd/2:stderr; do
    ln -s "${link%:*}" "$root/dev/${link#*:}"
done
for path in /etc/resolv.conf /etc/ssl/certs; do
    [ ! -e "$root$path" ] || mount -o bind,ro "$path" "$root$path"
done
[ "$network" ] || ip link set lo up
if [ "$user" != root ]; then
    uid=$(chroot "$root" id -u "$user") gid=$(chroot "$root" id -g "$user")
    set -- setpriv --reuid="$uid" --regid="$gid" --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \\
        --no-new-privs --pdeathsig=KILL "$@"
fi
exec chroot "$root" env -C "$cwd" "$@"
"""


@dataclass(frozen=True)
class Place:
    """Where and as whom a container's processes run."""

    root: Path
    env: Mapping[str, str]
    user: str
    cwd: str

    def argv(self, argv: Sequence[str], *, network: bool, procs: str = "") -> list[str]:
        """What runs `argv` as PID 1 of a new container. `procs`: a cgroup's file, to be in that cgroup."""
        own = ["--mount", "--pid", "--ipc", "--uts", *([] if network else ["--net"])]
        return [
            "unshare", *own, "--fork", "--kill-child", "sh", "-c", RUNTIME, "sh", str(self.root), self.user, self.cwd, procs,
            "yes" if network else "", *environment(self.env), *argv,
        ]


def environment(env: Mapping[str, str]) -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in env.items())]


def run_in(place: Place, argv: Sequence[str], timeout: float = 1800) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with this machine's network; what it said is in stdout, both streams."""
    return subprocess.run(
        place.argv(argv, network=True), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}, timeout=timeout,
    )


@dataclass(frozen=True)
class Session:
    """A container that runs. `pid` is its first process's in this machine's count."""

    place: Place
    pid: int
    memory: Memory

    def run(self, *argv: str, check: bool = True, timeout: float = 300) -> str:
        """What another process in it says, as its user and with her environment, within the same limits."""
        limit = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', self.memory.procs]
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--ipc", "--uts", "--net", "--root"]
        users = [line.split(":") for line in (self.place.root / "etc/passwd").read_text().splitlines()]
        uid, gid = next((user[2], user[3]) for user in users if user[0] == self.place.user)
        drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
        inner = ["env", "-C", self.place.cwd, *environment(self.place.env), *argv]
        return system.run([*limit, *enter, *drop, *inner], check=check, timeout=timeout)

    def connect(self, port: int) -> socket.socket:
        """To a port of its own loopback: a socket belongs to the network namespace that its maker is in (man 2 setns)."""
        made: list[socket.socket | OSError] = []

        def enter() -> None:
            try:
                with open(f"/proc/{self.pid}/ns/net") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                made.append(socket.create_connection(("127.0.0.1", port), 30))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        made[0].settimeout(None)
        return made[0]


@contextlib.contextmanager
def session(place: Place, argv: Sequence[str], log: Path, *, memory: int, cores: int) -> Iterator[Session]:
    """`argv` as PID 1, in `memory` bytes and on `cores` processors, until the block ends."""
    with limited(memory) as limit, log.open("wb") as output:
        taskset = ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))]
        process = subprocess.Popen(
            [*taskset, *place.argv(argv, network=False, procs=limit.procs)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
        )
        try:
            first = system.wait_for(lambda: first_process(process, log), "the container's first process")
            yield Session(place, first, limit)
            os.kill(first, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
        finally:
            process.kill()  # the container's first process goes with it, and the others with that one
            process.wait()


def first_process(process: subprocess.Popen[bytes], log: Path) -> int:
    """The pid of unshare's child once it is what it was started for; 0 before. Raises AssertionError where it ended."""
    assert process.poll() is None, log.read_text(errors="replace")[-3000:]
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    if not children or Path(f"/proc/{children[0]}/root").readlink() == Path("/"):
        return 0
    return int(children[0])


@dataclass(frozen=True)
class Memory:
    """A cgroup with a limit of memory, of version 1 or 2 (the kernel's admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst)."""

    directory: Path
    version: int

    @property
    def procs(self) -> str:
        """Who writes its pid there is in the cgroup from then on."""
        return str(self.directory / "cgroup.procs")

    def resident(self) -> int:
        """Bytes that are no page cache: what counts against the limit and cannot be given back."""
        wanted = ("anon", "shmem") if self.version == 2 else ("total_rss", "total_shmem")
        return sum(int(line.split()[1]) for line in self._lines("memory.stat") if line.split()[0] in wanted)

    def kills(self) -> int:
        """How often the kernel ended a process for want of memory."""
        file = "memory.events" if self.version == 2 else "memory.oom_control"
        return next(int(line.split()[1]) for line in self._lines(file) if line.startswith("oom_kill "))

    def _lines(self, name: str) -> list[str]:
        return (self.directory / name).read_text().splitlines()


@contextlib.contextmanager
def limited(limit: int) -> Iterator[Memory]:
    """A memory cgroup with `limit` bytes and no swap. Its processes have to end before the block does."""
    base = Path("/sys/fs/cgroup/memory")
    version = 1 if (base / "memory.limit_in_bytes").exists() else 2
    directory = (base if version == 1 else base.parent) / f"labkit-session-{os.getpid()}"
    directory.mkdir()
    try:
        settings = {1: ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"), 2: ("memory.max",)}[version]
        for name in settings:
            if (directory / name).exists():
                (directory / name).write_text(str(limit))
        if (directory / "memory.swap.max").exists():
            (directory / "memory.swap.max").write_text("0")
        yield Memory(directory, version)
    finally:
        system.wait_for(lambda: not (directory / "cgroup.procs").read_text(), "the session's processes to end")
        directory.rmdir()
