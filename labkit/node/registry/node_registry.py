"""The course's images on a node that labkit reaches only by commands: a registry inside of the node, or an import.

The registry runs in the node's own network namespace on its loopback, so nobody but the node can reach it, and it is read-only.
Its program is the one that labkit brings (one file); it has its images before it starts. All of it lies in one directory of the
node, which `remove` removes.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.cri import CriClient, CriError
from labkit.node.registry import certs, registry
from labkit.node.registry.course_images import BUSYBOX, PAUSE, course_images
from labkit.node.registry.oci import Image, write_archive
from labkit.node.registry.registry import LOGIN, OPEN_REGISTRY, REGISTRIES
from labkit.node.registry.share import DIRECTORY
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.packages.programs import Programs

ARCHIVE, MADE, REFUSED = "images.tar", "made-directories", "import-only.json"
PLACES = "places"
"""Names the directories into which hosts.toml was written: the configuration may name others by the time of `clean`."""
PULL_WITHIN_S = 30.0
OTHER_RUNTIME = (
    "Bring a kind node, whose runtime is containerd, or name the runtime's own socket: cri:unix:///var/run/crio/crio.sock."
)

Run = Callable[..., bytes]
"""run(argv, stdin=None, timeout=…): a command on the node; its standard output. Raises NodeError."""

ACCOUNT = 64180
"""A user id of no account (systemd.exec(5), DynamicUser=), as which the registries run."""

ALIVE = f"""
for name in {" ".join(REGISTRIES)}; do
    read -r pid < {DIRECTORY}/$name/pid && [ "$(cat /proc/$pid/comm)" = docker-registry ] || exit 1
done
"""

START = f"""
cd {DIRECTORY}
chmod go+x .
confined="setpriv --reuid {ACCOUNT} --regid {ACCOUNT} --clear-groups --no-new-privs"
$confined true 2>/dev/null || confined= # a node without setpriv, or with busybox's, which changes no user
for name in {" ".join(REGISTRIES)}; do
    $confined ./docker-registry serve $name/config.yml >$name/log 2>&1 </dev/null & echo $! > $name/pid
done
"""

READY = f"""
set -e
cd {DIRECTORY}
for name in {" ".join(REGISTRIES)}; do
    port=$(printf %04X $(sed -n 's/.*addr: 127.0.0.1://p' $name/config.yml))
    tries=0
    until grep -q "^ *[0-9]*: 0100007F:$port 00000000:0000 0A" /proc/net/tcp; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || {{ tail -n 1 $name/log >&2; exit 1; }}
        sleep 0.1
    done
