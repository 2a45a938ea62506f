"""With a hundred real Pods on the node: a snapshot against `lsns`, and how long `node.pods()` takes.

Run as root: python -m tests.bench pods.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from labkit import connect
from labkit.cri.pods import PodReader
from tests.bench import bench_snapshot
from tests.bench.bench_kube import PODS, SPEC, WORKERS, own_home, timed

ROUNDS = 15
GOALS_MS = {"changed": 60, "unchanged": 10, "unchanged, by CPU time": 10}


def run() -> dict[str, Any]:
    """{"name", "ratio", "goal", …} as bench_snapshot; "pods_ms": the quickest and the median `node.pods()` in ms, of a node that
    has not looked before, after one Pod was replaced (goal 60), and where nothing changed (goal 10); "unchanged, by CPU time" is
    what this process needs of the latter, which other work on the machine disturbs less."""
    with own_home():
        node = connect("containerd", lesson="bench")

        def start(number: int) -> None:
            node.start_pod({"metadata": {"name": f"pod-{number}"}, "spec": SPEC})

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(start, range(PODS)))
        told = bench_snapshot.compare(ROUNDS)
        took = {
            "first": [timed(lambda: PodReader(node.cri).read(node.kernel.snapshot(fds=False))) for _ in range(ROUNDS)],
            "changed": [after(lambda: start(0), node.pods) for _ in range(ROUNDS)],
            "unchanged": [timed(node.pods) for _ in range(ROUNDS)],
            "unchanged, by CPU time": [cpu_of(node.pods) for _ in range(ROUNDS)],
        }
        node.close()
    ms = {name: [round(1000 * value, 1) for value in (min(s), statistics.median(s))] for name, s in took.items()}
    more = [{"name": f"node.pods() in ms, {name}", "ratio": min(ms[name]), "goal": goal} for name, goal in GOALS_MS.items()]
    return {"name": f"snapshot / lsns, {PODS} real Pods", **told, "pods": PODS, "pods_ms": ms, "more": [*told["more"], *more]}


def cpu_of(what: Callable[[], object]) -> float:
    before = time.process_time()
    what()
    return time.process_time() - before


def after(change: Callable[[], object], what: Callable[[], object]) -> float:
    change()
    return timed(what)
