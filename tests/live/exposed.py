"""What a running lab shows to other users of the machine: its sockets, ports, files and arguments, as the kernel lists them."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.node import Home
from labkit.node.strays import own_processes
from labkit.node.traces import shim_sockets

LISTEN = "0A"
"""proc_net(5): a TCP socket that listens."""


@dataclass(frozen=True, order=True)
class Listener:
    """`address`: "127.0.0.1:4711", a path, or "@name" for an abstract one; `program`: whose it is; `listens`: else only bound."""

    program: str
    address: str
    listens: bool = True


def programs(home: Home) -> dict[int, str]:
    """The lab's processes that are no containers: pid → program, or the Python module that it runs."""
    found = {}
    for process in own_processes(home):
        if process.role != "container":
            found[process.pid] = process.module.rpartition(".")[2] or process.comm
    return found


def listeners(home: Home) -> set[Listener]:
    """Every socket that a process of the lab has bound to an address, of whatever family."""
    owners = {inode: name for pid, name in programs(home).items() for inode in inodes(pid)}
    found = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
        if inode in owners and path and int(flags, 16) & 0x10000:
            found.add(Listener(owners[inode], path[0]))
        elif inode in owners and path and path[0].startswith("@"):
            found.add(Listener(owners[inode], path[0], listens=False))
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, _, _, _, _, _, inode, *_ = line.split()
            if inode in owners and (state == LISTEN or not table.startswith("tcp")):
                found.add(Listener(owners[inode], address(local)))
    return found


def inodes(pid: int) -> Iterator[str]:
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path)):
                yield match[1]
        except FileNotFoundError:
            continue


def address(text: str) -> str:
    """ "0100007F:1F90" → "127.0.0.1:8080": words of 32 bits in this machine's byte order."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
    shown = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))
    return f"{shown}:{int(port, 16)}"


def places(home: Home) -> list[Path]:
    """Every path of the lab: below its directories, and elsewhere what only it uses."""
    below = [Path(base, name) for top in (home.run, home.data) for base, dirs, files in os.walk(top) for name in (*dirs, *files)]
    return [home.run, home.data, *below, *(path for path in shim_sockets(home) if path.exists())]


def mode(path: Path) -> str:
    """ "drwx------ 0": type, permissions and owner."""
    found = path.lstat()
    return f"{stat.filemode(found.st_mode)} {found.st_uid}"
