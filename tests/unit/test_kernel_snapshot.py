"""Snapshots of the machine the tests run on, against what other programs say of it.

Tests that make namespaces are skipped without root.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.kernel import NAMESPACE_TYPES, LocalKernel, Process, Snapshot, assemble
from tests.waits import wait_for

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make these namespaces")
Spawn = Callable[..., subprocess.Popen]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Start a command that ends as `sleep`, once it sleeps; all are ended after the test."""
    started: list[subprocess.Popen] = []

    def start(*command: str, **options) -> subprocess.Popen:
        process = subprocess.Popen([*command, "sleep", "60"], **options)
        started.append(process)
        wait_for(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@contextlib.contextmanager
def nested_sleep() -> Iterator[tuple[int, int]]:
    """Pids of an `unshare` and of its child, which is process 1 of a pid namespace of its own."""
    outer = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "sleep", "60"])
    try:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        wait_for(lambda: children.read_text().strip())
        inner = int(children.read_text())
        wait_for(lambda: Path(f"/proc/{inner}/comm").read_text() == "sleep\n")
        yield outer.pid, inner
    finally:
        outer.kill()
        outer.wait()


def inode(path: str | Path) -> int:
    return os.stat(path).st_ino


def process(pid: int, ppid: int = 0, start_ns: int = 0, **namespaces: int) -> Process:
    return Process(pid, ppid, f"p{pid}", (), "S", start_ns, 0, 0, (pid,), namespaces, {}, "")


def test_a_process_as_other_sources_tell_of_it(spawn):
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    child = spawn(cwd="/")
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found = LocalKernel().snapshot().processes[child.pid]
    assert (found.pid, found.ppid, found.comm, found.cmdline) == (child.pid, os.getpid(), "sleep", ("sleep", "60"))
    assert (found.uid, found.gid, found.ns_pids[0]) == (os.geteuid(), os.getegid(), child.pid)
    assert found.exe == os.readlink(f"/proc/{child.pid}/exe")
    assert found.namespaces == {type: inode(f"/proc/{child.pid}/ns/{type}") for type in NAMESPACE_TYPES}
    assert [f"{names}:{path}" for names, path in found.cgroups.items()] == [
        line.partition(":")[2] for line in Path(f"/proc/{child.pid}/cgroup").read_text().splitlines()
    ]
    assert before - 10_000_000 <= found.start_ns <= after


def test_the_clock_is_monotonic():
    before = time.monotonic_ns()
    at_ns = LocalKernel().snapshot().at_ns
    assert before <= at_ns <= time.monotonic_ns()


@needs_root
def test_namespaces_and_members_as_lsns_tells(spawn):
    for options in (("--uts", "--mount", "--cgroup"), ("--user", "--time")):
        spawn("unshare", *options)
    first = spawn("unshare", "--net", "--ipc")
    spawn("nsenter", "--net", f"--target={first.pid}")
    with nested_sleep():
        compare_with_lsns()


def lsns() -> list[dict[str, Any]]:
    """What lsns tells. It fails where a process ends while it looks, so it is asked again."""
    command = ["lsns", "-J", "-o", "NS,TYPE,NPROCS,PID"]
    for _ in range(50):
        done = subprocess.run(command, capture_output=True, text=True)
        if not done.returncode:
            return list(json.loads(done.stdout)["namespaces"])
    raise AssertionError(done.stderr)


def compare_with_lsns() -> None:
    """Of the namespaces of this process and of those that it started: what other programs have comes and goes meanwhile. In the
    machine's own namespaces processes do, too, so of these only the owner is compared."""
    snapshot = LocalKernel().snapshot()
    rows = lsns()
    own = set(snapshot.processes[os.getpid()].namespaces.values())
    ours = own.union(*(process.namespaces.values() for process in snapshot.descendants(os.getpid())))
    told = {
        (row["ns"], row["type"]): (None if row["ns"] in own else row["nprocs"], row["pid"]) for row in rows if row["ns"] in ours
    }
    seen = {
        (namespace.inode, namespace.type): (None if namespace.inode in own else len(namespace.members), namespace.owner)
        for namespace in snapshot.namespaces.values()
        if namespace.inode in ours
    }
    assert told == seen
    assert {type for _, type in told} == set(NAMESPACE_TYPES) and len(told) > 2 * len(NAMESPACE_TYPES) - 1


