"""Process events of a node on which labkit can only run commands, from the kernel's tracer: text, on one stream, and exact.

A POSIX sh script makes a tracing instance of its own, reads its trace_pipe, and removes it. Forks come from task_newtask, which
tells threads from processes, execs and exits from sched_process_exec and _exit. Where the kernel has kprobes, one on execve
fetches the arguments and one on do_exit the exit code; where it has none, arguments are missing and exit codes unknown. The
kernel's Documentation/trace/ftrace.rst, events.rst and kprobetrace.rst.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator, Sequence

from labkit.kernel.events.stream import Batch, Event, EventsError, EventStream

Popen = Callable[[Sequence[str]], "subprocess.Popen[str]"]
"""Starts a command on the node, as root there, with stdin and stdout as pipes of text that is decoded with "surrogateescape"."""

PRECISION = "Each fork, exec and exit with the kernel's own time stamp, to the microsecond (tracefs)."
WITHOUT_PROBES = " This kernel has no kprobes: arguments and exit codes are not known."
ARGUMENTS = 24
CLONE_PARENT, CLONE_THREAD = 0x8000, 0x10000  # man 2 clone
_LINE = re.compile(r"^.{16}-(\d+) +\[\d+\] \S+ +(\d+)\.(\d{6}): (\w+): (.*)$", re.DOTALL)
_LOST = re.compile(r"^CPU:\d+ \[LOST (\d+) EVENTS\]$")
_NEW = re.compile(r"pid=(\d+) comm=(.*) clone_flags=([0-9a-f]+) oom_score_adj=")
_EXEC = re.compile(r"filename=(.*) pid=(\d+) old_pid=(\d+)$", re.DOTALL)
_POINTER = re.compile(r" p\d+=0x([0-9a-f]+)")
_ARGUMENT = re.compile(r' a\d+=(?:"(.*?)"(?= a\d+=["(]|$)|\(fault\))', re.DOTALL)


def watch_tracefs(popen: Popen) -> EventStream:
    """Every process event of the node's kernel from now on. Raises EventsError where it has no tracefs or it may not be used."""
    token = secrets.token_hex(4)
    process = popen(("sh", "-c", SCRIPT, "labkit", f"labkit_{token}", str(ARGUMENTS)))
    assert process.stdin and process.stdout
    trace = Trace()
    for line in process.stdout:
        if not trace.prepare(line):
            break
    if trace.ready is None:
        leave(process)
        raise EventsError(
            f"The node's kernel cannot be traced ({trace.message or 'the command ended'}).",
            "Be root there, on a kernel with tracefs.",
        )
    precision = PRECISION + ("" if trace.ready == "probes" else WITHOUT_PROBES)
    return EventStream("tracefs", precision, batches(process, trace), lambda: ask_to_end(process))


def batches(process: subprocess.Popen[str], trace: Trace) -> Iterator[Batch]:
    assert process.stdout
    try:
        for line in process.stdout:
            if event := trace.event(line.removesuffix("\n")):
                yield Batch((event,), trace.lost, trace.threads)
            if trace.ended:
                yield Batch((), trace.lost, trace.threads)
                return
    finally:
        leave(process)
    raise EventsError(
        "The command that traces the node's kernel ended.",
        "The events before that are kept; start a new recording for those to come.",
    )


