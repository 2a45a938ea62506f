"""How much CPU and memory the node, its Pods and their containers use: for `kubectl top`, /stats/summary and /metrics/resource.

CPU is a rate, so it takes two samples: one that is kept from an earlier question, or else one second's wait. Nothing is measured
while nobody asks. Knowledge: CRI's ContainerStats, metrics-server's API (metrics.k8s.io), the kubelet's stats/v1alpha1 types.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.cri import CriClient
from labkit.kubelet.node.node_health import meminfo
from labkit.podspec.messages.configs import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID

SHORTEST_S, LONGEST_S = 1.0, 60.0
GROUP = "metrics.k8s.io/v1beta1"


@dataclass(frozen=True)
class Used:
    """`cpu_ns`: CPU time since the start, ns; `memory`: the working set, bytes."""

    cpu_ns: int
    memory: int


@dataclass(frozen=True)
class Sample:
    """All at one moment (`at`: seconds, monotonic). `containers`: (namespace, Pod, uid, container) → what it used."""

    at: float
    node: Used
    containers: Mapping[tuple[str, str, str, str], Used]


@dataclass(frozen=True)
class Usage:
    """`cpu`: nanocores, over the last `window_s` seconds; `memory`: bytes."""

    cpu: int
    memory: int


class Stats:
    """Answers with the usage between two samples. Safe to use from several threads; every method may raise CriError."""

    def __init__(self, cri: CriClient, node: str) -> None:
        self.cri, self.node, self.lock = cri, node, threading.Lock()
        self.older: Sample | None = None
        self.newer: Sample | None = None

    def samples(self) -> tuple[Sample, Sample]:
        """Two samples, the newer one of now or of the last second."""
        with self.lock:
            now = time.monotonic()
            if self.older and self.newer and now - self.newer.at < SHORTEST_S:
                return self.older, self.newer
            if self.newer is None or now - self.newer.at > LONGEST_S:
                self.newer = self.sample()
                time.sleep(SHORTEST_S)
            self.older, self.newer = self.newer, self.sample()
            return self.older, self.newer

    def sample(self) -> Sample:
        """What the runtime and the kernel say now."""
        found = {}
        for stats in self.cri.list_container_stats().stats:
            labels = stats.attributes.labels
            key = (
                labels.get(POD_NAMESPACE, ""),
                labels.get(POD_NAME, ""),
                labels.get(POD_UID, ""),
                labels.get(CONTAINER_NAME, ""),
            )
            used = Used(stats.cpu.usage_core_nano_seconds.value, stats.memory.working_set_bytes.value)
            if all(key) and used.cpu_ns:
                found[key] = used
        return Sample(time.monotonic(), of_machine(), found)

    def node_metrics(self) -> dict[str, Any]:
        """The NodeMetrics object of this node."""
        older, newer = self.samples()
        return measured("NodeMetrics", {"name": self.node}, older, newer) | {"usage": quantities(rate(older, newer, None))}

    def pod_metrics(self, namespace: str = "") -> list[dict[str, Any]]:
        """PodMetrics objects of one namespace or ("") of all; a Pod none of whose containers has run for a moment is left out."""
        older, newer = self.samples()
        pods: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for key in sorted(newer.containers):
            if key in older.containers and namespace in ("", key[0]):
                usage = {"name": key[3], "usage": quantities(rate(older, newer, key))}
                pods.setdefault(key[:2], []).append(usage)
        return [
            measured("PodMetrics", {"name": name, "namespace": of}, older, newer) | {"containers": containers}
            for (of, name), containers in pods.items()
        ]

    def summary(self) -> dict[str, Any]:
        """What the kubelet's /stats/summary says, as far as CRI knows it."""
        older, newer = self.samples()
        pods: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
        for key, used in sorted(newer.containers.items()):
            pods.setdefault(key[:3], []).append({"name": key[3], **spent(used, rate(older, newer, key))})
        return {
            "node": {"nodeName": self.node, **spent(newer.node, rate(older, newer, None))},
            "pods": [
                {"podRef": {"name": name, "namespace": namespace, "uid": uid}, "containers": containers}
                for (namespace, name, uid), containers in pods.items()
            ],
        }

    def prometheus(self) -> str:
        """What the kubelet's /metrics/resource says."""
        newer = self.sample()
        lines = [
            f"node_cpu_usage_seconds_total {newer.node.cpu_ns / 1e9:.9g}",
            f"node_memory_working_set_bytes {newer.node.memory}",
        ]
        for (namespace, pod, _, container), used in sorted(newer.containers.items()):
            labels = f'{{container="{container}",namespace="{namespace}",pod="{pod}"}}'
            lines.append(f"container_cpu_usage_seconds_total{labels} {used.cpu_ns / 1e9:.9g}")
            lines.append(f"container_memory_working_set_bytes{labels} {used.memory}")
        names = {line.split("{")[0].split(" ")[0]: [] for line in lines}  # type: dict[str, list[str]]
        for line in lines:
            names[line.split("{")[0].split(" ")[0]].append(line)
        kinds = {name: "counter" if name.endswith("_total") else "gauge" for name in names}
        return "".join(f"# TYPE {name} {kinds[name]}\n" + "\n".join(found) + "\n" for name, found in names.items())


def of_machine() -> Used:
    """The machine's: every kind of CPU time but idle and iowait (man 5 proc_stat), and memory that is not available."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    memory = meminfo()
    return Used(
        (sum(ticks) - ticks[3] - ticks[4]) * 10**9 // os.sysconf("SC_CLK_TCK"), memory["MemTotal"] - memory["MemAvailable"]
    )


def rate(older: Sample, newer: Sample, key: tuple[str, str, str, str] | None) -> Usage:
    """The usage of one container, or (None) of the node; a container that was started anew begins at zero."""
    after = newer.containers[key] if key else newer.node
    before = older.containers.get(key, Used(after.cpu_ns, 0)) if key else older.node
    return Usage(int(max(after.cpu_ns - before.cpu_ns, 0) / (newer.at - older.at)), after.memory)


def quantities(usage: Usage) -> dict[str, str]:
    return {"cpu": f"{usage.cpu}n", "memory": f"{-(-usage.memory // 1024)}Ki"}


def measured(kind: str, metadata: Mapping[str, str], older: Sample, newer: Sample) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    window = f"{newer.at - older.at:.3f}s"
    return {
        "kind": kind,
        "apiVersion": GROUP,
        "metadata": {**metadata, "creationTimestamp": now},
        "timestamp": now,
        "window": window,
    }


def spent(used: Used, usage: Usage) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cpu = {"time": now, "usageNanoCores": usage.cpu, "usageCoreNanoSeconds": used.cpu_ns}
    return {"cpu": cpu, "memory": {"time": now, "workingSetBytes": used.memory}}


def listed(kind: str, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A list object of the metrics API: kind "NodeMetricsList" or "PodMetricsList"."""
    return {"kind": kind, "apiVersion": GROUP, "metadata": {}, "items": list(items)}
