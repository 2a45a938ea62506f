"""`node.daemon` of a virtual machine: its containerd, which the machine's init (busybox) starts again whenever it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

from labkit.node.errors import NodeError
from labkit.node.kind_daemon import KindDaemon

if TYPE_CHECKING:
    from labkit.node.kind import KindNode
    from labkit.node.vm import VmNode


class VmDaemon(KindDaemon):
    """`kill` and `restart`; the methods and what they return are Daemon's. All raise NodeError."""

    def __init__(self, node: VmNode) -> None:
        super().__init__(cast("KindNode", node))  # which is asked for `shell`, `cri`, `name` and `runtime` only

    def __repr__(self) -> str:
        return f"<VmDaemon: containerd {self.version} of {self.node.name}, {self.state}>"

    def systemd(self) -> bool:
        """The machine has none."""
        return False

    def _not_ours(self) -> NoReturn:
        raise NodeError(
            "The virtual machine has one version of containerd, which is not replaced.",
            "Use a node of kind `containerd` for that: `labkit up --node containerd`, as root on Linux.",
        )
