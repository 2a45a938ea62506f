"""A Pod's cgroup as a slice of systemd, which then knows of it: asked over D-Bus, as the kubelet asks.

Knowledge: runc's libcontainer/cgroups/systemd (common.go, v1.go, v2.go), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import subprocess
from typing import Any

MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
ACCOUNTING = ("MemoryAccounting", "CPUAccounting", "TasksAccounting")
WITHIN_S = 30.0


def start(path: str, resources: Any, cgroup_version: int) -> None:
    """Have systemd make the slice with the cgroup `path` and its parents; nothing happens where it is there. Raises OSError."""
    name = path.rpartition("/")[2]
    properties = [("Description", "s", f"libcontainer container {name}"), ("DefaultDependencies", "b", "false")]
    properties += [(accounting, "b", "true") for accounting in ACCOUNTING]
    properties += [(key, "t", str(value)) for key, value in limits(resources, cgroup_version).items()]
    words = [word for key, kind, value in properties for word in (key, kind, value)]
    _call("StartTransientUnit", "ssa(sv)a(sa(sv))", name, "replace", str(len(properties)), *words, "0", accept="already loaded")


def stop(path: str) -> None:
    """Have systemd end the slice and what is in it; one that it does not know is no error. Raises OSError."""
    _call("StopUnit", "ss", path.rpartition("/")[2], "replace", accept="not loaded")


def limits(resources: Any, cgroup_version: int) -> dict[str, int]:
    """systemd's properties for CRI's numbers."""
    found = {"CPUShares": resources.cpu_shares} if cgroup_version == 1 else {"CPUWeight": weight(resources.cpu_shares)}
    if resources.cpu_quota > 0:
        found["CPUQuotaPerSecUSec"] = resources.cpu_quota * 1_000_000 // resources.cpu_period
    if resources.memory_limit_in_bytes > 0:
        found["MemoryLimit" if cgroup_version == 1 else "MemoryMax"] = resources.memory_limit_in_bytes
    return found


def weight(shares: int) -> int:
    """cgroup v2's cpu.weight for v1's cpu.shares: [2, 262144] onto [1, 10000], in a straight line as the kubelet has it."""
    return 1 + (shares - 2) * 9999 // 262142


def _call(method: str, signature: str, *arguments: str, accept: str) -> None:
    argv = ["busctl", "--quiet", "call", *MANAGER, method, signature, *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WITHIN_S)
    if done.returncode and accept not in done.stderr:
        raise OSError(f"systemd refused {method} of {arguments[0]}: {done.stderr.strip()}")
