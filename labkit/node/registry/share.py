"""Who uses what labkit installs on a cluster's node: its registry, images and files, which all labs of that node share.

Each home leaves its mark there before it installs anything. The last one that goes takes what is shared with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

DIRECTORY = "/var/lib/labkit"
"""What labkit has on a node that is not its own."""
HOMES = f"{DIRECTORY}/homes"

Run = Callable[[Sequence[str]], bytes]

REGISTER = f"""
mkdir -p {HOMES}
printf '%s\\n' "$2" >"{HOMES}/$1"
"""
OTHERS = f"""
for file in {HOMES}/*; do
    name=${{file##*/}}
    if [ -f "$file" ] && [ "$name" != "$1" ]; then [ -s "$file" ] && cat "$file" || echo "$name"; fi
done
"""
"""Prints each other home's directory, or its mark where the lab was killed before it wrote that."""
LEAVE = f"""rm -f "{HOMES}/$1"; rmdir {HOMES} 2>/dev/null; true"""


def register(run: Run, mark: str, home: str) -> None:
    """Leave the mark of a home on a node. Raises NodeError."""
    run(["sh", "-c", REGISTER, "sh", mark, home])


def others(run: Run, mark: str) -> list[str]:
    """The directories of the other homes whose marks are on a node. Raises NodeError."""
    return run(["sh", "-c", OTHERS, "sh", mark]).decode(errors="replace").splitlines()


def is_there(run: Run, mark: str) -> bool:
    """Whether a home's mark is on a node. Raises NodeError."""
    return bool(run(["sh", "-c", f'ls "{HOMES}/$1" 2>/dev/null; true', "sh", mark]).strip())


def leave(run: Run, mark: str) -> None:
    run(["sh", "-c", LEAVE, "sh", mark])