done
"""
"""Waits until both listen (proc_net(5)): a node need have no HTTP client."""

NEW_DIRECTORIES = f"""
cat {DIRECTORY}/{MADE} 2>/dev/null
while IFS= read -r path; do
    path=${{path%/*}}
    while [ ! -e "$path" ]; do echo "$path"; path=${{path%/*}}; done
done
"""
"""Prints what labkit has made before, then the parents of the directories on its input that are not there, children first."""

REMOVE_MADE = f"""
[ -e {DIRECTORY}/{MADE} ] || exit 0
while IFS= read -r path; do
    [ ! -d "$path" ] || [ "$(ls -A "$path")" ] || rmdir "$path" || exit
done <{DIRECTORY}/{MADE}
rm {DIRECTORY}/{MADE}
"""
"""Removes the directories that labkit made and that are empty now; the note of them goes when they are gone."""

STOP = f"""
for name in {" ".join(REGISTRIES)}; do
    if read -r pid < {DIRECTORY}/$name/pid && [ "$(cat /proc/$pid/comm)" = docker-registry ]; then kill $pid; fi
done 2>/dev/null
true
"""


def sh(script: str) -> Sequence[str]:
    return ["sh", "-c", script]


@dataclass(frozen=True)
class Supply:
    """How the course's images come to a node: `by` "pull", or by "import" alone and `why`, a sentence."""

    by: str
    why: str = ""


NO_PATH = "Its containerd reads no addresses of registries: the configuration has no config_path."


def provide(
    cri: CriClient,
    run: Run,
    programs: Programs,
    scratch: Path,
    progress: Callable[[str], None],
    socket: str,
    *,
    again: bool = False,
) -> Supply:
    """Make registry.lab and private.registry.lab pullable on the node, whose runtime listens at `socket`; where a pull shows that
    this cannot be, import the images. again: try a pull also where one has failed before.

    Idempotent, and quick when all is there. Raises NodeError.
    """
    if answers(run, ALIVE):
        return Supply("pull")
    if (name := cri.version().runtime_name) != "containerd":
        raise NodeError(f"The runtime of this node is {name}; labkit imports its images into containerd only.", OTHER_RUNTIME)
    places = certs.directories(cri, run, socket)
    why = "" if again else refused_before(run, places)
    why = NO_PATH if not places else why or serve(cri, run, programs, places, progress)
    if not why:
        run(["rm", "-f", f"{DIRECTORY}/{REFUSED}"])
        return Supply("pull")
    if not all(cri.image_status(image={"image": name}).image.id for name in image_names()):
        progress("importing the course's images into the node")
        run(["ctr", "--namespace", "k8s.io", "images", "import", "-"], stdin=archive(programs, scratch))
    note = json.dumps({"places": places, "why": why})
    run(sh(f"mkdir -p {DIRECTORY} && cat >{DIRECTORY}/{REFUSED}"), stdin=note.encode())
    return Supply("import", why)


def refused_before(run: Run, places: Sequence[str]) -> str:
    """Why a pull failed when these places were tried before, "" where they were not."""
    try:
        note = json.loads(run(["cat", f"{DIRECTORY}/{REFUSED}"]))
    except (NodeError, ValueError, RecursionError):
        return ""
    return str(note.get("why", "")) if isinstance(note, dict) and note.get("places") == list(places) else ""


def serve(cri: CriClient, run: Run, programs: Programs, places: Sequence[str], progress: Callable[[str], None]) -> str:
    """Start the registries, tell containerd of them in each of `places`, and pull from them: "" if that works, else the reason,
    and all of it is taken back. Raises NodeError."""
    progress("starting the course's registry inside of the node")
    ports = [registry.free_port() for _ in REGISTRIES]
    made = run(sh(NEW_DIRECTORIES), stdin="".join(f"{path}\n" for path in hosts(places)).encode())
    noted = list(dict.fromkeys([*noted_places(run), *places]))
    run(["tar", "-C", "/", "-xf", "-"], stdin=registry_bundle(programs, places, ports, made, noted), timeout=60)
    run(sh(START))
    run(sh(READY), timeout=30)
    try:
        cri.pull_image(image={"image": PAUSE}, timeout=PULL_WITHIN_S)
    except CriError as error:
        take_back(run, places)
        if error.code == "DEADLINE_EXCEEDED":
            return f"A pull from the course's registry did not end within {PULL_WITHIN_S:.0f} s."
        return f"Its containerd does not use the addresses in {' or '.join(places)}: {error.message}"
    forget(cri, run, lambda name: re.split("[:@]", name)[0] == PAUSE.partition(":")[0])
    return ""


def answers(run: Run, script: str) -> bool:
    try:
        run(sh(script))
    except NodeError:
        return False
    return True


def image_names() -> tuple[str, str]:
    return PAUSE, BUSYBOX


def hosts(places: Sequence[str]) -> list[str]:
    """The directories of the course's registries in those of all."""
    return [f"{place}/{host}" for place in places for host in REGISTRIES.values()]


def registry_bundle(programs: Programs, places: Sequence[str], ports: Sequence[int], made: bytes, noted: Sequence[str]) -> bytes:
    """A tar of everything that goes into the node: the registry's program, its files, the images, hosts.toml for containerd, and
    notes of the directories that are `made` for it, and of all places where a hosts.toml may lie."""
    files: dict[str, tuple[bytes, int]] = {
        f"{DIRECTORY}/{registry.PROGRAM}": (programs.docker_registry.read_bytes(), 0o755),
        f"{DIRECTORY}/{MADE}": (made, 0o600),
        f"{DIRECTORY}/{PLACES}": ("".join(f"{place}\n" for place in noted).encode(), 0o600),
    }
    for (name, host), port in zip(REGISTRIES.items(), ports, strict=True):
        storage, htpasswd = f"{name}/{registry.STORAGE}", f"{name}/htpasswd" if name != OPEN_REGISTRY else None
        for path, data in registry.stored(images(programs)).items():
            files[f"{DIRECTORY}/{storage}/{path}"] = (data, 0o644)
        files[f"{DIRECTORY}/{name}/config.yml"] = (registry.config_yml(storage, port, htpasswd).encode(), 0o644)
        if htpasswd:
            files[f"{DIRECTORY}/{htpasswd}"] = (registry.htpasswd_line(*LOGIN).encode(), 0o644)
        for place in places:
            files[f"{place}/{host}/hosts.toml"] = (registry.hosts_toml(f"http://127.0.0.1:{port}").encode(), 0o644)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, (data, mode) in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def images(programs: Programs) -> tuple[Image, ...]:
    return course_images(catatonit=programs.catatonit, busybox=programs.busybox)


def archive(programs: Programs, scratch: Path) -> bytes:
    """Both images as an OCI archive."""
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / ARCHIVE
    write_archive(path, images(programs))
    data = path.read_bytes()
    path.unlink()
    return data


def take_back(run: Run, places: Sequence[str]) -> None:
    """End the registries and remove their files, hosts.toml, and the directories that were made for it and are empty."""
    run(sh(STOP))
    run(["rm", "-rf", "--", *hosts(places)])
    run(sh(REMOVE_MADE))
    run(["rm", "-rf", *(f"{DIRECTORY}/{name}" for name in (*REGISTRIES, registry.PROGRAM))])


def remove(cri: CriClient, run: Run, socket: str) -> None:
    """End the registries, and remove the course's images and files from the node. A node without them is no error."""
    take_back(run, all_places(cri, run, socket))
    forget(cri, run, is_own)
    run(sh(f"[ -e {DIRECTORY}/{MADE} ] || rm -rf {DIRECTORY}"))


def noted_places(run: Run) -> list[str]:
    noted = run(sh(f"cat {DIRECTORY}/{PLACES} 2>/dev/null; true")).decode(errors="replace").split("\n")
    return [place for place in noted if place.startswith("/")]


def all_places(cri: CriClient, run: Run, socket: str) -> list[str]:
    """Where a hosts.toml of labkit's may lie. Raises NodeError and CriError."""
    return list(dict.fromkeys([*noted_places(run), *certs.places(cri, run, socket)]))


def left(cri: CriClient, run: Run, socket: str) -> list[str]:
    """What labs share on the node: files and images. For the proof of `clean`."""
    found = [f"image {name}" for image in cri.list_images().images for name in names_of(image) if is_own(name)]
    paths = [DIRECTORY, *hosts(all_places(cri, run, socket))]
    listed = run(sh("for path in " + " ".join(map(shlex.quote, paths)) + '; do [ ! -e "$path" ] || echo "$path"; done'))
    return found + [f"file {line}" for line in listed.decode().splitlines()]


def is_own(name: str) -> bool:
    """Whether an image's name, with a tag or a digest, is one of the course's registries'."""
    return name.partition("/")[0] in REGISTRIES.values()


def names_of(image: Any) -> list[str]:
    return [*image.repo_tags, *image.repo_digests]


def forget(cri: CriClient, run: Run, named: Callable[[str], bool]) -> None:
    """Remove the names for which `named` holds, and an image that has no other. CRI's RemoveImage takes every name of it."""
    for image in cri.list_images().images:
        names = names_of(image)
        own = [name for name in names if named(name)]
        if own and own == names:
            cri.remove_image(image={"image": image.id})
        elif own:
            run(["ctr", "--namespace", "k8s.io", "images", "rm", "--sync", *own])
