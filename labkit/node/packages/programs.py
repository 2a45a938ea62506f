"""The node's programs: containerd, its shim, runc, CNI plugins, busybox, catatonit, docker-registry.

On Debian and Ubuntu they are fetched as packages and unpacked into labkit's cache, the system untouched (unpack.py).
Elsewhere those on PATH are used, and what is missing is named with the distribution's own command.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.node.packages.apt import ProgramsError, apt_usable
from labkit.node.packages.elf import is_static
from labkit.node.packages.suites import read_os_release
from labkit.node.packages.unpack import Unpacked, fetch, load
from labkit.util.progress import Progress, quiet

__all__ = [
    "PROGRAMS", "Program", "Programs", "ProgramsError", "ensure_programs", "fetch", "find_programs", "install_command",
    "missing_advice",
]

BINARY_DIRECTORIES = (
    "usr/bin", "usr/sbin", "bin", "sbin", "usr/local/bin", "usr/local/sbin", "usr/libexec/podman", "usr/libexec/catatonit",
)
CNI_DIRECTORIES = ("usr/lib/cni", "opt/cni/bin", "usr/libexec/cni")
CNI_PLUGINS = ("bridge", "host-local", "loopback")


@dataclass(frozen=True)
class Program:
    """One program: the field of Programs that it fills, its Debian package, its file names, whether it has to be static.

    `packages` maps an ID of os-release(5) to the package that has it there.
    """

    field: str
    package: str
    files: tuple[str, ...]
    packages: Mapping[str, str]
    static: bool = False

    @property
    def title(self) -> str:
        return "CNI plugins" if self.field == "cni_dir" else self.files[0]


def _everywhere(name: str, **others: str) -> dict[str, str]:
    return {"fedora": name, "arch": name, "alpine": name, "opensuse": name, **others}


PROGRAMS = (
    Program("containerd", "containerd", ("containerd",), _everywhere("containerd")),
    Program("shim", "containerd", ("containerd-shim-runc-v2",), _everywhere("containerd")),
    Program("ctr", "containerd", ("ctr",), _everywhere("containerd", alpine="containerd-ctr", opensuse="containerd-ctr")),
    Program("runc", "runc", ("runc",), _everywhere("runc")),
    Program(
        "cni_dir", "containernetworking-plugins", CNI_PLUGINS, _everywhere("cni-plugins", fedora="containernetworking-plugins")
    ),
    Program("busybox", "busybox-static", ("busybox", "busybox.static", "busybox-static"),
            _everywhere("busybox", alpine="busybox-static", opensuse="busybox-static"), static=True),
    Program("catatonit", "catatonit", ("catatonit",), _everywhere("catatonit"), static=True),
    Program("docker_registry", "docker-registry", ("docker-registry", "registry"),
            _everywhere("docker-registry", fedora="docker-distribution", opensuse="distribution-registry")),
)

INSTALL = {"fedora": "sudo dnf install", "arch": "sudo pacman -S", "alpine": "sudo apk add", "opensuse": "sudo zypper install"}
"""How a learner installs packages there, by ID or ID_LIKE of os-release(5)."""

FAMILIES = {
    "rhel": "fedora", "centos": "fedora", "suse": "opensuse", "opensuse-leap": "opensuse", "opensuse-tumbleweed": "opensuse",
}


@dataclass(frozen=True)
class Programs:
    """Where each program is. `source` is "apt" (unpacked in the cache) or "path" (installed on this machine).

    `library_path` is a value for LD_LIBRARY_PATH, usually empty. `versions` maps a package (source "apt") or a program
    to its version. A program named in `missing` was not found; its field is then the bare file name.
    """

    containerd: Path
    shim: Path
    ctr: Path
    runc: Path
    cni_dir: Path
    busybox: Path
    catatonit: Path
    docker_registry: Path
    library_path: str
    source: str
    versions: Mapping[str, str]
    missing: tuple[str, ...]


def find_programs(cache: Path) -> Programs:
    """The programs that are here now: those unpacked under `cache`, else those installed. Fetches nothing, never raises."""
    unpacked = load(_destination(cache), _packages())
    if unpacked:
        programs = _in_root(unpacked)
        if not programs.missing:
            return programs
    return _on_path()


def ensure_programs(cache: Path, progress: Progress = quiet) -> Programs:
    """All programs, fetched into `cache` first where that is needed and possible. Raises ProgramsError."""
    programs = find_programs(cache)
    if programs.source == "apt":
        return programs
    if apt_usable():
        try:
            fetched = _in_root(fetch(_packages(), dest=_destination(cache), progress=progress))
        except ProgramsError as error:
            if programs.missing:
                raise
            progress(f"{error.happened} Using the programs that are installed.")
            return programs
        if fetched.missing and os.statvfs(cache).f_flag & os.ST_NOEXEC:
            raise ProgramsError(
                f"{cache} is on a file system from which no program can be run (mount option noexec).",
                "Set LABKIT_HOME to a directory on another one.",
            )
        if fetched.missing:
            raise ProgramsError(f"The fetched packages have no {', '.join(fetched.missing)}.", install_command(fetched.missing))
        return fetched
    if advice := missing_advice(cache):
        raise ProgramsError(*advice)
    return programs


def missing_advice(cache: Path) -> tuple[str, str] | None:
    """What is missing and what to do, a sentence each; None where the programs are here or can be fetched."""
    missing = () if apt_usable() else find_programs(cache).missing
    if not missing:
        return None
    return f"This machine has no apt-get to fetch programs with, and no {', '.join(missing)} on PATH.", install_command(missing)


def install_command(missing: Iterable[str], os_release: Path = Path("/etc/os-release")) -> str:
    """A sentence with the command that installs the programs titled `missing` on this distribution (os-release(5))."""
    wanted = [program for program in PROGRAMS if program.title in set(missing)]
    release = read_os_release(os_release)
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        family = FAMILIES.get(name, name)
        if family in ("debian", "ubuntu"):
            return f"Install them: sudo apt-get install {' '.join(sorted({program.package for program in wanted}))}"
        if family in INSTALL:
            return f"Install them: {INSTALL[family]} {' '.join(sorted({program.packages[family] for program in wanted}))}"
    packages = " ".join(sorted({program.package for program in wanted}))
    return f"Install them with your distribution's package manager; in Debian their packages are {packages}."


def _packages() -> tuple[str, ...]:
    return tuple(sorted({program.package for program in PROGRAMS}))


def _destination(cache: Path) -> Path:
    release = read_os_release()
    version = release.get("VERSION_ID") or release.get("VERSION_CODENAME") or "rolling"
    return cache / "programs" / f"{release.get('ID', 'linux')}-{version}-{platform.machine()}"


def _in_root(unpacked: Unpacked) -> Programs:
    binaries = [unpacked.root / directory for directory in BINARY_DIRECTORIES]
    plugins = [unpacked.root / directory for directory in CNI_DIRECTORIES]
    library_path = os.pathsep.join(map(str, unpacked.library_path))
    return _programs(binaries, plugins, library_path, "apt", unpacked.versions)


def _on_path() -> Programs:
    path = [Path(directory) for directory in os.environ.get("PATH", "").split(os.pathsep) if directory]
    # An ordinary user's PATH often lacks the sbin directories, and none has libexec.
    binaries = path + [Path("/", directory) for directory in BINARY_DIRECTORIES]
    found = _programs(binaries, [Path("/", directory) for directory in CNI_DIRECTORIES], "", "path", {})
    versions = {name: version for name in ("containerd", "runc") if (version := _version(getattr(found, name)))}
    return Programs(**{**vars(found), "versions": versions})


def _programs(binaries: list[Path], plugins: list[Path], library_path: str, source: str, versions: Mapping[str, str]) -> Programs:
    found: dict[str, Path] = {}
    missing = []
    for program in PROGRAMS:
        if program.field == "cni_dir":
            candidates = [directory for directory in plugins if all(_executable(directory / name) for name in CNI_PLUGINS)]
        else:
            candidates = [directory / name for name in program.files for directory in binaries if _executable(directory / name)]
            candidates = [path for path in candidates if not program.static or is_static(path)]
        if not candidates:
            missing.append(program.title)
        found[program.field] = candidates[0] if candidates else Path(program.files[0])
    return Programs(**found, library_path=library_path, source=source, versions=versions, missing=tuple(missing))


def _executable(path: Path) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)  # pathlib raises where a directory may not be searched


def _version(program: Path) -> str:
    if not shutil.which(program):
        return ""
    output = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"\bv?(\d+\.\d+\.\d+\S*)", output)
    return match[1] if match else ""
