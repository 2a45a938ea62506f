"""How a Node writes files, and removes a Pod's, where labkit reaches it by commands only."""

from __future__ import annotations

from typing import Any, Protocol

from labkit.node.registry import node_registry
from labkit.node.remote import leavings

PLACES = leavings.Places(f"{node_registry.DIRECTORY}/log/pods", f"{node_registry.DIRECTORY}/kubelet/pods")


class Runs(Protocol):
    """A node, as far as it is needed here."""

    def run(self, argv: Any, stdin: bytes | None = None, timeout: float = 30.0) -> bytes: ...


class RemoteFiles:
    """The file methods of a Node that has `run`."""

    def write_file(self: Runs, path: str, text: str) -> None:
        self.run(["sh", "-c", 'umask 022; mkdir -p "${1%/*}" && cat > "$1"', "sh", path], stdin=text.encode())

    def make_directory(self: Runs, path: str, mode: int) -> None:
        self.run(["sh", "-c", 'mkdir -p "$1" && chmod "$2" "$1"', "sh", path, f"{mode:o}"])

    def remove_leavings(self: Runs, sandbox: Any) -> None:
        """The files and the cgroup that were made for the Pod. Raises NodeError, and removes no file, where something is
        still mounted in its directory. See `ContainerdNode.remove_leavings` for a Pod that labkit did not make."""
        leavings.remove_of_pod(lambda argv: self.run(argv).decode(errors="replace"), PLACES, sandbox)
