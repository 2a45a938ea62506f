"""Events from text captured on a kernel 6.18 while runc started a container, and how a stream behaves."""

from __future__ import annotations

import errno
import fcntl
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from labkit.kernel.events import connector_socket
from labkit.kernel.events.connector import Connector, telling_line
from labkit.kernel.events.connector_process import Record
from labkit.kernel.events.connector_socket import EXEC, FORK
from labkit.kernel.events.poll import differences
from labkit.kernel.events.reader_process import wait_readable
from labkit.kernel.events.stream import Batch, Event, EventsError, EventStream
from labkit.kernel.events.tracefs import Trace, arguments
from labkit.kernel.model import Process, Snapshot

RUNC = """\
            runc-21258   [000] .....  8717.055485: task_newtask: pid=21266 comm=runc clone_flags=4100 oom_score_adj=1
 runc:[0:PARENT]-21266   [000] .....  8717.055628: sched_process_exec: filename=/proc/self/exe pid=21266 old_pid=21266
 runc:[0:PARENT]-21266   [000] .....  8717.057288: task_newtask: pid=21268 comm=runc:[0:PARENT] clone_flags=8000 oom_score_adj=0
  runc:[1:CHILD]-21268   [000] .....  8717.057553: task_newtask: pid=21269 comm=runc:[1:CHILD] clone_flags=8000 oom_score_adj=0
  runc:[1:CHILD]-21268   [000] .....  8717.057701: sched_process_exit: comm=runc:[1:CHILD] pid=21268 prio=120 group_dead=true
         timeout-21269   [001] .....  8717.059069: task_newtask: pid=21270 comm=runc:[2:INIT] clone_flags=3d0f00 oom_score_adj=0
CPU:1 [LOST 12 EVENTS]
 runc:[0:PARENT]-21266   [001] .....  8717.059441: sched_process_exit: comm=runc:[0:PARENT] pid=21266 prio=120 group_dead=true
         timeout-21269   [001] .....  8717.060001: sched_process_exit: comm=timeout pid=21269 prio=120 group_dead=true
   runc:[2:INIT]-21270   [001] .....  8717.060101: sched_process_exit: comm=runc:[2:INIT] pid=21270 prio=120 group_dead=true
              sh-21243   [000] .....  8717.070000: tracing_mark_write: labkit_end
"""


def test_runc_as_the_tracer_tells_it():
    trace = Trace()
    assert trace.prepare("task 21250 21250") and trace.prepare("task 21250 21258") and trace.prepare("parent 21250 99")
    assert not trace.prepare("ready plain")
    events = [event for line in RUNC.splitlines() if (event := trace.event(line))]
    assert [(event.kind, event.pid, event.ppid) for event in events] == [
        ("fork", 21266, 21250),  # by a thread of 21250
        ("exec", 21266, None),
        ("fork", 21268, 21250),  # CLONE_PARENT: a sibling
        ("fork", 21269, 21250),
        ("exit", 21268, None),
        ("exit", 21266, None),
        ("exit", 21269, None),  # its last thread's end, not its own
    ]
    assert events[-1].at_ns == 8_717_060_101_000
    assert (events[1].exe, events[1].argv_missing, events[0].comm) == ("/proc/self/exe", True, "runc")
    assert (trace.lost, trace.threads, trace.ended, trace.ready) == (12, 1, True, "plain")


def test_arguments_and_exit_codes_of_kprobes():
    trace = Trace()
    lines = [
        "  sh-7   [000] .....  1.000001: labkit_execve: (__x64_sys_execve+0x0/0x40) "
        'p0=0x7ffc1 p1=0x7ffc6 p2=0x7ffca p3=0x0 p4=0x7ffd0 a0="echo" a1="a b" a2=(fault) a3=(fault) a4="A=/"',
        "  sh-7   [000] .....  1.000002: sched_process_exec: filename=/bin/echo pid=7 old_pid=7",
        "  echo-7   [000] .....  1.000003: labkit_exit: (do_exit+0x0/0xb00) code=768",
        "  echo-7   [000] .....  1.000004: sched_process_exit: comm=echo pid=7 prio=120",
        "  sh-8   [000] .....  1.000005: labkit_exit: (do_exit+0x0/0xb00) code=9",
        "  sh-8   [000] .....  1.000006: sched_process_exit: comm=sh pid=8 prio=120",
    ]
    padded = [line.strip().split("-", 1)[0].rjust(16) + "-" + line.strip().split("-", 1)[1] for line in lines]
    exec, exit, killed = (event for line in padded if (event := trace.event(line)))
    assert exec.argv == ("echo", "a b", "")
    assert (exit.exit_code, exit.signal, killed.exit_code, killed.signal) == (3, None, None, 9)
    assert arguments(' p0=0x1 p1=0x0 a0="a "quoted" a1=b" a1=(fault)') == ('a "quoted" a1=b',)


def test_the_line_of_a_cgroup_that_says_most():
    assert telling_line("9:name=systemd:/\n4:memory:/kubepods/pod1/x\n0::/\n") == "4:memory:/kubepods/pod1/x"
    assert telling_line("0::/a\n") == "0::/a"
    assert telling_line("") == ""


def stream_of(*batches: Batch, fails: bool = False) -> EventStream:
    """A source that gives `batches` once it is asked to end, and then fails or not."""
    asked = threading.Event()

    def source() -> Iterator[Batch]:
        asked.wait(10)
        yield from batches
        if fails:
            raise EventsError("It broke.", "Mend it.")

    return EventStream("poll", "none", source(), asked.set)


