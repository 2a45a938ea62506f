"""A Pod's start while it is recorded against one that is not, taken in turns."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from typing import Any

import labkit as lab

ROUNDS = 30
WEB = {"name": "main", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """The median of `rounds` ratios, each of two starts one after the other, of which the first is recorded every second time:
    {"name", "ratio", "goal", "ms"}. Needs root. Starts a node if none is up."""
    times: dict[bool, list[float]] = {True: [], False: []}
    with contextlib.closing(lab.connect("containerd", lesson="bench")) as node:
        timed(node, recorded=True)
        for number in range(rounds):
            for recorded in (number % 2 == 0, number % 2 == 1):
                times[recorded].append(timed(node, recorded))
    ratios = [recorded / bare for recorded, bare in zip(times[True], times[False], strict=True)]
    ms = {name: round(statistics.median(times[key]) * 1e3, 1) for name, key in (("recorded", True), ("not", False))}
    return {"name": "a Pod's start recorded / not", "ratio": round(statistics.median(ratios), 3), "goal": 1.05, "ms": ms}


def timed(node: lab.Node, recorded: bool) -> float:
    """Seconds from the call that starts a Pod to its answer. Recording or not, the Pod before it is gone and tidied up."""
    manifest = {"kind": "Pod", "metadata": {"name": f"bench-{uuid.uuid4().hex[:8]}"}, "spec": {"containers": [WEB]}}
    with node.record() if recorded else contextlib.nullcontext():
        began = time.perf_counter()
        pod = node.start_pod(manifest)
        took = time.perf_counter() - began
    node.remove_pod(pod)
    return took
