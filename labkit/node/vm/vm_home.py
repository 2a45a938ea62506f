"""Where a virtual machine's files are: below the lab's own directories, so that it and a private containerd can both be there."""

from __future__ import annotations

import json
from pathlib import Path

from labkit.node.host import relay
from labkit.node.machine import guest
from labkit.node.state.home import Home
from labkit.node.vm import enter
from labkit.util.outputs import PRIVATE, write_whole

RELAY = "vm"


class MachinePaths:
    """The machine's part of a home. `home`: one whose status, log and locks are the machine's."""

    def __init__(self, home: Home) -> None:
        self.lab, self.home = home, home.machine

    @property
    def sockets(self) -> Path:
        """qemu's own, mode 0700."""
        return self.home.run / "qemu"

    @property
    def door(self) -> Path:
        """The door's port and word (`labkit.node.vm.enter`), mode 0600."""
        return self.home.run / "door"

    @property
    def noted(self) -> Path:
        """Which Pods the machine has (`labkit.node.vm.vm_pods`)."""
        return self.home.data / "pods.json"

    def enter_argv(self) -> list[str]:
        """What to put before a command so that it runs in the machine."""
        return [*relay.PYTHON, enter.__file__, str(self.door)]

    def relay(self) -> Path:
        """The Unix socket of this machine behind which the other's containerd answers; the relay is started. Raises NodeError."""
        return relay.start_relay(self.home, RELAY, relay.inside(self.enter_argv(), guest.SOCKET))

    def make(self) -> None:
        self.lab.make()
        self.home.make()

    def write_door(self, port: int, word: str) -> None:
        write_whole(self.door, json.dumps({"port": port, "word": word}).encode(), PRIVATE)
