"""Reads the verbose answers of runtimes: JSON for debugging, whose shape differs by runtime and version. A missing field is
unknown, never "no".

Recorded of containerd 1.6, 1.7 and 2.1, on their own and in a kind cluster, and of CRI-O 1.37: tests/unit/data.
"""

from __future__ import annotations

import json
from typing import Any

from labkit.cri.client import CriClient
from labkit.cri.cri_errors import CriError

DRIVERS = {0: "systemd", 1: "cgroupfs"}
"""RuntimeConfig's CgroupDriver (api.proto)."""
DEFAULT_DRIVERS = {"cri-o": "systemd"}
"""Where a runtime reports none: CRI-O's own default (crio.conf(5), cgroup_manager); containerd's is cgroupfs."""


def info(answer: Any, key: str = "info") -> dict[str, Any]:
    """The JSON object below `key` of a verbose answer's info; {} where there is none."""
    try:
        found = json.loads(answer.info.get(key) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def at(found: Any, *path: str) -> Any:
    """What lies at a path of keys; None where nothing does."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def pid(found: dict[str, Any]) -> int:
    """The pid of the container's or the sandbox's first process; 0 where it is unknown."""
    number = at(found, "pid")
    return number if isinstance(number, int) else 0


def namespace_paths(found: dict[str, Any]) -> dict[str, str]:
    """Namespace type, as the OCI configuration names it ("network"), → the path that was joined."""
    listed = at(found, "runtimeSpec", "linux", "namespaces") or []
    return {namespace["type"]: namespace["path"] for namespace in listed if namespace.get("path")}


def cgroup_driver(cri: CriClient) -> str:
    """ "systemd" or "cgroupfs": by RuntimeConfig, which containerd has from 2.0 on; else by the options of the default runtime in
    the verbose Status; else the runtime's default. Raises CriError."""
    try:
        config = cri.runtime_config()
        if config.HasField("linux") and config.linux.cgroup_driver in DRIVERS:
            return DRIVERS[config.linux.cgroup_driver]
    except CriError as error:
        if error.code != "UNIMPLEMENTED":
            raise
    containerd = at(info(cri.status(verbose=True), "config"), "containerd")
    systemd = at(containerd, "runtimes", at(containerd, "defaultRuntimeName") or "runc", "options", "SystemdCgroup")
    if systemd is None:
        return DEFAULT_DRIVERS.get(cri.version().runtime_name, "cgroupfs")
    return "systemd" if systemd else "cgroupfs"


def registry_path(cri: CriClient) -> str | None:
    """`config_path` of containerd's registries: "" where it has none; None where the answer does not have it, as from 2.0 on.
    Raises CriError."""
    path = at(info(cri.status(verbose=True), "config"), "registry", "configPath")
    return path if isinstance(path, str) else None
