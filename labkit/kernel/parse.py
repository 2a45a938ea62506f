"""From the text of /proc and `ip` to the dataclasses of `model`. Nothing here opens a file.

Text is UTF-8 decoded with "surrogateescape", so that a name which is none survives. Formats: man 5 proc,
the kernel's fs/proc/array.c and fs/proc_namespace.c.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from labkit.kernel.model import NAMESPACE_TYPES, Interface, Mount, Process

# The kernel prints times in clock ticks of USER_HZ, which is 100 on every architecture that containerd runs on (man 7 time).
_NS_PER_TICK = 10_000_000
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the kernel's include/linux/sched.h
_ACCEPTS_CONNECTIONS = 0x10000  # __SO_ACCEPTCON in the Flags column of /proc/net/unix
_OCTAL = re.compile(r"\\([0-7]{3})")
PAIRED_KINDS = frozenset({"veth", "vxcan", "netkit"})
"""Kinds of interface whose iflink is their other end; for others (vlan, macvlan) it is the device below."""


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that labkit uses. start_ns: ns since boot."""

    pid: int
    comm: str
    state: str
    ppid: int
    start_ns: int
    kernel_thread: bool
    threads: int = 1


class Status(NamedTuple):
    """What labkit uses of /proc/PID/status: effective uid and gid, and the pid in each pid namespace, outermost first."""

    uid: int
    gid: int
    ns_pids: tuple[int, ...]


def parse_stat(text: str) -> Stat:
    """/proc/PID/stat. Raises ValueError on text that is none."""
    pid, _, rest = text.partition(" (")
    # comm is not escaped: only its last parenthesis is certain, since no later field can hold one.
    comm, _, rest = rest.rpartition(") ")
    fields = rest.split(" ", 20)
    if len(fields) < 20:
        raise ValueError(f"no text of /proc/PID/stat: {text[:80]!r}")
    start_ns, kernel_thread = int(fields[19]) * _NS_PER_TICK, bool(int(fields[6]) & _KERNEL_THREAD)
    return Stat(int(pid), comm, fields[0], int(fields[1]), start_ns, kernel_thread, int(fields[17]))


def parse_status(text: str) -> Status:
    """/proc/PID/status. Raises ValueError on text that is none. Kernels before 4.1 have no NSpid: Pid stands for it."""
    uids, gids = _field(text, "Uid"), _field(text, "Gid")
    if len(uids) != 4 or len(gids) != 4:
        raise ValueError(f"no text of /proc/PID/status: {text[:80]!r}")
    return Status(int(uids[1]), int(gids[1]), parse_ns_pids(text))


def parse_ns_pids(text: str) -> tuple[int, ...]:
    """Of /proc/PID/status only the pid in each pid namespace. Raises ValueError on text that is none."""
    pids = _field(text, "NSpid") or _field(text, "Pid")
    if not pids:
        raise ValueError(f"no text of /proc/PID/status: {text[:80]!r}")
    return tuple(map(int, pids))


def parse_cmdline(text: str) -> tuple[str, ...]:
    """/proc/PID/cmdline: arguments, each ended by a NUL; empty arguments are kept."""
    return tuple(text.removesuffix("\0").split("\0")) if text else ()


