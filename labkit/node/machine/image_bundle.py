"""A built machine as one file, to be published and used elsewhere: a tar of its disks, its saved states and their checksums."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path

from labkit.node.machine.build import RECORD, MachineImage, find, images, only_one, point
from labkit.node.packages.apt import ProgramsError
from labkit.node.packages.unpack import digest, require_checksum, verified
from labkit.util.progress import Progress

SUMS = "SHA256SUMS"
NAME = re.compile(r"vmlinuz|initramfs|root\.squashfs|machine\.json|state-\w+-\w+\.zst|SHA256SUMS")


def pack(image: MachineImage, target: Path) -> str:
    """Write the machine into one file, whole or not at all, and its checksum into FILE.sha256, as sha256sum(1) does.

    The checksum. Raises OSError.
    """
    paths = sorted(path for path in image.directory.iterdir() if NAME.fullmatch(path.name))
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.absolute().parent) as scratch:
        sums = Path(scratch, SUMS)
        sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in paths))
        partial = Path(scratch, "whole")
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for path in (sums, *paths):
                tar.add(path, f"{image.key}/{path.name}", filter=plain)
        whole = digest(partial)
        target.with_name(f"{target.name}.sha256").write_text(f"{whole}  {target.name}\n")
        os.replace(partial, target)
    return whole


def refuse_unwritable(target: Path) -> None:
    """Whether `pack` can write there is asked before the machine is built, which takes a minute. Raises ProgramsError."""
    directory = target.absolute().parent
    if target.is_dir() or not (directory.is_dir() and os.access(directory, os.W_OK)):
        raise ProgramsError(f"{target} cannot be written.", "Name a file in a directory that is there and that you may write to.")


def unpack(source: Path, cache: Path, progress: Progress, sha256: str = "") -> MachineImage:
    """Put a machine from a file into the cache, as if it had been built here.

    Its SHA-256 is required: `sha256`, else from FILE.sha256 beside it. Raises ProgramsError where it, or that of a file in it,
    is not the right one.
    """
    progress(f"verifying {source.name}")
    expected = require_checksum(source, sha256, ".sha256", "Fetch it from where the machine's file is, or give --sha256 SUM.")
    with (
        verified(source, expected, images(cache)) as data,
        only_one(cache, progress),
        tempfile.TemporaryDirectory(prefix=".use-", dir=images(cache)) as scratch,
    ):
        new = Path(scratch, "new")
        new.mkdir(mode=0o755)
        try:
            with tarfile.open(fileobj=data, mode="r:") as tar:  # as it is written, uncompressed
                key = extract(tar, new)
            verify(new)
        except (tarfile.TarError, EOFError, KeyError, ValueError, OSError) as error:
            raise ProgramsError(f"{source} is no machine that `labkit vm build` wrote ({error}).", "Fetch it again.") from None
        directory = images(cache) / key
        shutil.rmtree(directory, ignore_errors=True)
        new.rename(directory)
        point(images(cache) / "current", key)
    image = find(cache)
    if image is None:
        raise ProgramsError(f"{source} was made by another version of labkit.", "Build one with `labkit vm build`.")
    return image


def extract(tar: tarfile.TarFile, new: Path) -> str:
    """Its files, which all lie in one directory; that one's name. Raises ValueError for anything else in it."""
    keys = set()
    for member in tar:
        key, _, name = member.name.partition("/")
        data = tar.extractfile(member) if member.isfile() and not member.issparse() else None  # holes have no end
        if data is None or not NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{16}", key):
            raise ValueError(f"it has {member.name!r}")
        keys.add(key)
        with data, (new / name).open("wb") as out:
            shutil.copyfileobj(data, out, 1 << 20)
    if len(keys) != 1:
        raise ValueError("it is empty" if not keys else "it has several machines")
    return keys.pop()


def verify(new: Path) -> None:
    """Raises ValueError or OSError where a file is missing, or is not what the checksums say."""
    sums = {name: sum for sum, _, name in (line.partition("  ") for line in (new / SUMS).read_text().splitlines())}
    here = {path.name for path in new.iterdir()} - {SUMS}
    for name in sorted(here | {RECORD, *json.loads((new / RECORD).read_text())["sizes"]}):
        if digest(new / name) != sums.get(name):
            raise ValueError(f"the checksum of {name} differs")
    (new / SUMS).unlink()


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member
