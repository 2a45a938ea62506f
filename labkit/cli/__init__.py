"""The commands of `labkit`, a module for each subject. The module's `add` puts its commands into the parser."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """`labkit`: see `labkit.cli.__main__`."""
    from labkit.cli import __main__ as program

    return program.main(argv)
