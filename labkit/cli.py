"""`labkit …`: the lab from a shell."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from labkit.cri import CriError
from labkit.cri.calls import CallLog
from labkit.flight import FlightError
from labkit.kernel.events import EventsError
from labkit.node import Choice, Home, NodeError, choice, cleaning, connect, discovery, examine, traces
from labkit.node.proxy import RecordingProxy
from labkit.pods import PodSnapshot

EPILOG = "Choose the kind of node with LABKIT_NODE, and another place for all files with LABKIT_HOME."


SYSTEM_PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where mount, umount and their like are, whatever a user's PATH says; last, so that it overrules nothing."""

WIDTH_OF_A_FILE = 200
"""Columns of a table that no terminal shows: wide enough that no path is broken."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Exit code 0 when it did what it says, 1 when it could not (one sentence why, one what to do), 2
    for wrong usage."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_PATH])
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except (NodeError, CriError, EventsError, FlightError) as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"labkit: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.", file=sys.stderr)
            return 1
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("\nlabkit: stopped; what this command had begun is undone.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="labkit", description="A real container runtime to learn with.", epilog=EPILOG)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    def verb(
        name: str, run: Callable[[argparse.Namespace], Any], text: str, example: str, *, reports: bool = True
    ) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}")
        made.set_defaults(run=run)
        if reports:
            made.add_argument("--json", action="store_true", help="print JSON for programs")
        return made

    verb("doctor", doctor, "say which kinds of node can work here, and what would make the others work", "labkit doctor")
    start = verb("up", up, "bring the node up; does nothing when it is up", "labkit up && labkit ps")
    start.add_argument(
        "--node", metavar="KIND", default="auto", help="kind, containerd or cri:ENDPOINT (default: the first that can work here)"
    )
    start.add_argument("--cluster", metavar="NAME", default="", help="which kind cluster, where there are several")
    start.add_argument("--node-name", metavar="NAME", default="", help="which node of the cluster, where there are several")
    verb("status", show_status, "say whether the node is up, and what runs on it", "labkit status --json")
    verb("down", down, "stop the node and its Pods; images and logs stay", "labkit down")
    remove = verb("clean", clean, "remove every trace of the lab, and look whether any is left", "labkit clean --json")
    remove.add_argument("--all", action="store_true", help="also remove the cache of downloaded programs")
    verb("ps", ps, "show Pods with their processes and namespaces", "labkit ps")
    verb("env", env, "print what other programs need to use the node, as shell lines", 'eval "$(labkit env)"')
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
    verb("version", version, "print labkit's version and the runtime's", "labkit version")
    return top


def say(text: str) -> None:
    """Progress, for people: on standard error, so that standard output holds only the answer."""
    print(f"labkit: {text}", file=sys.stderr, flush=True)


def answer(arguments: argparse.Namespace, data: Any, text: Callable[[], str]) -> None:
    print(json.dumps(data, indent=1) if arguments.json else text())


def doctor(arguments: argparse.Namespace) -> int:
    verdicts = examine(Home.find())

    def text() -> str:
        lines = []
        for verdict in verdicts:
            lines.append(f"{'✓' if verdict.usable else '✗'} {verdict.kind:<11} {verdict.why}")
            if verdict.fix:
                lines.append(f"  {'':<11} → {verdict.fix}")
        return "\n".join(lines)

    answer(arguments, [vars(v) for v in verdicts], text)
    return 0 if any(v.usable for v in verdicts) else 1


def up(arguments: argparse.Namespace) -> int:
    home = Home.find()
    wanted, why = discovery.choose(Choice.parse(arguments.node, arguments.cluster, arguments.node_name), home)
    report = discovery.KINDS[wanted.kind].up(home, wanted, say)
    if report["state"] != "ready":
        raise NodeError(report.get("error", "The node is not ready."))
    answer(arguments, report, lambda: f"The node is up: {describe(report)} ({wanted.kind}: {why}).")
    return 0


def state(home: Home) -> dict[str, Any]:
    """The state of the node that `up` brought last, as `up` and `status` report it."""
    last = choice.remembered(home)[-1:] or [Choice("containerd")]
    report: dict[str, Any] = discovery.KINDS[last[0].kind].report(home, last[0])
    return report


def describe(report: dict[str, Any]) -> str:
    runtime = report["runtime"] or {"name": report["node"], "version": "(not answering yet)"}
    return f"{runtime['name']} {runtime['version']} at {report['endpoint']}"


def show_status(arguments: argparse.Namespace) -> int:
    home = Home.find()
    report = state(home)

    def text() -> str:
        if report["state"] == "down":
            stale = (
                " Its owner was killed; `labkit up` finds its Pods again, `labkit clean` removes them."
                if report.get("stale")
                else ""
            )
            return f"The node is down. Start it with `labkit up`.{stale} {report.get('error', '')}".rstrip()
        if report["state"] == "failed":
            return f"The node did not start. {report['error']}"
        return f"The node is {report['state']}: {describe(report)}, since {report['since']}. Log: {home.log_file}"

    answer(arguments, report, text)
    return 0 if report["state"] == "ready" else 1


def down(arguments: argparse.Namespace) -> int:
    home = Home.find()
    removed = sum(discovery.KINDS[c.kind].down(home, c, say) for c in choice.remembered(home) or [Choice("containerd")])
    answer(arguments, {"state": "down", "pods_removed": removed}, lambda: f"The node is down ({removed} Pods removed).")
    return 0


def clean(arguments: argparse.Namespace) -> int:
    report = cleaning.clean(Home.find(), say, cache=arguments.all)

    def text() -> str:
        removed = ", ".join(f"{len(names)} {kind}" for kind, names in report["removed"].items() if names) or "nothing"
        if report["left"]:
            return f"Removed {removed}. Still there:\n  " + "\n  ".join(report["left"])
        kept = f" Kept: {report['kept']['path']} ({report['kept']['mb']} MB); --all removes it too." if report["kept"] else ""
        return f"Removed {removed}. Looked again for {', '.join(traces.KINDS)}: nothing is left.{kept}"

    answer(arguments, report, text)
    return 1 if report["left"] else 0


def ps(arguments: argparse.Namespace) -> int:
    node = running_node()
    pods = node.pods()
    if arguments.json:
        hosts = node.host_pids()
        print(json.dumps({"pods": [pod_json(p, hosts) for p in pods]}, indent=1))
        return 0
    from rich.console import Console

    from labkit.views.terminal import pod_tree

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_FILE
    console.print(pod_tree(node.name, node.runtime, pods))
    return 0


def pod_json(pod: PodSnapshot, host_pids: Mapping[int, int]) -> dict[str, Any]:
    """A Pod for programs. `host_pid` is there where this machine numbers the node's processes otherwise than the node does."""
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "id": pod.id,
        "state": pod.state,
        "ip": pod.ip,
        "processes": [
            {
                "pid": p.pid,
                "ppid": p.ppid,
                "role": p.role,
                "comm": p.comm,
                "container": p.container,
                "namespaces": dict(p.namespaces),
                **({"host_pid": host_pids[p.pid]} if p.pid in host_pids else {}),
            }
            for p in pod.processes
        ],
        "pinned": [vars(n) for n in pod.pinned],
    }


