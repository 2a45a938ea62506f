"""The course's images on a node that labkit reaches only by commands: a registry inside of the node, or an import.

The registry runs in the node's own network namespace on its loopback, so nobody but the node can reach it. Its program
is the one that
labkit brings (one file); its images are pushed from inside. All of it lies in one directory of the node, which `remove` removes.
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.images import registry
from labkit.images.build import busybox_image, pause_image
from labkit.images.oci import write_archive
from labkit.node.errors import NodeError
from labkit.node.private import LOGIN, OPEN_REGISTRY, REGISTRIES
from labkit.node.programs import Programs

DIRECTORY = "/var/lib/labkit"
ARCHIVE = "images.tar"
NAMESPACE = "labkit-images"
"""containerd's namespace (its own word for a tenant, not the kernel's) into which images are put before they are pushed."""

Run = Callable[..., bytes]
"""run(argv, stdin=None, timeout=…): a command on the node; its standard output. Raises NodeError."""

ALIVE = f"""
for name in {" ".join(REGISTRIES)}; do
    read -r pid < {DIRECTORY}/$name/pid && [ "$(cat /proc/$pid/comm)" = docker-registry ] || exit 1
done
"""

START = f"""
cd {DIRECTORY}
for name in {" ".join(REGISTRIES)}; do
    ./docker-registry serve $name/config.yml >$name/log 2>&1 </dev/null & echo $! > $name/pid
done
"""

STOP = f"""
for name in {" ".join(REGISTRIES)}; do
    if read -r pid < {DIRECTORY}/$name/pid && [ "$(cat /proc/$pid/comm)" = docker-registry ]; then kill $pid; fi
done 2>/dev/null
true
"""


CGROUPS = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do for g in labkit labkit.slice; do [ ! -d $d/$g ] || echo $d/$g; done; done"
"""Prints the lab's cgroups: `labkit` where the runtime makes cgroups itself, `labkit.slice` where systemd does."""

REMOVE_CGROUPS = f"""
if command -v systemctl >/dev/null; then systemctl stop labkit.slice; fi
for g in $({CGROUPS}); do find $g -depth -type d -exec rmdir {{}} ';'; done
"""


def sh(script: str) -> Sequence[str]:
    return ["sh", "-c", script]


def config_path(cri: CriClient) -> str:
    """The directory in which the node's containerd looks for registries' addresses (`config_path`), "" where it does
    not. The runtime's own
    word: the verbose Status holds its configuration."""
    try:
        config = json.loads(cri.status(verbose=True).info.get("config", "{}"))
    except ValueError:
        return ""
    return str((config.get("registry") or {}).get("configPath") or "").split(":")[0]


def provide(cri: CriClient, run: Run, programs: Programs, scratch: Path, progress: Callable[[str], None]) -> str:
    """Make registry.lab and private.registry.lab pullable on the node, or import the images; "pull" or "import" tells which.

    Idempotent, and quick when all is there. Raises NodeError.
    """
    certs = config_path(cri)
    if not certs:
        if not all(cri.image_status(image={"image": name}).image.id for name in image_names()):
            progress("importing the course's images into the node")
            run(["ctr", "--namespace", "k8s.io", "images", "import", "-"], stdin=archive(programs, scratch))
        return "import"
    if answers(run, ALIVE):
        return "pull"
    progress("starting the course's registry inside of the node")
    ports = [registry.free_port() for _ in REGISTRIES]
    run(["tar", "-C", "/", "-xf", "-"], stdin=parcel(programs, scratch, certs, ports), timeout=60)
    run(sh(START))
    push(run, ports[0])
    return "pull"


def answers(run: Run, script: str) -> bool:
    try:
        run(sh(script))
    except NodeError:
        return False
    return True


def image_names() -> tuple[str, str]:
    return "registry.lab/pause:1", "registry.lab/busybox:1"


