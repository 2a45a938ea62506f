"""`node.daemon` of a virtual machine: its containerd, killed, stopped, started and replaced as that of a private node."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NoReturn

from labkit.node import releases, status, vm_operate, vm_releases, vm_run
from labkit.node.daemon import Daemon
from labkit.node.errors import NodeError
from labkit.node.releases import Release
from labkit.node.vm_home import Places
from labkit.progress import shown
from labkit.vm import guest

if TYPE_CHECKING:
    from labkit.node.base import Node

BUNDLES = """
for each in /run/containerd/io.containerd.runtime.v2.task/k8s.io/*; do [ ! -d $each ] || [ -e $each/address ] || echo $each; done
"""
"""Those of shims that containerd 2.x started."""


class VmDaemon(Daemon):
    """The methods, what they return and what they raise are Daemon's; the machine's owner does the work.

    Another version is put into the machine, whose memory it takes; the choice ends with the machine's files (`labkit clean`).
    """

    soon_s = 60.0  # without KVM a containerd takes some ten times as long to start

    def __init__(self, places: Places, node: Node | None = None) -> None:
        super().__init__(places.home, node)
        self.places = places

    @property
    def pid(self) -> int | None:
        """containerd's pid in the machine; None while it does not run."""
        return vm_operate.pid(self.places) if status.read(self.home)["state"] in ("ready", "restarting") else None

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
            return vm_run.run(self.places.door, ["cat", str(guest.UNIT)]).decode()
        return ""

    def _lost_by(self, release: Release) -> list[str]:
        if releases.order(release.version) >= releases.order("2.0.0"):
            return []
        return vm_run.run(self.places.door, ["sh", "-c", BUNDLES]).decode().split()