ONE, TWO, THREE = (Event("exit", at_ns, 1, None, exit_code=0) for at_ns in (1, 2, 3))


def test_stop_returns_the_rest_once():
    stream = stream_of(Batch((ONE, TWO)), Batch((THREE,), lost=2, threads=5))
    assert stream.stop() == (ONE, TWO, THREE)
    assert (stream.stop(), list(stream), stream.lost, stream.threads) == ((), [], 2, 5)


def test_what_is_left_after_with_can_be_iterated():
    with stream_of(Batch((ONE, TWO))) as stream:
        pass
    assert next(stream) == ONE
    assert stream.stop() == (TWO,)


def test_a_source_that_fails_has_told_what_it_knew():
    stream = stream_of(Batch((ONE, TWO)), fails=True)
    with stream:
        pass
    told = []
    with pytest.raises(EventsError, match=r"^It broke\. Mend it\.$"):
        told.extend(event for event in iter(stream))
        raise AssertionError("it did not fail")
    assert stream.error is not None and stream.stop() == ()


def test_an_error_of_any_kind_ends_the_stream():
    def source() -> Iterator[Batch]:
        yield Batch((ONE,))
        raise ValueError("odd")

    stream = EventStream("poll", "none", source(), lambda: None)
    assert next(stream) == ONE
    with pytest.raises(EventsError, match="odd"):
        next(stream)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.EPROTONOSUPPORT, "Protocol not supported"), "built without the proc connector"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
    ],
)
def test_no_socket(monkeypatch, error, sentence):
    def refuse(*arguments: object) -> socket.socket:
        raise error

    monkeypatch.setattr(connector_socket.socket, "socket", refuse)
    with pytest.raises(connector_socket.ConnectorRefused) as raised:
        connector_socket.listen()
    assert sentence in raised.value.args[0] and raised.value.args[1]


def process(pid: int, start_ns: int, cmdline: tuple[str, ...], ppid: int = 1) -> Process:
    return Process(pid, ppid, cmdline[0], cmdline, "S", start_ns, 0, 0, (pid,), {}, {"": "/a"}, f"/bin/{cmdline[0]}")


def test_differences_of_two_snapshots():
    def snapshot(at_ns: int, *processes: Process) -> Snapshot:
        return Snapshot(at_ns, {process.pid: process for process in processes}, {}, ())

    init = process(1, 0, ("init",))
    before = snapshot(1, init, process(5, 10, ("old",)), process(6, 10, ("sh",)), process(7, 10, ("gone",)))
    after = snapshot(2, init, process(5, 20, ("new", "x")), process(6, 10, ("ls",)), process(8, 30, ("init",)))
    assert [(event.kind, event.pid, event.argv) for event in differences(before, after)] == [
        ("exit", 5, ()),
        ("exit", 7, ()),
        ("exec", 6, ("ls",)),
        ("fork", 5, ()),
        ("exec", 5, ("new", "x")),
        ("fork", 8, ()),
    ]


def test_numbers_of_messages_tell_what_is_lost_and_what_is_late():
    connector = Connector([])
    try:
        for seq in (5, 6, 8, 9):  # 7 is missing
            connector.count(0, seq)
        assert connector.lost == 1
        connector.count(0, 7)
        assert connector.lost == 0
        connector.count(1, 0xFFFFFFFF)
        connector.count(1, 0)
        connector.count(1, 0xFFFFFFFE)  # an old one: nothing was lost before it
        assert connector.lost == 0
        connector.count(1, 4)
        assert connector.lost == 3
    finally:
        connector.wake.close()
        connector.waker.close()


def test_a_fork_that_became_a_program_before_it_was_looked_at():
    links = ["pid:[4026531836]", "net:[77]"]
    fork = Record(FORK, 100, 0, 1, 10, 10, 20, 20)
    exec = Record(EXEC, 200, 1, 1, 20, 20, 0, 0, b"ls\0", "/bin/ls", b"ls\n", b"0::/a\n", links, 300)
    connector = Connector([])
    connector.from_ns, connector.pending = 0, [exec, fork]
    forked, became = connector.batch(1 << 62).events
    connector.wake.close()
    connector.waker.close()
    assert (forked.kind, forked.comm, forked.cgroup, forked.namespaces) == ("fork", "", "0::/a", {"pid": 4026531836, "net": 77})
    assert (became.argv, became.comm, became.cgroup, became.ns_pids) == (("ls",), "ls", "0::/a", ())


def test_an_argument_with_a_line_break_is_a_trace_of_two_lines():
    trace = Trace()
    head = "              sh-7     [000] .....  1.00000"
    lines = [
        f'{head}1: labkit_execve: (__x64_sys_execve+0x0/0x40) p0=0x1 p1=0x2 p2=0x3 p3=0x0 a0="sh" a1="-c',
        'echo" a2="x" a3=(fault)',
        f"{head}2: sched_process_exec: filename=/bin/sh pid=7 old_pid=7",
    ]
    (exec,) = (event for line in lines if (event := trace.event(line)))
    assert exec.argv == ("sh", "-c\necho", "x")


def test_a_channel_is_waited_for_whatever_its_number() -> None:
    """A notebook's kernel that looks at many processes has more than 1024 files open."""
    ours, theirs = socket.socketpair()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with ours, theirs, socket.socket(fileno=fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD, 1500)) as high:
            theirs.send(b".")
            wait_readable(high)
            assert high.recv(1) == b"."
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
