"""Killed in the middle: the kernel, the node. What the learner has done is there, and the incident goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from typing import Any

from jupyter_client.manager import start_new_kernel

from labkit.course.incident import incident_store as store
from labkit.course.incident.fault import POD
from labkit.node import Home
from labkit.node.host.lab_processes import own_processes
from tests.conftest import labkit
from tests.waits import wait_for

CONNECT = "import labkit\nnode = labkit.connect('containerd', lesson='08')"
ANSWER = "asked = labkit.predict('08.old')\nasked.choose('it answers')\nasked.seen('it answers')"
OPEN = "incident = labkit.open_incident(node{})\nprint(incident)"
NEVER = "from labkit.course.incident import pod_faults\npod_faults.has_event = lambda *_: lambda: False"
"""A fault that is being made stays so: what it waits for does not come."""


class Kernel:
    """A notebook's kernel, and who runs cells in it."""

    def __init__(self, manager: Any, client: Any) -> None:
        self.manager, self.client = manager, client

    def run(self, *cells: str) -> str:
        """What the cells print. Their errors fail the test."""
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        for cell in cells:
            reply = self.client.execute_interactive(cell, output_hook=hear, timeout=240)["content"]
            assert reply["status"] == "ok", reply
        return "".join(printed)

    def reply(self, asked: str) -> dict[str, Any]:
        """What the kernel answers to a request in the end."""
        while (message := self.client.get_shell_msg(timeout=240))["parent_header"]["msg_id"] != asked:
            pass
        return dict(message["content"])

    def kill(self) -> None:
        os.kill(self.manager.provisioner.pid, signal.SIGKILL)


@contextlib.contextmanager
def kernel() -> Iterator[Kernel]:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def progress() -> Any:
    return json.loads(labkit("progress", "--export", "json").stdout)


def incident() -> dict[str, Any]:
    """What the learner has reached; not the commands that she typed, of which each look here is one more."""
    report = json.loads(labkit("incident", "report", "--json").stdout)
    cells = [entry["text"] for entry in report["commands"] if entry["where"] == "notebook"]
    return {name: report[name] for name in ("state", "complaint", "found", "hints", "wrong", "points")} | {"cells": cells}


def pods() -> list[str]:
    return labkit("kubectl", "get", "pods", "-o", "name").stdout.split()


def test_progress_and_incident_go_on_after_kernel_and_node_were_killed(own_home: Home) -> None:
    with kernel() as first:
        first.run(CONNECT, ANSWER, OPEN.format(", fault='cni-plugin'"))
        first.run("incident.check(cause='probe')\nincident.check(cause='cni-plugin')\nincident.hint()")
        first.kill()
    before = progress(), incident()
    assert [event["item"] for event in before[0]["events"]] == ["08.old"]
    assert (before[1]["hints"], before[1]["wrong"], [*before[1]["found"]]) == (1, ["cause probe"], ["cause"])

    for process in own_processes(own_home):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: "is down" in labkit("incident").stdout, "a word about the node")
    assert (progress(), incident()) == before
    labkit("up", "--node", "containerd")
    assert (progress(), incident()) == before
    with kernel() as second:
        assert before[1]["complaint"] in second.run(CONNECT, OPEN.format(""))
        told = second.run("print(incident.check(evidence='labkit-no-such-plugin'))", "node.cni.repair()",
                          "node.cluster.recreate(incident.manifest())", "print(incident.check())")
    assert "The cause is found. The evidence is found. The Pod orders is not ready." in told and "Done" in told
    assert incident()["points"] == 100 - store.HINT - store.WRONG
    wait_for(lambda: f"pod/{POD}" not in pods(), "the incident's Pod to be gone")

    # While a fault is being made
    makes = OPEN.format(", fault='memory-limit'")
    with kernel() as third:
        third.run(CONNECT, NEVER)
        asked = third.client.execute(makes)
        wait_for(lambda: f"pod/{POD}" in pods(), "the fault to be half made")
        third.manager.interrupt_kernel()  # Jupyter's stop button, a terminal's Ctrl-C
        reply = third.reply(asked)
        assert (reply["ename"], reply["evalue"]) == ("KeyboardInterrupt", "The incident was being made, and is undone.")
        assert store.load(own_home) is None
        wait_for(lambda: f"pod/{POD}" not in pods(), "what was made to be undone")

        third.client.execute(makes)
        wait_for(lambda: f"pod/{POD}" in pods(), "the fault to be half made again")
        third.kill()
    assert "was interrupted" in labkit("incident", "hint", check=False).stderr
    assert "is undone" in labkit("incident", "end").stdout
    wait_for(lambda: f"pod/{POD}" not in pods(), "what was made to be undone")
