"""`labkit ps`: Pods with their processes and namespaces."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from labkit.cli.common import AddVerb, running_node
from labkit.cri.pods import PodSnapshot

WIDTH_OF_A_FILE = 200
"""Columns of a table that no terminal shows: wide enough that no path is broken."""


def add(verb: AddVerb) -> None:
    verb("ps", ps, "show Pods with their processes and namespaces", "labkit ps")


def ps(arguments: argparse.Namespace) -> int:
    node = running_node()
    pods = node.pods()
    if arguments.json:
        hosts = node.host.pids_here()
        print(json.dumps({"pods": [pod_json(p, hosts) for p in pods]}, indent=1))
        return 0
    from rich.console import Console

    from labkit.figures.pods.terminal import pod_tree

    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    console.print(pod_tree(node.name, node.runtime, pods))
    return 0


def pod_json(pod: PodSnapshot, host_pids: Mapping[int, int]) -> dict[str, Any]:
    """A Pod for programs. `host_pid` is there where this machine numbers the node's processes otherwise than the node does."""
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "id": pod.id,
        "state": pod.state,
        "ip": pod.ip,
        "processes": [
            {
                "pid": p.pid,
                "ppid": p.ppid,
                "role": p.role,
                "comm": p.comm,
                "container": p.container,
                "namespaces": dict(p.namespaces),
                **({"ended": p.ended} if p.ended else {}),
                **({"host_pid": host_pids[p.pid]} if p.pid in host_pids else {}),
            }
            for p in pod.processes
        ],
        "pinned": [vars(n) for n in pod.pinned],
    }
