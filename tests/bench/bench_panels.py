"""Live panels with forty Pods: CPU while nothing happens and while a Pod starts, memory, messages, and from event to redraw.

Run as root: python -m tests.bench panels.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import labkit
from labkit import connect
from labkit.kernel.events.connector import watch
from tests.bench.bench_kube import SPEC, WORKERS, own_home

PODS, IDLE_S, STARTS = 40, float(os.environ.get("BENCH_IDLE_S", "60")), 5
BETWEEN_S = 4.0


def run() -> dict[str, Any]:
    """{"name", "ratio", "goal", "more"}: percent of a core while nothing happens (goal 3) and while a Pod starts (goal 10, over
    BETWEEN_S from its first event on), MB that the panels add, messages for each Pod, ms from the end of a process to the
    panel's redraw (goal 200). CPU is that of this process and of those that read the kernel's events for it, without that of
    the calls which start the Pods: another program makes them."""
    with own_home():
        node = connect("containerd", lesson="bench")

        def start(number: int) -> Any:
            return node.start_pod({"metadata": {"name": f"pod-{number}"}, "spec": SPEC})

        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(start, range(PODS)))
        before = memory_mb()
        panels = [labkit.live.tree(node), labkit.live.namespaces(node), labkit.live.pods(node)]
        sent = [0]
        for panel in panels:
            panel.widget().observe(lambda change: sent.__setitem__(0, sent[0] + 1), ["picture", "table"])
        time.sleep(5)
        added = memory_mb() - before
        messages, idle = sent[0], cpu_percent(lambda: time.sleep(IDLE_S))
        quiet_messages = sent[0] - messages
        busy, messages = [], sent[0]
        for number in range(STARTS):
            busy.append(cpu_percent(lambda number=number: another_starts(PODS + number)))
        messages = sent[0] - messages
        first = [next(p.pid for p in pod.processes if p.role == "application") for pod in node.pods()[:STARTS]]
        took = [redraw_ms(panels[0], pid) for pid in first]
        for panel in panels:
            panel.close()
        node.close()
    more = [
        {
            "name": f"3 live panels, % of a core while a Pod starts ({BETWEEN_S:g} s)",
            "ratio": statistics.median(busy),
            "goal": 10,
        },
        {"name": "3 live panels, MB they add", "ratio": added, "goal": None},
        {"name": "3 live panels, pictures sent while nothing happens", "ratio": quiet_messages, "goal": 0},
        {"name": "3 live panels, pictures sent for a Pod", "ratio": messages / STARTS, "goal": None},
        {"name": "end of a process → redraw, ms", "ratio": statistics.median(took), "goal": 200},
    ]
    return {"name": f"3 live panels, {PODS} Pods, % of a core, idle", "ratio": idle, "goal": 3, "more": more}


def another_starts(number: int) -> None:
    """A Pod started by another process, and time for it to settle."""
    program = (
        "import sys, json, labkit; node = labkit.connect('containerd', lesson='bench');"
        "node.start_pod({'metadata': {'name': sys.argv[1]}, 'spec': json.loads(sys.argv[2])})"
    )
    subprocess.run([sys.executable, "-c", program, f"pod-{number}", json.dumps(SPEC)], check=True, capture_output=True)
    time.sleep(BETWEEN_S)


def redraw_ms(panel: Any, pid: int) -> float:
    """From the kernel's event that a container's process ended until the panel's next picture."""
    redrawn: list[int] = []
    done = threading.Event()

    def seen(_: Any) -> None:
        redrawn.append(time.monotonic_ns())
        done.set()

    panel.widget().observe(seen, "picture")
    with watch() as events:
        os.kill(pid, signal.SIGKILL)
        done.wait(30)
    panel.widget().unobserve(seen, "picture")
    ended = next(event.at_ns for event in events if event.kind == "exit" and event.pid == pid)
    time.sleep(BETWEEN_S)
    return (redrawn[0] - ended) / 1e6


def cpu_percent(act: Any) -> float:
    """Of one core, of this process and the readers of events below it, while `act` runs."""
    began, before = time.monotonic(), cpu_s()
    act()
    return 100 * (cpu_s() - before) / (time.monotonic() - began)


def cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    ticks = 0
    children = " ".join(each.read_text() for each in Path("/proc/self/task").glob("*/children"))
    for pid in children.split():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return own.ru_utime + own.ru_stime + ticks / os.sysconf("SC_CLK_TCK")


def memory_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
