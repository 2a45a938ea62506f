"""A real Docker engine of the tests' own, beside any other, which leaves the machine as it was however the tests end.

dockerd runs in a mount namespace of its own, where what it writes to /run, /etc and /opt goes to a tmpfs: its mounts and those
files vanish with its last process. The rest is one directory, a cgroup, bridges and a group, all found again by the directory's
name, so that the engine of tests that were killed is removed when the next one starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.node.packages.unpack import Unpacked
from tests.standin import runtime, system
from tests.standin.packages import bring

PREFIX = "standin-"
PARENT = Path("/tmp")
"""Not TMPDIR: the path of a socket has room for 107 bytes (man 7 unix)."""
CGROUPS = Path("/sys/fs/cgroup")
CAP_SYS_RESOURCE = 24

IN_ITS_OWN_MOUNTS = """
set -e
mount -t tmpfs -o mode=755 standin "$0"
for directory in run etc opt; do
    mkdir "$0/$directory" "$0/$directory.work"
    mount -t overlay -o "lowerdir=/$directory,upperdir=$0/$directory,workdir=$0/$directory.work" overlay "/$directory"
done
exec "$@"
"""


@dataclass(frozen=True)
class User:
    """An ordinary user; `docker_gid` is the group that may use the engine's socket."""

    name: str
    uid: int
    gid: int
    docker_gid: int
    home: Path
    env: Mapping[str, str] = field(repr=False)

    def run(self, *command: str | Path, in_group: bool = True, **more: Any) -> subprocess.CompletedProcess[str]:
        """The command as this user; without `in_group` as if it were not in Docker's group. `more` goes to subprocess.run."""
        options: dict[str, Any] = {
            "env": {**os.environ, **self.env}, "cwd": self.home, "timeout": 60, "text": True, "capture_output": True, **more
        }
        return subprocess.run(
            command, user=self.uid, group=self.gid, extra_groups=[self.docker_gid] if in_group else [], **options
        )


@dataclass(frozen=True)
class Engine:
    """A running engine. `docker` is the command, `host` the value for DOCKER_HOST, `env` what the environment of a child process
    that uses Docker needs, `group` the group whose members may use the socket, `daemon` dockerd."""

    base: Path
    docker: Path
    host: str
    group: str
    env: Mapping[str, str] = field(repr=False)
    daemon: subprocess.Popen[bytes] = field(repr=False)

    def run(self, *arguments: str | Path, input: bytes | None = None, check: bool = True, timeout: float = 120) -> str:
        """`docker ARGUMENTS`, by root: what it wrote to stdout. Raises AssertionError with its words if it fails and `check`."""
        return system.run([self.docker, *arguments], env=self.env, input=input, check=check, timeout=timeout)

    @contextlib.contextmanager
    def user(self) -> Iterator[User]:
        """An ordinary user in the engine's group, for as long as the block lasts. One at a time."""
        name = f"{self.base.name}-user"
        home = self.base / "home"
        system.add_user(name, home, self.group)
        try:
            entry = pwd.getpwnam(name)
            env = {**self.env, "HOME": str(home), "USER": name, "LOGNAME": name, "DOCKER_CONFIG": str(home / ".docker")}
            yield User(name, entry.pw_uid, entry.pw_gid, grp.getgrnam(self.group).gr_gid, home, env)
        finally:
            system.remove_user(name)
            shutil.rmtree(home)


@contextlib.contextmanager
def engine() -> Iterator[Engine]:
    """An engine for as long as the block lasts. Needs root. Raises ProgramsError, or AssertionError with dockerd's last words."""
    programs = bring("engine", ("docker.io",))
    remove_stale()
    base = Path(tempfile.mkdtemp(prefix=PREFIX, dir=PARENT))
    with held(base):
        base.chmod(0o755)
        group = system.add_group("docker", otherwise=f"docker-{base.name}")
        (base / "group").write_text(group)
        daemon = launch(base, programs, group)
        try:
            yield ready(base, programs, group, daemon)
        finally:
            remove(base)
            daemon.wait()


