"""Live panels on a real node: told by its kernel, they show a Pod that starts, and the runtime that goes away and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import labkit as lab
from labkit.node import Node
from tests.live.test_pods import SLEEP, manifest
from tests.waits import wait_for


def readers() -> set[str]:
    """The processes of this one that read the kernel's events."""
    children = subprocess.run(["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return {line.split()[0] for line in children.stdout.splitlines() if "below_process" in line}


def test_panels_show_a_pod_that_starts_and_a_runtime_that_restarts(node: Node) -> None:
    """A Pod is made by hand, another through the API; nobody asks the panels to look."""
    before, threads = readers(), set(threading.enumerate())
    tree, pods, shared = lab.live.tree(node), lab.live.pods(node), lab.live.namespaces(node)
    try:
        wait_for(lambda: "process events" in tree.follows, "the panels to follow the kernel")
        wait_for(lambda: "the API's watches" in pods.follows, "the panels to follow the API")

        node.start_pod(manifest("live-by-hand", SLEEP))
        for panel in (tree, pods, shared):
            wait_for(lambda panel=panel: "live-by-hand" in repr(panel), f"the Pod in the panel {panel.view.name}")

        (reader,) = killed = readers() - before
        os.kill(int(reader), signal.SIGKILL)
        wait_for(lambda: len(readers() - before - killed) == 1, "another reader in its place")
        node.cluster.apply({"apiVersion": "v1", **manifest("live-api", SLEEP)})
        wait_for(lambda: "Pod live-api: Running, main Running, API" in repr(pods), "STATUS and containers of the API's Pod")
        wait_for(lambda: "live-api: Normal Scheduled" in repr(pods), "the API's events")

        node.daemon.kill()
        wait_for(lambda: "containerd is down: what you see is from" in tree.status, "a word about it")
        assert "live-by-hand" in repr(tree)
        node.daemon.start()
        wait_for(lambda: "containerd was down from" in tree.status, "a word about its coming back")

        node.remove_pod("live-by-hand")
        for panel in (tree, pods, shared):
            wait_for(lambda panel=panel: "live-by-hand" not in repr(panel), f"the Pod gone from the panel {panel.view.name}")
    finally:
        for panel in (tree, pods, shared):
            panel.close()
        if node.daemon.state == "stopped":
            node.daemon.start()
        node.cluster.delete("live-api")
    wait_for(lambda: readers() == before, "its processes to end")
    assert not [thread.name for thread in set(threading.enumerate()) - threads if thread.name.startswith(("live", "events from"))]


def test_a_panel_ends_with_its_kernel(node: Node, tmp_path: Path) -> None:
    """A kernel that is killed leaves no reader of the kernel's events behind."""
    program = (
        "import time, labkit; panel = labkit.live.tree(labkit.connect())\n"
        "while not panel.follows: time.sleep(0.05)\n"
        "print(panel.follows, flush=True)\ntime.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline().startswith("Follows the kernel's process events")
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(child.pid)], capture_output=True, text=True, check=True)
    readers_of_it = listed.stdout.split()
    assert readers_of_it
    child.kill()
    child.wait()
    child.stdout.close()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in readers_of_it), "its processes to end")
