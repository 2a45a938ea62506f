"""How a Node writes files, and removes a Pod's, where labkit reaches it by commands only."""

from __future__ import annotations

from typing import Any, Protocol

from labkit.node import inside

UNMOUNT = """
points() { cut -d' ' -f2 /proc/mounts | grep "^$1/" | sort -r; }
for point in $(points "$1"); do umount "$point"; done
[ -z "$(points "$1")" ] || { echo "$(points "$1" | head -n 1) is still mounted, so nothing was removed" >&2; exit 1; }
"""
REMOVE = 'rm -rf "$1" "$2"; find /sys/fs/cgroup -depth -type d -path \'*/labkit/*\' -name "pod$3" -exec rmdir {} \';\''


class Runs(Protocol):
    """A node, as far as it is needed here."""

    def run(self, argv: Any, stdin: bytes | None = None, timeout: float = 30.0) -> bytes: ...


class RemoteFiles:
    """The file methods of a Node that has `run`."""

    def write_file(self: Runs, path: str, text: str) -> None:
        self.run(["sh", "-c", 'mkdir -p "${1%/*}" && cat > "$1"', "sh", path], stdin=text.encode())

    def make_directory(self: Runs, path: str, mode: int) -> None:
        self.run(["sh", "-c", 'mkdir -p "$1" && chmod "$2" "$1"', "sh", path, f"{mode:o}"])

    def remove_leavings(self: Runs, sandbox: Any) -> None:
        """The files and the cgroup that were made for the Pod. Raises NodeError, and removes no file, where something is
        still mounted in its directory."""
        metadata = sandbox.metadata
        directory = f"{inside.DIRECTORY}/kubelet/pods/{metadata.uid}"
        logs = f"{inside.DIRECTORY}/log/pods/{metadata.namespace}_{metadata.name}_{metadata.uid}"
        self.run(["sh", "-c", f"( {UNMOUNT} ) || exit 1\n{REMOVE}", "sh", directory, logs, metadata.uid])
