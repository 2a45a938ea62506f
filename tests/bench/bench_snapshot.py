"""Time a snapshot against `lsns` on a node with the processes and namespaces of 200 Pods, started for this and ended after it.

Run as root: python tests/bench/bench_snapshot.py. Needs `lsns` and `unshare` of util-linux.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from labkit.kernel import LocalKernel

PODS = 200
ROUNDS = 15
GOAL = 0.5
_SANDBOX = ("unshare", "--net", "--ipc", "--uts", "--mount", "--cgroup", "--pid", "--fork", "--kill-child")
_CONTAINERS = "unshare --mount --cgroup sleep infinity & exec sleep infinity"


def run(pods: int = PODS, rounds: int = ROUNDS) -> dict:
    """{"name", "ratio", "goal", …}: see `compare`."""
    with processes_of_pods(pods):
        return {"name": "snapshot / lsns", **compare(rounds), "pods": pods, "processes": 3 * pods}


def compare(rounds: int = ROUNDS) -> dict:
    """The quickest snapshot over the quickest `lsns`, taken in turns.

    "ratio" is that of a snapshot which looks where lsns does, by a LocalKernel that has looked before, as a node's; "ratio_first"
    is that of one which has not. "ratio_with_fds" and "ratio_first_with_fds" are those of snapshots that also look at every open
    file and at other mount namespaces, which lsns does not.

    The quickest of many is the one that other work on the machine disturbed least (the timeit module's advice). The ratio of the
    medians is given too, as "ratio_of_medians": the one to look at where nothing else runs. ns: the quickest, in ns. cpu: the
    ratios of the least CPU time, which other work on the machine disturbs least of all; "more" has them as lines of their own.
    """
    kernel, whole = LocalKernel(), LocalKernel()
    kernel.snapshot(fds=False), whole.snapshot()
    commands: dict[str, Callable[[], object]] = {
        "lsns": lambda: subprocess.run(["lsns", "--json"], capture_output=True).returncode == 0,
        "snapshot": lambda: kernel.snapshot(fds=False),
        "first snapshot": lambda: LocalKernel().snapshot(fds=False),
        "snapshot with fds": whole.snapshot,
        "first snapshot with fds": lambda: LocalKernel().snapshot(),
    }
    times: dict[str, list[int]] = {name: [] for name in commands}
    cpu: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            used, start = cpu_s(), time.perf_counter_ns()
            done, took = command(), time.perf_counter_ns() - start
            if done:  # lsns fails where a process ends while it looks
                times[name].append(took)
                cpu[name].append(cpu_s() - used)
    quickest = {name: min(values) for name, values in times.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratios = {name: round(took / quickest["lsns"], 3) for name, took in quickest.items()}
    by_cpu = {name: round(min(used) / min(cpu["lsns"]), 3) for name, used in cpu.items()}
    return {
        "ratio": ratios["snapshot"],
        "goal": GOAL,
        "ratio_first": ratios["first snapshot"],
        "ratio_with_fds": ratios["snapshot with fds"],
        "ratio_first_with_fds": ratios["first snapshot with fds"],
        "ratio_of_medians": round(medians["snapshot"] / medians["lsns"], 3),
        "ns": quickest,
        "cpu": by_cpu,
        "more": [
            {"name": f"  {name}, by CPU time", "ratio": ratio, "goal": None if "first" in name else GOAL}
            for name, ratio in by_cpu.items()
            if name != "lsns"
        ],
    }


def cpu_s() -> float:
    """What this process and its children that have ended have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextlib.contextmanager
def processes_of_pods(count: int) -> Iterator[list[int]]:
    """Pids of `count` processes in the place of shims, each with a child in the place of the pause, and that one with a child in
    the place of an application, in namespaces like a Pod's. All are ended on the way out: each dies with its parent."""
    shims: list[subprocess.Popen] = []
    try:
        for _ in range(count):
            shims.append(subprocess.Popen([*_SANDBOX, "sh", "-c", _CONTAINERS]))
        for shim in shims:
            _wait_until_complete(shim)
        yield [shim.pid for shim in shims]
    finally:
        for shim in shims:
            shim.kill()
        for shim in shims:
            shim.wait()


def _wait_until_complete(shim: subprocess.Popen) -> None:
    while _command_lines(shim.pid, depth=2) != ["sleep infinity", "sleep infinity"]:
        if shim.poll() is not None:
            raise RuntimeError("unshare could not make namespaces here. Run the benchmark as root.")
        time.sleep(0.005)


def _command_lines(pid: int, depth: int) -> list[str]:
    if not depth:
        return []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    lines = [Path(f"/proc/{child}/cmdline").read_text().rstrip("\0").replace("\0", " ") for child in children]
    return lines + [line for child in children for line in _command_lines(int(child), depth - 1)]


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("Only root can make these namespaces. Run the benchmark as root.")
    print(json.dumps(run()))
