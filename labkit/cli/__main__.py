"""`labkit …`, the command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit.cli import (
    common,
    completion_command,
    containerd_commands,
    course_commands,
    fetch_commands,
    incident_command,
    node_commands,
    pod_commands,
    record_command,
    trace_commands,
    vm_commands,
)
from labkit.course.incident import incident_store
from labkit.cri import CriError
from labkit.kernel.events.stream import EventsError
from labkit.node import Home, NodeError
from labkit.recording.flight import FlightError
from labkit.util import environment
from labkit.util.showable import showable_lines

COMMANDS = (
    course_commands,
    incident_command,
    node_commands,
    pod_commands,
    record_command,
    containerd_commands,
    fetch_commands,
    trace_commands,
    vm_commands,
)
"""In the order in which `labkit --help` lists them."""

EPILOG = "Choose the kind of node with LABKIT_NODE, and another place for all files with LABKIT_HOME."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0 where it succeeded; 1 where it failed, with one sentence of what happened and one of what to
    do (with --json also as {"error": …} on standard output); 2 for wrong usage."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if argv is None:
        environment.speak_utf8()
    environment.prepare_client()
    for stream in (sys.stdout, sys.stderr):  # a terminal without UTF-8 shows an escape where it has no letter
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        common.choose_node(arguments)
        incident_store.note(Home.find(), "shell", shlex.join(["labkit", *(sys.argv[1:] if argv is None else argv)]))
        return int(arguments.run(arguments) or 0)
    except (NodeError, CriError, EventsError, FlightError) as error:
        return failed(arguments, str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return failed(arguments, happened(error))
    except KeyboardInterrupt as interrupt:
        print(file=sys.stderr)
        return failed(arguments, str(interrupt) or "stopped; what this command had begun is undone.", 130)


def failed(arguments: argparse.Namespace, why: str, code: int = 1) -> int:
    """Print why a command failed, and as JSON for a program that asked for it. Returns the exit code."""
    with contextlib.suppress(NodeError):  # of a home that cannot be used
        incident_store.note(Home.find(), "error", why.split("\n")[0])
    print(f"labkit: {showable_lines(why)}", file=sys.stderr)
    if getattr(arguments, "json", None) is True:  # `record --json FILE` has a name there
        print(json.dumps({"error": why}, indent=1))
    return code


def happened(error: OSError) -> str:
    """The system's error message with the file's name, and what to do if it is one of the lab's files."""
    text = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
    file = Path(str(error.filename))
    with contextlib.suppress(NodeError):  # of a home that cannot be used there is nothing to say here
        places = Home.find().places
        if any(file.is_relative_to(place) or place.is_relative_to(file) for place in places):
            text += " The lab keeps its files there: see that you may write to it, or set LABKIT_HOME to a directory of your own."
    return text


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="labkit", description="A real container runtime to learn with.", epilog=EPILOG)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(
        name: str, run: Callable[[argparse.Namespace], Any], text: str, example: str, *, reports: bool = True, node: bool = True
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}")
        made.set_defaults(run=run)
        if reports:
            made.add_argument("--json", action="store_true", help="print JSON for programs")
        if node:
            common.add_node_options(made)
        return made

    for room in COMMANDS:
        room.add(verb)
    completion_command.add(verb, parser)
    return top


if __name__ == "__main__":
    sys.exit(main())
