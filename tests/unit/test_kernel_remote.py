"""A kernel that is asked by commands only: captured answers, and this machine's kernel asked both ways, with GNU's and busybox's
programs. Tests that make namespaces are skipped without root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from labkit.kernel import LocalKernel, RemoteKernel
from labkit.kernel.remote import Run
from labkit.node.packages.elf import is_static
from labkit.node.packages.programs import find_programs
from labkit.node.state.home import Home
from tests.waits import wait_for

DATA = Path(__file__).parent / "data"
MISSING_PID = 4194304  # the kernel's PID_MAX_LIMIT: no process can have it
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make these namespaces")

# A comm and arguments with line breaks, an empty argument, bytes that are no UTF-8, a zombie, a namespace held open.
ODD = """
import os, sys
open("/proc/self/comm", "w").write("a) S (1\\n")
held = os.open("/proc/self/ns/uts", os.O_RDONLY)
if os.fork() == 0:
    os._exit(0)
os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
os.write(1, b"ready")
sys.stdin.read()
"""
ARGUMENTS = ["", "two\nlines\n", "\udcff", "last"]


def command_line(path: str | None = None, *before: str) -> Run:
    """Run commands here, with the programs of `path` only."""
    env = {**os.environ, **({"PATH": path} if path else {})}

    def run(argv: Sequence[str]) -> bytes:
        return subprocess.run([*before, *argv], stdout=subprocess.PIPE, check=True, env=env).stdout

    return run


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH on which there is only busybox."""
    program = find_programs(Home.find().cache).busybox
    if not (program.is_file() and is_static(program)):
        if os.environ.get("CI") == "true":
            pytest.fail("no static busybox: run labkit up once")
        pytest.skip("no static busybox: run labkit up once")
    directory = tmp_path_factory.mktemp("busybox")
    for applet in subprocess.check_output([program, "--list"], text=True).split():
        (directory / applet).symlink_to(program)
    return str(directory)


@pytest.fixture(params=["gnu", "busybox"])
def path(request: pytest.FixtureRequest) -> str | None:
    return request.getfixturevalue("busybox") if request.param == "busybox" else None


@pytest.fixture
def remote(path: str | None) -> RemoteKernel:
    return RemoteKernel(command_line(path))


