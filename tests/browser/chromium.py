"""Chromium: the one installed on this machine, else the distribution's package brought beside the system."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labkit.node.packages.unpack import Unpacked, fetch

PACKAGES = ("chromium", "fonts-dejavu-core")
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>/usr/share/fonts</dir>
  <dir>{root}/usr/share/fonts</dir>
  <include ignore_missing="yes">{rules}</include>
  <cachedir>{root}/var/cache/fontconfig</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Chromium:
    """The program, and what its environment has besides the test's own."""

    program: Path
    environment: Mapping[str, str]


def find_chromium(cache: Path) -> Chromium:
    """The installed Chromium, else one unpacked below `cache`. Raises ProgramsError where apt cannot bring it."""
    if installed := shutil.which("chromium"):
        return Chromium(Path(installed), {})
    system = platform.freedesktop_os_release()
    name = f"chromium-{system['ID']}-{system.get('VERSION_ID', 'rolling')}-{platform.machine()}"
    return _unpacked(fetch(PACKAGES, dependencies=True, dest=cache / "programs" / name))


def _unpacked(found: Unpacked) -> Chromium:
    # usr/bin/chromium is a script that starts /usr/lib/chromium/chromium, which is not there.
    program = found.root / "usr/lib/chromium/chromium"
    fonts = found.root.parent / "fonts.conf"
    own_rules, system_rules = found.root / "usr/share/fontconfig/conf.avail", Path("/etc/fonts/fonts.conf")
    fonts.write_text(FONTS.format(root=found.root, rules=system_rules if system_rules.exists() else own_rules))
    libraries = os.pathsep.join(map(str, found.library_path))
    return Chromium(program, {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts)})
