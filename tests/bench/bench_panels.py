"""Three live panels in a notebook's kernel, with forty Pods on the node: what they cost, and how soon they show a change.

    ./course bench panels                       one minute in which nothing happens
    BENCH_IDLE_S=600 ./course bench panels      ten minutes

Needs root. CPU is that of the kernel's process and of the readers of events below it, less that of the same kernel without a
panel in the same time. Another program starts the Pods.
"""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.manager import start_new_kernel

from labkit import connect
from labkit.cri.pods import PodSnapshot
from labkit.kernel.events.connector import watch
from labkit.node import Node
from tests.bench.bench_kube import SPEC, WORKERS, own_home

PODS, IDLE_S, STARTS, PASSES = 40, float(os.environ.get("BENCH_IDLE_S", "60")), 5, 20
SETTLES_S = 3.0
"""A panel looks once more a second after the last change."""
CONNECT = f"import labkit\nnode = labkit.connect('containerd', lesson='panels')\nassert len(node.pods(others=True)) == {PODS}"
OPEN = "panels = [labkit.live.tree(node), labkit.live.namespaces(node), labkit.live.pods(node)]\nfor one in panels: one.widget()"
CLOSE = "for panel in panels: panel.close()"
TICKS = os.sysconf("SC_CLK_TCK")


def run() -> dict[str, Any]:
    """{"name", "ratio", "goal", "more"}: % of a core while nothing happens (goal 3) and while Pods start without a pause (goal
    10), MB, messages, and ms from the kernel's event of an end to the message with the new picture of the processes and of the
    namespaces, whichever comes last (goal 200)."""
    with own_home():
        node = connect("containerd", lesson="bench")
        with ThreadPoolExecutor(WORKERS) as pool:
            pods = list(pool.map(lambda number: start(node, number), range(PODS)))
        with kernel() as (pid, client):
            execute(client, CONNECT)
            without = cpu_percent(pid, lambda: time.sleep(min(IDLE_S, 20))), starting(node, pid), memory_mb(pid)
            execute(client, OPEN)
            time.sleep(SETTLES_S)
            memory = memory_mb(pid)
            messages(client)
            with watch() as events:
                idle = cpu_percent(pid, lambda: time.sleep(IDLE_S))
            quiet = messages(client)
            starts = starting(node, pid)
            busy = messages(client)
            single = [cpu_percent(pid, lambda n=n: one_start(node, n)) for n in range(STARTS)]
            took = [redraw_ms(client, pod.containers[0].pid) for pod in pods[:STARTS]]
            execute(client, CLOSE)
        node.close()
    ten = "% of a core, 3 live panels,"
    more = [
        {"name": f"{ten} Pods start without a pause", "ratio": starts - without[1], "goal": 10},
        {"name": f"{ten} one start, {SETTLES_S:g} s", "ratio": statistics.median(single) - without[0], "goal": 10},
        {"name": "MB that 3 live panels add", "ratio": memory - without[2], "goal": None},
        {"name": f"messages in {IDLE_S:g} s without a change", "ratio": len(quiet), "goal": 0},
        {"name": "messages for each Pod that starts and goes", "ratio": len(busy) / PASSES, "goal": None},
        {"name": "kB for each Pod that starts and goes", "ratio": sum(map(size_kb, busy)) / PASSES, "goal": None},
        {"name": "ms from the end of a process to its two pictures", "ratio": statistics.median(took), "goal": 200},
        {"name": "the same, the slowest", "ratio": max(took), "goal": None},
        {"name": "process events a second of the whole machine", "ratio": sum(1 for _ in events) / IDLE_S, "goal": None},
    ]
    return {"name": f"{ten} {PODS} Pods, {IDLE_S:g} s", "ratio": idle - without[0], "goal": 3, "more": more}


def start(node: Node, number: int) -> PodSnapshot:
    return node.start_pod({"metadata": {"name": f"pod-{number}"}, "spec": SPEC})


@contextmanager
def kernel() -> Iterator[tuple[int, Any]]:
    """A notebook's kernel: its pid and a client of it."""
    manager: Any
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield manager.provisioner.pid, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def execute(client: Any, code: str) -> None:
    reply = client.execute(code, reply=True, timeout=120)["content"]
    if reply["status"] != "ok":
        raise RuntimeError(f"{reply['ename']}: {reply['evalue']}")


def starting(node: Node, pid: int) -> float:
    """% of a core while Pods start and go, one after the other."""

    def passes() -> None:
        for number in range(PASSES):
            node.remove_pod(start(node, PODS + number))

    return cpu_percent(pid, passes)


def one_start(node: Node, number: int) -> None:
    start(node, PODS + number)
    time.sleep(SETTLES_S)


def redraw_ms(client: Any, pid: int) -> float:
    """From the kernel's event that a container's process ended until the next messages with a picture of two panels are here."""
    while messages(client, SETTLES_S):
        pass
    with watch() as events:
        os.kill(pid, signal.SIGKILL)
        ended = next(event.at_ns for event in events if event.kind == "exit" and event.pid == pid)
        drawn: set[str] = set()
        while len(drawn) < 2:
            message = client.get_iopub_msg(timeout=30)
            drawn |= {message["content"]["comm_id"]} if has_picture(message) else set()
        return (time.monotonic_ns() - ended) / 1e6


def messages(client: Any, within_s: float = 0.1) -> list[Any]:
    """Those of the panels that have come since the last call, until none comes for so long."""
    found = []
    try:
        while True:
            found.append(client.get_iopub_msg(timeout=within_s))
    except Empty:
        return [each for each in found if each["msg_type"] == "comm_msg"]


def has_picture(message: Any) -> bool:
    return "picture" in message["content"].get("data", {}).get("state", {})


def size_kb(message: Any) -> float:
    return len(str(message["content"])) / 1024


def cpu_percent(pid: int, act: Callable[[], object]) -> float:
    """Of one core, of a kernel and the readers of events below it, while `act` runs."""
    began, before = time.monotonic(), cpu_s(pid)
    act()
    return 100 * (cpu_s(pid) - before) / (time.monotonic() - began)


def family(pid: int) -> list[int]:
    children = " ".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children"))
    return [pid, *map(int, children.split())]


def cpu_s(pid: int) -> float:
    return sum(sum(map(int, stat(each)[11:13])) for each in family(pid)) / TICKS


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def memory_mb(pid: int) -> float:
    """Proportional set size (PSS)."""
    rollups = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in family(pid)]
    return sum(int(text.partition("\nPss:")[2].split()[0]) for text in rollups) / 1024
