"""Node kind `containerd`: a private containerd on this very machine, for root on Linux."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labkit.kernel import Process
from labkit.node import lifecycle, status
from labkit.node.base import Node, run_local
from labkit.node.home import Home


class ContainerdNode(Node):
    """The node that `labkit up` brings to life. It shares this machine's kernel, so pids and inodes are those that ps
    and lsns show."""

    def __init__(self, home: Home, said: dict[str, Any], *, why: str, lesson: str | None = None) -> None:
        runtime = said["runtime"]
        super().__init__(
            kind="containerd",
            name="sim-worker",
            endpoint=f"unix://{home.socket}",
            runtime=f"{runtime['name']} {runtime['version']}",
            why=why,
            lesson=lesson,
            settings=settings(home),
        )
        self.home = home

    def is_runtime(self, process: Process) -> bool:
        return process.pid in status.read(self.home).get("processes", {}).values() and process.comm == "containerd"

    def shell(self, argv: Sequence[str], *, timeout: float = 30.0) -> str:
        return run_local(argv, timeout)

    def write_file(self, path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    def make_directory(self, path: str, mode: int) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        Path(path).chmod(mode)

    def remove_leavings(self, metadata: Any) -> None:
        """The Pod's directory, logs and cgroups, which the kubelet removes on a cluster."""
        shutil.rmtree(self.home.kubelet_root / "pods" / metadata.uid, ignore_errors=True)
        shutil.rmtree(self.home.log_root / f"{metadata.namespace}_{metadata.name}_{metadata.uid}", ignore_errors=True)
        for mount in self.kernel.cgroup_mounts().values():
            for parent in ("", "/burstable", "/besteffort"):
                with contextlib.suppress(OSError):
                    os.rmdir(f"{mount.mount_point}{self.home.cgroup_root}/kubepods{parent}/pod{metadata.uid}")


def settings(home: Home) -> dict[str, Any]:
    """What this node's kubelet would be configured with."""
    return {
        "sandbox": {"cgroup_root": home.cgroup_root, "log_root": str(home.log_root)},
        "container": {
            "kubelet_root": str(home.kubelet_root),
            "memory_capacity": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        },
    }


def connect(home: Home, *, why: str, lesson: str | None, progress: lifecycle.Progress = lifecycle.quiet) -> ContainerdNode:
    """A Node for the private containerd, which is brought up when it is down. Raises NodeError."""
    return ContainerdNode(home, lifecycle.up(home, progress), why=why, lesson=lesson)
