"""`labkit clean`: every node that was brought up, then this machine, then a look at what is left."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from labkit.node import choice as choices
from labkit.node import endpoint, kind, lifecycle, traces, vm
from labkit.node.home import Home

ELSEWHERE = {"kind": kind.clean, "vm": vm.clean, "cri": endpoint.clean}
"""Kinds whose nodes are not labkit's own, of which it removes only what it put there; and the machine, which is in the home."""


def clean(home: Home, progress: lifecycle.Progress = lifecycle.quiet, *, cache: bool = False) -> dict[str, Any]:
    """Remove everything of labkit's; with `cache`, the downloaded programs too. Idempotent. Raises NodeError.

    Returns {"removed": {kind: [what]}, "left": [what was looked for again and found], "kept": {"path", "mb"} or None}.
    """
    removed: dict[str, list[str]] = {kind: [] for kind in traces.KINDS}
    left: list[str] = []
    for known in choices.remembered(home):
        if known.kind in ELSEWHERE:
            there, still = ELSEWHERE[known.kind](home, known, progress)
            removed |= there
            left += still
    privileged = os.geteuid() == 0 and sys.platform == "linux"
    if home.run.exists() or home.data.exists():
        removed |= lifecycle.clean(home, progress) if privileged else remove_own_files(home)
    if cache and home.cache.exists():
        removed["files"].append(str(home.cache))
        shutil.rmtree(home.cache, ignore_errors=True)
    traces.remove_empty_parents(home)
    again = traces.find(home) if privileged else {"files": [str(d) for d in (home.run, home.data) if d.exists()]}
    left += [f"{kind}: {what}" for kind, names in again.items() for what in names]
    return {"removed": removed, "left": left, "kept": kept(home)}


def remove_own_files(home: Home) -> traces.Traces:
    """The directories of a user who is not root: there is nothing else of hers on this machine."""
    found = [str(d) for d in (home.run, home.data) if d.exists()]
    for directory in found:
        shutil.rmtree(directory, ignore_errors=True)
    return {"files": found}


def kept(home: Home) -> dict[str, Any] | None:
    if not home.cache.exists():
        return None
    size = sum(f.lstat().st_size for f in home.cache.rglob("*") if not f.is_symlink())
    return {"path": str(home.cache), "mb": round(size / 1e6)}
