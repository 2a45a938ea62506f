"""The programs of this machine that make and run the virtual one, and where their packages are unpacked."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from labkit.node.packages.apt import ProgramsError
from labkit.node.packages.suites import read_os_release
from labkit.util import environment


@dataclass(frozen=True)
class Tools:
    """Programs of this machine that make and run the virtual one. `library_path`: for LD_LIBRARY_PATH; `data`: qemu's -L."""

    qemu: Path
    mksquashfs: Path
    zstd: Path
    library_path: str
    data: tuple[Path, ...]

    def environment(self) -> dict[str, str]:
        """What these programs need in their environment."""
        inherited = os.environ.get("LD_LIBRARY_PATH", "")
        path = os.pathsep.join(filter(None, [self.library_path, inherited]))
        return environment.daemon({"LD_LIBRARY_PATH": path} if path else None)

    def unzstd(self, path: Path) -> bytes:
        """The content of a file that zstd compressed. Raises ProgramsError."""
        done = subprocess.run([self.zstd, "-dcq", path], capture_output=True, env=self.environment(), check=False)
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip()
            raise ProgramsError(f"{path} cannot be read ({why}).", "Remove it from labkit's cache, and try again.")
        return done.stdout


def place(cache: Path, what: str) -> Path:
    """Where labkit keeps unpacked packages for this release: "tools", "guest", "kernel", "python"."""
    release = read_os_release()
    return cache / "programs" / f"vm-{what}-{release.get('ID', 'linux')}-{release.get('VERSION_ID', 'rolling')}"