def launch(base: Path, programs: Unpacked, group: str) -> subprocess.Popen[bytes]:
    """dockerd, which asks nothing of the host's firewall, sysctls and bridges and ends when these tests do."""
    for directory in ("bin", "config", "shadow", "tmp"):
        (base / directory).mkdir()
    # In the network namespace of a container, and only there, dockerd redirects its own name server with it.
    if (iptables := programs.root / "usr/sbin/iptables-nft").exists():
        (base / "bin/iptables").symlink_to(iptables)
    (base / "daemon.json").write_text("{}")
    directories = [base / "bin", programs.root / "usr/sbin", programs.root / "usr/bin", os.environ["PATH"], "/usr/sbin", "/sbin"]
    environment = {
        "PATH": os.pathsep.join(map(str, directories)),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, programs.library_path)),
        "TMPDIR": str(base / "tmp"),
    }
    # No package of iptables is brought where the machine has it installed; that one finds its own modules.
    for modules in programs.root.glob("usr/lib/*/xtables"):
        environment["XTABLES_LIBDIR"] = str(modules)
    argv: list[str | Path] = [
        "setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private",
        "sh", "-c", IN_ITS_OWN_MOUNTS, base / "shadow",
        "dockerd", "--config-file", base / "daemon.json", "--pidfile", base / "pid", "--host", f"unix://{base}/docker.sock",
        "--data-root", base / "data", "--exec-root", base / "exec", "--group", group,
        "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false",
        "--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", f"/{base.name}", *default_runtime(base),
    ]
    with (base / "dockerd.log").open("wb") as log:
        # A session of its own: Ctrl-C ends the tests, and then they end dockerd.
        return subprocess.Popen(
            argv, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def default_runtime(base: Path) -> list[str]:
    """dockerd's options for a machine on which `--privileged` would fail: the runtime that asks for less (runtime.py)."""
    (bounding,) = re.findall(r"^CapBnd:\t(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if int(bounding, 16) >> CAP_SYS_RESOURCE & 1:
        return []
    program = base / "bin/standin-runtime"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {runtime.__file__} "$@"\n')
    program.chmod(0o755)
    return ["--add-runtime", f"standin={program}", "--default-runtime", "standin"]


def ready(base: Path, programs: Unpacked, group: str, daemon: subprocess.Popen[bytes]) -> Engine:
    # A copy, since an ordinary user cannot reach root's cache.
    docker = Path(shutil.copy2(programs.root / "usr/bin/docker", base / "bin/docker"))
    host = f"unix://{base}/docker.sock"
    path = os.pathsep.join([str(docker.parent), os.environ["PATH"]])
    env = {"DOCKER_HOST": host, "DOCKER_CONFIG": str(base / "config"), "DOCKER_BUILDKIT": "0", "PATH": path}
    made = Engine(base, docker, host, group, env, daemon)
    try:
        system.wait_for(lambda: daemon.poll() is not None or made.run("version", check=False), "dockerd to answer")
        assert daemon.returncode is None, f"dockerd exited with {daemon.returncode}"
    except AssertionError as error:
        raise AssertionError(f"{error}; its last words:\n{(base / 'dockerd.log').read_text()[-3000:]}") from None
    return made


def remove(base: Path) -> None:
    """End the engine below `base` with all that it runs, at once, and remove every trace of it."""
    system.kill_all(lambda: [*daemons(base), *members(base)], "the engine")
    for cgroup in cgroups(base):
        system.wait_for(lambda cgroup=cgroup: removed(cgroup), f"{cgroup} to be empty")  # type: ignore[misc]
    for bridge in bridges(base):
        system.run(["ip", "link", "delete", bridge])
    if (base / "group").exists():
        group = grp.getgrnam((base / "group").read_text())
        for user in group.gr_mem:
            system.remove_user(user)
        system.remove_group(group.gr_name)
    shutil.rmtree(base)


def remove_stale() -> None:
    """Remove the engines whose tests were killed: nobody holds their directories any more."""
    for base in filter(Path.is_dir, PARENT.glob(f"{PREFIX}*")):
        with contextlib.suppress(BlockingIOError), held(base):
            remove(base)


@contextlib.contextmanager
def held(base: Path) -> Iterator[None]:
    """The directory's lock, which the kernel gives back when its holder ends. Raises BlockingIOError if another holds it."""
    directory = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(directory)


def daemons(base: Path) -> list[int]:
    """dockerd, its containerd and its shims: each has a path below `base` among its arguments."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            names = any(argument.removeprefix("unix://").startswith(f"{base}/") for argument in arguments)
            if names and Path(program).name.startswith(("setpriv", "dockerd", "containerd", "runc")):
                found.append(int(process.name))
    return found


def cgroups(base: Path) -> list[Path]:
    """Every cgroup of the engine's containers, children before their parents."""
    return [Path(directory) for directory, _, _ in os.walk(CGROUPS, topdown=False) if base.name in Path(directory).parts]


def members(base: Path) -> list[int]:
    """The processes in those cgroups, which are thawed if they were paused: a frozen process does not even die."""
    found: set[int] = set()
    for cgroup in cgroups(base):
        for switch, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            if (cgroup / switch).exists():
                (cgroup / switch).write_text(thawed)
        found |= {int(pid) for pid in (cgroup / "cgroup.procs").read_text().split()}
    return sorted(found - {0})


def removed(cgroup: Path) -> bool:
    with contextlib.suppress(OSError):
        cgroup.rmdir()
    return not cgroup.exists()


def bridges(base: Path) -> list[str]:
    """The bridges of the engine's networks that are still there, as its own database names them."""
    database = base / "data/network/files/local-kv.db"
    names = set(re.findall(rb"br-[0-9a-f]{12}", database.read_bytes())) if database.exists() else set()
    return sorted(name.decode() for name in names if Path("/sys/class/net", name.decode()).exists())