@pytest.fixture
def odd() -> Iterator[list[int]]:
    """Pids of an `unshare`, of an odd process that is process 1 of namespaces of its own, and of its zombie."""
    inside = ["--net", "--ipc", "--uts", "--mount", "--cgroup", "--pid", "--fork", "--kill-child"]
    command = ["unshare", *inside, sys.executable, "-c", ODD, *ARGUMENTS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout and outer.stdout.read(5) == b"ready"
        pids = [outer.pid]
        for _ in range(2):
            pids.append(int(Path(f"/proc/{pids[-1]}/task/{pids[-1]}/children").read_text()))
        wait_for(lambda: f"{pids[1]} (a) S (1\n) S" in Path(f"/proc/{pids[1]}/stat").read_text())
        yield pids
        outer.kill()


@pytest.fixture
def pin(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Bind-mounts a new namespace of a type on a path with a space in it."""
    made: list[Path] = []

    def pinned(type: str) -> str:
        made.append(tmp_path / f"a {type}")
        made[-1].touch()
        links = "ip link set lo up; ip link add eth0 type veth peer name other netns $$; ip address add 10.9.0.2/16 dev eth0"
        subprocess.run(["unshare", f"--{type}={made[-1]}", "sh", "-ec", links if type == "net" else ":"], check=True)
        return str(made[-1])

    yield pinned
    for path in made:
        subprocess.run(["umount", str(path)], check=True)


def captured(name: str) -> bytes:
    return (DATA / f"remote_snapshot_{name}").read_bytes()


@pytest.mark.parametrize("name", ["gnu", "busybox"])
def test_a_captured_answer(name):
    snapshot = RemoteKernel(lambda argv: captured(name)).snapshot()
    assert sorted(snapshot.processes) == [1, 7, 8, 10]
    first, sleep, other, zombie = (snapshot.processes[pid] for pid in (1, 7, 8, 10))
    assert (first.comm, first.exe, first.ppid, first.ns_pids) == ("a) S (1\n", "/tmp/x/py\nthon", 0, (1,))
    assert first.cmdline[0] == "/tmp/x/py\nthon" and first.cmdline[3:] == ("", "two\nlines", "\udcff", "last")
    assert (sleep.cmdline, sleep.exe, sleep.uid) == (("sleep", "50"), "/usr/bin/sleep", 0)
    assert (other.uid, other.gid, other.namespaces) == (33, 34, first.namespaces)
    assert (zombie.state, zombie.cmdline, zombie.exe, sorted(zombie.namespaces)) == ("Z", (), "", ["pid", "user"])
    assert first.cgroups["memory"] == "/kubepods/pod1" and first.cgroups[""] == "/"
    assert snapshot.namespace(1, "uts").fds == ((1, 3), (1, 9))
    assert snapshot.namespace(1, "net").members == (1, 7, 8)
    assert [found.mounts for found in snapshot.namespaces.values() if not found.members] == [("/tmp/x/a net",)]
    now, uptime = captured(name).decode(errors="replace").split("\n")[2].split()
    assert snapshot.at_ns == int(now)
    coarse = RemoteKernel(lambda argv: captured(name).replace(now.encode(), b"")).snapshot()
    assert coarse.at_ns == round(float(uptime) * 100) * 10_000_000


def test_a_process_that_ended_meanwhile_is_left_out():
    answer = captured("gnu")
    (token, *_), start = answer.split(b"\n"), answer.index(b"9:name=systemd", answer.index(b"sleep\x0050"))
    gone = answer[:start] + answer[answer.index(token, start) :]
    assert sorted(RemoteKernel(lambda argv: gone).snapshot().processes) == [1, 8, 10]


def test_text_does_as_well_as_bytes():
    text = captured("gnu").decode(errors="surrogateescape")
    assert RemoteKernel(lambda argv: text).snapshot() == RemoteKernel(lambda argv: captured("gnu")).snapshot()


@pytest.mark.parametrize("answer", [b"", b"\n", b"sh: 1: syntax error\n", captured("gnu")[:-1], captured("gnu")[:5000]])
def test_half_an_answer_is_none(answer):
    with pytest.raises(OSError, match=r"did not send all of its /proc.*Try again"):
        RemoteKernel(lambda argv: answer).snapshot()


@needs_root
@pytest.mark.parametrize("fds", [True, False])
def test_the_same_processes_and_namespaces_as_seen_directly(remote, odd, fds):
    here, there = LocalKernel().snapshot(fds), remote.snapshot(fds)
    assert [there.processes.get(pid) for pid in odd] == [here.processes[pid] for pid in odd]
    assert there.processes[odd[1]].cmdline[3:] == tuple(ARGUMENTS)
    own = set(here.processes[odd[1]].namespaces.values()) - set(here.processes[os.getpid()].namespaces.values())
    assert len(own) == 6
    assert {inode: there.namespaces[inode] for inode in own} == {inode: here.namespaces[inode] for inode in own}
    assert there.namespace(odd[1], "uts").fds == here.namespace(odd[1], "uts").fds
    assert bool(there.namespace(odd[1], "uts").fds) == fds


@needs_root
def test_a_node_with_pids_of_its_own(path, odd, tmp_path):
    """As in a container: another pid namespace, a /proc of it, and mounts of its own."""
    enter = [shutil.which("nsenter") or "nsenter", f"--target={odd[1]}", "--mount", "--pid", "--"]
    subprocess.run([*enter, "mount", "-t", "proc", "proc", "/proc"], check=True)
    subprocess.run([*enter, "mount", "-t", "tmpfs", "its own", str(tmp_path)], check=True)
    there = RemoteKernel(command_line(path, *enter)).snapshot()
    here = LocalKernel(f"/proc/{odd[1]}/root/proc").snapshot()
    assert len(here.processes) == 2
    assert dict(there.processes) == dict(here.processes)
    # Of the mounts only its own two: the others are copies of the machine's, and a copy is gone when its directory is removed.
    mine = [mount for mount in here.mounts if mount.source == "its own" or mount.mount_point == "/proc"]
    assert [mount.mount_point for mount in mine[-2:]] == ["/proc", str(tmp_path)]
    assert [mount for mount in there.mounts if mount in mine] == mine
    assert there.processes[1].ns_pids == (1,)


@needs_root
def test_the_same_mounts_and_pins(remote, pin, tmp_path):
    place = pin("net")
    here, there = LocalKernel().snapshot(), remote.snapshot()
    inode = os.stat(place).st_ino
    assert there.namespaces[inode] == here.namespaces[inode]
    assert there.namespaces[inode].mounts == (place,)
    ours = [mount for mount in there.mounts if mount.mount_point.startswith(str(tmp_path))]
    assert ours and ours == [mount for mount in here.mounts if mount.mount_point.startswith(str(tmp_path))]
    assert set(ours) < set(remote.mounts())


def test_the_command_leaves_itself_out(remote):
    # Fixtures of other tests may keep programs running for the whole session.
    others = {process.pid for process in LocalKernel().snapshot().descendants(os.getpid())}
    sleep = subprocess.Popen(["sleep", "60"])
    try:
        wait_for(lambda: Path(f"/proc/{sleep.pid}/comm").read_text() == "sleep\n")
        snapshot = remote.snapshot()
    finally:
        sleep.kill()
        sleep.wait()
    assert {process.pid for process in snapshot.descendants(os.getpid())} - others == {sleep.pid}


@needs_root
def test_the_clock_is_the_monotonic_one(remote):
    if not Path("/proc/timer_list").exists():
        pytest.skip("this kernel has no /proc/timer_list")
    before = time.monotonic_ns()
    at_ns = remote.snapshot().at_ns
    assert before <= at_ns <= time.monotonic_ns()


def test_processes_that_come_and_go_are_no_error(remote):
    churn = subprocess.Popen(["sh", "-c", "while :; do sleep 0.01 & sleep 0.002; done"])
    try:
        seen = {frozenset(remote.snapshot().processes) for _ in range(20)}
        # Twenty looks, and more until some process has come or gone meanwhile: else nothing was shown.
        wait_for(lambda: seen.add(frozenset(remote.snapshot().processes)) or len(seen) > 1)
    finally:
        churn.kill()
        churn.wait()


@needs_root
def test_interfaces_of_a_process_and_of_a_path(pin):
    remote, place = RemoteKernel(command_line()), pin("net")
    assert remote.interfaces(place) == LocalKernel().interfaces(place)
    assert {found.name: found.addresses[:1] for found in remote.interfaces(place)}["eth0"] == ("10.9.0.2/16",)
    # Of a process there, too. The machine's own interfaces are not compared: Pods of other tests come and go.
    with subprocess.Popen(["nsenter", f"--net={place}", "cat"], stdin=subprocess.PIPE) as inside:
        wait_for(lambda: Path(f"/proc/{inside.pid}/comm").read_text() == "cat\n")
        assert remote.interfaces(inside.pid) == LocalKernel().interfaces(inside.pid) == remote.interfaces(place)


@needs_root
def test_interfaces_of_what_is_none(pin):
    remote = RemoteKernel(command_line())
    with pytest.raises(ProcessLookupError, match=f"no process {MISSING_PID}.*Take a new snapshot"):
        remote.interfaces(MISSING_PID)
    with pytest.raises(FileNotFoundError, match="The node has no /run/netns/none"):
        remote.interfaces("/run/netns/none")
    with pytest.raises(OSError, match=r"a uts could not be listed .*Invalid argument.* Use a namespace of type net"):
        remote.interfaces(pin("uts"))


def test_interfaces_with_the_ip_of_busybox(busybox):
    with pytest.raises(OSError, match=r"The node has no ip of iproute2.*Install it on the node \(Debian: iproute2\)"):
        RemoteKernel(command_line(busybox)).interfaces(os.getpid())


@pytest.mark.parametrize(
    ("programs", "missing"), [([], "head.*coreutils"), (["head"], "stat.*coreutils"), (["head", "stat"], "xargs.*findutils")]
)
def test_a_node_without_a_program(tmp_path, programs, missing):
    remote = RemoteKernel(command_line(path_with("sh", *programs, directory=tmp_path)))
    with pytest.raises(OSError, match=f"^The node has no {missing}"):
        remote.snapshot()


def test_a_node_without_nsenter(tmp_path):
    remote = RemoteKernel(command_line(path_with("sh", "head", directory=tmp_path)))
    with pytest.raises(OSError, match=r"^The node has no nsenter.*Install it on the node \(Debian: util-linux\)"):
        remote.interfaces(os.getpid())


def path_with(*programs: str, directory: Path) -> str:
    for program in programs:
        (directory / program).symlink_to(shutil.which(program) or "")
    return str(directory)


def test_cgroups_as_seen_directly(remote):
    local = LocalKernel()
    there, here = remote.cgroups(os.getpid()), local.cgroups(os.getpid())
    assert [(c.controllers, c.path, c.directory) for c in there] == [(c.controllers, c.path, c.directory) for c in here]
    assert remote.cgroup_mounts() == local.cgroup_mounts()
    for mine, same in zip(there, here, strict=True):
        if not mine.directory:
            continue
        assert os.getpid() in mine.procs
        assert str(os.getpid()) in mine.read("cgroup.procs").split()
        assert sorted(mine.files()) == sorted(same.files())
        with pytest.raises(FileNotFoundError, match=r"has no file no\.such\. These can be read: .*cgroup\.procs"):
            mine.read("no.such")


@needs_root
def test_cgroup_files_have_the_limit_that_was_set(remote):
    mount = next((mount for name, mount in remote.cgroup_mounts().items() if "pids" in name.split(",")), None)
    root = Path((mount or remote.cgroup_mounts()[""]).mount_point)
    if mount is None and "pids" not in (root / "cgroup.subtree_control").read_text().split():
        pytest.skip("the pids controller is not delegated at the root of cgroup v2 here")
    directory = root / f"labkit test {os.getpid()}"
    directory.mkdir()
    child = subprocess.Popen(["sleep", "60"])
    try:
        (directory / "pids.max").write_text("17")
        (directory / "cgroup.procs").write_text(str(child.pid))
        (cgroup,) = (cgroup for cgroup in remote.cgroups(child.pid) if cgroup.directory == str(directory))
        assert (cgroup.procs, cgroup.read("pids.max"), cgroup.files()["pids.max"]) == ((child.pid,), "17", "17")
    finally:
        child.kill()
        child.wait()
        directory.rmdir()
    with pytest.raises(FileNotFoundError, match="the cgroup is gone"):
        cgroup.read("pids.max")
    assert cgroup.files() == {}


@needs_root
def test_a_cgroup_file_that_can_only_be_written(remote):
    written = [
        (cgroup, path.name)
        for cgroup in remote.cgroups(os.getpid())
        for path in Path(cgroup.directory or "/nowhere").glob("*.*")
        if path.is_file() and not path.stat().st_mode & 0o444
    ]
    if not written:
        pytest.skip("no cgroup of this process has such a file")
    cgroup, name = written[0]
    with pytest.raises(OSError, match=f"{name} of cgroup .* cannot be read on the node"):
        cgroup.read(name)
    assert name not in cgroup.files()


def test_cgroups_of_no_process(remote):
    with pytest.raises(ProcessLookupError, match=f"There is no process {MISSING_PID} on the node"):
        remote.cgroups(MISSING_PID)


def test_who_listens_on_a_unix_socket(remote, tmp_path):
    place = str(tmp_path / "a.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(place)
        assert (remote.unix_listener(place), LocalKernel().unix_listener(place)) == (None, None)
        listening.listen()
        assert (remote.unix_listener(place), LocalKernel().unix_listener(place)) == (os.getpid(), os.getpid())
    assert remote.unix_listener(place) is None


def test_another_process_listens_in_place_of_one_that_ended(tmp_path):
    """As a runtime that is restarted: the answer before is no answer then."""
    place, kernel = tmp_path / "a.sock", LocalKernel()
    program = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(); sys.stdin.read()"
    pids = []
    for _ in range(2):
        place.unlink(missing_ok=True)
        child = subprocess.Popen([sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        pids += [(child.pid, kernel.unix_listener(str(place)), kernel.unix_listener(str(place)))]
        child.communicate()
        assert kernel.unix_listener(str(place)) is None
    assert all(first == found == again for first, found, again in pids), pids
