"""Into a virtual machine: `enter.py DOOR ARGV…` runs a command there, with this process's stdin and stdout as its own.

DOOR is the file with the door's port and word, which its owner alone may read. Standard library only and run by its path: it
starts anew for each connection of a relay, in 40 ms. The words that open the door are `labkit.node.machine.guest.DOOR`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING or __name__ != "__main__":
    from labkit.node.host.relay_connect import join
else:
    sys.path.append(str(Path(__file__).parents[1] / "host"))
    from relay_connect import join

CONNECT_WITHIN_S = 10.0
LISTEN = "0A"


def main(door: str, *argv: str) -> None:
    """Exit code 1 with one sentence on stderr when there is no connection."""
    try:
        server = enter(Path(door), "stream", argv)
    except OSError as error:
        sys.exit(f"The virtual machine cannot be reached ({error.strerror or error}).")
    join(server)


def enter(door: Path, verb: str, argv: Sequence[str]) -> socket.socket:
    """A connection on which the machine runs a command. Raises OSError where the machine is not there."""
    try:
        address = json.loads(door.read_text())
    except FileNotFoundError:
        raise ConnectionRefusedError("it does not run") from None
    connection = socket.create_connection(("127.0.0.1", address["port"]), timeout=CONNECT_WITHIN_S)
    users = server_users(connection) or server_users(connection)  # a list that is read while it changes may lack one
    if users is not None and users != {os.geteuid()}:
        connection.close()
        raise ConnectionRefusedError(f"the user {min(users)} has its port" if users else "nothing listens on its port")
    connection.settimeout(None)
    connection.sendall(b"%s %s %s\n" % (address["word"].encode(), verb.encode(), b" ".join(map(quoted, argv))))
    return connection


def server_users(connection: socket.socket, net: Path = Path("/proc/net")) -> set[int] | None:
    """The users who have the other end of a TCP connection to 127.0.0.1, by the kernel's lists (man 5 proc_net); None where these
    do not have the connection. Another one may have taken the port of a machine that ended: neither the word nor a command is
    for that one."""
    rows: list[list[str]] = []
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            rows += [line.split() for line in (net / table).read_text().splitlines()[1:]]
    (_, own), (_, port) = connection.getsockname(), connection.getpeername()
    here, there = (spelled(number, "127.0.0.1", "::ffff:127.0.0.1") for number in (own, port))
    if not any(row[1] in here and row[2] in there for row in rows):
        return None
    if accepted := {int(row[7]) for row in rows if row[1] in there and row[2] in here and row[9] != "0"}:
        return accepted
    waiting = [{int(row[7]) for row in rows if row[1] in meant and row[3] == LISTEN}
               for meant in (spelled(port, "127.0.0.1", "0.0.0.0"), spelled(port, "::ffff:127.0.0.1", "::"))]
    return waiting[0] or waiting[1]  # a socket of IPv6 takes what none of IPv4 does


def spelled(port: int, *addresses: str) -> set[str]:
    """Addresses with a port as /proc/net/tcp and tcp6 have them: words of 32 bits in the machine's own order, in hexadecimal."""
    packed = (socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text) for text in addresses)
    words = ([int.from_bytes(each[at : at + 4], sys.byteorder) for at in range(0, len(each), 4)] for each in packed)
    return {"".join(f"{word:08X}" for word in each) + f":{port:04X}" for each in words}


def quoted(word: str) -> bytes:
    """For ash and bash, on one line: $'…', every byte that is not plain as three octal digits."""
    plain = b'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !"#$%&()*+,-./:;<=>?@[]^_`{|}~'
    return b"$'" + b"".join(bytes([c]) if c in plain else b"\\%03o" % c for c in os.fsencode(word)) + b"'"


if __name__ == "__main__":
    main(*sys.argv[1:])
