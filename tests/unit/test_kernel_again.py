"""The same LocalKernel looks again: it reads little of what has not changed, and nothing that has changed escapes it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from labkit.kernel import LocalKernel, Process, cgroup_moves, pins, processes
from labkit.kernel import files as files_of_proc
from labkit.kernel.files import OPEN
from labkit.kernel.mounts import MountWatch
from tests.unit.test_kernel_snapshot import inode, needs_root, spawn
from tests.waits import wait_for

__all__ = ["spawn"]

Spawn = Callable[..., subprocess.Popen]
OBEYS = """
import ctypes, os, sys, threading
libc = ctypes.CDLL(None)
for line in sys.stdin:
    exec(line)
    while len(os.listdir("/proc/self/task")) != threading.active_count():
        pass  # a thread that was joined is leaving the kernel
    print(flush=True)
"""


@pytest.fixture
def obeys() -> Iterator[subprocess.Popen]:
    """A process that runs each line of Python that it is sent, and sleeps before and after."""
    child = subprocess.Popen([sys.executable, "-c", OBEYS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    tell(child, "pass")
    yield child
    child.kill()
    child.wait()


def tell(child: subprocess.Popen, line: str) -> None:
    assert child.stdin
    assert child.stdout
    child.stdin.write(f"{line}\n")
    child.stdin.flush()
    child.stdout.readline()
    wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(") ")[2][0] == "S")


def seen_again(kernel: LocalKernel, pid: int) -> Process:
    """A process as a kernel sees it that has looked before, which must be as one sees it that has not. It looks three times:
    what it relies on grows with each."""
    again, anew = (each.snapshot(fds=False).processes[pid] for each in (kernel, LocalKernel()))
    assert again == anew
    for _ in range(2):
        assert kernel.snapshot(fds=False).processes[pid] == again
    return again


@pytest.fixture
def files(monkeypatch) -> Counter[str]:
    """How often a file of each name below /proc/PID was read, and each path."""
    counts: Counter[str] = Counter()

    def counting(module, function: str) -> None:
        real = getattr(module, function)

        def read(path, *rest):
            counts.update({path, path.rpartition("/")[2]})
            return real(path, *rest)

        monkeypatch.setattr(module, function, read)

    counting(processes, "read_bytes")
    counting(files_of_proc, "read_bytes")
    counting(pins, "read_text")
    return counts


def test_what_has_not_run_is_not_read_again(obeys, monkeypatch):
    whole: list[int] = []
    real = processes._namespaces
    monkeypatch.setattr(processes, "_namespaces", lambda directory: whole.append(directory) or real(directory))
    kernel = LocalKernel()
    before = kernel.snapshot(fds=False).processes[obeys.pid]
    first = len(whole)
    whole.clear()
    after = kernel.snapshot(fds=False).processes
    assert after[obeys.pid] is before
    assert len(whole) < first / 2


@pytest.mark.parametrize("counter", [b"", b"0 0 0\n"])
def test_without_the_kernels_counter_all_is_read_again(obeys, monkeypatch, counter):
    real = processes.read_bytes
    monkeypatch.setattr(processes, "read_bytes", lambda path, *at: counter if "schedstat" in path else real(path, *at))
    parsed: list[int] = []
    parse_stat = processes.parse_stat
    monkeypatch.setattr(processes, "parse_stat", lambda text: parsed.append(parse_stat(text).pid) or parse_stat(text))
    kernel = LocalKernel()
    before = kernel.snapshot(fds=False).processes[obeys.pid]
    kernel.snapshot(fds=False)
    assert parsed.count(obeys.pid) == 2
    assert seen_again(kernel, obeys.pid) == before


@needs_root
def test_where_no_process_was_moved_no_cgroup_is_read(obeys, files):
    if cgroup_moves._moves() is None:
        pytest.skip("the kernel does not count moves between cgroups here: it has no tracepoints, or not for this user")
    kernel = LocalKernel()
    for _ in range(4):
        kernel.snapshot(fds=False)
    files.clear()
    for _ in range(10):  # another program of the machine may be moving processes
        kernel.snapshot(fds=False)
    assert min(files[f"/proc/{obeys.pid}/{name}"] for name in ("cgroup", "schedstat")) < 10


def kept_open(before: Collection[int] = ()) -> dict[int, str]:
    """Files of other processes that this one holds open, by descriptor, without `before`: those that other looks left open."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    ours = re.compile(r"/proc/\d+/(schedstat|comm|cmdline|task)")
    return {number: link for number, link in found.items() if number not in before and ours.fullmatch(link)}


