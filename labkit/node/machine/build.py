"""`labkit vm build`: the machine's disks, made by an ordinary user of the distribution's packages, and a first boot saved.

Equal packages give equal disks, to the byte. They lie in the cache under the hash of everything that goes into them; what a
change of labkit or of a package needs is then made anew, beside what was there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.node.machine import guest, python, root_files
from labkit.node.machine.machine import BOOT_WITHIN_S, Disks, Machine, fits
from labkit.node.machine.packages import GUEST, GUEST_PROGRAMS, Parts, ensure_parts, titled
from labkit.node.machine.tools import Tools
from labkit.node.packages.apt import ProgramsError
from labkit.node.packages.unpack import digest
from labkit.node.packages.versions import UNIT_DIRECTORIES
from labkit.node.registry import registry
from labkit.node.registry.course_images import applets, course_images
from labkit.node.registry.oci import canonical_json
from labkit.node.registry.registry import LOGIN, OPEN_REGISTRY, REGISTRIES
from labkit.node.state import trust
from labkit.util.progress import Progress
from labkit.util.showable import last_line

RECIPE = "2"
"""Changed with anything of this module's that changes the disks."""
RECORD = "machine.json"
OS_RELEASE = Path("/etc/os-release")
"""The machine is made of this distribution's packages."""
SHOWN = ("containerd", "runc")
READY = f"""
until [ -S {guest.SOCKET} ] && [ -e {guest.DIRECTORY}/kubelet/kubelet.lock ] \
    && wget -q -O /dev/null http://127.0.0.1:{guest.PORTS["registry"]}/v2/; do sleep 0.2; done
""".strip()

WIPE = """
mount -t tmpfs -o size=100% wipe /mnt
n=$(awk '/^MemFree:/ {print int($2 / 1024) - 16}' /proc/meminfo); dd if=/dev/zero of=/mnt/zero bs=1M count=$n 2>/dev/null
umount /mnt
""".strip().replace("\n", "; ")
"""Makes free memory zero: what programs left there would be saved, too, and be resident from the start."""


@dataclass(frozen=True)
class MachineImage:
    """Disks that are complete. `versions`: package → version; `sizes`: file → bytes; `seconds`: what the build took."""

    directory: Path
    versions: Mapping[str, str]
    sizes: Mapping[str, int]
    seconds: float

    @property
    def disks(self) -> Disks:
        return Disks(self.directory / "vmlinuz", self.directory / "initramfs", self.directory / "root.squashfs")

    @property
    def key(self) -> str:
        return self.directory.name

    def state(self, tools: Tools, accelerator: str) -> Path:
        """Where the saved state is, or would be, that fits this qemu and processor."""
        return self.directory / f"state-{accelerator}-{fits(tools, accelerator)}.zst"

    def __str__(self) -> str:
        kernel = next((v for name, v in self.versions.items() if name.startswith("linux-image-")), "?")
        return f"{titled(self.versions, SHOWN)}, Linux {kernel}"


def images(cache: Path) -> Path:
    return cache / "vm"


