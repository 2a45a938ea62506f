"""Runs commands in a node that is a container, by the engine's command line. That works while the node's runtime does not run."""

from __future__ import annotations

from collections.abc import Sequence

from labkit.node.remote.engine import Engine, NodeContainer
from labkit.node.remote.remote_files import RemoteFiles


class InContainer(RemoteFiles):
    """A container in which commands run."""

    def __init__(self, engine: Engine, container: NodeContainer) -> None:
        self.engine, self.container = engine, container

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        """Run a command on the node; its standard output as bytes. Raises NodeError."""
        flags = ["exec", "--interactive"] if stdin is not None else ["exec"]
        limited = ["timeout", "-k", "1", f"{timeout:g}", *argv]  # so that nothing goes on there when nobody waits here
        return self.engine.exec_bytes(*flags, self.container.name, *limited, program=argv[0], stdin=stdin, timeout=timeout)

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return self.run(argv, timeout=timeout).decode(errors="replace")
