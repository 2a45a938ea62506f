"""The files, services and images of a private containerd. The process that owns the node uses them."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.apiserver.http import credentials
from labkit.cri import CriClient
from labkit.node.host import config, confined, links
from labkit.node.host.services import Service
from labkit.node.host.subnet import choose as choose_subnet
from labkit.node.packages import releases
from labkit.node.packages.programs import Programs, find_programs
from labkit.node.registry import registry
from labkit.node.registry.course_images import course_images
from labkit.node.registry.registry import LOGIN, OPEN_REGISTRY, REGISTRIES
from labkit.node.state.locks import machine_lock
from labkit.util.environment import search_path
from labkit.util.errors import NodeError
from labkit.util.outputs import PRIVATE, write_whole

if TYPE_CHECKING:
    from labkit.node.state.home import Home

log = logging.getLogger("labkit")

NODE_NAME = "sim-worker"

REGISTRY_TLS = registry.Tls("server.crt", "server.key")
"""As `labkit.apiserver.http.credentials` names them."""

CHOICE = "containerd-version"
"""The file that names the version that the node was upgraded to. It survives `labkit down`, and `labkit clean` removes it."""


def prepare(home: Home) -> None:
    """Make directories, bridge and configuration. Idempotent. Subnet and ports of an earlier start are kept while they are
    free."""
    home.make()
    for directory in (home.run / "tmp", home.data / "cni" / "net.d", home.data / "certs.d", home.kubelet_root, home.log_root):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    remember_system_directories(home)
    programs = find_programs(home.cache)
    subnet = make_bridge(home)
    (home.data / "cni" / "net.d" / "10-labkit.conflist").write_text(config.cni_config(home, subnet))
    (home.data / "cni" / "address").write_text(str(subnet[1]))
    write_config(home, programs)
    home.socket.unlink(missing_ok=True)


def make_bridge(home: Home) -> ipaddress.IPv4Network:
    """Make the Pods' bridge where it is missing. Returns its subnet. Raises NodeError where none is free (see
    `labkit.node.host.subnet`)."""
    if not links.loopback_is_up():
        raise NodeError("The loopback interface of this machine is down.", "Bring it up: sudo ip link set lo up")
    with machine_lock("subnet"):
        subnet = links.bridge_subnet(home.bridge) or choose_subnet(links.taken(home.bridge))
        links.make_bridge(home.bridge, subnet)
    if (way := links.way_to(str(subnet[2]))) != home.bridge:
        log.warning("this machine's routing rules send what is for Pods (%s) to %s: nodes and Pods cannot connect to each other",
                    subnet, way or "nowhere")
    return subnet


def write_config(home: Home, programs: Programs) -> None:
    """Write a containerd.toml that works on this machine."""
    (home.data / "containerd.toml").write_text(
        config.containerd_config(
            home,
            runc=str(programs.runc),
            cni_bin=str(programs.cni_dir),
            restrict_oom_score_adj=not config.may_lower_oom_score(),
            snapshotter="overlayfs" if overlay_works(home.data) else "native",
        )
    )


def remember_system_directories(home: Home) -> None:
    """Record, once, which of SYSTEM_DIRECTORIES existed before labkit: `clean` removes the others."""
    note = home.data / "system-directories.json"
    if not note.exists():
        write_whole(note, json.dumps([d for d in config.SYSTEM_DIRECTORIES if Path(d).exists()]).encode(), PRIVATE)


def overlay_works(directory: Path) -> bool:
    """Whether an overlay can be mounted on this file system (it cannot on another overlay, as in many containers)."""
    with tempfile.TemporaryDirectory(dir=directory) as base:
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"{base}/{name}")
        done = subprocess.run(
            [
                "mount",
                "-t",
                "overlay",
                "overlay",
                "-o",
                f"lowerdir={base}/lower,upperdir={base}/upper,workdir={base}/work",
                f"{base}/merged",
            ],
            capture_output=True,
        )
        if done.returncode == 0:
            subprocess.run(["umount", f"{base}/merged"], check=True)
        return done.returncode == 0


def services(home: Home) -> list[Service]:
    """The registries and containerd, not started yet. Registries choose free loopback ports, which `hosts.toml` files
    tell containerd."""
    programs = find_programs(home.cache)
    if programs.missing:
        raise NodeError(f"Programs are missing: {', '.join(programs.missing)}.", "Run `labkit up`, which brings them.")
    home.make()
    made = [registry_service(home, programs, name) for name in REGISTRIES]
    argv, env = command(home, chosen(home).programs(programs))
    made.append(Service("containerd", lambda: argv, home.data / "containerd.log", lambda: answer(home.socket), env))
    return made


def command(home: Home, programs: Programs) -> tuple[tuple[str, ...], dict[str, str]]:
    """containerd's argv, and the variables that its environment has in addition."""
    return (str(programs.containerd), "--config", str(home.data / "containerd.toml")), environment(home, programs)


