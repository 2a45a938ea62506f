"""`python -m tests.mutants [--tier TIER] [WORD …]`: put each fault into a copy of labkit and say whether its tests notice.

The faults of the unit tests, or of TIER (unit, quick, all), whose names have one of the words. First the tests run in a copy
without a fault: where they fail there, they prove nothing. Exit code 1 where one was not caught.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
from pathlib import Path

from tests.mutants.copies import Mutated, copy, passed
from tests.mutants.faults import FAULTS, Fault

TIERS = ("unit", "quick", "all")
CAUGHT, SURVIVED, UNSURE = "caught", "**survived**", "unsure"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--tier", choices=TIERS, action="append", help="the faults of that tier; can be given several times")
    parser.add_argument("words", nargs="*", metavar="WORD", help="only faults whose name has one of these")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the copy is removed then, too
    tiers = arguments.tier or ["unit"]
    chosen = [
        fault
        for fault in FAULTS
        if fault.tier in tiers and (not arguments.words or any(word in fault.name for word in arguments.words))
    ]
    with tempfile.TemporaryDirectory(prefix="lk-mutants-", dir="/tmp") as directory:
        Path(directory).chmod(0o755)  # the tests of the virtual machine read it as another user
        root = Path(directory, "course")
        copy(root)
        missed = table(root, chosen)
    print(f"{len(chosen) - missed} of {len(chosen)} faults were caught.")
    return 1 if missed else 0


def table(root: Path, faults: list[Fault]) -> int:
    """Print a line for each fault; how many were not caught."""
    missed, proven = 0, set()
    print("| fault | tier | verdict | by |\n|---|---|---|---|", flush=True)
    for fault in faults:
        if fault.tests not in proven:
            good, words = passed(root, fault.tests)
            if not good:
                raise SystemExit(f"{' '.join(fault.tests)} fails without a fault, so it proves nothing:\n{words}")
            proven.add(fault.tests)
        verdict, by = judge(root, fault)
        missed += verdict != CAUGHT
        print(f"| {fault.name} | {fault.tier} | {verdict} | {by} |", flush=True)
    return missed


def judge(root: Path, fault: Fault) -> tuple[str, str]:
    """The verdict on a fault, and the test that failed. It must pass without the fault right afterwards: one that fails now and
    then catches nothing."""
    with Mutated(root, fault):
        good, words = passed(root, fault.tests)
    if good:
        return SURVIVED, " ".join(fault.tests)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", words, re.MULTILINE)
    by = failed[1] if failed else ""
    return (CAUGHT if by and passed(root, [by])[0] else UNSURE), by


if __name__ == "__main__":
    sys.exit(main())
