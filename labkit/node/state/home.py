"""Where labkit keeps its files, and the names it gives to what it makes in the kernel.

Root has /run/labkit and /var/lib/labkit, anybody else the XDG directories; LABKIT_HOME puts all under one directory. Two
homes never share a name: bridge, cgroup and sockets are derived from the home, so two labs can run side by side.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import platformdirs

from labkit.node.state import trust
from labkit.util.errors import NodeError

ODD = ":,\"'\\$`#%"
"""Characters that mean something in one of the configuration files or mount options that a path of the home goes into."""

SOCKET_PATH_MAX = 107
"""Bytes in sun_path less the closing zero (man 7 unix)."""

REFUSED = "Remove it, or set LABKIT_HOME to a directory that only you can write to or replace."
"""What to do about a directory of the lab's that another user may have prepared."""

VM = "vm"
"""Below both of a home's directories: what a virtual machine has there, which is a home of its own (`Home.machine`)."""


@dataclass(frozen=True)
class Home:
    """The directories of one lab: `run` is gone after a reboot, `data` stays, `cache` can be fetched or made again."""

    run: Path
    data: Path
    cache: Path
    tag: str = ""

    @classmethod
    def find(cls, environ: Mapping[str, str] | None = None) -> Home:
        """The home that the environment names (LABKIT_HOME), else the user's own. Creates nothing. Raises NodeError where another
        user could have prepared it, or could change it."""
        environ = os.environ if environ is None else environ
        if environ.get("LABKIT_HOME"):
            named = Path(environ["LABKIT_HOME"]).expanduser()
            trust.require(named / "data", REFUSED)  # a link on the way is gone from what is resolved
            base = named.resolve()
            if odd := sorted({c for c in str(base) if not c.isascii() or not c.isprintable() or c in ODD}):
                raise NodeError(f"LABKIT_HOME is {base}, and the node's programs cannot read {' '.join(odd)} in a path.",
                                "Choose a directory with plain letters.")
            home = cls.at(base)
        elif os.geteuid() == 0:
            home = cls(Path("/run/labkit"), Path("/var/lib/labkit"), platformdirs.user_cache_path("labkit"))
        else:
            data = platformdirs.user_data_path("labkit")
            runtime = environ.get("XDG_RUNTIME_DIR", "")
            run = Path(runtime, "labkit") if os.path.isdir(runtime) else data / "run"
            home = cls(run, data, platformdirs.user_cache_path("labkit"))
        if len(os.fsencode(f"{home.socket}.ttrpc")) > SOCKET_PATH_MAX:
            raise NodeError(
                f"The path {home.socket} is longer than a Unix socket's may be ({SOCKET_PATH_MAX} bytes).",
                "Set LABKIT_HOME to a shorter directory.",
            )
        for place in home.places:
            trust.require(place, REFUSED)
        return home

    @classmethod
    def at(cls, base: Path) -> Home:
        """The home that LABKIT_HOME=`base` names; `base` is absolute and without links."""
        return cls(base / "run", base / "data", base / "cache", hashlib.sha256(str(base).encode()).hexdigest()[:6])

    @property
    def machine(self) -> Home:
        """The virtual machine's home, below this one."""
        return replace(self, run=self.run / VM, data=self.data / VM)

    def with_run(self, run: Path) -> Home:
        """The home that has, or had, this run directory: a lab's own, or its virtual machine's."""
        return self.at(run.parent.parent).machine if run.name == VM else self.at(run.parent)

    def make(self) -> None:
        """Make `run` and `data`, which nobody else may enter, whatever was there. Raises OSError; NodeError as `find`."""
        for directory in (self.run, self.data):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            trust.require(directory, REFUSED)
            directory.chmod(0o700)

    @property
    def places(self) -> tuple[Path, ...]:
        """Everything of the lab lies below one of these."""
        return (self.run, self.data, self.cache)

    def environ(self) -> dict[str, str]:
        """What another process must have in its environment to find this home, wherever it runs."""
        return {"LABKIT_HOME": str(self.run.parent)} if self.tag else {}

    @property
    def socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def control(self) -> Path:
        """Where the node's owner takes requests (`labkit.node.lab.control`)."""
        return self.run / "control.sock"

    @property
    def kubelet_socket(self) -> Path:
        """Where the lab kubelet answers the API: logs, exec, port-forward (`labkit.kubelet.server.kubelet_server`)."""
        return self.run / "kubelet.sock"

    @property
    def kubeconfig(self) -> Path:
        """How to reach the node's own Kubernetes API (`labkit.node.lab.kubernetes`)."""
        return self.run / "kubeconfig"

    @property
    def bridge(self) -> str:
        """The Pods' bridge (15 characters at most, man 7 netdevice)."""
        return f"labkit-{self.tag}" if self.tag else "labkit0"

    @property
    def cgroup_root(self) -> str:
        """What the kubelet calls --cgroup-root: every Pod's cgroup is below it."""
        return f"/labkit-{self.tag}" if self.tag else "/labkit"

    @property
    def network(self) -> str:
        """The CNI network's name, which containerd's and host-local's files carry."""
        return f"labkit-{self.tag}" if self.tag else "labkit"

    @property
    def status_file(self) -> Path:
        return self.run / "node.json"

    @property
    def log_file(self) -> Path:
        return self.data / "labkit.log"

    @property
    def containerd_state(self) -> Path:
        return self.run / "containerd"

    def bundles(self) -> list[Path]:
        """The OCI bundle directory of every container that a shim of this lab looks after, named by the container's id."""
        bundles = "containerd/io.containerd.runtime.v2.task/k8s.io/*"
        with contextlib.suppress(PermissionError):  # the lab of another user
            return sorted([*self.run.glob(bundles), *self.run.glob(f"b*/{bundles}")])  # b*: of a second containerd (secondary.py)
        return []

    @property
    def kubelet_root(self) -> Path:
        return self.data / "kubelet"

    @property
    def log_root(self) -> Path:
        return self.data / "log" / "pods"
