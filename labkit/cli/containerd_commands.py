"""`labkit containerd …`: kills, stops, starts and replaces the node's container runtime."""

from __future__ import annotations

import argparse
from typing import Any

from labkit.cli.common import AddVerb, add_node_options, answer, need_up
from labkit.node import Home, NodeSelector, connect
from labkit.node.kinds import discovery
from labkit.node.lab.daemon import Daemon
from labkit.node.state.runtime_daemon import RuntimeChange
from labkit.node.vm.vm_daemon import VmDaemon
from labkit.node.vm.vm_home import MachinePaths

ACTIONS = {
    "status": "say which version runs, and its pid",
    "kill": "SIGKILL; it does not run until it is started again",
    "stop": "SIGTERM; it does not run until it is started again",
    "start": "start it and wait until it answers",
    "restart": "stop it, start it, and wait until it answers",
    "upgrade": "replace it by a newer version under running Pods; fetched first where it is not here",
    "downgrade": "replace it by an older version, where that can read what the newer one wrote",
    "versions": "list the versions that are here",
}
WITH_VERSION = ("upgrade", "downgrade")


def add(verb: AddVerb) -> None:
    text = "kill, stop, start or replace the node's containerd; Pods run on"
    command = verb("containerd", run, text, "labkit containerd upgrade 1.7", reports=False, node=False)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, what in ACTIONS.items():
        action = actions.add_parser(name, help=what, description=what[0].upper() + what[1:] + ".")
        action.add_argument("--json", action="store_true", help="print JSON for programs")
        add_node_options(action)
        if name in WITH_VERSION:
            action.add_argument("version", help="a version or its beginning: 1.7, 1.7.24, 2")
        if name == "downgrade":
            action.add_argument(
                "--force", action="store_true", help="even if it kills Pods whose shims the older one cannot reach"
            )


def run(arguments: argparse.Namespace) -> int:
    daemon = the_daemon()
    action = arguments.action
    if action == "versions":
        found = [{"version": v, "runs": v == daemon.version} for v in daemon.versions()]
        answer(arguments, found, lambda: "\n".join(f"{'*' if v['runs'] else ' '} {v['version']}" for v in found))
        return 0
    try:
        if action == "status":
            done = None
        elif action == "upgrade":
            done = daemon.upgrade(arguments.version)
        elif action == "downgrade":
            done = daemon.downgrade(arguments.version, force=arguments.force)
        else:
            done = getattr(daemon, action)()
    except KeyboardInterrupt as interrupt:  # nothing is undone here
        raise KeyboardInterrupt(str(interrupt) or "stopped") from None
    report = {"version": daemon.version, "state": daemon.state, "pid": daemon.pid, **changed(done)}
    answer(arguments, report, lambda: sentence(report, done))
    return 0


def the_daemon() -> Any:
    """The daemon of the selected node. It starts nothing, also where containerd is stopped."""
    home = Home.find()
    need_up(home)
    selected = discovery.resolve(NodeSelector.parse(), home)
    if selected.kind == "vm":
        return VmDaemon(MachinePaths(home))
    return Daemon(home) if selected.kind == "containerd" else connect().daemon


def changed(done: RuntimeChange | None) -> dict[str, Any]:
    return {} if done is None else {"action": done.action, "before": done.before, "away_s": done.away_s}


def sentence(report: dict[str, Any], done: RuntimeChange | None) -> str:
    now = f"containerd {report['version']} is {report['state']}"
    pid = f", pid {report['pid']}" if report["pid"] else ""
    if done is None or done.away_s is None:
        hint = "" if pid else "; start it with `labkit containerd start`"
        return f"{now}{pid}{hint}."
    if done.before == done.after:
        return f"{now}{pid}; there was nothing to do."
    return f"{now}{pid}, in place of {done.before}; it was down for {done.away_s:.2f} s."
