"""Where on the node a container's OCI bundle is: the directory that the runtime hands to runc.

CRI does not report it. The working directory of containerd's shim is its sandbox's bundle, and the others are next to that one
(containerd, runtime/v2). CRI-O gives the path to conmon, on its command line (man 8 conmon: --bundle).
"""

from __future__ import annotations

from collections.abc import Iterable

from labkit.cri import CriClient, verbose
from labkit.kernel import Process
from labkit.node.host.access import Kernel
from labkit.node.observe.shims import is_shim
from labkit.util.errors import NodeError


def directory(cri: CriClient, kernel: Kernel, container_id: str) -> str:
    """The directory of a running container's bundle, as a path on the node. Raises NodeError and CriError."""
    info = verbose.info(cri.container_status(container_id=container_id, verbose=True))
    sandbox = str(verbose.at(info, "sandboxID") or "")
    found = find(kernel.snapshot(fds=False).processes.values(), container_id, sandbox)
    if found is None:
        words = f"The bundle of the container {container_id[:13]} was not found: no shim or conmon of it runs."
        raise NodeError(words, "Start the container first. Of other runtimes labkit does not know where their bundles are.")
    return found


def find(processes: Iterable[Process], container_id: str, sandbox_id: str) -> str | None:
    """The directory, as a path on the node; None where neither kind of shim is there."""
    for process in processes:
        if is_shim(process) and process.option("-id") == sandbox_id:
            return f"/proc/{process.pid}/cwd/../{container_id}"
        if process.program.startswith("conmon") and container_id in (process.option("-c"), process.option("--cid")):
            return process.option("-b") or process.option("--bundle") or None
    return None