def parse_cgroup(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: controller list -> path, "" for cgroup v2. Raises ValueError on text that is none."""
    cgroups = {}
    for line in filter(None, text.split("\n")):
        _, controllers, path = line.split(":", 2)
        cgroups[controllers] = path
    return cgroups


def parse_namespace_link(text: str) -> tuple[str, int]:
    """("net", 4026531840) of "net:[4026531840]", which is both a /proc/PID/ns link and the root of an nsfs mount.

    Raises ValueError on anything else, such as "socket:[4711]".
    """
    type, _, inode = text.partition(":[")
    if type not in NAMESPACE_TYPES or not inode.endswith("]"):
        raise ValueError(f"no namespace: {text!r}")
    return type, int(inode[:-1])


def parse_mountinfo(text: str) -> tuple[Mount, ...]:
    """/proc/PID/mountinfo. Raises ValueError on text that is none."""
    return tuple(_mount(line) for line in filter(None, text.split("\n")))


def mount_points_below(text: str, directory: str) -> list[str]:
    """The mount points at or below a directory in the text of /proc/PID/mountinfo, the deepest first."""
    name = directory.rpartition("/")[2]
    escaped = set(name) & set(" \t\n\\#")
    # Parsing all lines takes ten times as long as looking for the name in them.
    points = (_mount(line).mount_point for line in text.split("\n") if line and (escaped or name in line))
    return sorted((p for p in points if p == directory or p.startswith(f"{directory}/")), key=len, reverse=True)


def nsfs_mounts(mounts: Iterable[Mount]) -> list[tuple[str, int, str]]:
    """(type, inode, path) of each bind mount of a namespace among `mounts`."""
    return [(*parse_namespace_link(mount.root), mount.mount_point) for mount in mounts if mount.fs_type == "nsfs"]


def parse_unix_sockets(text: str) -> dict[str, int]:
    """Path -> inode of every listening socket in the text of /proc/net/unix."""
    found = {}
    for line in text.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS_CONNECTIONS:
            found[fields[7]] = int(fields[6])
    return found


def parse_process(
    stat: str | Stat,
    status: str,
    cgroup: str | Mapping[str, str] = "",
    cmdline: str = "",
    links: Mapping[str, int] | Iterable[str] = (),
    exe: str = "",
) -> Process:
    """One Process from the text of its files; what has been parsed already can be given as it is.

    links: the texts of the links in /proc/PID/ns except *_for_children, or type -> inode. Raises ValueError on text that is none.
    """
    stat = parse_stat(stat) if isinstance(stat, str) else stat
    uid, gid, ns_pids = parse_status(status)
    cgroups = parse_cgroup(cgroup) if isinstance(cgroup, str) else cgroup
    namespaces = links if isinstance(links, Mapping) else dict(map(parse_namespace_link, links))
    arguments = parse_cmdline(cmdline)
    return Process(
        stat.pid, stat.ppid, stat.comm, arguments, stat.state, stat.start_ns, uid, gid, ns_pids, namespaces, cgroups, exe,
        stat.threads,
    )


def parse_ip_address(text: str) -> tuple[Interface, ...]:
    """The output of `ip -j -d address`. Without -d `kind` and `peer_index` stay empty. Raises ValueError on text that is none."""
    # Some versions of ip print an empty object for what a filter left out.
    links = [link for link in json.loads(text or "[]") if "ifindex" in link]
    index_of = {link["ifname"]: link["ifindex"] for link in links}
    return tuple(_interface(link, index_of) for link in links)


def _field(text: str, name: str) -> list[str]:
    # The name in the first line is escaped by the kernel, so a line break is always a field's end.
    start = text.find(f"\n{name}:")
    return text[start + len(name) + 2 : text.find("\n", start + 1)].split() if start >= 0 else []


def _mount(line: str) -> Mount:
    fields = line.split(" ")
    # Optional fields (shared:1 master:2 …) stand between the sixth and a lone dash.
    dash = fields.index("-", 6)
    fs_type, source, fs_options = fields[dash + 1 : dash + 4]
    if "\\" in line:
        fields[3], fields[4], source, fs_options = map(_unescape, (fields[3], fields[4], source, fs_options))
    own, of_fs = fields[5].split(","), fs_options.split(",")
    options = ("ro" if "ro" in (own[0], of_fs[0]) else "rw", *own[1:], *of_fs[1:])
    return Mount(int(fields[0]), int(fields[1]), fields[2], fields[3], fields[4], fs_type, source, options)


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _interface(link: dict, index_of: Mapping[str, int]) -> Interface:
    kind = link.get("linkinfo", {}).get("info_kind", "")
    # ip names the other end where it can see it and numbers it where it is in another network namespace.
    peer = link.get("link_index", index_of.get(link.get("link", ""))) if kind in PAIRED_KINDS else None
    addresses = sorted(link.get("addr_info", ()), key=lambda address: address["family"] != "inet")
    return Interface(
        name=link["ifname"],
        index=link["ifindex"],
        mac=link.get("address", ""),
        state=link.get("operstate", "UNKNOWN"),
        mtu=link["mtu"],
        addresses=tuple(f"{address['local']}/{address['prefixlen']}" for address in addresses),
        peer_index=peer,
        kind=kind,
    )