def chosen(home: Home, here: Sequence[releases.Release] | None = None) -> releases.Release:
    """The release of containerd that this node runs: the one that it was upgraded to if that is `here`, else the first one."""
    found = releases.here(home.cache) if here is None else here
    note = home.data / CHOICE
    wanted = note.read_text().partition("\n")[0] if note.exists() else "default"
    release = releases.pick(found, wanted) or releases.pick(found, "default")
    if release is None:
        raise NodeError("There is no containerd here.", "Run `labkit up`, which brings one.")
    return release


def chosen_by(home: Home) -> str:
    """The lesson that chose the node's containerd; "" where none did."""
    note = home.data / CHOICE
    return note.read_text().partition("\n")[2] if note.exists() else ""


def choose(home: Home, release: releases.Release | None, lesson: str = "") -> None:
    """Remember the release of containerd that this node runs, also after `down` and `up`, and the lesson that chose it. None: the
    first one."""
    if release is None:
        (home.data / CHOICE).unlink(missing_ok=True)
    else:
        write_whole(home.data / CHOICE, f"{release.version}\n{lesson}".rstrip("\n").encode(), PRIVATE)


def environment(home: Home, programs: Programs) -> dict[str, str]:
    """The variables by which containerd finds its shim, the libraries of its package, and the lab's directory for temporary
    files."""
    path = [
        str(programs.shim.parent),
        str(programs.runc.parent),
        search_path(),
    ]
    env = {"PATH": os.pathsep.join(path), "TMPDIR": str(home.run / "tmp")}
    if programs.library_path:
        env["LD_LIBRARY_PATH"] = str(programs.library_path)
    return env


def answer(socket: Path, timeout: float = 2.0) -> None:
    """Ask a containerd whether it is ready. Raises CriError, NodeError."""
    with CriClient(f"unix://{socket}", timeout=timeout) as cri:
        cri.version()
        conditions = {c.type: c for c in cri.status().status.conditions}
    if not conditions["RuntimeReady"].status:
        raise NodeError(f"containerd is not ready: {conditions['RuntimeReady'].message}")


def runtime_version(socket: Path, timeout: float = 5.0) -> dict[str, str]:
    """{"name": "containerd", "version": "1.6.20"}, as the runtime itself says."""
    with CriClient(f"unix://{socket}", timeout=timeout) as cri:
        version = cri.version()
    return {"name": version.runtime_name, "version": version.runtime_version}


def registry_service(home: Home, programs: Programs, name: str) -> Service:
    """One of the two registries. It takes a free loopback port at each start. Both serve the course's images and are read-only:
    the images are in place before the registry listens, it runs as a user without an account, and owns nothing.

    Another program that takes its port while it does not run can serve nothing: containerd asks for the certificate.
    """
    directory, account = registries(home), confined.account(str(home.data))

    def prepare() -> tuple[str, ...]:
        directory.mkdir(parents=True, exist_ok=True, mode=0o750)
        credentials.certificates(directory)
        for file in (REGISTRY_TLS.certificate, REGISTRY_TLS.key):
            registry.give(directory / file, 0o640, account)
        made = registry.configure(
            programs.docker_registry,
            directory,
            name,
            course_images(catatonit=programs.catatonit, busybox=programs.busybox),
            registry.free_port(),
            login=LOGIN if name != OPEN_REGISTRY else None,
            tls=REGISTRY_TLS,
            group=account,
        )
        registry.write_hosts(home.data / "certs.d", {REGISTRIES[name]: made.url}, authority(home))
        credentials.write_private(directory / name / "url", made.url)
        return made.argv

    return Service(
        name,
        prepare,
        home.data / f"{name}.log",
        lambda: registry_answers(home, name),
        popen={"cwd": directory, "executable": f"./{registry.PROGRAM}", **confined.popen(account)},
    )


def registry_answers(home: Home, name: str) -> None:
    """Ask whether a registry answers, by the lab's certificate. Raises RegistryError."""
    registry.wait_ready(registry_url(home, name), 0.2, ca=authority(home))


def registries(home: Home) -> Path:
    """The registries' files."""
    return home.data / "registries"


def authority(home: Home) -> Path:
    """The certificate by which a client recognises the registries."""
    return registries(home) / "ca.crt"


def registry_url(home: Home, name: str = OPEN_REGISTRY) -> str:
    """The address of a registry now, e.g. "https://127.0.0.1:40123"."""
    return (registries(home) / name / "url").read_text()
