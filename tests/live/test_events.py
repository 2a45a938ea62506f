"""The proc connector of this machine: what it tells of processes that the test starts, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from labkit.kernel import LocalKernel
from labkit.kernel.events import connector_process
from labkit.kernel.events.connector import watch
from labkit.kernel.events.poll import watch_by_polling
from labkit.kernel.events.stream import Event, EventsError
from labkit.kernel.events.tracefs import watch_tracefs
from tests.conftest import CI, ROOT

pytestmark = [
    pytest.mark.alone("counts all forks of the machine, and reads arguments before their processes end"),
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root; CI runs it"),
]

TREE = r"""
import os, subprocess, sys
subprocess.run(["true", "", "two\nlines", b"\xff"])
subprocess.run(["sh", "-c", "exit 7"])
subprocess.run(["sh", "-c", "kill -TERM $$"])
subprocess.run(["sh", "-c", "(sleep 0.05; :) & exec sh -c 'exec sleep 0.2'"])
"""


def family(events: Iterable[Event], pid: int) -> list[Event]:
    """The events of a process and of all its descendants."""
    pids, found = {pid}, []
    for event in events:
        if event.kind == "fork" and event.ppid in pids:
            pids.add(event.pid)
        if event.pid in pids:
            found.append(event)
    return found


def readers() -> list[int]:
    """Pids of the readers that this process has started."""
    children = Path("/proc/self/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if connector_process.__file__ in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]


def held() -> tuple[int, list[int], list[str]]:
    """What a stream could leave behind: open files, readers, threads."""
    threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("events")]
    return len(os.listdir("/proc/self/fd")), readers(), threads


def test_a_known_tree():
    with watch() as stream:
        tree = subprocess.Popen([sys.executable, "-c", TREE])
        tree.wait()
    all_events = list(stream)
    assert (stream.source, stream.lost, stream.error) == ("proc-connector", 0, None)
    assert [event.at_ns for event in all_events] == sorted(event.at_ns for event in all_events)
    events = family(all_events, tree.pid)
    root = [event for event in events if event.pid == tree.pid]
    assert [event.kind for event in root] == ["fork", "exec", "exit"]
    assert (root[0].ppid, root[1].argv, root[2].exit_code) == (os.getpid(), (sys.executable, "-c", TREE), 0)
    # The children of the root one after the other, each from its fork to its exit.
    children = [event.pid for event in events if event.kind == "fork" and event.ppid == tree.pid]
    assert len(children) == 4
    told = {pid: [event for event in events if event.pid == pid] for pid in children}
    assert [[event.kind for event in told[pid]] for pid in children] == [["fork", "exec", "exit"]] * 3 + [
        ["fork", "exec", "exec", "exec", "exit"]
    ]
    assert [told[pid][1].argv[:1] for pid in children] == [("true",), ("sh",), ("sh",), ("sh",)]
    assert told[children[0]][1].argv == ("true", "", "two\nlines", "\udcff")
    assert [(told[pid][-1].exit_code, told[pid][-1].signal) for pid in children] == [(0, None), (7, None), (None, 15), (0, None)]
    assert [event.argv for event in told[children[3]][2:4]] == [("sh", "-c", "exec sleep 0.2"), ("sleep", "0.2")]
    (background,) = [event.pid for event in events if event.kind == "fork" and event.ppid == children[3]]
    (sleep,) = [event for event in events if event.kind == "fork" and event.ppid == background]
    assert [event.argv for event in events if event.pid == sleep.pid and event.kind == "exec"] == [("sleep", "0.05")]


def test_what_an_exec_is_told_with():
    with watch() as stream:
        process = subprocess.Popen(["sleep", "60"])
        there = {
            "exe": os.readlink(f"/proc/{process.pid}/exe"),
            "namespaces": {
                type: os.stat(f"/proc/{process.pid}/ns/{type}").st_ino for type in connector_process.NAMESPACES
            },
        }
        cgroups = Path(f"/proc/{process.pid}/cgroup").read_text().splitlines()
        before = time.monotonic_ns()
        process.kill()
        process.wait()
        after = time.monotonic_ns()
    fork, exec, exit = (event for event in stream if event.pid == process.pid)
    assert (exec.exe, exec.comm, exec.argv, exec.argv_missing) == (there["exe"], "sleep", ("sleep", "60"), False)
    assert exec.namespaces == fork.namespaces == there["namespaces"]
    assert exec.cgroup in cgroups and fork.cgroup == exec.cgroup
    assert len(exec.cgroup) == max(map(len, cgroups)) or len(exec.cgroup.split(":", 2)[2]) > 1
    # The very clock of time.monotonic_ns().
    assert before < exit.at_ns < after or exit.at_ns - after < 1_000_000


def test_500_short_processes():
    with watch() as stream:
        pids = []
        for number in range(500):
            process = subprocess.Popen(["true", str(number)])
            process.wait()
            pids.append(process.pid)
    events = [event for event in stream if event.pid in set(pids)]
    assert stream.lost == 0
    assert Counter(event.kind for event in events) == {"fork": 500, "exec": 500, "exit": 500}
    execs = [event for event in events if event.kind == "exec"]
    assert [event.pid for event in execs] == pids
    missing = sum(event.argv_missing for event in execs)
    print(f"argv missing: {missing} of {len(execs)}")
    assert missing <= 5
    assert all(event.argv in ((), ("true", str(number))) for number, event in enumerate(execs))


def test_no_fork_is_missed():
    """The kernel counts forks itself, of processes and threads, in /proc/stat."""

    def forks() -> int:
        return int(re.search(r"^processes (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)[1])

    before = forks()
    stream = watch()
    first = forks()
    for _ in range(50):
        subprocess.run([sys.executable, "-c", "import threading as t; a = t.Thread(); a.start(); a.join()"])
    last = forks()
    events = stream.stop()
    after = forks()
    told = sum(event.kind == "fork" for event in events) + stream.threads
    assert stream.lost == 0
    assert 100 <= last - first <= told <= after - before


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not there")
def test_the_same_execs_as_strace(tmp_path):
    log = tmp_path / "strace"
    command = "for i in 1 2 3; do ls -d / ; sh -c 'env true x; /bin/echo y'; done; exec expr 1 + 1"
    with watch() as stream:
        strace = subprocess.Popen(
            ["strace", "-f", "-o", log, "-e", "trace=execve", "-e", "signal=none", "-s", "4096", "sh", "-c", command],
            stdout=subprocess.DEVNULL,
        )
        strace.wait()
    seen = re.findall(r'^(\d+) +execve\("[^"]*", \[(.*)\], .*\) = 0$', log.read_text(), re.MULTILINE)
    strace_execs = [(int(pid), tuple(re.findall(r'"((?:[^"\\]|\\.)*)"', argv))) for pid, argv in seen]
    traced = {pid for pid, _ in strace_execs}
    assert len(strace_execs) >= 3 * 5 + 2
    assert [(event.pid, event.argv) for event in stream if event.kind == "exec" and event.pid in traced] == strace_execs


THREADS = """
import ctypes, os, sys, threading
def later():
    {body}
