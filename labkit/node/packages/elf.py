"""What an executable file needs to run (elf(5))."""

from __future__ import annotations

import struct
from pathlib import Path


def is_static(program: Path) -> bool:
    """Whether an ELF file needs no dynamic linker: it has no PT_INTERP segment (elf(5))."""
    with program.open("rb") as file:
        header = file.read(64)
        if header[:6] != b"\x7fELF\x02\x01":
            return False
        offset, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from("<I", table, size * index)[0] != 3 for index in range(count))
