"""What the proc connector's reader misses, and what it costs, with processes that live some 1 ms.

Run as root: python tests/bench/bench_events.py.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labkit.kernel.events.connector import watch

ROUNDS = 20
PROCESSES = 50
BUSY = 3


def run(rounds: int = ROUNDS, processes: int = PROCESSES) -> dict:
    """The time of `processes` short ones with a reader over that without, taken in turns: the median of the rounds' ratios.

    A process that does nothing else is the worst case: a Pod's start has some 25 execs in 150 ms or more. "argv_missing" and
    "argv_missing_busy": the share of execs whose arguments were not read in time, on the machine as it is and with busy loops.
    """
    timed(processes, recorded=False)
    ratios, missing = [], 0
    for _ in range(rounds):
        bare, _ = timed(processes, recorded=False)
        recorded, gone = timed(processes, recorded=True)
        ratios.append(recorded / bare)
        missing += gone
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(BUSY)]
    try:
        missing_busy = sum(timed(processes, recorded=True)[1] for _ in range(rounds // 2))
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    return {
        "name": "short processes recorded / not",
        "ratio": round(statistics.median(ratios), 3),
        "goal": None,
        "argv_missing": round(missing / (rounds * processes), 4),
        "argv_missing_busy": round(missing_busy / (rounds // 2 * processes), 4),
        "execs": rounds * processes,
    }


def timed(count: int, recorded: bool) -> tuple[float, int]:
    """Seconds for `count` processes one after the other, and how many of their execs have no arguments."""
    stream = watch() if recorded else None
    start = time.perf_counter()
    pids = set()
    for number in range(count):
        process = subprocess.Popen(["true", str(number)])
        process.wait()
        pids.add(process.pid)
    took = time.perf_counter() - start
    events = stream.stop() if stream else ()
    return took, sum(event.argv_missing for event in events if event.pid in pids)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("Only root can be told of process events everywhere. Run the benchmark as root.")
    print(json.dumps(run()))
