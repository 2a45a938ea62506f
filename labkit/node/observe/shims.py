"""What each shim of a node holds, found without the runtime's help: so it can be asked while containerd is away.

A shim's working directory is its sandbox's bundle, and beside that lie the bundles of its containers (containerd, runtime/v2).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.kernel import Process, Snapshot
from labkit.node.host.access import ObservedNode
from labkit.node.host.config import SOCKETS_OF_SHIMS
from labkit.node.observe.ttrpc import task_state


@dataclass(frozen=True)
class HeldContainer:
    """A container that a shim looks after; the sandbox's own is the pause, named "".

    pid: its first process, 0 where that has ended. exit_code: what the shim keeps of an ended one until somebody asks; None
    while it runs, and where the shim cannot be reached from here. fifos: the named pipes through which the shim hands on its
    output, which stay open when containerd, the reader, goes.
    """

    name: str
    id: str
    pid: int
    exit_code: int | None = None
    fifos: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShimHold:
    """A shim and what it holds. start_ns: since boot. exe: its program; the kernel adds " (deleted)" when the file was replaced.
    version: what that very program, which the kernel keeps, answers to -v; "" where it cannot be run.

    socket: where a new containerd finds it. ppid: 1, or a subreaper; never containerd. oom_score_adj: man 5 proc.
    """

    pod: str
    namespace: str
    sandbox: str
    pid: int
    ppid: int
    start_ns: int
    exe: str
    socket: str
    oom_score_adj: int
    containers: tuple[HeldContainer, ...]
    version: str = ""


SCRIPT = r"""
cd /proc || exit 1
for pid; do
  cwd=$(readlink $pid/cwd) || continue
  version=$($pid/exe -v 2>/dev/null | sed -n 's/^ *Version: *\([0-9.]*\).*/\1/p')
  echo "shim $pid $(cat $pid/oom_score_adj) ${version:--} $cwd"
  for fd in $pid/fd/*; do echo "fd $(readlink $fd)"; done
done
for bundle in $(for pid; do echo "$(readlink $pid/cwd)"; done | sed 's,/[^/]*$,,' | sort -u); do
  for b in $bundle/*; do
    [ -f $b/config.json ] || continue
    echo "bundle $b $(cat $b/init.pid 2>/dev/null)"
    echo "address $(cat $b/address 2>/dev/null) $(cat $b/bootstrap.json 2>/dev/null)"
    tr -d '\n' <$b/config.json; echo
  done
done
"""
"""Given the shims' pids: of each a line "shim PID OOM VERSION CWD" and its "fd" lines; of each bundle three lines."""


def shims(node: ObservedNode) -> tuple[ShimHold, ...]:
    """Every shim of the node's Pods, by the Pod's namespace and name. Raises NodeError where the node cannot be asked."""
    snapshot = node.kernel.snapshot(fds=False)
    found = {p.pid: p for p in snapshot.processes.values() if is_shim(p, node.socket_path)}
    if not found:
        return ()
    lines = node.host.shell(["sh", "-c", SCRIPT, "sh", *map(str, found)]).splitlines()
    files = dict(open_files(lines))
    bundles = list(read_bundles(lines))
    held = [hold(found[pid], snapshot, facts, bundles, node.host.dial_unix) for pid, facts in files.items()]
    return tuple(sorted(held, key=lambda s: (s.namespace, s.pod, s.start_ns)))


def is_shim(process: Process, socket: str = "") -> bool:
    """Whether it is a lasting shim of containerd (of the one at `socket`); its short-lived "start" and "delete" are not."""
    ours = not socket or socket in process.cmdline
    return process.program.startswith("containerd-shim") and ours and not {"start", "delete"} & set(process.cmdline)


@dataclass(frozen=True)
class Bundle:
    """One bundle directory, as far as it is read here. pid 0 where none was written."""

    id: str
    pid: int
    address: str
    annotations: Mapping[str, str]

    @property
    def sandbox(self) -> str:
        return self.annotations.get("io.kubernetes.cri.sandbox-id", self.id)


def hold(
    shim: Process, snapshot: Snapshot, facts: ShimFacts, bundles: list[Bundle], dial: Callable[[str], socket.socket]
) -> ShimHold:
    sandbox = shim.option("-id")
    own = [b for b in bundles if b.sandbox == sandbox]
    first = next((b for b in own if b.id == sandbox), Bundle(sandbox, 0, "", {}))
    address = first.address or str(socket_path(shim.option("-address"), sandbox, shim.option("-namespace")))
    containers = [container(b, snapshot, facts.links, address, dial) for b in sorted(own, key=lambda b: (b.id != sandbox, b.pid))]
    name, namespace = (first.annotations.get(f"io.kubernetes.cri.sandbox-{what}", "") for what in ("name", "namespace"))
    return ShimHold(
        name, namespace, sandbox, shim.pid, shim.ppid, shim.start_ns, shim.exe, address, facts.oom_score_adj, tuple(containers),
        facts.version,
    )


def container(
    bundle: Bundle, snapshot: Snapshot, links: list[str], address: str, dial: Callable[[str], socket.socket]
) -> HeldContainer:
    alive = bundle.pid in snapshot.processes and snapshot.processes[bundle.pid].state not in "ZX"
    code = None
    if not alive:
        with contextlib.suppress(OSError):
            state = task_state(address, bundle.id, dial)
            code = state.exit_code if state else None
    fifos = sorted({link for link in links if os.path.basename(link).startswith(bundle.id)})
    name = bundle.annotations.get("io.kubernetes.cri.container-name", "")
    return HeldContainer(name, bundle.id, bundle.pid if alive else 0, code, tuple(fifos))


def socket_path(address: str, sandbox_id: str, namespace: str = "k8s.io") -> Path:
    """Where a shim listens: its name is a hash of containerd's address, namespace and the sandbox's id (containerd 1.6 to 2.1,
    runtime/v2/shim, SocketAddress)."""
    return SOCKETS_OF_SHIMS / hashlib.sha256(f"{address}/{namespace}/{sandbox_id}".encode()).hexdigest()


@dataclass(frozen=True)
class ShimFacts:
    """What the script tells of a shim; `links`: what its descriptors point to."""

    oom_score_adj: int
    version: str
    links: list[str]


def open_files(lines: list[str]) -> Iterator[tuple[int, ShimFacts]]:
    """The facts of each shim, by its pid."""
    for number, line in enumerate(lines):
        word, _, rest = line.partition(" ")
        if word == "shim":
            pid, oom, version, *_ = rest.split(" ")
            links = []
            for following in lines[number + 1 :]:
                if not following.startswith("fd "):
                    break
                links.append(following[3:])
            yield int(pid), ShimFacts(int(oom), version.strip("-"), links)


def read_bundles(lines: list[str]) -> Iterator[Bundle]:
    for number, line in enumerate(lines):
        if not line.startswith("bundle "):
            continue
        path, _, pid = line[len("bundle ") :].partition(" ")
        try:
            config: dict[str, Any] = json.loads(lines[number + 2])
        except (ValueError, IndexError):
            continue  # it was being written or removed
        yield Bundle(os.path.basename(path), int(pid or 0), address(lines[number + 1]), config.get("annotations") or {})


def address(line: str) -> str:
    """The socket by a line "address ADDRESS BOOTSTRAP": containerd 1.x writes a file with the one, 2.x one with the other."""
    plain, _, bootstrap = line.removeprefix("address ").partition(" ")
    with contextlib.suppress(ValueError, KeyError):
        plain = json.loads(bootstrap)["address"]
    return plain.removeprefix("unix://")
