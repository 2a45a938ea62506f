"""The virtual machine: how long it takes to resume and to start a Pod, and what it costs, beside the machine's own load.

LABKIT_BENCH_RESUMES says how many times it is resumed in a row (50); each time the node has to be ready.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from labkit.node import Home

RESUME_GOAL_S = 5.0
SETTLED_S, IDLE_S = 15.0, 20.0
"""After the last Pod is gone the runtime and the kubelet tidy up for a while."""
PODS = """
import json, time, labkit
node = labkit.connect("vm")
pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bench"},
       "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]}}
took = []
for _ in range(5):
    began = time.perf_counter()
    node.start_pod(pod)
    took.append(time.perf_counter() - began)
    node.remove_pod("bench")
print(json.dumps(took))
"""


def run() -> dict[str, Any]:
    """{"name", "ratio" (median of `labkit up` to its goal of 5 s), "goal", …}: seconds, MB and parts of a core, as measured."""
    cache = Home.find().cache
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(cache)
    env = {**os.environ, "LABKIT_HOME": str(base), "LABKIT_NODE": "vm"}

    def python(*arguments: str) -> str:
        return subprocess.run([sys.executable, *arguments], env=env, check=True, capture_output=True, text=True).stdout

    def labkit(*arguments: str) -> str:
        return python("-m", "labkit.cli", *arguments)

    try:
        built = json.loads(labkit("vm", "build", "--json"))
        resumes, machine_s, resident = [], [], []
        for _ in range(int(os.environ.get("LABKIT_BENCH_RESUMES", "50"))):
            began = time.perf_counter()
            said = json.loads(labkit("up", "--json"))
            resumes.append(time.perf_counter() - began)
            assert (said["state"], said["how"]) == ("ready", "resumed"), said
            machine_s.append(said["seconds"])
            resident.append(said["memory_mb"])
            labkit("down")
        said = json.loads(labkit("up", "--json"))
        pods = json.loads(python("-c", PODS))
        time.sleep(SETTLED_S)
        before, began = cpu_s(said["processes"]["qemu"]), time.perf_counter()
        time.sleep(IDLE_S)
        idle = (cpu_s(said["processes"]["qemu"]) - before) / (time.perf_counter() - began)
        used_mb = json.loads(labkit("status", "--json"))["memory_mb"]
    finally:
        labkit("clean")
        shutil.rmtree(base, ignore_errors=True)
    return {
        "name": "labkit up --node vm / 5 s",
        "ratio": round(statistics.median(resumes) / RESUME_GOAL_S, 3),
        "goal": 1.0,
        "accelerator": built["accelerator"],
        "load": os.getloadavg()[0],
        "ready_nodes": len(resumes),
        "up_s": {"median": round(statistics.median(resumes), 2), "worst": round(max(resumes), 2)},
        "machine_s": {"median": statistics.median(machine_s), "worst": max(machine_s)},
        "first_pod_s": round(pods[0], 2),
        "pod_s": round(statistics.median(pods[1:]), 2),
        "resident_mb": {"resumed": max(resident), "after Pods": used_mb},
        "idle": round(idle, 3),
        "disk_mb": round((sum(built["bytes"].values()) + built["state_bytes"]) / 1e6, 1),
    }


def cpu_s(pid: int) -> float:
    """Processor time of a process so far (man 5 proc_pid_stat, utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
