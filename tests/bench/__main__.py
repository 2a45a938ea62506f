"""Run every benchmark beside this file, and print each ratio next to its goal as soon as it is known: `./course bench [--json]`.

A benchmark is a module bench_*.py with `run() -> dict`: "name", "ratio" and "goal" (the ratio to stay within, or None
where there is none), "more" where it has further ratios, and whatever else it measured. Nothing fails here for being slow: a
ratio is read, not asserted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAME_WIDTH = 48
VM = ("vm",)
"""The benchmarks that start the virtual machine."""


def main(argv: Sequence[str] | None = None, directory: Path = Path(__file__).parent) -> int:
    """Exit code 1 if a benchmark failed; those after it are run all the same."""
    parser = argparse.ArgumentParser(
        prog="./course bench",
        description="Run the benchmarks, and print each result as soon as it is known.",
        epilog="example: ./course bench snapshot",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only bench_NAME.py (default: all)")
    parser.add_argument("--json", action="store_true", help="print each result as one line of JSON, for programs")
    parser.add_argument("--without-vm", action="store_true", help="leave out the virtual machine, which takes minutes")
    arguments = parser.parse_args(argv)
    known = sorted(path.stem.removeprefix("bench_") for path in directory.glob("bench_*.py"))
    if unknown := set(arguments.names) - set(known):
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
    failed = False
    for name in arguments.names or known:
        if arguments.without_vm and name in VM:
            continue
        print(f"bench: {name}", file=sys.stderr, flush=True)
        try:
            result = importlib.import_module(f"tests.bench.bench_{name}").run()
        except Exception:
            failed = True
            traceback.print_exc()
            continue
        lines = [json.dumps(result)] if arguments.json else map(line, (result, *result.get("more", ())))
        print(*lines, sep="\n", flush=True)
    return int(failed)


def line(result: dict[str, Any]) -> str:
    goal = "" if result.get("goal") is None else f"goal ≤ {result['goal']:g}"
    return f"{result['name']:<{NAME_WIDTH}}  {result['ratio']:>8.3f}  {goal}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
