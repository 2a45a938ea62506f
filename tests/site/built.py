"""The site, built from the checkout as `./course site` builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def build(directory: Path) -> Path:
    """The built pages, in a new directory below `directory`. Fails where the command warns of anything."""
    site = directory / "site"
    done = subprocess.run([sys.executable, "-m", "authoring.site", site], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert list(directory.iterdir()) == [site], "something is left beside the site"
    return site