def parcel(programs: Programs, scratch: Path, certs: str, ports: Sequence[int]) -> bytes:
    """A tar of everything that goes into the node: the registry's program, its files, the images, and hosts.toml for
    containerd."""
    files: dict[str, tuple[bytes, int]] = {
        f"{DIRECTORY}/docker-registry": (programs.docker_registry.read_bytes(), 0o755),
        f"{DIRECTORY}/{ARCHIVE}": (archive(programs, scratch), 0o600),
    }
    for (name, host), port in zip(REGISTRIES.items(), ports, strict=True):
        private = name != OPEN_REGISTRY
        htpasswd = f"{DIRECTORY}/{name}/htpasswd" if private else None
        config = registry.config_yml(Path(DIRECTORY, "storage"), port, Path(htpasswd) if htpasswd else None, private)
        files[f"{DIRECTORY}/{name}/config.yml"] = (config.encode(), 0o600)
        if htpasswd:
            files[htpasswd] = (registry.htpasswd_line(*LOGIN).encode(), 0o600)
        files[f"{certs}/{host}/hosts.toml"] = (registry.hosts_toml(f"http://127.0.0.1:{port}").encode(), 0o644)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (data, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def archive(programs: Programs, scratch: Path) -> bytes:
    """Both images as an OCI archive."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / ARCHIVE
    write_archive(path, [pause_image(programs.catatonit), busybox_image(programs.busybox)])
    data = path.read_bytes()
    path.unlink()
    return data


def push(run: Run, port: int) -> None:
    """From inside of the node: import the archive into a namespace of its own, push to the registry, forget the
    namespace again."""
    ctr = f"ctr --namespace {NAMESPACE}"
    lines = [f"{ctr} images import --no-unpack {DIRECTORY}/{ARCHIVE} >/dev/null", "tries=0"]
    for name in image_names():
        target = shlex.quote(f"127.0.0.1:{port}/{name.partition('/')[2]}")
        lines.append(f"until {ctr} images push --plain-http {target} {name} >/dev/null")
        lines.append("do tries=$((tries + 1)); [ $tries -lt 20 ]; sleep 0.2; done")
    lines.append(f"{ctr} images rm --sync {' '.join(image_names())} >/dev/null; ctr namespaces rm {NAMESPACE} >/dev/null")
    lines.append(f"rm {DIRECTORY}/{ARCHIVE}")
    run(sh("set -e\n" + "\n".join(lines)), timeout=60)


def remove(cri: CriClient, run: Run) -> None:
    """End the registries, and remove the course's images and files from the node. A node without them is no error."""
    certs = config_path(cri)
    run(sh(STOP))
    for image in cri.list_images().images:
        own = [tag for tag in image.repo_tags if tag.partition("/")[0] in REGISTRIES.values()]
        for tag in own:
            cri.remove_image(image={"image": tag})
    paths = [DIRECTORY, *(f"{certs}/{host}" for host in REGISTRIES.values() if certs)]
    run(["rm", "-rf", *paths])
    run(sh(f"( {REMOVE_CGROUPS} ) >/dev/null 2>&1; true"))


def left(cri: CriClient, run: Run) -> list[str]:
    """What of labkit's is on the node: files, images, Pods, cgroups. For the proof of `clean`."""
    found = [
        f"image {tag}"
        for image in cri.list_images().images
        for tag in image.repo_tags
        if tag.partition("/")[0] in REGISTRIES.values()
    ]
    found += [f"Pod {s.metadata.name}" for s in labelled(cri)]
    certs = config_path(cri)
    paths = [DIRECTORY, *(f"{certs}/{host}" for host in REGISTRIES.values() if certs)]
    said = run(sh("for path in " + " ".join(map(shlex.quote, paths)) + '; do [ ! -e "$path" ] || echo "$path"; done'))
    found += [f"file {line}" for line in said.decode().splitlines()]
    return found + [f"cgroup {line}" for line in run(sh(CGROUPS)).decode().splitlines()]


def labelled(cri: CriClient) -> list[Any]:
    """Every Pod that labkit made, of any lesson."""
    try:
        return list(cri.list_pod_sandbox(filter={"label_selector": {"app.kubernetes.io/managed-by": "labkit"}}).items)
    except CriError as error:
        if error.code == "NOT_FOUND":
            return []
        raise