@needs_root
def test_pid_in_each_pid_namespace():
    with nested_sleep() as (outer, inner):
        snapshot = LocalKernel().snapshot()
    assert snapshot.processes[inner].ns_pids == (inner, 1)
    assert snapshot.processes[outer].ns_pids == (outer,)
    assert snapshot.namespace(inner, "pid").members == (inner,)
    assert [found.pid for found in snapshot.children(outer)] == [inner]


@needs_root
def test_namespace_held_only_by_a_bind_mount(tmp_path):
    pin = tmp_path / "a blue net"
    pin.touch()
    try:
        subprocess.run(["unshare", f"--net={pin}", "true"], check=True)
        namespace = LocalKernel().snapshot().namespaces[inode(pin)]
        assert (namespace.type, namespace.owner, namespace.members, namespace.mounts) == ("net", None, (), (str(pin),))
    finally:
        subprocess.run(["umount", str(pin)], check=True)
    # Not by its inode: the kernel gives a number that is free to the next new namespace.
    assert all(str(pin) not in found.mounts for found in LocalKernel().snapshot().namespaces.values())


@needs_root
def test_namespace_held_only_by_a_bind_mount_in_another_mount_namespace(spawn, tmp_path):
    pin = tmp_path / "green"
    pin.touch()
    script = f'unshare --uts="{pin}" true; exec "$@"'
    holder = spawn("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")
    spawn("nsenter", "--mount", f"--target={holder.pid}", "unshare", "--mount")
    reachable = f"/proc/{holder.pid}/root{pin}"
    namespace = LocalKernel().snapshot().namespaces[inode(reachable)]
    assert (namespace.type, namespace.members, namespace.mounts) == ("uts", (), (reachable,))
    assert inode(pin) != namespace.inode


@needs_root
def test_namespace_held_only_by_an_open_file(spawn):
    member = spawn("unshare", "--ipc")
    descriptor = os.open(f"/proc/{member.pid}/ns/ipc", os.O_RDONLY)
    try:
        held = os.fstat(descriptor).st_ino
        member.kill()
        member.wait()
        namespace = LocalKernel().snapshot(fds=True).namespaces[held]
        assert (namespace.type, namespace.owner, namespace.members) == ("ipc", None, ())
        assert namespace.fds == ((os.getpid(), descriptor),)
        assert held not in LocalKernel().snapshot(fds=False).namespaces
    finally:
        os.close(descriptor)


@needs_root
def test_owner_is_the_lowest_member_and_members_share(spawn):
    first = spawn("unshare", "--net")
    second = spawn("nsenter", "--net", f"--target={first.pid}")
    snapshot = LocalKernel().snapshot()
    namespace = snapshot.namespace(second.pid, "net")
    assert namespace.members == tuple(sorted((first.pid, second.pid)))
    assert namespace.owner == min(first.pid, second.pid)


