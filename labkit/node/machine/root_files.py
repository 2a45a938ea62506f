"""Files of a small Linux root: the libraries that a program needs, a kernel's modules in their order, a cpio archive."""

from __future__ import annotations

import lzma
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from labkit.node.packages.apt import ProgramsError
from labkit.node.packages.elf import is_static

Unzstd = Callable[[Path], bytes]
"""The content of a file that zstd compressed (`labkit.node.machine.tools.Tools.unzstd`): Python has no zstd before 3.14."""
_DEPENDS = re.compile(rb"(?:^|\0)depends=([^\0]*)\0")


def libraries(programs: Sequence[Path], linker: Path, library_path: str) -> dict[str, Path]:
    """Path in a root, as the dynamic linker looks it up, without the leading slash → the file here. Raises ProgramsError.

    The linker is asked (ld.so(8), --list), which runs no program; static ones need nothing. Shared objects may be among them.
    """
    found: dict[str, Path] = {}
    for program in programs:
        if ".so" not in program.suffixes and is_static(program):
            continue
        listed = subprocess.run(
            [linker, "--library-path", library_path, "--list", program],
            capture_output=True, encoding="utf-8", errors="surrogateescape", env={**os.environ, "LC_ALL": "C"}, check=False,
        )
        missing = re.findall(r"^\s+(\S+) => not found", listed.stdout, re.MULTILINE)
        if listed.returncode or missing:
            why = f"needs {missing[0]}, which is not here" if missing else f"cannot be loaded: {listed.stderr.strip()}"
            raise ProgramsError(f"{program.name} {why}.", "Install its libraries, and try again.")
        named = dict(re.findall(r"^\s+(\S+) => (/.+) \(0x", listed.stdout, re.MULTILINE))
        found |= {f"lib/{name}": Path(path) for name, path in named.items() if "/" not in name}
    return {**found, "lib64/ld-linux-x86-64.so.2": linker}


def modules(directory: Path, wanted: Iterable[str], unzstd: Unzstd) -> list[Path]:
    """The files of kernel modules below `directory` and of all that they depend on, each after what it needs.

    modinfo(8), depends. A module that has no file is built in. Raises OSError, ProgramsError.
    """
    files = {path.name.partition(".")[0].replace("-", "_"): path for path in sorted(directory.rglob("*.ko*"))}
    order: list[Path] = []

    def take(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        match = _DEPENDS.search(module_bytes(path, unzstd))
        for needed in filter(None, (match[1].decode() if match else "").split(",")):
            take(needed)
        order.append(path)

    for name in wanted:
        take(name)
    return order


def module_bytes(path: Path, unzstd: Unzstd) -> bytes:
    """A module's bytes, uncompressed: Debian has them in xz, Ubuntu in zstd. Raises OSError, ProgramsError."""
    if path.suffix == ".zst":
        return unzstd(path)
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def cpio(files: Mapping[str, tuple[bytes, int]], directories: Iterable[str]) -> bytes:
    """An initramfs (the kernel's initramfs-buffer-format.rst, "newc"), equal to the byte for equal input: path → (data, mode)."""
    entries: list[tuple[str, bytes, int]] = [(path, b"", 0o040755) for path in directories]
    entries += [(path, data, 0o100000 | mode) for path, (data, mode) in files.items()]
    archive = bytearray()
    for number, (path, data, mode) in enumerate([*sorted(entries), ("TRAILER!!!", b"", 0)], start=1):
        name = path.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        archive += bytes(-len(archive) % 4) + data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)
