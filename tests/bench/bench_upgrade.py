"""How many requests to a Pod fail while its containerd is killed and upgraded twice, and for how long CRI did not answer."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit import connect
from labkit.cri import CriClient, CriError
from labkit.figures.runtime.load import Load
from labkit.node import Home
from labkit.node.packages import releases
from tests.live.web import SERVE, wait_until_it_listens

VERSIONS = ("1.7", "2")


class Asked:
    """Asks for the version all the time, each time on a new connection; `gap_s` is the longest time without an answer."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.gap_s = endpoint, 0.0

    def __enter__(self) -> Asked:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_on)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask_on(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.002):
            try:
                with CriClient(self.endpoint) as cri:
                    cri.version(timeout=0.5)
            except CriError:
                continue
            now = time.monotonic()
            self.gap_s, last = max(self.gap_s, now - last), now


def run() -> dict[str, Any]:
    """{"name", "ratio" (requests failed of those made), "goal": 0, "requests", "gaps_s": {what: seconds without an answer}}.

    In a home of its own; fetches the other versions where they are not here. Needs root.
    """
    cache = Home.find().cache
    for version in VERSIONS:
        releases.ensure(cache, version)
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(cache)
    before = os.environ.get("LABKIT_HOME")
    os.environ["LABKIT_HOME"] = str(base)
    try:
        return measured(connect("containerd", lesson="bench"))
    finally:
        subprocess.run([sys.executable, "-m", "labkit.cli", "clean"], check=True, capture_output=True)
        shutil.rmtree(base, ignore_errors=True)
        os.environ.pop("LABKIT_HOME")
        if before is not None:
            os.environ["LABKIT_HOME"] = before


def measured(node: Any) -> dict[str, Any]:
    container = {"name": "app", "image": node.images["busybox"], "command": ["sh", "-c", SERVE]}
    pod = node.start_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"containers": [container]}})
    wait_until_it_listens(pod.ip)

    def killed() -> None:
        node.daemon.kill()
        node.daemon.start()

    steps: dict[str, Callable[[], object]] = {"SIGKILL and start": killed, "restart": node.daemon.restart}
    steps |= {f"upgrade to {version}": functools.partial(node.daemon.upgrade, version) for version in VERSIONS}
    gaps = {}
    with Load(lambda: socket.create_connection((pod.ip, 80), 2)) as load:
        for name, step in steps.items():
            with Asked(node.endpoint) as asked:
                time.sleep(0.5)
                step()
                time.sleep(0.5)
            gaps[name] = round(asked.gap_s, 3)
    node.close()
    ratio = len(load.failed) / len(load.answers)
    return {"name": "requests failed through SIGKILL and two upgrades", "ratio": ratio, "goal": 0.0,
            "requests": len(load.answers), "gaps_s": gaps}
