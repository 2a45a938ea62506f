"""Where a virtual machine's files are: below the lab's own directories, so that it and a private containerd can both be there."""

from __future__ import annotations

import dataclasses
import json
import os
from functools import cached_property
from pathlib import Path

from labkit.node.home import Home


class Places:
    """The machine's part of a home. `home`: one whose status, log and locks are the machine's."""

    def __init__(self, home: Home) -> None:
        self.lab = home

    @cached_property
    def home(self) -> Home:
        return dataclasses.replace(self.lab, run=self.lab.run / "vm", data=self.lab.data / "vm")

    @property
    def sockets(self) -> Path:
        """qemu's own, mode 0700."""
        return self.home.run / "qemu"

    @property
    def door(self) -> Path:
        """The door's port and word (`labkit.node.vm_enter`), mode 0600."""
        return self.home.run / "door"

    def make(self) -> None:
        for directory, mode in ((self.lab.run, 0o700), (self.lab.data, 0o711), (self.home.run, 0o700), (self.home.data, 0o700)):
            directory.mkdir(parents=True, exist_ok=True, mode=mode)

    def write_door(self, port: int, word: str) -> None:
        new = self.door.with_suffix(".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"port": port, "word": word}, file)
        os.replace(new, self.door)
