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
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

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
    command, code = wanted_command(arguments.command), 0
    with contextlib.ExitStack() as stack:
        # Opened first: that one cannot be written must not be found out when all is recorded.
        names = {kind: name for kind in ("json", "trace", "plot") if (name := getattr(arguments, kind))}
        files = {kind: stack.enter_context(opened(name)) for kind, name in names.items()}
        with proxied(node) as (log, environment), node.record(log=log) as flight:
            if command:
                code = run_for(command, arguments.seconds, environment)
            else:
                say(f"recording; calls made at {environment['CONTAINER_RUNTIME_ENDPOINT']} have their caller; Ctrl-C ends it")
                with contextlib.suppress(KeyboardInterrupt):
                    time.sleep(arguments.seconds or threading.TIMEOUT_MAX)
        for kind, text in (("json", flight.to_json), ("trace", flight.to_trace)):
            if kind in files:
                files[kind].write(text() + "\n")
    if arguments.plot:
        flight.plot().save(arguments.plot)
    if "-" not in (arguments.json, arguments.trace):
        print(flight.steps().table())
    else:
        for note in flight.notes:
            say(note)
    return code


def opened(name: str) -> contextlib.AbstractContextManager[IO[str]]:
    return contextlib.nullcontext(sys.stdout) if name == "-" else open(name, "w")


def wanted_command(words: Sequence[str]) -> list[str]:
    """The command behind `--`, [] for none. Raises NodeError where there is no such program."""
    command = [*words[words[:1] == ["--"] :]]
    if command and not shutil.which(command[0]):
        raise NodeError(f"There is no command {command[0]}.", "Check its name and PATH.")
    return command


@contextlib.contextmanager
def proxied(node: Any) -> Iterator[tuple[CallLog, dict[str, str]]]:
    """A recording proxy for a command: the log that its calls go to, and the environment by which it finds it."""
    log = CallLog()
    with RecordingProxy(node.endpoint, log) as proxy:
        yield log, {"CONTAINER_RUNTIME_ENDPOINT": proxy.endpoint, "IMAGE_SERVICE_ENDPOINT": proxy.endpoint}


def run_for(command: Sequence[str], seconds: float | None, environment: Mapping[str, str]) -> int:
    """Run a command, `seconds` at most; its exit code (128 + signal where a signal ended it)."""
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()
        return exit_code(process)


def exit_code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return code if code >= 0 else 128 - code
