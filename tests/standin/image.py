"""The node's image: Debian 13 with containerd, made by mmdebstrap and kept, and a layer of files for what kind adds (files/)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.standin import system
from tests.standin.engine import Engine
from tests.standin.packages import NEWER_SUITE, bring, cache, sources_file

REFERENCE = "kindest/node:standin"
BASE = "standin/debian"
FILES = Path(__file__).with_name("files")

PACKAGES = (
    "busybox-static", "containerd", "containernetworking-plugins", "iproute2", "mount", "procps", "runc", "socat", "util-linux",
)  # fmt: skip
UNUSED = (
    "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/bin/containerd-stress",
    "/usr/bin/containerd-shim", "/usr/bin/containerd-shim-runc-v1", "/usr/lib/cni/dhcp", "/usr/lib/cni/firewall",
    "/usr/lib/cni/*vlan", "/usr/lib/cni/bandwidth", "/usr/lib/cni/host-device", "/usr/lib/cni/sbr", "/usr/lib/cni/vrf",
)  # fmt: skip
OPTIONS = (
    "--mode=root", "--variant=essential", "--format=tar", f"--include={','.join(PACKAGES)}",
    *(f"--dpkgopt=path-exclude={pattern}" for pattern in UNUSED),
)  # fmt: skip


def load(engine: Engine) -> str:
    """Put the node's image into the engine's store, unless it is there; its reference. Raises AssertionError, ProgramsError."""
    if not engine.run("image", "ls", "--quiet", REFERENCE):
        engine.run("import", root_archive(), BASE)
        engine.run("build", "--tag", REFERENCE, FILES)
    return REFERENCE


def root_archive(options: Sequence[str] = OPTIONS) -> Path:
    """A root file system, the node's or another, as a tar archive, made once for each recipe (mmdebstrap's options)."""
    recipe = hashlib.sha256("\n".join((NEWER_SUITE, *options)).encode()).hexdigest()[:12]
    archive = cache() / recipe / "node.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with (archive.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            partial = archive.with_suffix(".partial")
            bootstrap(partial, options)
            partial.rename(archive)
    return archive


def bootstrap(archive: Path, options: Sequence[str]) -> None:
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
    system.run(["perl", program, *options, *own, NEWER_SUITE, archive, sources_file(NEWER_SUITE)], env=environment, timeout=600)


def apt_network_settings() -> Iterator[str]:
    """How this machine's apt reaches its mirrors: proxies, certificates, credentials, clocks that are not to be trusted."""
    for line in system.run(["apt-config", "dump"]).splitlines():
        if re.match(r"Acquire::(https?|Check-[A-Za-z-]+|Retries)\b.*[^:] \"[^\"]+\";$", line):
            yield line
    yield 'Dir::Etc::netrc "/etc/apt/auth.conf";'
    yield 'Dir::Etc::netrcparts "/etc/apt/auth.conf.d";'
