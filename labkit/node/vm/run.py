"""A command in a virtual machine, from its start to its end: what it wrote, and how it ended."""

from __future__ import annotations

import contextlib
import math
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path

from labkit.node.machine import guest
from labkit.node.vm.enter import enter
from labkit.util.errors import NodeError

PID = f"read -r pid <{guest.CONTAINERD_PID} && [ -d /proc/$pid ] && echo $pid; true"


def run(door: Path, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
    """Run a command through the door (`labkit.node.vm.enter`), `timeout` seconds at most; its output. Raises NodeError."""
    mark = secrets.token_hex(8)
    # So that nothing goes on there when nobody waits here.
    words = ["timeout", "-k", "1", f"{math.ceil(timeout)}", *argv]
    try:
        with enter(door, f"run {mark}", words) as connection:
            connection.settimeout(timeout + 10.0)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(stdin or b"")
                connection.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except TimeoutError:
        raise NodeError(f"{argv[0]} did not end within {timeout:.0f} s.", "Give a longer timeout=.") from None
    except OSError as error:
        raise NodeError(f"The virtual machine cannot be reached ({error}).", "`labkit status` says more.") from None
    output, found, last_line = answer.rpartition(f"\n{mark} ".encode())
    if not found or not last_line[-3:].isdigit():
        raise NodeError(f"The virtual machine ended while {argv[0]} ran.", "`labkit status` says more.")
    code, message = int(last_line[-3:]), last_line[:-4].decode(errors="replace").strip()
    if code == 124:
        raise NodeError(f"{argv[0]} did not end within {timeout:.0f} s.", "Give a longer timeout=.")
    if code == 127 and ("not found" in message or "No such file" in message):
        raise NodeError(f"The node has no program {argv[0]}.", "")
    if code:
        raise NodeError(f"{argv[0]} exited with code {code}: {message}", "")
    return output


def containerd_pid(door: Path) -> int | None:
    """That of the machine's containerd, in the machine; None while it does not run. Raises NodeError."""
    found = run(door, ["sh", "-c", PID]).split()
    return int(found[0]) if found else None
