"""The relay: a local Unix socket behind which a socket elsewhere answers, for example the one inside of a kind node.

A command serves each connection: `docker exec -i NODE …` (see `inside`), which needs the docker group only, or `direct`, for
root. The relay is a process of its own: notebooks come and go, it stays until `stop_relay`.

The connection itself is the command's stdin and stdout, and the relay copies nothing. Beside one that copies through pipes
(asyncio, 2 cores), a call takes 0.05 to 0.1 ms longer than on the socket itself in place of 0.25 ms, by `docker exec` 0.4 ms in
place of 0.55 ms; and half-closed connections, cancelled calls and back-pressure are the kernel's business. The price is that the
relay does not see the bytes: a command must say on stderr why it failed.

The owner is recognised by a lock on `SOCKET.lock` that it holds for its life (man 2 flock). Like a pid with its start time, that
names one process for ever; and it works on macOS too, which has no /proc to ask for a start time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.node.host import relay_connect, relay_loop
from labkit.node.state.home import SOCKET_PATH_MAX, Home
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.outputs import read_note
from labkit.util.termination import terminate

PYTHON = [sys.executable, "-I", "-S"]
START_WITHIN_S = 30.0
CONNECT_WITHIN_S = 5.0
STOP_WITHIN_S = relay_loop.GRACE_S + 3.0
JOIN = (
    'exec 3<&0 4>&1; exec socat "$0" '
    '"SYSTEM:$1 socat -u FD\\:3 FD\\:1\\,shut-down 4>&- & socat -u FD\\:0 FD\\:4 3<&-; kill \\$! 2>/dev/null; true,nofork"'
)
"""Joins stdin and stdout, saved as 3 and 4, to $0, a socket in socat's words: socat connects it, runs the shell's words in $1,
and hands it as 0 and 1 to a socat a direction. One `socat -` cannot do it: it keeps a connection of which either side is closed
for `-t` seconds, so that a long -t hides the end of the runtime as long, and a short one (0.5 s by itself) cuts off the answer to
a client that has shut down its sending half."""


def start_relay(home: Home, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Path:
    """Serve `home.run/NAME.sock` (mode 0600) in the background, each connection by a process `argv` of its own. Returns the path.

    Idempotent: a relay that runs with the same `argv` stays, and one with another is replaced. The socket that a killed relay
    left is taken over. The command gets the environment of the first start and `env`; where these decide which engine it asks,
    give each engine its own `name`. Its output goes to `home.data/NAME-relay.log`. Raises NodeError.
    """
    path = socket_of(home, name)
    home.make()
    with one_at_a_time(home):
        if running(path):
            if state(path).get("argv") == list(argv) and path.is_socket():
                return path
            end(path)
        try:
            started = subprocess.run(
                environment.launched([*PYTHON, str(relay_loop.PROGRAM), path, home.data / f"{name}-relay.log", *argv]),
                env=environment.daemon({**environment.engine(), **(env or {})}),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=START_WITHIN_S,
            )
        except subprocess.TimeoutExpired:
            raise NodeError(f"The relay did not start within {START_WITHIN_S:.0f} s.", "Try again.") from None
    if started.returncode:
        happened, _, todo = started.stderr.strip().partition("\n")
        raise NodeError(happened or "The relay did not start.", todo)
    return path


def stop_relay(home: Home, name: str) -> None:
    """End the relay and every command that it runs, and remove the socket. Idempotent; also removes what a killed relay left."""
    if home.run.exists():
        with one_at_a_time(home):
            end(socket_of(home, name))


def relay_error(home: Home, name: str) -> str | None:
    """Why the relay's last connection failed, in the command's own words. None while connections work, and where no relay was
    started.

    It is known before the client sees the end of that connection.
    """
    path = socket_of(home, name)
    if not (last := state(path)):
        return None
    with one_at_a_time(home):
        alive = running(path)
    by_itself = (last["error"] or "").startswith(relay_loop.FAILED)
    return last["error"] if alive or by_itself else f"The relay of {name} was killed."


def inside(exec_argv: Sequence[str], path: str) -> list[str]:
    """The command for a socket in a container: `inside(["docker", "exec", "-i", NODE], "/run/containerd/containerd.sock")`.

    It needs sh and socat there. Where socat is missing, the shell says so on stderr; Docker would say it on stdout, amid the
    data.
    """
    return [*exec_argv, "sh", "-c", JOIN, f"UNIX-CONNECT:{path}"]


def dial(exec_argv: Sequence[str], address: str, port: int) -> socket.socket:
    """A connection to a TCP port that a container can reach, through `exec_argv` as in `inside`. Raises OSError, with
    socat's words where the port cannot be connected."""
    host = f"[{address}]" if ":" in address else address
    target = f"TCP:{host}:{port},connect-timeout={CONNECT_WITHIN_S:g}"
    here, there = socket.socketpair()
    with there, tempfile.TemporaryFile() as words:
        argv = [*exec_argv, "sh", "-c", JOIN, target, "echo >&4;"]
        process = subprocess.Popen(argv, stdin=there.fileno(), stdout=there.fileno(), stderr=words)
        there.close()
        threading.Thread(target=process.wait, daemon=True).start()  # so that no zombie is left
        here.settimeout(2 * CONNECT_WITHIN_S)
        try:
            if here.recv(1) == b"\n":
                return here
            process.wait(CONNECT_WITHIN_S)
        except (OSError, subprocess.TimeoutExpired):
            process.kill()
        here.close()
        words.seek(0)
        message = words.read().decode(errors="replace").strip().rpartition("\n")[2]
    raise ConnectionRefusedError(f"{address}:{port}: {message or 'no connection'}")


def direct(path: str, find_pid: Sequence[str] = ()) -> list[str]:
    """The command for a Unix socket of this machine, however long its `path` (a socket's own limit is 107 bytes).

    With `find_pid`, `path` is the one that a process with another root sees, for example a node's: the command, which prints its
    pid (`docker inspect --format {{.State.Pid}} NODE`), is asked at each connection, so that a node is found again when it was
    restarted. Only root on Linux can do that.
    """
    return [*PYTHON, relay_connect.__file__, path, *find_pid]


def socket_of(home: Home, name: str) -> Path:
    path = home.run / f"{name}.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise NodeError(
            f"The path {path} is longer than a Unix socket's may be ({SOCKET_PATH_MAX} bytes).",
            "Set LABKIT_HOME to a shorter directory.",
        )
    return path


def state(path: Path) -> dict[str, Any]:
    """{"argv", "error"} as the relay wrote it; {} where there is none."""
    note = read_note(relay_loop.state_file(path), dict)
    return note if {"argv", "error"} <= note.keys() else {}


def running(path: Path) -> bool:
    """Whether a relay holds the lock. Call it under `one_at_a_time` only, since it takes the lock for a moment."""
    try:
        with open(f"{path}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def end(path: Path) -> None:
    def pid() -> int | None:
        try:
            return int(Path(f"{path}.lock").read_text())
        except (OSError, ValueError):
            return None

    if not terminate(pid, lambda: not running(path), STOP_WITHIN_S):
        raise NodeError(f"The relay of {path} does not end, not even by SIGKILL.", "Try again later.")
    for left in (path, relay_loop.state_file(path), Path(f"{path}.lock")):
        if left == path and path.exists() and not path.is_socket():
            continue
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def one_at_a_time(home: Home) -> Iterator[None]:
    """Hold the lock for starts and stops of relays, which notebooks take one after the other."""
    directory = os.open(home.run, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
