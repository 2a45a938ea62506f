"""`labkit trace`: calls and processes as they happen."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable

from labkit.cli.common import AddVerb, running_node, say
from labkit.cli.record_command import exit_code, proxied, wanted_command
from labkit.recording.recorder import FlightRecorder, follow


def add(verb: AddVerb) -> None:
    live = verb(
        "trace",
        trace,
        "print CRI calls and processes as they happen, as strace -f does, until Ctrl-C or while a command runs",
        "labkit trace --pod web",
        reports=False,
    )
    live.add_argument("--pod", metavar="NAME", help="only what belongs to the Pod of that name")
    live.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="stop after so long")
    live.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- CMD", help="a command; it finds the node by CONTAINER_RUNTIME_ENDPOINT"
    )


def trace(arguments: argparse.Namespace) -> int:
    """Print a line for each start and end of a call, and for each exec and exit of the runtime's processes, in ms since the
    start. Exits with the command's exit code."""
    node = running_node()
    command, show = wanted_command(arguments.command), shower()
    over = threading.Event()
    running: list[subprocess.Popen[bytes]] = []
    with contextlib.closing(node), proxied(node) as (log, environment):

        def begun() -> None:
            if command:
                running.append(subprocess.Popen(command, env={**os.environ, **environment}))
                threading.Thread(target=wait, args=(running[0], arguments.seconds, over), daemon=True).start()
            else:
                say(f"calls made at {environment['CONTAINER_RUNTIME_ENDPOINT']} are printed with their caller; Ctrl-C ends it")

        if arguments.seconds and not command:
            timer = threading.Timer(arguments.seconds, over.set)
            timer.daemon = True
            timer.start()
        others = node.sources.other_calls(log, live=True)
        recorder = FlightRecorder(node.cri, **vars(node.sources.open()), log=log, others=others)
        flight = follow(recorder, show, pod=arguments.pod, until=over, begun=begun)
        for note in flight.notes:
            say(note)
        if running and not over.is_set() and not flight.notes:  # Ctrl-C
            running[0].terminate()
        return exit_code(running[0]) if running else 0


def wait(process: subprocess.Popen[bytes], seconds: float | None, over: threading.Event) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
    over.set()


def shower() -> Callable[[str, str], None]:
    """Print a line, on a terminal in the colour of its role."""
    from rich.console import Console

    from labkit.figures.style import TERMINAL

    console = Console(highlight=False, soft_wrap=True, emoji=False)
    return lambda line, role: console.print(line, style=TERMINAL.get(role, "default"), markup=False)
