"""The nodes' images: Debian with containerd, made by mmdebstrap and kept, and a layer of files for what kind adds.

`OLDER` is Debian 13 with its containerd 1.7 under busybox's init (files/); `TODAY` is Debian 12 with systemd and unstable's
containerd 2.1.9 (files-systemd/): see systemd.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.node.packages import releases
from tests.standin import system
from tests.standin.engine import Engine
from tests.standin.packages import NEWER_SUITE, bring, cache, sources_file

UNUSED = (
    "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/bin/containerd-stress",
    "/usr/bin/containerd-shim", "/usr/bin/containerd-shim-runc-v1", "/usr/lib/cni/dhcp", "/usr/lib/cni/firewall",
    "/usr/lib/cni/*vlan", "/usr/lib/cni/bandwidth", "/usr/lib/cni/host-device", "/usr/lib/cni/sbr", "/usr/lib/cni/vrf",
)


@dataclass(frozen=True)
class NodeImage:
    """What an image is made of: `packages` of Debian's `suite`, then `files`, a Dockerfile with its context, with the programs of
    `containerd`, a version that the suite does not have, in usr/local/bin."""

    reference: str
    suite: str
    packages: Sequence[str]
    files: Path
    containerd: str = ""

    def load(self, engine: Engine) -> None:
        """Put it into the engine's store, unless it is there. Raises AssertionError, ProgramsError."""
        if engine.run("image", "ls", "--quiet", self.reference):
            return
        base = f"standin/debian:{self.suite}"
        engine.run("import", root_archive(options(self.packages), self.suite), base)
        with tempfile.TemporaryDirectory() as scratch:
            context = shutil.copytree(self.files, Path(scratch, "context"), symlinks=True)
            if self.containerd:
                self.add_containerd(context / "rootfs/usr/local/bin")
            engine.run("build", "--network", "none", "--build-arg", f"BASE={base}", "--tag", self.reference, context)

    def add_containerd(self, directory: Path) -> None:
        release = releases.ensure(cache().parent, self.containerd)
        directory.mkdir(parents=True, exist_ok=True)
        for program in (release.containerd, release.shim, release.ctr):
            shutil.copy2(program, directory)


def options(packages: Sequence[str]) -> tuple[str, ...]:
    """mmdebstrap's, for a root file system with `packages`."""
    return ("--mode=root", "--variant=essential", "--format=tar", f"--include={','.join(packages)}",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNUSED))


HERE = Path(__file__).parent
OLDER = NodeImage(
    "kindest/node:standin",
    NEWER_SUITE,
    ("busybox-static", "containerd", "containernetworking-plugins", "iproute2", "mount", "procps", "runc", "socat", "util-linux"),
    HERE / "files",
)
TODAY = NodeImage(
    "kindest/node:standin-systemd",
    "bookworm",
    ("bash", "containernetworking-plugins", "dbus", "hostname", "iproute2", "iptables", "jq", "kmod", "mount", "procps", "runc",
     "socat", "systemd", "systemd-sysv", "util-linux"),
    HERE / "files-systemd",
    containerd="2.1",
)


def root_archive(options: Sequence[str], suite: str = NEWER_SUITE) -> Path:
    """A root file system, a node's or another, as a tar archive, made once for each recipe (mmdebstrap's options)."""
    recipe = hashlib.sha256("\n".join((suite, *options)).encode()).hexdigest()[:12]
    archive = cache() / recipe / "node.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (archive.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            partial = archive.with_suffix(".partial")
            bootstrap(partial, options, suite)
            partial.rename(archive)
    return archive


def bootstrap(archive: Path, options: Sequence[str], suite: str) -> None:
    root = bring("mmdebstrap", ("mmdebstrap",)).root
    modules = [*root.glob("usr/share/perl*"), *root.glob("usr/share/perl/*"), *root.glob("usr/lib/*/perl*/*")]
    environment = {
        "PATH": os.pathsep.join([str(root / "usr/bin"), os.environ["PATH"], "/usr/sbin", "/sbin"]),
        "PERL5LIB": os.pathsep.join(map(str, modules)),
        "LC_ALL": "C",
    }
    # mmdebstrap does not read the machine's apt configuration.
    own = [f"--aptopt={line}" for line in apt_network_settings()]
    program = root / "usr/bin/mmdebstrap"
    system.run(["perl", program, *options, *own, suite, archive, sources_file(suite)], env=environment, timeout=600)


def apt_network_settings() -> Iterator[str]:
    """How this machine's apt reaches its mirrors: proxies, certificates, credentials, clocks that are not to be trusted."""
    for line in system.run(["apt-config", "dump"]).splitlines():
        if re.match(r"Acquire::(https?|Check-[A-Za-z-]+|Retries)\b.*[^:] \"[^\"]+\";$", line):
            yield line
    yield 'Dir::Etc::netrc "/etc/apt/auth.conf";'
    yield 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";'