threading.Thread(target=later).start()
{main}
"""


def test_an_exec_in_a_thread_is_no_exit():
    """The kernel tells of the main thread's end then, and of threads' ends all along."""
    program = THREADS.format(body='os.execv("/bin/sleep", ["sleep", "0.1"])', main="threading.Event().wait()")
    with watch() as stream:
        process = subprocess.Popen([sys.executable, "-c", program])
        process.wait()
    events = [event for event in stream if event.pid == process.pid and event.kind != "comm"]
    assert [event.kind for event in events] == ["fork", "exec", "exec", "exit"]
    assert (events[2].argv, events[3].exit_code) == (("sleep", "0.1"), 0)


def test_a_process_ends_when_its_last_thread_does():
    program = THREADS.format(
        body="import time; time.sleep(0.2); print(time.monotonic_ns(), flush=True); os._exit(3)",
        main="ctypes.CDLL(None).pthread_exit(None)",
    )
    with watch() as stream:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        printed = int(process.communicate()[0])
    (exit,) = [event for event in stream if event.pid == process.pid and event.kind == "exit"]
    assert process.returncode == 3
    assert exit.at_ns > printed


def test_uid_and_comm():
    program = 'import ctypes, os; ctypes.CDLL(None).prctl(15, b"renamed"); os.setuid(65534)'
    with watch() as stream:
        process = subprocess.Popen([sys.executable, "-c", program])
        process.wait()
    told = [(event.kind, event.uid, event.comm) for event in stream if event.pid == process.pid]
    assert ("comm", None, "renamed") in told and ("uid", 65534, "") in told


def test_what_happened_before_stop_is_delivered():
    for _ in range(20):
        stream = watch()
        processes = [subprocess.Popen(["true"]) for _ in range(5)]
        for process in processes:
            process.wait()
        events = stream.stop()
        exits = {event.pid for event in events if event.kind == "exit"}
        assert exits >= {process.pid for process in processes}
        assert (stream.stop(), list(stream), stream.lost) == ((), [], 0)


def test_iterating_while_it_goes_on():
    stream = watch()
    process = subprocess.Popen(["true", "now"])
    for event in stream:
        if event.pid == process.pid and event.kind == "exit":
            break
    process.wait()
    stream.stop()
    assert event.exit_code == 0


def test_two_at_the_same_time():
    with watch() as first, watch() as second:
        process = subprocess.Popen(["true", "both"])
        process.wait()
    told = [[event for event in stream if event.pid == process.pid] for stream in (first, second)]
    assert [event.kind for event in told[0]] == ["fork", "exec", "exit"]
    first_told, second_told = ([(event.at_ns, event.kind, event.argv, event.exit_code) for event in events] for events in told)
    assert first_told == second_told


def test_nothing_is_left():
    watch().stop()
    before = held()
    stream = watch()
    assert len(readers()) >= 1
    assert held() != before
    stream.stop()
    assert held() == before


def test_a_killed_reader_says_so_and_what_it_told_is_kept():
    before = held()
    stream = watch()
    process = subprocess.Popen(["true", "before"])
    process.wait()
    received = [next(event for event in stream if event.pid == process.pid and event.kind == "exit")]
    os.kill(readers()[0], signal.SIGKILL)
    with pytest.raises(EventsError, match=r"\(pid \d+\) was ended by SIGKILL\. The events before that are kept"):
        received.extend(stream)
    stream.stop()
    assert stream.error is not None
    assert held() == before


def test_an_overrun_is_counted():
    """The readers stand still while more messages come than the kernel keeps."""
    stream = watch(room=8192)
    pids = readers()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for _ in range(100):
            subprocess.run(["true"])
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    events = stream.stop()
    assert stream.lost > 0
    # 100 forks, execs and exits; threads count among the lost, too.
    assert len(events) + stream.threads + stream.lost >= 300


@pytest.mark.parametrize(
    ("namespace", "sentence"),
    [
        (["--pid", "--fork", "--mount-proc"], "in its initial pid namespace only"),
        (["--user"], "in its initial user namespace only"),
        (["--net"], "in its initial network namespace only"),
    ],
)
def test_in_a_container(namespace, sentence):
    program = (
        "from labkit.kernel.events.connector import EventsError, watch\n"
        "try: watch()\nexcept EventsError as error: print(error)"
    )
    said = subprocess.run(
        ["unshare", *namespace, sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert sentence in said.stdout, said.stderr
    assert said.stdout.count("\n") == 1 and "Run labkit on the machine itself." in said.stdout


def test_without_the_right_to_real_time_priority():
    """One reader for all CPUs, at ordinary priority: every event, though an argv can be missing."""
    program = """
