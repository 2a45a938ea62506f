"""How a Node writes files, and removes a Pod's, where labkit reaches it by commands only."""

from __future__ import annotations

from typing import Any, Protocol

from labkit.node import inside, podfiles

UNMOUNT = """
points() { cut -d' ' -f2 /proc/mounts | while read -r p; do case "$p" in "$1"/*) echo "$p";; esac; done | sort -r; }
for point in $(points "$1"); do umount "$point"; done
[ -z "$(points "$1")" ] || { echo "$(points "$1" | head -n 1) is still mounted, so nothing was removed" >&2; exit 1; }
"""
REMOVE = """
rm -rf -- "$1" "$2"
find /sys/fs/cgroup -depth -type d -path '*/labkit/*' -name 'pod*' |
while read -r d; do [ "${d##*/}" != "pod$3" ] || rmdir "$d"; done
"""


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
        metadata = sandbox.metadata
        if not podfiles.has_files(metadata):
            return
        directory = f"{inside.DIRECTORY}/kubelet/pods/{metadata.uid}"
        logs = f"{inside.DIRECTORY}/log/pods/{podfiles.log_directory(metadata)}"
        self.run(["sh", "-c", f"( {UNMOUNT} ) || exit 1\n{REMOVE}", "sh", directory, logs, metadata.uid])
