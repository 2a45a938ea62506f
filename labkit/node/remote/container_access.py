"""How a node that is a container is reached: by commands, and by the relay to its runtime (see `labkit.node.host.relay`).

Commands go through the engine's command line, which also works while the node's runtime does not run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labkit.cri import CriError
from labkit.kernel import LocalKernel
from labkit.node.host import relay
from labkit.node.host.access import ByCommands
from labkit.node.remote.engine import COMMANDS, Engine, NodeContainer
from labkit.node.state.home import Home
from labkit.util.errors import NodeError


class InContainer(ByCommands):
    """A container in which commands run."""

    def __init__(self, engine: Engine, container: NodeContainer) -> None:
        self.engine, self.container = engine, container

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        flags = ["exec", "--interactive"] if stdin is not None else ["exec"]
        limited = ["timeout", "-k", "1", f"{timeout:g}", *argv]  # so that nothing goes on there when nobody waits here
        return self.engine.exec_bytes(*flags, self.container.name, *limited, program=argv[0], stdin=stdin, timeout=timeout)

    def dial(self, address: str, port: int) -> socket.socket:
        """Through the engine: this machine has no route to the node's Pods."""
        return relay.dial(self.engine.argv("exec", "--interactive", self.container.name), address, port)

    def dial_unix(self, path: str) -> socket.socket:
        raise ConnectionRefusedError(f"{path} is a socket inside of {self.container.name}")

    def pids_here(self) -> Mapping[int, int]:
        """Where this machine's /proc shows the node (Docker on Linux)."""
        root = self.engine.node_container(self.container.name).pid
        if sys.platform != "linux" or not root:
            return {}
        snapshot = LocalKernel().snapshot(fds=False)
        if root not in snapshot.processes:
            return {}
        inside = [snapshot.processes[root], *snapshot.descendants(root)]
        depth = len(snapshot.processes[root].ns_pids) - 1
        return {p.ns_pids[depth]: p.pid for p in inside if len(p.ns_pids) > depth} if depth else {}


PLAIN = "[A-Za-z0-9_.-]"
"""Letters of an engine's names (moby: daemon/names), which may be part of a path."""
NAME_LETTERS = 40
"""A relay's name is part of a socket's path, which may not be long."""


def relay_name(engine: Engine, node_name: str) -> str:
    """A name for each node, different also for nodes of the same name in several engines."""
    decides = engine.address()
    name = f"kind-{node_name}"
    if decides == COMMANDS[0] and len(name) <= NAME_LETTERS and re.fullmatch(f"{PLAIN}+", name):
        return name
    digest = hashlib.sha256(repr((node_name, decides)).encode()).hexdigest()[:8]
    return f"{re.sub(f'(?!{PLAIN}).', '_', name, flags=re.DOTALL)[: NAME_LETTERS - len(digest) - 1]}-{digest}"


def start_relay(home: Home, engine: Engine, container: NodeContainer, socket_path: str) -> Path:
    """Start the relay, and return its socket. The relay keeps the environment of its start, by which it asks the engine of
    `relay_name`."""
    argv = relay_argv(engine, container, socket_path)
    return relay.start_relay(home, relay_name(engine, container.name), argv, engine.pinned())


def kubeconfig(home: Home, engine: Engine, node_name: str) -> Path:
    """Of the lab's own, for shells: `KindNode.shell_environment` writes it."""
    return home.run / f"{relay_name(engine, node_name)}.kubeconfig"


def relay_argv(engine: Engine, container: NodeContainer, socket_path: str) -> list[str]:
    """The relay's command: direct where this user may enter the node's root, else through the engine."""
    engine = Engine(shutil.which(engine.command) or engine.command)  # the relay has the PATH of the shell that started it
    if os.geteuid() == 0 and container.pid and Path(f"/proc/{container.pid}/root{socket_path}").exists():
        return relay.direct(socket_path, engine.argv("inspect", "--format", "{{.State.Pid}}", container.name))
    return relay.inside(engine.argv("exec", "--interactive", container.name), socket_path)


@contextlib.contextmanager
def explained(home: Home, engine: Engine, container: NodeContainer) -> Iterator[None]:
    """Add the relay's own error to a CRI call that fails because of the relay."""
    try:
        yield
    except CriError as error:
        if message := relay.relay_error(home, relay_name(engine, container.name)):
            raise NodeError(
                f"The node {container.name} cannot be reached: {message}", "See `labkit doctor`, then run `labkit up` again."
            ) from None
        raise error from None