def running_node() -> Any:
    """The node, which must be up: a command that reports does not start one."""
    if state(Home.find())["state"] not in ("ready", "restarting"):
        raise NodeError("The node is down.", "Start it with `labkit up`.")
    return connect()


def env(arguments: argparse.Namespace) -> int:
    node = running_node()
    values = {
        "LABKIT_NODE": node.kind if node.kind != "cri" else f"cri:{node.endpoint}",
        "CONTAINER_RUNTIME_ENDPOINT": node.endpoint,
        "IMAGE_SERVICE_ENDPOINT": node.endpoint,
        **{f"LABKIT_IMAGE_{name.upper()}": image for name, image in node.images.items()},
    }
    report = {"node": node.kind, "endpoint": node.endpoint, "images": dict(node.images), "env": values}
    answer(arguments, report, lambda: "\n".join(f"export {k}={shlex.quote(v)}" for k, v in values.items()))
    return 0


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


def version(arguments: argparse.Namespace) -> int:
    own = importlib.metadata.version("inside-the-node")
    runtime = state(Home.find())["runtime"]
    answer(
        arguments,
        {"labkit": own, "runtime": runtime},
        lambda: f"labkit {own}; " + (f"{runtime['name']} {runtime['version']}" if runtime else "the node is down"),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