def ask_to_end(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    with contextlib.suppress(BrokenPipeError, ValueError):
        process.stdin.write("stop\n")
        process.stdin.flush()


def leave(process: subprocess.Popen[str]) -> None:
    """Its input closed, the script removes what it made."""
    assert process.stdin and process.stdout
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    for _ in process.stdout:
        pass
    process.stdout.close()
    process.wait()


class Trace:
    """From the script's lines to events. lost, threads: as in EventStream. ready: "probes", "plain", None until it is."""

    def __init__(self) -> None:
        self.ready: str | None = None
        self.message = ""
        self.lost = self.threads = 0
        self.ended = False
        self.group: dict[int, int] = {}  # task -> its process
        self.tasks: dict[int, set[int]] = {}
        self.parent: dict[int, int] = {}
        self.argv: dict[int, tuple[str, ...]] = {}  # task -> of the execve that it is in
        self.codes: dict[int, int] = {}
        self.unfinished: tuple[int, str] | None = None  # a line of arguments, which goes on where an argument has a line break

    def prepare(self, line: str) -> bool:
        """Take a line of the script before the trace; whether more come."""
        word, *rest = line.split()
        if word == "task":
            self.add(*map(int, rest))
        elif word == "parent":
            self.parent[int(rest[0])] = int(rest[1])
        elif word == "ready":
            self.ready = rest[0]
        else:
            self.message = " ".join(rest)
        return word in ("task", "parent")

    def event(self, line: str) -> Event | None:
        """An Event from one line of trace_pipe, None where it is none."""
        if lost := _LOST.match(line):
            self.lost += int(lost[1])
        match = _LINE.match(line)
        if not match:
            if self.unfinished:
                self.unfinished = (self.unfinished[0], f"{self.unfinished[1]}\n{line}")
                self.argv[self.unfinished[0]] = arguments(self.unfinished[1])
            return None
        self.unfinished = None
        task, at_ns, name, text = int(match[1]), int(match[2]) * 10**9 + int(match[3]) * 1000, match[4], match[5]
        if name == "task_newtask" and (new := _NEW.match(text)):
            return self.new(at_ns, task, int(new[1]), new[2], int(new[3], 16))
        if name in ("labkit_execve", "labkit_execveat"):
            self.argv[task] = arguments(text)
            self.unfinished = (task, text)
        elif name == "sched_process_exec" and (exec := _EXEC.match(text)):
            pid = int(exec[2])
            self.tasks[pid] = {pid}
            self.group[pid] = pid
            argv = self.argv.pop(int(exec[3]), ())
            return Event("exec", at_ns, pid, None, argv, not argv, exec[1], os.path.basename(exec[1])[:15])
        elif name == "labkit_exit":
            self.codes[task] = int(text.rpartition("code=")[2])
        elif name == "sched_process_exit":
            return self.exit(at_ns, task)
        elif name == "tracing_mark_write" and text == "labkit_end":
            self.ended = True
        return None

    def add(self, pid: int, task: int) -> None:
        self.group[task] = pid
        self.tasks.setdefault(pid, set()).add(task)

    def new(self, at_ns: int, creator: int, task: int, comm: str, flags: int) -> Event | None:
        process = self.group.get(creator, creator)
        if flags & CLONE_THREAD:
            self.add(process, task)
            self.threads += 1
            return None
        self.tasks.pop(task, None)
        self.add(task, task)
        parent = self.parent.get(process, process) if flags & CLONE_PARENT else process
        self.parent[task] = parent
        return Event("fork", at_ns, task, parent, comm=comm)

    def exit(self, at_ns: int, task: int) -> Event | None:
        pid = self.group.pop(task, task)
        tasks = self.tasks.get(pid, set())
        tasks.discard(task)
        code = self.codes.pop(task, None)
        if task == pid and code is not None:
            self.codes[pid] = code
        if tasks:
            return None
        status = self.codes.pop(pid, code)
        self.tasks.pop(pid, None)
        self.parent.pop(pid, None)
        if status is None:
            return Event("exit", at_ns, pid, None)
        by_signal = os.WIFSIGNALED(status)
        exit_code = None if by_signal else os.WEXITSTATUS(status)
        return Event("exit", at_ns, pid, None, exit_code=exit_code, signal=os.WTERMSIG(status) if by_signal else None)


def arguments(text: str) -> tuple[str, ...]:
    """Of a kprobe's line: as many as there are pointers before the null one. An empty argument looks as one that the kernel could
    not fetch."""
    pointers, _, strings = text.partition(" a0=")
    count = next((n for n, pointer in enumerate(_POINTER.findall(pointers)) if not int(pointer, 16)), ARGUMENTS)
    return tuple(match[1] or "" for match in itertools.islice(_ARGUMENT.finditer(f" a0={strings}"), count))


SCRIPT = r"""
export LC_ALL=C
name=$1 count=$2 mounted= probes=plain pipe=
t=/sys/kernel/tracing
i=$t/instances/$name
no() { echo "no $*"; exit 1; }
clean() {
  trap - EXIT
  [ "$pipe" ] && kill $pipe && wait $pipe
  if [ -d $i ]; then
    echo 0 >$i/events/enable
    rmdir $i
  fi
  [ -e $t/kprobe_events ] && for probe in execve execveat exit; do echo "-:$name/labkit_$probe" >>$t/kprobe_events; done
  [ "$mounted" ] && umount $t
} 2>/dev/null
trap clean EXIT
trap 'exit 1' HUP INT TERM PIPE
if [ ! -e $t/instances ]; then
  mount -t tracefs tracefs $t 2>/dev/null || no it has no tracefs, or it may not be mounted
  mounted=1
fi
mkdir $i 2>/dev/null || no it refuses a tracing instance
echo mono >$i/trace_clock && echo 8192 >$i/buffer_size_kb || no it has no clock mono
case $(uname -m) in
  x86_64) call=__x64_sys_ argv=104 argv_at=96;;
  aarch64) call=__arm64_sys_ argv=8 argv_at=16;;
  *) call=;;
esac
fetch() {  # the arguments, of which the caller's pointer lies at $1 in its registers
  pointers= strings= n=0
  while [ $n -lt $count ]; do
    pointers="$pointers p$n=+u$((8 * n))(+$1(\$arg1)):x64"
    strings="$strings a$n=+u0(+u$((8 * n))(+$1(\$arg1))):ustring"
    n=$((n + 1))
  done
  echo "$pointers$strings"
}
if [ "$call" ] && [ -e $t/kprobe_events ]; then
  # runc starts itself anew by execveat(2), from a copy that nobody can write to.
  if echo "p:$name/labkit_execve ${call}execve$(fetch $argv)" >>$t/kprobe_events &&
    echo "p:$name/labkit_execveat ${call}execveat$(fetch $argv_at)" >>$t/kprobe_events &&
    echo "p:$name/labkit_exit do_exit code=\$arg1:s32" >>$t/kprobe_events
  then probes=probes; echo 1 >$i/events/$name/enable; fi 2>/dev/null
fi
for event in task/task_newtask sched/sched_process_exec sched/sched_process_exit; do
  echo 1 >$i/events/$event/enable || no it has no event $event
done 2>/dev/null
for task in /proc/[0-9]*/task/[0-9]*; do
  pid=${task#/proc/}
  echo task ${pid%%/*} ${task##*/}
done
cat /proc/[0-9]*/stat 2>/dev/null | sed -n 's/^\([0-9]*\) (.*) [A-Za-z] \([0-9]*\) .*/parent \1 \2/p'
echo ready $probes
cat $i/trace_pipe &
pipe=$!
while read -r word; do
  [ "$word" = stop ] && echo labkit_end >$i/trace_marker
done
"""
