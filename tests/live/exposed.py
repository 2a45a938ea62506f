"""What a running lab shows to other users of the machine: its sockets, ports, files and arguments, as the kernel lists them.

`python -m tests.live.exposed` prints the list for the lab that LABKIT_HOME names, as rows for docs/security.md; the tests compare
the two. A lab's process is told by the kernel alone: it has one of the lab's paths in its arguments, as its working directory or
among its open files.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass
from itertools import takewhile
from pathlib import Path

from labkit.node import Home
from labkit.node.host.lab_processes import own_processes
from labkit.node.lab.residue import shim_sockets
from labkit.node.vm.vm_home import MachinePaths
from tests.conftest import ROOT

LISTEN = "0A"
"""proc_net(5): a TCP socket that listens."""
MODULES = {"labkit.apiserver": "kubeapi", "labkit.kubelet": "kubelet"}
ALSO_ON_DISK = ("/dev/", "/proc/", "/sys/", "/memfd:", "/usr/", "/var/lib/docker/")


@dataclass(frozen=True, order=True)
class Listener:
    """`address`: "127.0.0.1:4711", a path, or "@name" for an abstract one; `program`: whose it is; `access`: the mode of a path,
    and the owner."""

    program: str
    address: str
    access: str


def programs(home: Home) -> dict[int, str]:
    """The lab's processes that are no containers: pid → program, or the Python module that it runs."""
    containers = {p.pid for each in (home, MachinePaths(home).home) for p in own_processes(each) if p.role == "container"}
    own, found = {os.getpid(), *ancestors(os.getpid())}, {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            pid, arguments = int(process.name), (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            ours = (process / "ns/pid").readlink() == Path("/proc/self/ns/pid").readlink() and pid not in containers | own
            if ours and (is_below(home, arguments) or is_below(home, opened(pid))):
                found[pid] = program(arguments, (process / "comm").read_text().strip())
    return found


def in_node(node: int, comm: str) -> dict[int, str]:
    """The processes of a name in the network namespace of a container's first process."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = (process / "ns/net").readlink() == Path(f"/proc/{node}/ns/net").readlink()
            if here and (process / "comm").read_text().strip() == comm:
                found[int(process.name)] = comm
    return found


def program(arguments: list[str], comm: str) -> str:
    if any(each.endswith("/relay_process.py") for each in arguments):
        return "relay"
    return "qemu" if comm.startswith("qemu-system") else next((MODULES[each] for each in arguments if each in MODULES), comm)


def ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        yield pid


def is_below(home: Home, words: Collection[str]) -> bool:
    """Whether one of these is, or has in it, a path of the lab's own."""
    return any(f"{top}/" in f"{word}/" for word in words for top in (home.run, home.data))


def opened(pid: int) -> list[str]:
    """A process's working directory, and what its descriptors are."""
    found = [os.readlink(f"/proc/{pid}/cwd")]
    for entry in os.scandir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry.path))
    return found


def listeners(home: Home, others: Mapping[int, str] | None = None) -> set[Listener]:
    """Every socket that a process of the lab has bound to an address, of whatever family; `others` are processes elsewhere."""
    found = set()
    spaces: dict[str, dict[str, str]] = defaultdict(dict)
    for pid, name in {**programs(home), **(others or {})}.items():
        for link in opened(pid):
            if match := re.fullmatch(r"socket:\[(\d+)\]", link):
                spaces[f"{os.readlink(f'/proc/{pid}/ns/net')} {pid}"][match[1]] = name
    for space, owners in spaces.items():
        tables = Path("/proc", space.rpartition(" ")[2], "net")
        for line in (tables / "unix").read_text().splitlines()[1:]:
            _, _, _, flags, _, _, inode, *path = line.split(maxsplit=7)
            if inode in owners and path and (int(flags, 16) & 0x10000 or path[0].startswith("@")):
                found.add(Listener(owners[inode], path[0], "" if path[0].startswith("@") else access(Path(path[0]), home)))
        for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
            for line in (tables / table).read_text().splitlines()[1:]:
                _, local, _, state, _, _, _, uid, _, inode, *_ = line.split()
                if inode in owners and (state == LISTEN or not table.startswith("tcp")):
                    found.add(Listener(owners[inode], address(local), owner(int(uid), home)))
    return found


