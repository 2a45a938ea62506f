"""`labkit record`: the flight recorder around a command."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from labkit.cli.common import AddVerb, running_node, say
from labkit.figures.figure import kind_of
from labkit.node import Node, NodeError
from labkit.node.host.access import NO_STREAMS
from labkit.node.observe.proxy import RecordingProxy
from labkit.recording.calls.log import CallLog
from labkit.util.outputs import check_writable, write_whole
from labkit.util.showable import showable

STREAMING = {"exec", "attach", "port-forward"}
"""Of crictl's subcommands."""


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
    """Record the calls that a command makes through CONTAINER_RUNTIME_ENDPOINT. Exits with its exit code."""
    names = {kind: name for kind in ("json", "trace", "plot") if (name := getattr(arguments, kind))}
    check(names)  # first: that one cannot be written must not be found out when all is recorded
    node = running_node()
    command, code = wanted_command(arguments.command), 0
    if not node.host.shares_loopback and os.path.basename((command or [""])[0]) == "crictl" and STREAMING & {*command}:
        say(NO_STREAMS)
    with proxied(node) as (log, environment), node.record(log=log) as recording:
        if command:
            code = run_for(command, arguments.seconds, environment)
        else:
            say(f"recording; calls made at {environment['CONTAINER_RUNTIME_ENDPOINT']} have their caller; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(arguments.seconds or threading.TIMEOUT_MAX)
    flight = recording.flight
    if "-" not in (arguments.json, arguments.trace):
        print(flight.steps().table())
    else:
        for note in flight.notes:
            say(note)
    write = {"json": flight.to_json, "trace": flight.to_trace, "plot": flight.plot}
    failed = [failure for kind, name in names.items() if (failure := written(name, write[kind]))]
    for failure in failed:
        say(failure)
    return code or bool(failed)


def check(names: Mapping[str, str]) -> None:
    """Raise NodeError, with its name, for a file that cannot be written."""
    for kind, name in names.items():
        try:
            if kind == "plot":
                kind_of(name)
            if name != "-" or kind == "plot":
                check_writable(name)
        except (OSError, ValueError) as error:
            raise NodeError(unwritten(name, error)) from None


def written(name: str, make: Callable[[], Any]) -> str:
    """Write one result, whole or not at all. Returns an error message where it failed."""
    try:
        made = make()
        if name == "-":
            print(made)
        elif isinstance(made, str):
            write_whole(name, f"{made}\n".encode())
        else:
            made.save(name)
    except OSError as error:
        return unwritten(name, error)
    return ""


def unwritten(name: str, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return str(error)
    todo = "Give a name in a directory that is there and that you may write to."
    return f"{showable(name)!r} cannot be written: {showable(error.strerror)}. {todo}"


def wanted_command(words: Sequence[str]) -> list[str]:
    """The command after `--`, [] for none. Raises NodeError where there is no such program."""
    command = [*words[words[:1] == ["--"] :]]
    if command and not shutil.which(command[0]):
        raise NodeError(f"There is no command {showable(command[0])}.", "Check its name and PATH.")
    return command


@contextlib.contextmanager
def proxied(node: Node) -> Iterator[tuple[CallLog, dict[str, str]]]:
    """Start a recording proxy for a command. Yields the log of its calls, and the environment by which the command uses it."""
    log = CallLog()
    with RecordingProxy(node.endpoint, log) as proxy:
        ours = {"CONTAINER_RUNTIME_ENDPOINT": proxy.endpoint, "IMAGE_SERVICE_ENDPOINT": proxy.endpoint}
        yield log, {**node.api.shell_environment(say), **ours}


def run_for(command: Sequence[str], seconds: float | None, environment: Mapping[str, str]) -> int:
    """Run a command for at most `seconds`. Returns its exit code (128 + signal where a signal ended it)."""
    with subprocess.Popen(command, env={**os.environ, **environment}) as process:
        try:
            process.wait(seconds)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            process.terminate()
        return exit_code(process)


def exit_code(process: subprocess.Popen[bytes]) -> int:
    code = process.wait()
    return code if code >= 0 else 128 - code
