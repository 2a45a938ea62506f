"""Bring the node's programs before labkit's own packages are there: `python -I -S prefetch.py CACHE`.

`./course start` runs this while pip works. Only the standard library may be imported, so `labkit.node` is entered without its
`__init__`. What fails here, `labkit up` tries again and reports.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import ModuleType


def end(*_: object) -> None:
    """End on the first SIGTERM, so that nothing half-made is left; a second one must not interrupt the cleaning up."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(cache: Path) -> int:
    signal.signal(signal.SIGTERM, end)
    node = Path(__file__).resolve().parents[1]
    sys.path.insert(0, str(node.parents[1]))
    package = ModuleType("labkit.node")
    package.__path__ = [str(node)]
    sys.modules["labkit.node"] = package
    from labkit.node.packages.programs import ProgramsError, ensure_programs

    try:
        ensure_programs(cache)
    except (ProgramsError, KeyboardInterrupt):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