def find(cache: Path) -> MachineImage | None:
    """The image that was built last, if it is of today's recipe and whole; None where there is none. Quick."""
    try:
        directory = (images(cache) / "current").resolve(strict=True)
        record = json.loads((directory / RECORD).read_text())
        if record["recipe"] != recipe() or any((directory / n).stat().st_size != size for n, size in record["sizes"].items()):
            return None
        return MachineImage(directory, record["versions"], record["sizes"], record["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def verify(image: MachineImage) -> None:
    """Raises ProgramsError where a disk is not what was built; the next build makes it anew."""
    record = image.directory / RECORD
    for name, wanted in json.loads(record.read_text())["sha256"].items():
        if digest(image.directory / name) != wanted:
            with contextlib.suppress(OSError):
                record.unlink()
            raise ProgramsError(
                f"The machine's {name} in {image.directory} was changed since it was built (its checksum differs).",
                "Build it again with `labkit vm build`, or take it from its file again with `labkit vm use FILE`.",
            )


def build(cache: Path, tools: Tools, progress: Progress) -> MachineImage:
    """The disks, made where they are not there yet. Raises ProgramsError. Two builds at once are one after the other."""
    try:
        make(cache, tools, progress)
    except OSError as error:
        why = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        raise ProgramsError(f"The machine could not be built in {images(cache)} ({why}).", "Free some space there.") from None
    found = find(cache)
    if found is None:
        raise ProgramsError("The machine that was built was changed meanwhile.", "Run `labkit vm build` again.")
    return found


def make(cache: Path, tools: Tools, progress: Progress) -> None:
    with only_one(cache, progress):
        began = time.monotonic()
        parts, interpreter = ensure_parts(cache, progress), python.ensure_python(cache, progress)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=images(cache)) as scratch:
            progress("putting the machine's files together")
            root = Path(scratch, "root")
            lay_out(root, parts, interpreter)
            initramfs = ramdisk(parts, tools)
            key = hashlib.sha256(canonical_json([recipe(), hashed(root), sha256(initramfs), digest(parts.kernel)])).hexdigest()[
                :16
            ]
            directory = images(cache) / key
            if not (directory / RECORD).exists():
                new = Path(scratch, "new")
                new.mkdir(mode=0o755)
                shutil.copyfile(parts.kernel, new / "vmlinuz")
                (new / "initramfs").write_bytes(initramfs)
                squash(tools, root, new / "root.squashfs", progress)
                sizes = {path.name: path.stat().st_size for path in sorted(new.iterdir())}
                record = {
                    "recipe": recipe(), "versions": {**parts.versions, **interpreter.versions}, "sizes": sizes,
                    "sha256": {name: digest(new / name) for name in sizes},
                    "seconds": round(time.monotonic() - began, 1),
                }
                (new / RECORD).write_text(json.dumps(record, indent=1, sort_keys=True))
                shutil.rmtree(directory, ignore_errors=True)
                new.rename(directory)
        before = (images(cache) / "current").resolve().name
        point(images(cache) / "current", key)
        forget(images(cache), {key, before})


def save_state(
    image: MachineImage,
    tools: Tools,
    accelerator: str,
    cache: Path,
    progress: Progress,
    first_pod: Callable[[Machine, Path], None],
) -> Path:
    """Boot once, wait until containerd and the registries answer, and save the machine as it is then; the file.

    first_pod: runs one Pod in the machine before its state is saved; it gets a directory for sockets. Raises MachineError.
    Idempotent: a state that fits stays.
    """
    path = image.state(tools, accelerator)
    with only_one(cache, progress):
        if path.exists():
            return path
        progress(f"booting the machine once, to be resumed from then on ({described(accelerator)})")
        with tempfile.TemporaryDirectory(prefix="labkit-vm-") as directory:
            machine = Machine(tools, image.disks, Path(directory), accelerator)
            try:
                machine.let_in(BOOT_WITHIN_S)
                machine.tell(READY, BOOT_WITHIN_S)
                progress("running one Pod in it, and removing it")
                first_pod(machine, Path(directory))
                machine.tell(WIPE, BOOT_WITHIN_S)
                machine.tell(": >/run/door/token")
                progress("saving its state")
                machine.save(path)
            finally:
                machine.quit()
    return path


def described(accelerator: str) -> str:
    return "KVM" if accelerator == "kvm" else "without KVM: qemu's emulation in software (TCG)"


def lay_out(root: Path, parts: Parts, interpreter: python.Python) -> None:
    """The machine's root file system in a directory. Raises ProgramsError or OSError."""
    programs = parts.programs
    binaries = {
        "bin/busybox": programs.busybox, "usr/bin/containerd": programs.containerd, "usr/sbin/runc": programs.runc,
        "usr/bin/containerd-shim-runc-v2": programs.shim,
        "usr/bin/docker-registry": programs.docker_registry, **parts.guest,
        **{f"usr/lib/cni/{name}": programs.cni_dir / name for name in ("bridge", "host-local", "loopback")},
    }
    for directory in guest.DIRECTORIES:
        (root / directory).mkdir(parents=True)
    loaded = python.lay_out(root, interpreter, parts)
    binaries["usr/bin/python3"] = interpreter.program
    needed = root_files.libraries([*binaries.values(), *loaded], parts.linker, parts.library_path)
    for target, source in {**binaries, **needed}.items():
        put(root / target, source.read_bytes(), 0o755)
    for applet in applets(programs.busybox):
        link(root / applet, "/bin/busybox")
    for target, where in guest.LINKS.items():
        link(root / target, where)
    for target, (text, mode) in guest.texts().items():
        put(root / target, text.encode(), mode)
    for where in UNIT_DIRECTORIES:
        if (unit := programs.containerd.parents[2] / where / guest.UNIT.name).is_file():
            put(root / str(guest.UNIT).lstrip("/"), unit.read_bytes(), 0o644)
    fill_registry(root, parts)
    put(root / "etc/os-release", OS_RELEASE.read_bytes(), 0o644)
    for path in (root, *root.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def fill_registry(root: Path, parts: Parts) -> None:
    """The course's images as a registry stores them, and both registries' files."""
    for path, data in registry.stored(course_images(catatonit=parts.programs.catatonit, busybox=parts.programs.busybox)).items():
        put(root / str(guest.STORAGE).lstrip("/") / path, data, 0o644)
    for name, host in REGISTRIES.items():
        password = f"/etc/labkit/{name}.htpasswd" if name != OPEN_REGISTRY else None
        config = registry.config_yml(str(guest.STORAGE), guest.PORTS[name], password)
        put(root / f"etc/labkit/{name}.yml", config.encode(), 0o600)
        put(root / str(guest.CERTS / host / "hosts.toml").lstrip("/"),
            registry.hosts_toml(f"http://127.0.0.1:{guest.PORTS[name]}").encode(), 0o644)
        if password:
            put(root / password.lstrip("/"), htpasswd(*LOGIN).encode(), 0o600)


def htpasswd(user: str, password: str) -> str:
    """As registry.htpasswd_line, with a salt that is the same each time: the password is printed in the course."""
    import bcrypt

    return f"{user}:{bcrypt.hashpw(password.encode(), b'$2b$04$' + b'labkitlabkitlabkitlab.').decode()}\n"


def ramdisk(parts: Parts, tools: Tools) -> bytes:
    order = root_files.modules(parts.modules, guest.MODULES, tools.unzstd)
    names = [path.name.partition(".ko")[0] + ".ko" for path in order]
    content = {
        "init": (guest.INITRAMFS_INIT.encode(), 0o755),
        "bin/busybox": (parts.programs.busybox.read_bytes(), 0o755),
        "modules/order": ("".join(f"{name}\n" for name in names).encode(), 0o644),
        **{
            f"modules/{name}": (root_files.module_bytes(path, tools.unzstd), 0o644)
            for name, path in zip(names, order, strict=True)
        },
    }
    return root_files.cpio(content, ("bin", "modules", "proc", "dev", "disk", "memory", "root"))


def squash(tools: Tools, root: Path, target: Path, progress: Progress) -> None:
    """Everything is root's and dated 1970, whoever builds and when."""
    progress("compressing the machine's disk (mksquashfs)")
    done = subprocess.run(
        [tools.mksquashfs, root, target, "-comp", "zstd", "-all-root", "-all-time", "0", "-mkfs-time", "0", "-noappend",
         "-no-xattrs", "-no-progress", "-quiet"],
        capture_output=True, encoding="utf-8", errors="replace", env={**tools.environment(), "TZ": "UTC"}, check=False,
    )
    if done.returncode:
        raise ProgramsError(
            f"mksquashfs could not write the disk: {last_line(done.stderr)}",
            f"Free some space in {target.parent}, and try again.",
        )


def recipe() -> str:
    """What labkit itself puts into the disks."""
    texts = [
        RECIPE, guest.INITRAMFS_INIT, *guest.MODULES, guest.texts(), guest.DIRECTORIES, guest.LINKS, guest.PORTS, GUEST,
        GUEST_PROGRAMS, *map(digest, python.sources()),
    ]
    return sha256(canonical_json([str(text) for text in texts]))[:16]


def hashed(root: Path) -> str:
    """Of every path, kind, mode and content below `root`."""
    lines = []
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            what = f"link {os.readlink(path)}"
        elif path.is_file():
            what = f"file {path.stat().st_mode & 0o777:o} {digest(path)}"
        else:
            what = f"directory {path.stat().st_mode & 0o777:o}"
        lines.append(f"{path.relative_to(root)} {what}")
    return sha256("\n".join(lines).encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def link(path: Path, target: str) -> None:
    """A program of that name that is there already is the better one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() and not path.is_symlink():
        path.symlink_to(target)


def point(path: Path, target: str) -> None:
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, path)


def forget(directory: Path, kept: set[str]) -> None:
    """Remove the machines of earlier recipes and packages."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept and re.fullmatch(r"[0-9a-f]{16}", path.name):
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def only_one(cache: Path, progress: Progress) -> Iterator[None]:
    """One build at a time; a second one waits, and says that it does. Raises ProgramsError."""
    try:
        images(cache).mkdir(parents=True, exist_ok=True)
        lock = trust.append(images(cache) / "lock")
    except OSError as error:
        raise ProgramsError(
            f"labkit cannot write its cache {images(cache)} ({error.strerror}).", "Set LABKIT_HOME to a directory of yours."
        ) from None
    with trust.locked(lock, lambda: progress("another labkit builds the virtual machine; waiting for it")):
        yield


def as_record(image: MachineImage) -> dict[str, Any]:
    return {"path": str(image.directory), "key": image.key, "versions": dict(image.versions), "bytes": dict(image.sizes)}
