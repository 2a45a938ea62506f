"""`node.daemon` of a virtual machine: its containerd, killed, stopped, started and replaced as that of a private node."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NoReturn

from labkit.node.lab.daemon import Daemon
from labkit.node.machine import guest
from labkit.node.packages import versions
from labkit.node.packages.releases import Release
from labkit.node.state import status
from labkit.node.vm import run
from labkit.node.vm import vm_releases as vm_releases
from labkit.node.vm.vm_home import MachinePaths
from labkit.util.errors import NodeError
from labkit.util.progress import shown

if TYPE_CHECKING:
    from labkit.node.node import Node

BUNDLES = """
for each in /run/containerd/io.containerd.runtime.v2.task/k8s.io/*; do [ ! -d $each ] || [ -e $each/address ] || echo $each; done
"""
"""Those of shims that containerd 2.x started."""


class VmDaemon(Daemon):
    """The methods, what they return and what they raise are Daemon's; the machine's owner does the work.

    Another version is put into the machine, whose memory it takes; the choice ends with the machine's files (`labkit clean`).
    """

    soon_s = 60.0  # without KVM a containerd takes some ten times as long to start

    def __init__(self, places: MachinePaths, node: Node | None = None) -> None:
        super().__init__(places.home, node)
        self.places = places

    @property
    def pid(self) -> int | None:
        """containerd's pid in the machine; None while it does not run."""
        return run.containerd_pid(self.places.door) if status.read(self.home)["state"] in ("ready", "restarting") else None

    def beside(self, version: str) -> NoReturn:
        """Refused: the machine has one containerd at a time."""
        raise NodeError(
            "The virtual machine has one containerd at a time.",
            "Use a node of kind `containerd` for two: `labkit up --node containerd`, as root on Linux.",
        )

    def _here(self) -> tuple[Release, ...]:
        return vm_releases.here(self.places)

    def _release(self, version: str) -> Release:
        with shown() as show:
            return vm_releases.ensure(self.places, version, show)

    def _unit_of(self, release: Release) -> str:
        if not release.default:
            return super()._unit_of(release)
        with contextlib.suppress(NodeError):
            return run.run(self.places.door, ["cat", str(guest.UNIT)]).decode()
        return ""

    def _lost_by(self, release: Release) -> list[str]:
        if versions.order(release.version) >= versions.order("2.0.0"):
            return []
        return run.run(self.places.door, ["sh", "-c", BUNDLES]).decode().split()
