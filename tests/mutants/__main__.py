"""`python -m tests.mutants [--tier TIER] [WORD …]`: put each fault into a copy of labkit and say whether its tests notice.

The faults of the unit tests, or of TIER (unit, quick, all), whose names have one of the words. First the tests run in a copy
without a fault: where they fail there, they prove nothing. Exit code 1 where a fault survived.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from tests.mutants.copies import Mutated, copy, passed
from tests.mutants.faults import FAULTS, Fault

TIERS = ("unit", "quick", "all")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--tier", choices=TIERS, action="append", help="the faults of that tier; can be given several times")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults whose name has one of these")
    arguments = parser.parse_args()
    tiers = arguments.tier or ["unit"]
    chosen = [
        fault
        for fault in FAULTS
        if fault.tier in tiers and (not arguments.words or any(word in fault.name for word in arguments.words))
    ]
    with tempfile.TemporaryDirectory(prefix="lk-mutants-", dir="/tmp") as directory:
        root = Path(directory, "course")
        copy(root)
        survived = table(root, chosen)
    print(f"{len(chosen) - survived} of {len(chosen)} faults were caught.")
    return 1 if survived else 0


def table(root: Path, faults: list[Fault]) -> int:
    """Print a line for each fault; how many survived."""
    survived, proven = 0, set()
    print("| fault | tier | verdict | by |\n|---|---|---|---|", flush=True)
    for fault in faults:
        if fault.tests not in proven:
            good, words = passed(root, fault.tests)
            if not good:
                raise SystemExit(f"{' '.join(fault.tests)} fails without a fault, so it proves nothing:\n{words}")
            proven.add(fault.tests)
        with Mutated(root, fault):
            good, words = passed(root, fault.tests)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", words, re.MULTILINE)
        verdict, by = ("**survived**", " ".join(fault.tests)) if good else ("caught", failed[1] if failed else "")
        survived += good
        print(f"| {fault.name} | {fault.tier} | {verdict} | {by} |", flush=True)
    return survived


if __name__ == "__main__":
    sys.exit(main())