def looked_three_times() -> LocalKernel:
    kernel = LocalKernel()
    for _ in range(3):
        kernel.snapshot(fds=False)
    return kernel


def test_files_that_stay_open_are_closed_with_the_process_and_the_kernel(obeys):
    before = set(kept_open())
    kernel = looked_three_times()
    assert f"/proc/{obeys.pid}/schedstat" in kept_open(before).values()
    obeys.kill()
    obeys.wait()
    assert obeys.pid not in kernel.snapshot(fds=False).processes
    assert f"/proc/{obeys.pid}/schedstat" not in kept_open(before).values()
    del kernel
    assert kept_open(before) == {}


def test_few_files_stay_open_where_few_may_be_open(obeys, monkeypatch):
    before = set(kept_open())
    may_be_open = 4 * (len(before) + 2)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (may_be_open, may_be_open))
    kernel = looked_three_times()
    assert len(kept_open(before)) == 2
    seen_again(kernel, obeys.pid)


def test_files_that_stay_open_leave_the_numbers_that_select_can_wait_for(obeys):
    """Of a library of the learner's own, for example: select(2) refuses what is above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= 1024:
        pytest.skip("no process may have a descriptor above 1023 here")
    before = set(kept_open())
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        kernel = looked_three_times()
        assert kept_open(before) and min(kept_open(before)) >= 1024
        seen_again(kernel, obeys.pid)
        del kernel
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_another_thread_that_changes_a_name_and_changes_it_back(obeys):
    kernel = LocalKernel()
    tell(obeys, "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    names = []
    for name in ("one", "two", "one", "two"):
        tell(obeys, THREAD.format(RENAMES.replace("by-thread", name)) + "; thread.join()")
        names.append(seen_again(kernel, obeys.pid).comm)
    assert names == ["one", "two", "one", "two"]


def test_what_has_run_and_is_as_before_is_the_same_object(obeys):
    kernel = LocalKernel()
    before = kernel.snapshot(fds=False).processes[obeys.pid]
    ran = Path(f"/proc/{obeys.pid}/schedstat").read_bytes()
    tell(obeys, "pass")
    assert Path(f"/proc/{obeys.pid}/schedstat").read_bytes() != ran
    assert kernel.snapshot(fds=False).processes[obeys.pid] is before


def held_again(kernel: LocalKernel, pid: int) -> list[str]:
    """The types of the namespaces that a process holds by open files, as a kernel sees it that has looked before. It looks twice:
    the second time it need not read what it read the first."""

    def held() -> list[str]:
        namespaces = kernel.snapshot().namespaces.values()
        return [type for _, type in sorted((fd, each.type) for each in namespaces for holder, fd in each.fds if holder == pid)]

    again = held()
    assert held() == again
    return again


OPENS = "held = os.open('/proc/self/ns/{}', os.O_RDONLY)"
IN_THREAD = "thread = threading.Thread(target=lambda: exec({!r}, globals())); thread.start(); thread.join()"


@pytest.mark.parametrize(("threads", "by"), [(0, "{}"), (1, IN_THREAD)])
def test_a_namespace_that_an_open_file_holds(obeys, threads, by):
    kernel = LocalKernel()
    for _ in range(threads):
        tell(obeys, "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    tell(obeys, "import threading")
    assert held_again(kernel, obeys.pid) == []
    for line, expected in (
        (OPENS.format("net"), ["net"]),
        ("new = os.open('/proc/self/ns/uts', os.O_RDONLY); os.dup2(new, held); os.close(new)", ["uts"]),
        (f"os.close(held); {OPENS.format('ipc')}", ["ipc"]),
        ("os.close(held); held = os.open('/dev/null', os.O_RDONLY)", []),
    ):
        tell(obeys, by.format(line))
        assert held_again(kernel, obeys.pid) == expected


def test_a_namespace_that_a_thread_opens_while_the_main_one_sleeps(obeys):
    kernel = LocalKernel()
    note = "import threading; go = threading.Event(); stay = threading.Event()"
    tell(obeys, note)
    reads, writes = os.pipe()
    os.set_inheritable(reads, True)
    try:
        # The thread waits for a byte, opens, and sleeps: the main thread waits for its next line all the while.
        thread = f"f = open('/proc/{os.getpid()}/fd/{reads}', 'rb', buffering=0); f.read(1); {OPENS.format('net')}; stay.wait()"
        tell(obeys, f"threading.Thread(target=lambda: exec({thread!r}, globals()), daemon=True).start()")
        assert held_again(kernel, obeys.pid) == []
        os.write(writes, b"x")
        wait_for(lambda: any(link.startswith("net:") for link in links(obeys.pid)))
        assert held_again(kernel, obeys.pid) == ["net"]
    finally:
        os.close(reads)
        os.close(writes)


def links(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]


def test_the_files_of_a_process_that_has_not_run_are_not_read_again(obeys, monkeypatch):
    listed: list[int] = []
    real = processes._held
    monkeypatch.setattr(processes, "_held", lambda pid, *rest: listed.append(pid) or real(pid, *rest))
    kernel = LocalKernel()
    for _ in range(5):
        kernel.snapshot()
    assert listed.count(obeys.pid) == 1
    assert OPEN


@needs_root
def test_a_mount_is_seen_when_it_comes_changes_and_goes(tmp_path):
    kernel = LocalKernel()

    def options() -> list[bool]:
        mounts = kernel.snapshot(fds=False).mounts
        return ["ro" in mount.options for mount in mounts if mount.mount_point == str(tmp_path)]

    assert options() == []
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        assert options() == [False]
        assert kernel.mounts_below(str(tmp_path.parent)) == [str(tmp_path)]
        subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
        assert options() == [True]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert options() == []


@needs_root
def test_a_child_and_its_parent_both_see_a_mount(tmp_path):
    kernel = LocalKernel()
    kernel.snapshot(fds=False)
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    try:
        child = os.fork()
        if not child:
            os._exit(str(tmp_path) not in {mount.mount_point for mount in kernel.snapshot(fds=False).mounts})
        assert os.waitpid(child, 0)[1] == 0
        assert str(tmp_path) in {mount.mount_point for mount in kernel.snapshot(fds=False).mounts}
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("libc.prctl(15, b'renamed')", "comm"),
        ("open('/proc/self/comm', 'w').write('renamed')", "comm"),
        pytest.param("libc.unshare(0x04000000)", "namespaces", marks=needs_root),
        pytest.param("os.setresuid(0, 65534, 0)", "uid", marks=needs_root),
        ("os.execvp('sleep', ['sleep', '60'])", "cmdline"),
        ("os.execvp('cat', ['cat', '-'])", "exe"),
    ],
)
def test_what_a_process_does_to_itself(obeys, line, changed):
    kernel = LocalKernel()
    before = seen_again(kernel, obeys.pid)
    if "exec" in line:
        become(obeys, line)
    else:
        tell(obeys, line)
    after = seen_again(kernel, obeys.pid)
    assert getattr(after, changed) != getattr(before, changed)


def become(child: subprocess.Popen, line: str) -> None:
    assert child.stdin
    child.stdin.write(f"{line}\n")
    child.stdin.flush()

    def waits() -> bool:
        _, comm, rest = re.split(r" \(|\) ", Path(f"/proc/{child.pid}/stat").read_text())
        return not comm.startswith("python") and rest[0] == "S"

    wait_for(waits)


def test_the_arguments_that_a_process_writes_over(obeys):
    kernel = LocalKernel()
    before = seen_again(kernel, obeys.pid)
    start = "int(open('/proc/self/stat').read().rpartition(') ')[2].split()[45])"
    tell(obeys, f"libc.memset(ctypes.c_void_p({start}), ord('x'), 3)")
    assert seen_again(kernel, obeys.pid).cmdline != before.cmdline


THREAD = "import threading; thread = threading.Thread(target={}); thread.start()"
RENAMES = "lambda: open(f'/proc/{os.getpid()}/comm', 'w').write('by-thread')"


@pytest.mark.parametrize("does", ["threading.Event().wait", RENAMES])
def test_what_another_thread_does(obeys, does):
    kernel = LocalKernel()
    tell(obeys, "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()")
    before = seen_again(kernel, obeys.pid)
    tell(obeys, THREAD.format(does) + ("; thread.join()" if does == RENAMES else ""))
    assert seen_again(kernel, obeys.pid) != before


@pytest.mark.parametrize("sent", [signal.SIGSTOP, signal.SIGKILL])
def test_what_a_signal_does(obeys, sent):
    kernel = LocalKernel()
    before = seen_again(kernel, obeys.pid)
    obeys.send_signal(sent)
    wait_for(lambda: Path(f"/proc/{obeys.pid}/stat").read_text().rpartition(") ")[2][0] in "TZ")
    assert seen_again(kernel, obeys.pid).state != before.state


def test_another_parent(tmp_path):
    note = tmp_path / "pid"
    parent = subprocess.Popen(["sh", "-c", f"sleep 61 & echo $! >{note}.new; mv {note}.new {note}; wait"])
    wait_for(note.exists)
    orphan = int(note.read_text())
    wait_for(lambda: Path(f"/proc/{orphan}/comm").read_text() == "sleep\n")
    kernel = LocalKernel()
    try:
        assert seen_again(kernel, orphan).ppid == parent.pid
        parent.kill()
        wait_for(lambda: Path(f"/proc/{parent.pid}/stat").read_text().rpartition(") ")[2][0] == "Z")
        assert seen_again(kernel, orphan).ppid != parent.pid
        parent.wait()
        assert seen_again(kernel, orphan).ppid != parent.pid
    finally:
        os.kill(orphan, signal.SIGKILL)
        parent.wait()


def test_a_program_whose_file_is_removed(tmp_path):
    program = tmp_path / "program"
    program.write_bytes(Path("/bin/sleep").resolve().read_bytes())
    program.chmod(0o755)
    child = subprocess.Popen([program, "60"])
    kernel = LocalKernel()
    try:
        wait_for(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "program\n")
        seen_again(kernel, child.pid)
        program.unlink()
        assert not kernel.snapshot(fds=False, programs=False).processes[child.pid].exe.endswith("(deleted)")
        assert seen_again(kernel, child.pid).exe.endswith("program (deleted)")
    finally:
        child.kill()
        child.wait()


@needs_root
@pytest.mark.parametrize("counts", [True, False])
def test_a_process_moved_to_another_cgroup(obeys, monkeypatch, counts):
    if not counts:
        monkeypatch.setattr(cgroup_moves, "_moves", lambda: None)
    kernel = LocalKernel()
    before = seen_again(kernel, obeys.pid)
    mount = next(m for m in kernel.cgroup_mounts().values() if m.fs_type in ("cgroup", "cgroup2") and "rw" in m.options)
    group = Path(mount.mount_point) / f"labkit-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(obeys.pid))
        moved = seen_again(kernel, obeys.pid)
        assert moved.cgroups != before.cgroups
        if mount.fs_type == "cgroup":  # version 2 does not rename
            group = group.rename(group.with_name(f"{group.name}-renamed"))
            assert seen_again(kernel, obeys.pid).cgroups != moved.cgroups
    finally:
        obeys.kill()
        obeys.wait()
        wait_for(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def lists_mounts() -> bool:
    with open("/proc/self/ns/mnt") as namespace:
        return bool(pins.listmount(namespace.fileno())[1])


def watches_mounts() -> bool:
    with contextlib.suppress(OSError):
        MountWatch().close()
        return True
    return False


def refused(*_: object) -> None:
    raise OSError("not by this kernel")


@needs_root
def test_mounts_are_not_listed_again_where_the_kernel_tells_of_changes(spawn, monkeypatch, tmp_path):
    if not watches_mounts():
        pytest.skip("the kernel does not tell of mounts in other mount namespaces: fanotify(7) does since Linux 6.15")
    listed: list[int] = []
    real = pins.listmount
    monkeypatch.setattr(pins, "listmount", lambda namespace: listed.append(namespace) or real(namespace))
    holder = spawn("unshare", "--mount", "--propagation", "private")
    processes_of_test = [LocalKernel().snapshot(fds=False).processes[holder.pid]]
    reader = pins.PinReader("/proc")

    def lists() -> int:
        listed.clear()
        reader.read(processes_of_test, None, ())
        return len(listed)

    assert [lists() for _ in range(4)] == [1, 1, 0, 0]
    subprocess.run(["nsenter", "--mount", f"--target={holder.pid}", "mount", "--bind", tmp_path, tmp_path], check=True)
    assert [lists() for _ in range(2)] == [1, 0]
    subprocess.run(["nsenter", "--mount", f"--target={holder.pid}", "umount", tmp_path], check=True)
    assert [lists() for _ in range(2)] == [1, 0]
    watched, namespace = reader._watch, f"/proc/{holder.pid}/ns/mnt"
    assert watched
    assert not watched.changed()
    assert os.path.exists(namespace)
    holder.kill()
    holder.wait()
    wait_for(watched.changed, "a mount namespace that is watched ends with its last process")


@needs_root
@pytest.mark.parametrize("told", ["of changes", "the mounts", "nothing"])
def test_bind_mounts_that_come_move_and_go_in_another_mount_namespace(spawn, files, monkeypatch, tmp_path, told):
    if told != "of changes":
        monkeypatch.setattr(pins, "MountWatch", refused)
    elif not watches_mounts():
        pytest.skip("the kernel does not tell of mounts in other mount namespaces: fanotify(7) does since Linux 6.15")
    newer = told != "nothing"
    if not newer:
        monkeypatch.setattr(pins, "listmount", lambda namespace: (0, b""))
    elif not lists_mounts():
        pytest.skip("the kernel has no listmount(2) for other mount namespaces: it came with Linux 6.11")
    for name in ("green", "a place/blue", "moved"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch() if name != "moved" else (tmp_path / name).mkdir()
    holder = spawn("unshare", "--mount", "--propagation", "private")
    inside = ("nsenter", "--mount", f"--target={holder.pid}")
    subprocess.run([*inside, "umount", "--all", "--types", "nsfs"], check=True)  # those that it has of the machine's
    kernel = LocalKernel()

    def found() -> list[str]:
        paths = (path for namespace in kernel.snapshot().namespaces.values() for path in namespace.mounts)
        return sorted(path.partition(str(tmp_path))[2] for path in paths if path.startswith(f"/proc/{holder.pid}/root"))

    for _ in range(3):
        assert found() == []
    files.clear()
    assert found() == []
    assert not newer or not files[f"/proc/{holder.pid}/mountstats"]
    pin = tmp_path / "a place/blue"
    subprocess.run([*inside, "mount", "--bind", tmp_path / "a place", tmp_path / "a place"], check=True)
    subprocess.run([*inside, "unshare", f"--uts={pin}", "true"], check=True)
    for _ in range(3):
        assert found() == ["/a place/blue"]
    reachable = f"/proc/{holder.pid}/root{pin}"
    assert kernel.snapshot().namespaces[inode(reachable)].mounts == (reachable,)
    assert inode(reachable) not in kernel.snapshot(fds=False).namespaces
    subprocess.run([*inside, "mount", "--move", tmp_path / "a place", tmp_path / "moved"], check=True)
    assert found() == ["/moved/blue"]
    subprocess.run([*inside, "unshare", f"--uts={tmp_path / 'green'}", "true"], check=True)
    assert found() == ["/green", "/moved/blue"]
    subprocess.run([*inside, "umount", tmp_path / "moved/blue", tmp_path / "green"], check=True)
    assert found() == []
    files.clear()
    assert found() == []
    assert not files[f"/proc/{holder.pid}/mountinfo"]


def test_a_system_without_linuxs_calls_can_still_load_the_package() -> None:
    """`labkit doctor` says there what can work."""
    libc = "type('Libc', (), {'__init__': lambda self, *_, **__: None, 'prctl': None})"
    code = f"import ctypes; ctypes.CDLL = {libc}; import labkit.kernel, labkit.cli.__main__"
    subprocess.run([sys.executable, "-c", code], check=True)
