"""Pods from a shell: `labkit ps`, `labkit logs` and `labkit kubectl`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from labkit.cli.common import AddVerb, running_node
from labkit.cri.pods import PodSnapshot
from labkit.kernel import LocalKernel
from labkit.kubelet.server.container_logs import Formatter, LogOptions, LogReader
from labkit.node import NodeError
from labkit.node.pods import kubectl
from labkit.node.pods.kubectl import FROM_FILES, MAKING, verb_of
from labkit.podspec.messages.configs import CONTAINER_NAME

WIDTH_OF_A_FILE = 200
"""Columns of a table that no terminal shows: wide enough that no path is broken."""
FOLLOW_EVERY_S = 0.2
ENDED = 2
"""CRI's container states from CONTAINER_EXITED on (0 created, 1 running)."""
MAKERS = {*MAKING, *FROM_FILES, "replace", "debug"}
"""kubectl's verbs that make objects: what `labkit kubectl` makes is the learner's own, and `labkit clean` says that it stays."""


def add(verb: AddVerb) -> None:
    verb("ps", ps, "show Pods with their processes and namespaces", "labkit ps")
    parser = verb("logs", logs, "print what a Pod's container wrote", "labkit logs -f web", reports=False)
    parser.add_argument("pod", metavar="POD")
    parser.add_argument("-c", "--container", metavar="NAME", help="which container, where the Pod has several")
    parser.add_argument("-n", "--namespace", metavar="NAME", help="which namespace, where several have a Pod of that name")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the container ends")
    parser.add_argument("-p", "--previous", action="store_true", help="of the attempt before the last one")
    parser.add_argument("--tail", type=int, metavar="LINES", help="the last so many lines only")
    parser.add_argument("--timestamps", action="store_true", help="begin each line with its time")
    parser = verb(
        "kubectl", run_kubectl, "run kubectl on the node's cluster", "labkit kubectl get pods --watch", reports=False, node=False
    )
    parser.prefix_chars = "\0"  # whatever follows is kubectl's, options and --help too
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="kubectl's own arguments")


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
    """A Pod as JSON. `host_pid` is there where this machine numbers the processes of the node differently."""
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


def logs(arguments: argparse.Namespace) -> int:
    """Print a container's output from the file that the runtime writes, also of Pods made by hand."""
    node = running_node()
    container = chosen(node, arguments)
    path = node.cri.container_status(container_id=container.id).status.log_path
    if not path:
        raise NodeError(f"The runtime keeps no log of {arguments.pod}.", "The Pod was made without a log directory.")
    options = LogOptions(tail=arguments.tail, timestamps=arguments.timestamps)
    reader = LogReader(Path(path), options) if isinstance(node.kernel, LocalKernel) else RemoteReader(node, path, options)
    output, alive = sys.stdout.buffer, True
    while alive:
        alive = arguments.follow and runs(node, container.id)
        for piece in reader.read():
            output.write(piece)
        output.flush()
        if alive:
            time.sleep(FOLLOW_EVERY_S)
    return 0


def chosen(node: Any, arguments: argparse.Namespace) -> Any:
    """The selected container of CRI. Raises NodeError with those that exist."""
    sandboxes = [s for s in node.cri.list_pod_sandbox().items if s.metadata.name == arguments.pod]
    sandboxes = [s for s in sandboxes if arguments.namespace in (None, s.metadata.namespace)]
    namespaces = sorted({s.metadata.namespace for s in sandboxes})
    if not sandboxes:
        there = ", ".join(sorted({s.metadata.name for s in node.cri.list_pod_sandbox().items})) or "none"
        raise NodeError(f"There is no Pod {arguments.pod} on this node.", f"It has {there}.")
    if len(namespaces) > 1:
        raise NodeError(f"Pods {arguments.pod} are in the namespaces {', '.join(namespaces)}.", "Choose one with -n NAME.")
    ids = {s.id for s in sandboxes}
    containers = [c for c in node.cri.list_containers().containers if c.pod_sandbox_id in ids]
    names = sorted({name_of(c) for c in containers})
    wanted = arguments.container or (names[0] if len(names) == 1 else None)
    if not names:
        raise NodeError(f"No container of {arguments.pod} was created yet.", f"See `kubectl describe pod {arguments.pod}`.")
    if wanted not in names:
        happened = f"There is no container {wanted} in {arguments.pod}." if wanted else f"{arguments.pod} has several containers."
        raise NodeError(happened, f"Choose one with -c NAME: {', '.join(names)}.")
    attempts = sorted((c for c in containers if name_of(c) == wanted), key=lambda c: -c.created_at)
    if len(attempts) <= arguments.previous:
        raise NodeError(f"The container {wanted} of {arguments.pod} has no earlier attempt.", "Leave out --previous.")
    return attempts[arguments.previous]


def name_of(container: Any) -> str:
    return str(container.labels.get(CONTAINER_NAME) or container.metadata.name)


def runs(node: Any, container_id: str) -> bool:
    return bool(node.cri.container_status(container_id=container_id).status.state < ENDED)


class RemoteReader:
    """Reads a log on a node whose files are not on this machine. `read` returns the new lines."""

    def __init__(self, node: Any, path: str, options: LogOptions) -> None:
        self.node, self.path, self.formatter, self.tail, self.seen = node, path, Formatter(options), options.tail, 0

    def read(self) -> Iterator[bytes]:
        text = self.node.shell(["tail", "-n", f"+{self.seen + 1}", "--", self.path])
        lines = [os.fsencode(line) for line in text.split("\n")[:-1]]
        self.seen += len(lines)
        if self.tail is not None:
            lines, self.tail = lines[len(lines) - self.tail :] if self.tail < len(lines) else lines, None
        yield b"".join(map(self.formatter.text, lines))


def run_kubectl(arguments: argparse.Namespace) -> int:
    """Replace this process by kubectl, with its terminal and its signals. The exit code is kubectl's."""
    program = kubectl.program()
    node = running_node()
    if node.ledger and verb_of(arguments.arguments) in MAKERS:
        node.ledger.note("kubectl")
    argv = [program, *node.api.kubectl_options(), *arguments.arguments]
    os.execve(program, argv, {**os.environ, **node.api.environment()})