import subprocess
from labkit.kernel.events.connector import watch
with watch() as stream:
    pids = [subprocess.Popen(["true"]) for _ in range(20)]
    for process in pids: process.wait()
pids = {process.pid for process in pids}
print(sum(event.pid in pids for event in stream), stream.lost)
"""
    capabilities = "-sys_nice,-sys_resource"
    said = subprocess.run(
        ["setpriv", "--inh-caps", capabilities, "--bounding-set", capabilities, sys.executable, "-c", program],
        capture_output=True, text=True, cwd=ROOT, timeout=30,
    )
    assert said.stdout.split() == ["60", "0"], said.stderr


def traced(argv: Iterable[str]) -> subprocess.Popen[str]:
    """Runs the tracing script where nobody sees that it mounts tracefs."""
    return subprocess.Popen(
        ["unshare", "--mount", *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="surrogateescape"
    )


def test_tracefs_tells_the_same():
    script = "for i in 1 2 3; do true; /bin/true $i; (/bin/true; exit 4); done; exec sleep 0.1"
    before = held()
    with watch() as connector, watch_tracefs(traced) as tracefs:
        process = subprocess.Popen(["bash", "-c", script])
        process.wait()
    told = {stream.source: family(stream, process.pid) for stream in (connector, tracefs)}
    assert (tracefs.lost, tracefs.error, held()) == (0, None, before)
    assert len(told["tracefs"]) >= 3 * 6 + 3
    for ours, theirs in zip(told["proc-connector"], told["tracefs"], strict=True):
        assert (theirs.kind, theirs.pid, theirs.ppid) == (ours.kind, ours.pid, ours.ppid)
        assert theirs.argv == ours.argv or (theirs.argv_missing and "no kprobes" in tracefs.precision)
    instances = "mount -t tracefs tracefs /sys/kernel/tracing; ls /sys/kernel/tracing/instances"
    assert "labkit" not in subprocess.check_output(["unshare", "--mount", "sh", "-c", instances], text=True)


def test_tracefs_without_root():
    def popen(argv: Iterable[str]) -> subprocess.Popen[str]:
        return traced(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *argv])

    with pytest.raises(EventsError, match=r"cannot be traced \(.+\)\. Be root there"):
        watch_tracefs(popen)


def test_polling_sees_what_lives_long_enough():
    with watch_by_polling(LocalKernel(), every_s=0.005) as stream:
        process = subprocess.Popen(["sleep", "1"])
        process.wait()
    told = [(event.kind, event.argv) for event in stream if event.pid == process.pid]
    assert [kind for kind, _ in told] in (["fork", "exec", "exit"], ["fork", "exec", "exec", "exit"])
    assert told[-2][1] == ("sleep", "1")
    assert "may be missed" in stream.precision


def test_pids_in_another_pid_namespace(tmp_path: Path) -> None:
    """As in a node that is a container of this machine: each program says its own pid, and the kernel's NSpid says the same."""
    script = "for i in 1 2 3; do sh -c 'echo $$; sleep 0.05'; done; sleep 0.05"
    with watch() as stream:
        said = subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    told = [event for event in stream if event.kind == "exec" and event.argv[:2] == ("sh", "-c") and "echo $$" in event.argv[2]]
    inside = [event for event in told if event.argv[2] != script]
    assert [str(event.ns_pids[1]) for event in inside] == said and len(said) == 3
    assert all(event.ns_pids[0] == event.pid for event in inside)


def test_what_a_cni_plugin_is_started_with(tmp_path: Path) -> None:
    """A plugin names no sandbox among its arguments: its environment does."""
    plugin = tmp_path / "plugin"
    plugin.symlink_to("/bin/true")
    with watch() as stream:
        for number in range(20):
            environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": f"{number:064x}"}
            subprocess.run([plugin], env=environment, check=True)
        subprocess.run([plugin], env={}, check=True)
    told = [(e.cni_command, e.container_id) for e in stream if e.kind == "exec" and e.argv == (str(plugin),)]
    assert told == [*(("ADD", f"{number:064x}") for number in range(20)), ("", "")]
