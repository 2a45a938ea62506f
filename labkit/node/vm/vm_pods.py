"""Which Pods a virtual machine has, noted on this side: when it ends by accident, they can be named.

containerd's own log tells of each sandbox that comes and goes, whoever makes it; following it costs an idle machine nothing.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from labkit.node.machine import guest
from labkit.node.vm.enter import enter
from labkit.recording.calls.containerd_log import LoggedCalls
from labkit.util.outputs import PRIVATE, read_note, write_whole

FOLLOW = ["tail", "-n", "+1", "-f", str(guest.CONTAINERD_LOG)]


class Noted:
    """The machine's sandboxes as far as its log has told, in a file that outlives its owner."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.sandboxes: dict[str, dict[str, str]] = {}
        self._calls = LoggedCalls()

    def follow(self, door: Path) -> None:
        """Note what comes and goes from the machine's start on, on a thread of its own, until the machine ends."""
        self._write()
        threading.Thread(target=self._follow, args=(door,), name="pods", daemon=True).start()

    def read(self, lines: Iterable[str]) -> None:
        """Take what the log says next."""
        for record in self._calls.read(lines, 0):
            if record.code == "OK" and self._take(record):
                self._write()

    def _follow(self, door: Path) -> None:
        with contextlib.suppress(OSError), enter(door, "stream", FOLLOW) as connection, connection.makefile("rb") as lines:
            self.read(line.decode(errors="replace").rstrip("\n") for line in lines)

    def _take(self, record: Any) -> bool:
        if record.method == "RunPodSandbox":
            metadata = record.request.config.metadata
            self.sandboxes[record.response.pod_sandbox_id] = {"name": metadata.name, "uid": metadata.uid}
            return True
        return record.method == "RemovePodSandbox" and self.sandboxes.pop(record.request.pod_sandbox_id, None) is not None

    def _write(self) -> None:
        write_whole(self.file, json.dumps(self.sandboxes).encode(), PRIVATE)


def left_in(file: Path) -> Mapping[str, Mapping[str, str]]:
    """What a machine had that ended by accident: sandbox → name and uid of its Pod. Empty where none did."""
    found = read_note(file, dict)
    return {sandbox: pod for sandbox, pod in found.items() if isinstance(pod, dict) and {"name", "uid"} <= pod.keys()}


def without(noted: Mapping[str, Mapping[str, str]], known: Collection[str]) -> list[str]:
    """The names of those Pods whose uid is not `known`: nobody can start them again."""
    return sorted({pod["name"] for pod in noted.values() if pod["uid"] not in known})
