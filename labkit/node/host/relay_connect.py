"""A relay's command: joins stdin and stdout to a Unix socket, each direction until its own end. See
`labkit.node.host.relay.direct`.

Standard library only and run by its path: it starts anew for each connection, in 40 ms.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Sequence

CHUNK_BYTES = 64 * 1024
FIND_WITHIN_S = 5.0


def main(path: str, *find_pid: str) -> None:
    """With `find_pid`, a command that prints a pid, `path` is looked up as that process sees it, symbolic links too (which needs
    CAP_SYS_CHROOT and CAP_SYS_PTRACE). Exit code 1 with one sentence on stderr when there is no connection."""
    where = path
    if find_pid:
        pid = found_pid(find_pid)
        where = f"{path} of process {pid}"
    server = socket.socket(socket.AF_UNIX)
    try:
        if find_pid:
            os.chroot(f"/proc/{pid}/root")
        os.chdir(os.path.dirname(path) or "/")  # then the name alone is bound by the 107 bytes of sun_path (man 7 unix)
        server.connect(os.path.basename(path))
    except OSError as error:
        sys.exit(f"{where}: {error.strerror or error}.")
    join(server)


def join(server: socket.socket) -> None:
    """Copy stdin to `server` and that to stdout, each direction until its own end."""
    answer = threading.Thread(target=copy, args=(server.fileno(), 1))
    answer.start()
    copy(0, server.fileno())
    answer.join()


def found_pid(command: Sequence[str]) -> int:
    import subprocess  # slow to import, and not needed by each connection

    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=FIND_WITHIN_S)
    except subprocess.TimeoutExpired:
        sys.exit(f"{command[0]} did not answer within {FIND_WITHIN_S:.0f} s.")
    except OSError as error:
        sys.exit(f"{command[0]} cannot be run: {error.strerror}.")
    if done.returncode:
        sys.exit(done.returncode)  # it has said why on the stderr that is ours too
    if not (word := done.stdout.strip()).isdigit() or not int(word):
        sys.exit("The node is not running.")
    return int(word)


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
