"""Finds the program that calls a runtime by its connection to the runtime's socket.

A runtime's log does not name callers. A kubelet stays connected for its whole life: if it is the only client when a recording
begins and when it ends, it is taken for the caller. A client that connects for one call only, as crictl does, is not seen.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from labkit.node.host.access import Shell
from labkit.node.registry.certs import plain
from labkit.util.errors import NodeError

UNKNOWN = "?"
SS = ("ss", "--no-header", "--unix", "--processes", "--numeric")
_USERS = re.compile(r'\("((?:[^"\\]|\\.)*)",pid=(\d+),fd=\d+\)')
RELAYS = ("socat", "sh")
"""labkit's own way into a node, one process or more a connection."""


def caller(node: Shell, socket: str, names: Mapping[int, str] | None = None) -> str:
    """The one program that is connected to a runtime's socket, by its name in `names` (pid → name), else by its comm.

    "?" where there are several or none, and where it cannot be known. Left out: this process, relays, and processes that a
    signal has stopped, which make no calls.
    """
    try:
        found = clients(node.shell(SS), socket)
        stopped = stops(node.shell(["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null; true"])) if found else set()
    except NodeError:
        return UNKNOWN
    left_out = {os.getpid(), *stopped}
    programs = {(names or {}).get(pid, comm) for comm, pid in found if pid not in left_out and comm not in RELAYS}
    return programs.pop() if len(programs) == 1 else UNKNOWN


def clients(text: str, socket: str) -> set[tuple[str, int]]:
    """(comm, pid) of the processes at the other ends of the connections to `socket`, from what `ss` prints (man 8 ss)."""
    rows = [fields for line in text.splitlines() if len(fields := line.split(maxsplit=8)) >= 8 and fields[1] == "ESTAB"]
    ends = {peer for _, _, _, _, path, _, _, peer, *_ in rows if plain(path) == plain(socket)}
    return {(comm, int(pid)) for row in rows if row[5] in ends for comm, pid in _USERS.findall(row[8] if len(row) > 8 else "")}


def stops(stats: str) -> set[int]:
    """The pids that a signal has stopped, from the text of their /proc/PID/stat."""
    return {int(pid) for pid in re.findall(r"^(\d+) \(.*\) [Tt] ", stats, re.MULTILINE)}
