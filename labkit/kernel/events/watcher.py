"""Watch a node's processes begin, by a loop of POSIX sh on the node itself: for a node whose kernel tells labkit of no events.

The loop asks /proc/loadavg for the pid given last (man 5 proc), which costs some microseconds and no fork, and looks at each new
pid at once: at its comm until it has become another program than the one that forked it. It sees what lives a few milliseconds;
what ends before it is looked at is missed, which is why the exact ways come first (the proc connector, tracefs).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WATCH = r"""
flag=$1
: >"$flag"
read -r a b c d last </proc/loadavg
seen=$last
pending=
echo "ready $last"
while [ -e "$flag" ]; do
    read -r a b c d last </proc/loadavg
    [ "$last" -ge "$seen" ] || seen=0
    while [ "$seen" -lt "$last" ]; do seen=$((seen + 1)); pending="$pending $seen:0"; done
    left=
    for one in $pending; do
        pid=${one%:*} round=${one#*:}
        read -r comm 2>/dev/null <"/proc/$pid/comm" || continue
        case $comm in
        containerd-shim|containerd|conmon|dockerd|exe|runc:*)
            [ "$round" -gt 400 ] || left="$left $pid:$((round + 1))"
            ;;
        *)
            key= value=
            while read -r key value rest; do [ "$key" != Tgid: ] || break; done 2>/dev/null <"/proc/$pid/status"
            [ "$value" = "$pid" ] || continue # a thread of another process
            printf 'exec %s %s\n' "$pid" "$comm"
            cat "/proc/$pid/cmdline" 2>/dev/null
            printf '\nend\n'
            ;;
        esac
    done
    pending=$left
done
"""
"""$1: a file; the loop ends when it is gone. Output: `ready PID`, then for each new program `exec PID COMM`, its
cmdline, `end`."""


@dataclass(frozen=True)
class StartedProgram:
    """A program that began to run: `argv` as it was when the loop looked, () where it had ended by then."""

    pid: int
    comm: str
    argv: tuple[str, ...]


def parse(lines: Iterable[bytes]) -> Iterator[StartedProgram]:
    """What WATCH prints, as it comes."""
    pid, comm, body = 0, "", b""
    for line in lines:
        if not pid:
            words = line.decode(errors="surrogateescape").split()
            if words and words[0] == "exec":
                pid, comm = int(words[1]), " ".join(words[2:])
        elif line == b"end\n":
            argv = tuple(a.decode(errors="surrogateescape") for a in body.rstrip(b"\n").split(b"\0") if a)
            yield StartedProgram(pid, comm, argv)
            pid, body = 0, b""
        else:
            body += line
