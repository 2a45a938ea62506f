"""The commands about the node as a whole: doctor, up, status, down, clean, env, version."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from labkit.cli.common import AddVerb, answer, describe, running_node, say, state
from labkit.course.incident import making
from labkit.course.memory import progress_store
from labkit.cri import CriError
from labkit.node import Home, NodeError, NodeSelector, connect, probe_all
from labkit.node.host.access import NO_STREAMS
from labkit.node.kinds import cleaning, discovery
from labkit.node.lab import kubernetes
from labkit.node.packages import releases
from labkit.node.state import incident_note


def add(verb: AddVerb) -> None:
    verb("doctor", doctor, "say which kinds of node can work here, and what would make the others work", "labkit doctor")
    start = verb("up", up, "bring the node up; does nothing when it is up", "labkit up && labkit ps")
    start.add_argument(
        "--time-scale",
        metavar="FACTOR",
        default="",
        help="of the lab kubelet's back-offs: 0.1 makes ten seconds one (default: 1)",
    )
    verb("status", show_status, "say whether the node is up, and what runs on it", "labkit status --json")
    stop = verb("down", down, "stop the node and its Pods; images and logs stay", "labkit down --all")
    stop.add_argument("--all", action="store_true", help="every node of this lab, whichever is chosen")
    text = "remove everything of the lab from all of its nodes, and check that nothing is left"
    remove = verb("clean", clean, text, "labkit clean --json", node=False)
    remove.add_argument("--all", action="store_true", help="also remove the cache of downloaded programs")
    remove.add_argument("--forget", action="store_true", help="forget nodes that are gone for good")
    verb("env", env, "print what other programs need to use the node, as shell lines", 'eval "$(labkit env)"')
    verb("version", version, "print labkit's version and the runtime's", "labkit version")


def doctor(arguments: argparse.Namespace) -> int:
    home, wanted = Home.find(), NodeSelector.parse()
    discovery.require_known_kind(wanted)
    availabilities = probe_all(home, wanted)
    try:
        selected = discovery.resolve(wanted, home)
    except NodeError:
        selected = None

    def text() -> str:
        lines = []
        for availability in availabilities:
            lines.append(f"{'✓' if availability.usable else '✗'} {availability.kind:<11} {availability.why}")
            if selected and selected.kind == availability.kind:
                name = f": {selected}" if str(selected) != selected.kind else ""
                lines.append(f"  {'':<11}   this is the selected node{name}")
            if availability.fix:
                lines.append(f"  {'':<11} → {availability.fix}")
            elif availability.kind == "containerd" and (versions := [r.version for r in releases.here(Home.find().cache)]):
                lines.append(f"  {'':<11}   here: {', '.join(versions)}; `labkit fetch containerd` fetches others")
        return "\n".join(lines)

    variables = {selected.kind: selected.environ()} if selected else {}
    report = [{**vars(each), "selected": variables.get(each.kind)} for each in availabilities]
    answer(arguments, report, text)
    return 0 if any(v.usable for v in availabilities) else 1


def up(arguments: argparse.Namespace) -> int:
    home = Home.find()
    if arguments.time_scale:
        os.environ[kubernetes.TIME_SCALE] = arguments.time_scale
    kubernetes.time_scale()
    wanted, why = discovery.resolve_usable(NodeSelector.parse(), home)
    report = incident_note.veiled(home, discovery.kinds()[wanted.kind].up(home, wanted, say))
    if report["state"] == "incident":
        making.go_on_alone(home, connect())
        answer(arguments, report, lambda: f"The node is up. {incident_note.OPEN_HERE}: `labkit incident`.")
        return 0
    if report["state"] != "ready":
        raise NodeError(report.get("error", "The node is not ready."))
    if arguments.time_scale and float(arguments.time_scale) != (report.get("time_scale") or 1.0):
        raise NodeError("The node was up already, with another time scale.", "Give it after `labkit down`.")
    answer(arguments, report, lambda: f"The node is up: {describe(report)} ({wanted.kind}: {why}).")
    return 0


def show_status(arguments: argparse.Namespace) -> int:
    home = Home.find()
    report = incident_note.veiled(home, discovery.probed_report(home, NodeSelector.parse()))

    def text() -> str:
        if report["state"] == "down":
            if report.get("stale"):
                why = " Its owner was killed; `labkit up` finds its Pods again, `labkit clean` removes them."
            elif report.get("deleted"):
                why = " Its directory was deleted while it ran. Its programs still run; `labkit clean` ends them."
            else:
                why = ""
            return f"The node is down. Start it with `labkit up`.{why} {report.get('error', '')}".rstrip()
        if report["state"] == "failed":
            return f"The node is not up. {report['error']}"
        if report["state"] == "incident":
            return f"The node is up. {incident_note.OPEN_HERE}, so what works on it is for you to find out: `labkit incident`."
        if report["state"] == "stopped":
            return "The node's containerd is stopped, and its Pods run on. Start it with `labkit containerd start`."
        runs = f" It runs {', '.join(report['processes'])}." if report.get("processes") else ""
        if report.get("memory_mb"):
            runs += f" It takes {report['memory_mb']} MB of memory ({report['accelerator']}, {report['how']})."
        if report.get("lost"):
            runs += f" Lost with the machine before it: {', '.join(report['lost'])}."
        runs += "".join(f" {words}." for words in report.get("unexpected", ()))
        for name, found in report.get("unanswered", {}).items():
            pid = f" (pid {found['pid']})" if found["pid"] else ""
            runs += f"\n{name}{pid} does not answer: {found['error']}. {found['todo']}\n"
        if report.get("kubelet_held"):
            runs += " Its kubelet is suspended. `kubectl logs` and `exec` wait until the notebook resumes it with release()."
        scale = f" The kubelet's back-offs are {report['time_scale']:g} times as long as real ones." if scaled(report) else ""
        return f"The node is {report['state']}: {describe(report)}, since {report['since']}.{runs}{scale} Log: {home.log_file}"

    answer(arguments, report, text)
    return 0 if report["state"] in ("ready", "incident") else 1


def scaled(report: dict[str, Any]) -> bool:
    return (report.get("time_scale") or 1.0) != 1.0


def down(arguments: argparse.Namespace) -> int:
    home, wanted = Home.find(), NodeSelector.parse()
    discovery.require_known_kind(wanted)
    brought = discovery.brought_up(home)
    selected = brought if arguments.all else [c for c in [discovery.last_fitting(wanted, brought)] if c]
    if brought and not selected:
        there = " or ".join(f"`{c.command('down')}`" for c in brought)
        raise NodeError("None of this lab's nodes fits.", f"There are others: {there}.")
    if not brought and containerd_begun(home):
        selected = [NodeSelector("containerd")]
    removed, failures = 0, []
    for node in selected:  # one that fails keeps no other up
        try:
            removed += discovery.kinds()[node.kind].down(home, node, say)
        except (NodeError, CriError) as error:
            failures.append(error)
    for failure in failures[:-1]:
        say(str(failure))
    if failures:
        raise failures[-1]
    others = [c for c in brought if c not in selected and discovery.kinds()[c.kind].report(home, c)["state"] != "down"]
    report = {"state": "down", "pods_removed": removed, "still_up": [c.environ() for c in others]}

    def text() -> str:
        still = " or ".join(f"`{c.command('down')}`" for c in others)
        return f"The node is down ({removed} Pods removed)." + (f" Others of this lab are up: {still}." if others else "")

    answer(arguments, report, text)
    return 0


def containerd_begun(home: Home) -> bool:
    """Whether an `up` ended before the node was ready, so that no list has it."""
    return os.geteuid() == 0 and home.run.exists()


def clean(arguments: argparse.Namespace) -> int:
    report = cleaning.clean(Home.find(), say, cache=arguments.all, forget=arguments.forget)
    report["progress"] = str(progress) if (progress := progress_store.path()).exists() else None

    def text() -> str:
        removed = ", ".join(counted(kind, names) for kind, names in report["removed"].items() if names) or "nothing"
        alone = "".join(f"\nLeft alone: {what}." for what in report["alone"])
        forget = "`labkit progress --reset all` forgets it, or remove the file"
        stays = f"\nYour progress in the course stays in {report['progress']}: {forget}." if report["progress"] else ""
        if report["left"]:
            return f"Removed {removed}. Not all is gone:\n  " + "\n  ".join(report["left"]) + alone + stays
        kept = f" Kept: {report['kept']['path']} ({report['kept']['mb']} MB); --all removes it too." if report["kept"] else ""
        return f"Removed {removed}. Looked again for {', '.join(report['looked'])}: nothing is left.{kept}{alone}{stays}"

    answer(arguments, report, text)
    return 1 if report["left"] else 0


def counted(kind: str, names: Sequence[str]) -> str:
    """"3 files"; for things on a node, whose names begin with their sort, "2 Pods and 1 image from the node
    kind-control-plane"."""
    if not kind.startswith("node "):
        return f"{len(names)} {kind if len(names) != 1 else kind.removesuffix('es' if kind == 'processes' else 's')}"
    sorts = Counter(name.partition(" ")[0] for name in names)
    parts = [f"{count} {sort}{'s' * (count != 1)}" for sort, count in sorts.items()]
    return f"{' and '.join(parts)} from the {kind}"


def env(arguments: argparse.Namespace) -> int:
    """Print the variables by which another shell selects this node of this lab, and by which other programs use it."""
    node = running_node()
    values = {
        **Home.find().environ(),
        **node.selector.environ(),
        "CONTAINER_RUNTIME_ENDPOINT": node.endpoint,
        "IMAGE_SERVICE_ENDPOINT": node.endpoint,
        **node.api.shell_environment(say),
        **{f"LABKIT_IMAGE_{name.upper()}": image for name, image in node.images.items()},
    }
    if not node.host.shares_loopback:
        say(NO_STREAMS)
    report = {"node": node.kind, "endpoint": node.endpoint, "images": dict(node.images), "env": values}
    answer(arguments, report, lambda: "\n".join(f"export {k}={shlex.quote(v)}" for k, v in values.items()))
    return 0


def version(arguments: argparse.Namespace) -> int:
    own = importlib.metadata.version("inside-the-node")
    runtime = state(Home.find())["runtime"]
    answer(
        arguments,
        {"labkit": own, "runtime": runtime},
        lambda: f"labkit {own}; " + (f"{runtime['name']} {runtime['version']}" if runtime else "the node is down"),
    )
    return 0