def test_zombie_is_kept_without_the_namespaces_it_gave_up():
    child = subprocess.Popen(["true"])
    try:
        wait_for(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
        snapshot = LocalKernel().snapshot(fds=True)
        zombie = snapshot.processes[child.pid]
        assert (zombie.state, zombie.cmdline, zombie.exe) == ("Z", (), "")
        assert "net" not in zombie.namespaces
        with pytest.raises(LookupError, match=r"net namespace of process .* could not be read"):
            snapshot.namespace(child.pid, "net")
    finally:
        child.wait()


HEADLESS = """
import ctypes, platform, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
print("there", flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)  # exit(2): of the main thread alone
"""


def test_a_process_whose_main_thread_has_ended_is_told_from_a_zombie_and_shown_with_what_runs_on():
    process = subprocess.Popen([sys.executable, "-c", HEADLESS], stdout=subprocess.PIPE)
    kernel = LocalKernel()
    try:
        process.stdout.readline()
        wait_for(lambda: kernel.snapshot().processes[process.pid].state == "Z")
        found = kernel.snapshot().processes[process.pid]
        own = kernel.snapshot().processes[os.getpid()]
        assert (found.ended, found.namespaces, found.cgroups) == ("main thread ended", own.namespaces, own.cgroups)
        assert found.cmdline[1:2] == ("-c",) and found.exe
        process.kill()
        wait_for(lambda: kernel.snapshot().processes[process.pid].threads <= 1)
        assert kernel.snapshot().processes[process.pid].ended == "zombie"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@needs_root
def test_kernel_threads_have_no_command_line():
    kthreadd = LocalKernel().snapshot().processes.get(2)
    if kthreadd is None or kthreadd.comm != "kthreadd":
        pytest.skip("this pid namespace shows no kernel threads")
    assert (kthreadd.cmdline, kthreadd.exe, kthreadd.ppid) == ((), "", 0)


def test_a_command_name_with_a_line_break(tmp_path):
    script = 'open("/proc/self/comm", "w").write("a) S (1\\n"); input()'
    with subprocess.Popen([sys.executable, "-c", script, ""], stdin=subprocess.PIPE) as child:
        wait_for(lambda: "a)" in Path(f"/proc/{child.pid}/comm").read_text())
        found = LocalKernel().snapshot().processes[child.pid]
    assert found.comm == "a) S (1\n"
    assert found.cmdline[-1] == ""


def test_processes_that_come_and_go_are_no_error_and_nothing_leaks():
    churn = subprocess.Popen(["sh", "-c", "while :; do sleep 0.01 & sleep 0.002; done"])
    try:
        before = set(os.listdir("/proc/self/fd"))
        seen = {frozenset(LocalKernel().snapshot(fds=True).processes) for _ in range(50)}
        # Threads of other tests may open and close some meanwhile, but not one a look.
        assert len(set(os.listdir("/proc/self/fd")) - before) < 50
        # More looks until some process has come or gone meanwhile: else nothing was shown.
        wait_for(lambda: seen.add(frozenset(LocalKernel().snapshot(fds=True).processes)) or len(seen) > 1)
    finally:
        churn.kill()
        churn.wait()


def test_a_process_of_which_a_file_is_gone_is_left_out(tmp_path):
    data = Path(__file__).parent / "data"
    files = {"stat": "stat_odd_comm", "status": "status_odd_comm", "cmdline": "cmdline_odd", "cgroup": "cgroup_v2"}
    for pid, missing in ((10, None), (11, "stat"), (12, "cgroup"), (13, "status"), (14, "cmdline")):
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        for name, source in files.items():
            if name != missing:
                (tmp_path / "proc" / str(pid) / name).write_bytes((data / f"proc_{source}").read_bytes())
    (tmp_path / "proc" / "self").mkdir()
    (tmp_path / "proc" / "self" / "mountinfo").write_bytes((data / "proc_mountinfo_hybrid").read_bytes())
    snapshot = LocalKernel(str(tmp_path / "proc")).snapshot(fds=True)
    # The text is that of one process, so all directories that are whole tell of it.
    assert list(snapshot.processes) == [15452]
    assert snapshot.processes[15452].namespaces == {}
    assert snapshot.namespaces[4026532180].mounts == ("/tmp/cap/ns",)


@needs_root
@pytest.mark.parametrize(("hidepid", "shown"), [(0, True), (1, False), (2, False)])
def test_another_user_sees_what_she_may(spawn, hidepid, shown):
    other = spawn("unshare", "--net")
    script = (
        "import json, os, subprocess; from labkit.kernel import LocalKernel\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "own = subprocess.Popen(['sleep', '60'], cwd='/')\n"
        # Popen returns a moment before the kernel has made the new program one that its user may look at.
        "while not os.access(f'/proc/{own.pid}/exe', os.F_OK): assert own.poll() is None\n"
        "processes = LocalKernel().snapshot(fds=True).processes\n"
        "own.kill(); own.wait()\n"
        f"other = processes.get({other.pid})\n"
        "print(json.dumps([own.pid in processes and len(processes[own.pid].namespaces), other and [other.comm, other.uid,\n"
        "    other.exe, other.namespaces]]))"
    )
    shell = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell, sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    own_namespaces, of_other = json.loads(done.stdout)
    assert own_namespaces == len(NAMESPACE_TYPES)
    assert of_other == (["sleep", 0, "", {}] if shown else None)


def test_children_and_descendants_in_the_order_of_their_start():
    tree = assemble(0, [process(1), process(9, 1, 5), process(3, 1, 7), process(4, 9, 8), process(5, 4, 9), process(6)])
    assert [child.pid for child in tree.children(1)] == [9, 3]
    assert [child.pid for child in tree.descendants(1)] == [9, 4, 5, 3]
    assert tree.children(6) == tree.descendants(6) == tree.descendants(77) == ()


def test_descendants_of_a_cycle_end():
    cycle = assemble(0, [process(1, 3), process(2, 1), process(3, 2)])
    assert [child.pid for child in cycle.descendants(1)] == [2, 3]


def test_namespace_says_what_is_missing():
    snapshot: Snapshot = assemble(0, [process(1, net=7)])
    assert snapshot.namespace(1, "net").members == (1,)
    with pytest.raises(LookupError, match="no namespace type 'network'"):
        snapshot.namespace(1, "network")
    with pytest.raises(LookupError, match="Process 2 is not in this snapshot"):
        snapshot.namespace(2, "net")
    with pytest.raises(LookupError, match="could not be read"):
        snapshot.namespace(1, "ipc")


def test_assemble_joins_members_mounts_and_descriptors():
    snapshot = assemble(
        0, [process(8, net=7), process(3, net=7)], pins=[("net", 7, "/a"), ("uts", 5, "/b")], fds=[("net", 7, 3, 4)]
    )
    assert list(snapshot.processes) == [3, 8]
    net, uts = snapshot.namespaces[7], snapshot.namespaces[5]
    assert (net.owner, net.members, net.mounts, net.fds) == (3, (3, 8), ("/a",), ((3, 4),))
    assert (uts.owner, uts.members, uts.mounts, uts.fds) == (None, (), ("/b",), ())


def test_cgroups_of_this_process_list_it():
    cgroups = LocalKernel().cgroups(os.getpid())
    shown = [cgroup for cgroup in cgroups if cgroup.directory]
    assert shown, "no cgroup hierarchy is mounted here"
    assert {cgroup.controllers: cgroup.path for cgroup in cgroups} == LocalKernel().snapshot().processes[os.getpid()].cgroups
    for cgroup in shown:
        assert os.getpid() in cgroup.procs
        assert str(os.getpid()) in cgroup.read("cgroup.procs").split()


@needs_root
def test_cgroup_files_have_the_limit_that_was_set(spawn):
    kernel = LocalKernel()
    mount = next((mount for name, mount in kernel.cgroup_mounts().items() if "pids" in name.split(",")), None)
    root = Path((mount or kernel.cgroup_mounts()[""]).mount_point)
    if mount is None and "pids" not in (root / "cgroup.subtree_control").read_text().split():
        pytest.skip("the pids controller is not delegated at the root of cgroup v2 here")
    directory = root / f"labkit-test-{os.getpid()}"
    directory.mkdir()
    child = spawn()
    try:
        (directory / "pids.max").write_text("17")
        (directory / "cgroup.procs").write_text(str(child.pid))
        (cgroup,) = (cgroup for cgroup in kernel.cgroups(child.pid) if cgroup.directory == str(directory))
        assert (cgroup.procs, cgroup.files()["pids.max"]) == ((child.pid,), "17")
    finally:
        child.kill()
        child.wait()
        directory.rmdir()


def test_cgroups_of_no_process():
    with pytest.raises(ProcessLookupError, match="There is no process 4194304"):
        LocalKernel().cgroups(4194304)
