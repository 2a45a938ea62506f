"""`labkit record`: the flight recorder around a command."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

from labkit.commands.common import AddVerb, running_node, say
from labkit.cri.calls import CallLog
from labkit.node import NodeError
from labkit.node.proxy import RecordingProxy


def add(verb: AddVerb) -> None:
    tape = verb(
        "record",
        record,
        "record CRI calls and processes while a command runs, or until Ctrl-C, and print the steps",
        "labkit record --plot flight.svg -- crictl pods",
        reports=False,
    )
    for kind, what in (
        ("json", "JSON (docs/flight-format.md)"),
        ("trace", "a Chrome trace, for ui.perfetto.dev"),
        ("plot", "the picture"),
    ):
        tape.add_argument(f"--{kind}", metavar="FILE", help=f"write {what}{'; - is standard output' if kind != 'plot' else ''}")
    tape.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="stop after so long")
    tape.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- CMD", help="a command; it finds the node by CONTAINER_RUNTIME_ENDPOINT"
    )


def record(arguments: argparse.Namespace) -> int:
    """What the command calls through CONTAINER_RUNTIME_ENDPOINT is recorded, whoever it is. Its exit code is passed on."""
    node = running_node()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if command and not shutil.which(command[0]):
        raise NodeError(f"There is no command {command[0]}.", "Check its name and PATH.")
    log, code = CallLog(), 0
    with node.record(log=log) as flight, RecordingProxy(node.endpoint, log) as proxy:
        endpoint = {"CONTAINER_RUNTIME_ENDPOINT": proxy.endpoint, "IMAGE_SERVICE_ENDPOINT": proxy.endpoint}
        if command:
            code = run_for(command, arguments.seconds, endpoint)
        else:
            say(f"recording; other programs' calls are recorded at {proxy.endpoint}; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(arguments.seconds or threading.TIMEOUT_MAX)
    written = {"json": flight.to_json, "trace": flight.to_trace}
    for kind, text in written.items():
        if name := getattr(arguments, kind):
            with contextlib.nullcontext(sys.stdout) if name == "-" else open(name, "w") as file:
                file.write(text() + "\n")
    if arguments.plot:
        flight.plot().save(arguments.plot)
    if "-" not in (arguments.json, arguments.trace):
        print(flight.steps().table())
    return code


def run_for(command: Sequence[str], seconds: float | None, environment: Mapping[str, str]) -> int:
    """Run a command, `seconds` at most; its exit code (128 + signal where a signal ended it)."""
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()
        code = process.wait()
    return code if code >= 0 else 128 - code
