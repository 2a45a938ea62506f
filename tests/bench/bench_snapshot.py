"""Time a snapshot against `lsns` on a node with the processes and namespaces of 200 Pods, started for this and ended after it.

Run as root: python tests/bench/bench_snapshot.py. Needs `lsns` and `unshare` of util-linux.
"""

from __future__ import annotations

import contextlib
import json
import os
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
_SANDBOX = ("unshare", "--net", "--ipc", "--uts", "--mount", "--cgroup", "--pid", "--fork", "--kill-child")
_CONTAINERS = "unshare --mount --cgroup sleep infinity & exec sleep infinity"


def run(pods: int = PODS, rounds: int = ROUNDS) -> dict:
    """The quickest snapshot over the quickest `lsns`, taken in turns: {"name", "ratio", "goal", …}.

    The ratio is that of a snapshot which does what this lsns does; "ratio_with_fds" is that of one that also looks at every open
    file, which lsns does not.

    The quickest of many is the one that other work on the machine disturbed least (the timeit module's advice). The ratio of the
    medians is given too, as "ratio_of_medians": the one to look at where nothing else runs. ns: the quickest, in ns.
    """
    kernel = LocalKernel()
    commands: dict[str, Callable[[], object]] = {
        "lsns": lambda: subprocess.run(["lsns", "--json"], stdout=subprocess.DEVNULL, check=True),
        "snapshot": lambda: kernel.snapshot(fds=False),
        "snapshot with fds": kernel.snapshot,
    }
    times: dict[str, list[int]] = {name: [] for name in commands}
    with processes_of_pods(pods):
        for _ in range(rounds):
            for name, command in commands.items():
                start = time.perf_counter_ns()
                command()
                times[name].append(time.perf_counter_ns() - start)
    quickest = {name: min(values) for name, values in times.items()}
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "name": "snapshot / lsns",
        "ratio": round(quickest["snapshot"] / quickest["lsns"], 3),
        "goal": 0.5,
        "ratio_of_medians": round(medians["snapshot"] / medians["lsns"], 3),
        "ratio_with_fds": round(quickest["snapshot with fds"] / quickest["lsns"], 3),
        "pods": pods,
        "processes": 3 * pods,
        "ns": quickest,
    }


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