def address(text: str) -> str:
    """ "0100007F:1F90" → "127.0.0.1:8080": words of 32 bits in this machine's byte order."""
    host, _, port = text.partition(":")
    words = [bytes.fromhex(host[i : i + 8])[::-1] for i in range(0, len(host), 8)]
    shown = socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, b"".join(words))
    return f"{shown}:{int(port, 16)}"


def places(home: Home) -> list[Path]:
    """Every path of the lab: below its directories, and elsewhere what only it uses."""
    below = [Path(base, name) for top in (home.run, home.data) for base, dirs, files in os.walk(top) for name in (*dirs, *files)]
    return [home.run, home.data, *below, *(path for path in shim_sockets(home) if path.exists()), *written(home)]


def written(home: Home) -> set[Path]:
    """Files outside the lab's directories which its processes have open for writing."""
    found = set()
    for pid in programs(home):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(entry.path)
                flags = int(re.search(r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text())[1], 8)  # type: ignore[index]
                if flags & os.O_ACCMODE and link.startswith("/") and not link.startswith(ALSO_ON_DISK):
                    found.add(Path(link.removesuffix(" (deleted)")))
    return {path for path in found if not is_below(home, [str(path)])}


def files(home: Home) -> set[tuple[str, str]]:
    """The lab's directories, what lies in them, and what it has open elsewhere: path, mode and owner. A directory in one of them
    is a row of its own, without what is in it: nobody else can enter the one above."""
    tops = [top for each in (home, MachinePaths(home).home) for top in (each.run, each.data) if top.exists()]
    found = {*tops, *(path for top in tops for path in top.iterdir() if not path.is_socket()), *written(home)}
    return {(shown(str(path), home), access(path, home)) for path in found if path.name[:1] != "."}


def mode(path: Path) -> str:
    """ "drwx------ 0": type, permissions and owner."""
    found = path.lstat()
    return f"{stat.filemode(found.st_mode)} {found.st_uid}"


def access(path: Path, home: Home) -> str:
    """ "drwx------ root" """
    found = path.lstat()
    return f"{stat.filemode(found.st_mode)} {owner(found.st_uid, home)}"


def owner(uid: int, home: Home) -> str:
    if uid == 0:
        return "root"
    if uid == home.run.stat().st_uid:
        return "the learner"
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return "no account"


def shown(address: str, home: Home) -> str:
    """As the documentation writes it: the home and what differs from lab to lab by a word in capitals."""
    for place, word in ((home.run, "RUN"), (home.data, "DATA")):
        address = address.replace(str(place), word)
    address = re.sub(r"(?<=RUN/)kind-[\w.-]+?(?=\.sock|\.kubeconfig)|(?<=DATA/)kind-[\w.-]+?(?=-relay)", "NAME", address)
    return re.sub(r":\d+$", ":PORT", re.sub(r"[0-9a-f]{64}", "HASH", address))


def sockets(home: Home, others: Mapping[int, str] | None = None) -> set[tuple[str, ...]]:
    return {(one.program, shown(one.address, home), one.access) for one in listeners(home, others)}


def documented(kind: str) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """What docs/security.md has for a kind of node: sockets (program, address, access) and files (path, access)."""
    text = (ROOT / "docs" / "security.md").read_text()
    found = re.search(rf"^### `{kind}`$(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/security.md has no section {kind}"
    lines = [line.strip("| ").split(" | ") for line in found[1].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in takewhile(re.compile(r" *`[^`]+` *").fullmatch, line)] for line in lines]
    rows = {tuple(cell.strip("`") for cell in row) for row in cells}
    return {row for row in rows if len(row) == 3}, {row for row in rows if len(row) == 2}


def main() -> None:
    home = Home.find()
    for row in (*sorted(astuple(each) for each in listeners(home)), *sorted(files(home))):
        print("| " + " | ".join(f"`{shown(word, home)}`" for word in row) + " | |")


if __name__ == "__main__":
    main()
