"""A copy of this repository in which one text of labkit was replaced, and tests run in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.mutants.faults import Fault

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv", "__pycache__", "build", "dist", "*.egg-info", ".*_cache", "out", "screenshots")
FAILED = 1
"""pytest's exit status where tests failed (its documentation, "Exit codes")."""


def sources(root: Path) -> dict[Path, str]:
    """The text of each file of labkit."""
    return {path: path.read_text() for path in sorted((root / "labkit").rglob("*.py"))}


def places(fault: Fault, texts: Mapping[Path, str]) -> list[Path]:
    """The files that have the fault's old text, each as often as it has it."""
    return [path for path, text in texts.items() for _ in range(text.count(fault.old))]


def copy(to: Path) -> None:
    shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)


def passed(root: Path, tests: Sequence[str], *, timeout_s: float = 900) -> tuple[bool, str]:
    """Whether `tests` pass in a copy, and pytest's last lines. Raises RuntimeError where they did not run."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:nbval", "--tb=line", *tests]
    done = subprocess.run(
        command, cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s
    )
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"{' '.join(command)} exited with code {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.returncode == 0, done.stdout[-1500:]


class Mutated:
    """The copy with one fault in it, as long as the block lasts."""

    def __init__(self, root: Path, fault: Fault) -> None:
        [self.file] = places(fault, sources(root))
        self.fault, self.text = fault, self.file.read_text()

    def __enter__(self) -> None:
        self.file.write_text(self.text.replace(self.fault.old, self.fault.new))

    def __exit__(self, *exception: object) -> None:
        self.file.write_text(self.text)
