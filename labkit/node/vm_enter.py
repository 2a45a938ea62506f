"""Into a virtual machine: `vm_enter.py DOOR ARGV…` runs a command there, with this process's stdin and stdout as its own.

DOOR is the file with the door's port and word, which its owner alone may read. Standard library only and run by its path: it
starts anew for each connection of a relay, in 40 ms. The words that open the door are `labkit.vm.guest.DOOR`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

CHUNK_BYTES = 64 * 1024
CONNECT_WITHIN_S = 10.0


def main(door: str, *argv: str) -> None:
    """Exit code 1 with one sentence on stderr when there is no connection."""
    try:
        server = enter(Path(door), "stream", argv)
    except OSError as error:
        sys.exit(f"The virtual machine cannot be reached ({error.strerror or error}).")
    answer = threading.Thread(target=copy, args=(server.fileno(), 1))
    answer.start()
    copy(0, server.fileno())
    answer.join()


def enter(door: Path, verb: str, argv: Sequence[str]) -> socket.socket:
    """A connection on which the machine runs a command. Raises OSError where the machine is not there."""
    try:
        said = json.loads(door.read_text())
    except FileNotFoundError:
        raise ConnectionRefusedError("it does not run") from None
    connection = socket.create_connection(("127.0.0.1", said["port"]), timeout=CONNECT_WITHIN_S)
    if strangers := listeners(said["port"]) - {os.geteuid()}:
        connection.close()
        raise ConnectionRefusedError(f"the user {min(strangers)} has its port")
    connection.settimeout(None)
    connection.sendall(b"%s %s %s\n" % (said["word"].encode(), verb.encode(), b" ".join(map(quoted, argv))))
    return connection


def listeners(port: int) -> set[int]:
    """The users who listen on a TCP port, by the kernel's list (man 5 proc_net). Another one may have taken the port of a machine
    that ended: neither the word nor a command is for that one."""
    try:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    except OSError:
        return set()
    return {int(row[7]) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


def quoted(word: str) -> bytes:
    """For ash and bash, on one line: $'…', every byte that is not plain as three octal digits."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 !\"#$%&()*+,-./:;<=>?@[]^_`{|}~"
    return b"$'" + b"".join(bytes([c]) if c in plain else b"\\%03o" % c for c in os.fsencode(word)) + b"'"


def copy(source: int, target: int) -> None:
    """All bytes of `source` to `target`, blocking, then the end of the stream."""
    with contextlib.suppress(OSError):  # the one or the other side has gone: the end of the stream, too
        while data := memoryview(os.read(source, CHUNK_BYTES)):
            while data:
                data = data[os.write(target, data) :]
    try:
        with socket.socket(fileno=os.dup(target)) as half:
            half.shutdown(socket.SHUT_WR)
    except OSError:
        os.close(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
