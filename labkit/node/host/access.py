"""`node.host`: the machine that a node is. Commands, files and connections there, however it is reached."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from labkit.kernel import LocalKernel
from labkit.kernel.remote import RemoteKernel
from labkit.util import unix_sockets
from labkit.util.errors import NodeError

NO_STREAMS = (
    "crictl exec, attach and port-forward do not work with this node: the runtime answers them with an address on the node's own "
    "loopback, which this machine does not reach. Use crictl exec --sync, or kubectl."
)
DIAL_WITHIN_S = 5.0

Kernel = LocalKernel | RemoteKernel


class Shell(Protocol):
    """Runs commands on a node."""

    def shell(self, argv: Sequence[str], *, timeout: float = ...) -> str:
        """Run a command on the node itself, not in a Pod; its standard output. Raises NodeError with its error message when it
        fails."""
        ...


class Host(Shell, Protocol):
    """The machine that a node is. `shares_loopback`: whether the runtime uses this machine's loopback, where it serves exec,
    attach and port-forward."""

    shares_loopback: bool

    def write_file(self, path: str, text: str) -> None:
        """Write a file, mode 0644, and make its directory where it is missing."""
        ...

    def make_directory(self, path: str, mode: int) -> None: ...

    def dial(self, address: str, port: int) -> socket.socket:
        """A connection to a port of a Pod, or of the node. Raises OSError."""
        ...

    def dial_unix(self, path: str) -> socket.socket:
        """A connection to a Unix socket of the node. Raises OSError."""
        ...

    def pids_here(self) -> Mapping[int, int]:
        """The node's pids → this machine's, where the two differ and this machine shows both; else empty."""
        ...


class ObservedNode(Protocol):
    """The part of a node that is observed without its runtime. socket_path: the path of the runtime's socket on the node
    itself."""

    @property
    def host(self) -> Host: ...
    @property
    def kernel(self) -> Kernel: ...
    @property
    def socket_path(self) -> str: ...


class ThisMachine:
    """The host of a node whose runtime runs on this very machine."""

    shares_loopback = True

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return run_local(argv, timeout)

    def write_file(self, path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
        Path(path).chmod(0o644)  # whatever the umask of this process is

    def make_directory(self, path: str, mode: int) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(mode)

    def dial(self, address: str, port: int) -> socket.socket:
        return socket.create_connection((address, port), timeout=DIAL_WITHIN_S)

    def dial_unix(self, path: str) -> socket.socket:
        return unix_sockets.connect(path)

    def pids_here(self) -> Mapping[int, int]:
        return {}


class ByCommands:
    """A host that is reached by commands only. `run` runs one there."""

    shares_loopback = False

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        """Run a command on the node; its standard output as bytes. Raises NodeError."""
        raise NotImplementedError

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return self.run(argv, timeout=timeout).decode(errors="replace")

    def write_file(self, path: str, text: str) -> None:
        self.run(["sh", "-c", 'umask 022; mkdir -p "${1%/*}" && cat > "$1"', "sh", path], stdin=text.encode())

    def make_directory(self, path: str, mode: int) -> None:
        self.run(["sh", "-c", 'mkdir -p "$1" && chmod "$2" "$1"', "sh", path, f"{mode:o}"])

    def pids_here(self) -> Mapping[int, int]:
        return {}


def run_local(argv: Sequence[str], timeout: float) -> str:
    """Run a command on this machine. Returns its standard output. Raises NodeError."""
    try:
        done = subprocess.run(list(argv), capture_output=True, encoding="utf-8", errors="replace", timeout=timeout)
    except FileNotFoundError:
        raise NodeError(f"The node has no program {argv[0]}.", "") from None
    except subprocess.TimeoutExpired:
        raise NodeError(f"{argv[0]} did not end within {timeout:.0f} s.", "Give a longer timeout=.") from None
    if done.returncode:
        raise NodeError(f"{argv[0]} exited with code {done.returncode}: {done.stderr.strip()}", "")
    return done.stdout
