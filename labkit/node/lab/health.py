"""Whether the programs of a running node answer now, on the sockets that their clients use.

`node.json` has what the node's owner knows. A program that hangs, or that a signal stopped, has not ended, so nobody restarts it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from labkit.kernel.parse import parse_stat
from labkit.node.host import containerd_setup
from labkit.node.lab import control, kubernetes
from labkit.node.registry import registry
from labkit.node.state.home import Home
from labkit.util.progress import quiet

WITHIN_S = 3.0
"""A program needs milliseconds to answer, and some hundred of them on a busy machine."""
PROVES_TOKEN = "/api/v1/namespaces/default"
"""A path that the API serves only to a client with the token."""
OWNER = "labkit"

Probe = Callable[[], object]


def probes(home: Home, endpoint: Path) -> dict[str, Probe]:
    """Functions that ask the node's owner, the runtime behind the socket `endpoint`, the API and the kubelet. Each raises where
    there is no good answer."""
    return {
        OWNER: lambda: control.ask(home, quiet, WITHIN_S, do=control.PING),
        "containerd": lambda: containerd_setup.answer(endpoint, WITHIN_S),
        "kubeapi": lambda: kubernetes.ask(home.kubeconfig, PROVES_TOKEN, WITHIN_S),
        "kubelet": lambda: kubernetes.kubelet_answers(home, WITHIN_S),
    }


def registry_probes(home: Home) -> dict[str, Probe]:
    return {name: lambda name=name: containerd_setup.registry_answers(home, name) for name in registry.REGISTRIES}  # type: ignore[misc]


def unanswered(probes: Mapping[str, Probe], pids: Mapping[str, int], logs: Path) -> dict[str, dict[str, Any]]:
    """The programs without a good answer: name → pid (None where it has none on this machine), error, todo. All are asked at
    once."""
    found: dict[str, dict[str, Any]] = {}
    for name, error in failures(probes).items():
        pid = pids.get(name)
        if pid and is_stopped(pid):
            found[name] = stopped(pid)
            continue
        if name == OWNER:
            todo = "End the node by `labkit down`, and start it again by `labkit up`."
        elif pid:
            todo = f"Kill it, and the node's owner starts it again: kill -KILL {pid}. Its log is {logs / name}.log."
        else:
            todo = "Bring the node up again: `labkit down`, `labkit up`."
        found[name] = {"pid": pid, "error": error, "todo": todo}
    return found


def failures(probes: Mapping[str, Probe]) -> dict[str, str]:
    """The probes that failed, or did not return in time: name → why."""
    found = dict.fromkeys(probes, f"no answer within {WITHIN_S:g} s")

    def run(name: str, probe: Probe) -> None:
        try:
            probe()
            del found[name]
        except Exception as error:
            words = getattr(error, "happened", "") or getattr(error, "message", "") or str(error) or type(error).__name__
            found[name] = " ".join(words.split()).rstrip(".")

    # Daemons: one that waits for a program that hangs keeps nobody from ending.
    threads = [threading.Thread(target=run, args=each, daemon=True) for each in probes.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + WITHIN_S + 0.5
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return dict(found)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process (man 5 proc_pid_stat)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return parse_stat(Path(f"/proc/{pid}/stat").read_text(errors="surrogateescape")).state == "T"
    return False


def stopped(pid: int) -> dict[str, Any]:
    return {"pid": pid, "error": "a signal stopped it", "todo": f"Resume it: kill -CONT {pid}"}
