"""Network interfaces of any network namespace, asked of the kernel through rtnetlink (man 7 rtnetlink, man 7 netlink).

A thread of its own enters the namespace (man 2 setns concerns only the calling thread) and opens a netlink socket there. The
socket stays in that namespace, the thread ends, and no other thread of the process has moved.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator

from labkit.kernel.files import checked, libc
from labkit.kernel.model import Interface
from labkit.kernel.parse import PAIRED_KINDS

_CLONE_NEWNET = 0x40000000
# Numbers of the kernel's include/uapi/linux/{netlink,rtnetlink,if_link,if_addr}.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_REQUEST, _NLM_F_DUMP, _NLM_F_DUMP_INTR = 0x1, 0x300, 0x10
_RTM_GETLINK, _RTM_GETADDR = 18, 22
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_OPERSTATE, _IFLA_LINKINFO = 1, 3, 4, 5, 16, 18
_IFLA_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_TYPE_MASK = 0x3FFF  # the two bits above it are flags: nested, network byte order
_HEADER = struct.Struct("=LHHLL")
_LINK_MESSAGE = struct.Struct("=BxHiII")
_ADDRESS_MESSAGE = struct.Struct("=BBBBi")
_ATTRIBUTE = struct.Struct("=HH")
_OPERATIONAL_STATES = ("UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP")
# The kernel fills at most 32 KiB at a time when it dumps (net/netlink/af_netlink.c).
_RECEIVE_SIZE = 65536
_ATTEMPTS = 5


def interfaces_of(namespace: str, pid: int | None = None) -> tuple[Interface, ...]:
    """The interfaces of the network namespace that a file stands for: /proc/PID/ns/net or a bind mount of one. By index.

    pid: whose namespace it is, for the message if that process is gone. Raises ProcessLookupError, FileNotFoundError,
    PermissionError, OSError.
    """
    with _netlink_socket(namespace, pid) as netlink:
        for _ in range(_ATTEMPTS):
            links, links_whole = _dump(netlink, _RTM_GETLINK, _LINK_MESSAGE)
            addresses, addresses_whole = _dump(netlink, _RTM_GETADDR, _ADDRESS_MESSAGE)
            if links_whole and addresses_whole:
                break
        else:
            raise OSError(f"The interfaces of {namespace} changed each time they were listed. Try again when they have settled.")
    of_index: dict[int, list[str]] = {}
    for (family, prefix, _flags, _scope, index), attributes in sorted(addresses, key=lambda address: address[0][0]):
        # On a point-to-point link IFA_ADDRESS is the other side's.
        packed = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
        if packed is not None and family in (socket.AF_INET, socket.AF_INET6):
            of_index.setdefault(index, []).append(f"{socket.inet_ntop(family, packed)}/{prefix}")
    interfaces = [_interface(message[2], attributes, of_index.get(message[2], [])) for message, attributes in links]
    return tuple(sorted(interfaces, key=lambda interface: interface.index))


def _interface(index: int, attributes: dict[int, bytes], addresses: list[str]) -> Interface:
    kind = _text(_attributes(attributes.get(_IFLA_LINKINFO, b"")).get(_IFLA_INFO_KIND, b""))
    state = attributes.get(_IFLA_OPERSTATE, b"\0")[0]
    return Interface(
        name=_text(attributes[_IFLA_IFNAME]),
        index=index,
        mac=attributes.get(_IFLA_ADDRESS, b"").hex(":"),
        state=_OPERATIONAL_STATES[state] if state < len(_OPERATIONAL_STATES) else "UNKNOWN",
        mtu=_number(attributes.get(_IFLA_MTU, bytes(4))),
        addresses=tuple(addresses),
        peer_index=_number(attributes[_IFLA_LINK]) if kind in PAIRED_KINDS and _IFLA_LINK in attributes else None,
        kind=kind,
    )


def _netlink_socket(namespace: str, pid: int | None) -> socket.socket:
    result: list[socket.socket | OSError] = []

    def enter_and_open() -> None:
        try:
            _enter(namespace)
            result.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=enter_and_open, name="labkit-netlink")
    thread.start()
    thread.join()
    if isinstance(result[0], socket.socket):
        return result[0]
    raise _explained(result[0], namespace, pid) from None


def _enter(namespace: str) -> None:
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        # Entering needs CAP_SYS_ADMIN; staying where one is needs nothing.
        if os.path.samestat(os.fstat(descriptor), os.stat("/proc/thread-self/ns/net")):
            return
        # os.setns exists since Python 3.12 only.
        checked(libc.setns(descriptor, _CLONE_NEWNET))
    finally:
        os.close(descriptor)


def _explained(error: OSError, namespace: str, pid: int | None) -> OSError:
    if isinstance(error, PermissionError):
        return PermissionError(f"The network namespace {namespace} may not be entered. Run this as root.")
    if isinstance(error, (FileNotFoundError, ProcessLookupError)):
        if pid is not None:
            return ProcessLookupError(f"There is no process {pid}, or it is a zombie. Take a new snapshot and use a pid of it.")
        return FileNotFoundError(f"There is no {namespace}. Use a path that `ip netns` or Snapshot.namespaces[…].mounts names.")
    return OSError(f"{namespace} could not be entered as a network namespace ({error.strerror}). Use one of type net.")


def _dump(
    netlink: socket.socket, request: int, message: struct.Struct
) -> tuple[list[tuple[tuple[int, ...], dict[int, bytes]]], bool]:
    """Every object of one kind, as (fields of its message, attributes), and whether none changed while they were listed."""
    body = bytes(message.size)
    netlink.send(_HEADER.pack(_HEADER.size + len(body), request, _NLM_F_REQUEST | _NLM_F_DUMP, 0, 0) + body)
    found: list[tuple[tuple[int, ...], dict[int, bytes]]] = []
    whole = True
    while True:
        for type, flags, payload in _messages(netlink.recv(_RECEIVE_SIZE)):
            whole = whole and not flags & _NLM_F_DUMP_INTR
            if type == _NLMSG_DONE:
                return found, whole
            if type == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", payload)[0]
                raise OSError(number, os.strerror(number))
            found.append((message.unpack_from(payload), _attributes(payload[message.size :])))


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    while len(data) >= _HEADER.size:
        length, type, flags, _sequence, _port = _HEADER.unpack_from(data)
        yield type, flags, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(data: bytes) -> dict[int, bytes]:
    attributes = {}
    while len(data) >= _ATTRIBUTE.size:
        length, type = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size:
            break
        attributes[type & _TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]
    return attributes


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _number(data: bytes) -> int:
    return struct.unpack("=I", data)[0]


def _text(data: bytes) -> str:
    return os.fsdecode(data.rstrip(b"\0"))
