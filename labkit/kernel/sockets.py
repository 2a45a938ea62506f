"""Who listens on a Unix socket, as the kernel tells it (man 7 unix; /proc/net/unix and /proc/PID/fd: man 5 proc)."""

from __future__ import annotations

import os

from labkit.kernel.processes import read_text

ACCEPTS_CONNECTIONS = 0x10000
"""__SO_ACCEPTCON in the Flags column."""


def parse_unix_sockets(text: str) -> dict[str, int]:
    """Path -> inode of every listening socket in the text of /proc/net/unix."""
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & ACCEPTS_CONNECTIONS:
            found[fields[7]] = int(fields[6])
    return found


def unix_listener(path: str, proc: str = "/proc") -> int | None:
    """The lowest pid that holds the listening socket bound to `path`; None where nobody listens, or it may not be seen
    (needs root)."""
    inode = parse_unix_sockets(read_text(f"{proc}/net/unix")).get(path)
    if inode is None:
        return None
    link = f"socket:[{inode}]"
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        try:
            if any(os.readlink(entry.path) == link for entry in os.scandir(f"{proc}/{pid}/fd")):
                return pid
        except OSError:
            continue  # it ended, or closed that descriptor, meanwhile
    return None
