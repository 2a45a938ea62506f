"""Run every benchmark beside this file and print its ratio next to the goal: `./course bench [--json]`.

A benchmark is a module bench_*.py with `run() -> dict`: "name", "ratio" and "goal" (the ratio to stay within, or None
where there is none), and whatever else it measured. Nothing fails here for being slow: a ratio is read, not asserted.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(prog="./course bench", description="Run the benchmarks.",
                                     epilog="example: ./course bench snapshot")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only bench_NAME.py (default: all)")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    arguments = parser.parse_args()
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    if unknown := set(arguments.names) - set(known):
        parser.error(f"There is no benchmark {', '.join(sorted(unknown))}. There are: {', '.join(known)}.")
    results: list[dict[str, Any]] = []
    for name in arguments.names or known:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        results.append(importlib.import_module(f"tests.bench.bench_{name}").run())
    if arguments.json:
        print(json.dumps(results, indent=1))
        return 0
    width = max(len(result["name"]) for result in results)
    for result in results:
        goal = "" if result.get("goal") is None else f"goal ≤ {result['goal']:g}"
        print(f"{result['name']:<{width}}  {result['ratio']:>8.3f}  {goal}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
