"""`labkit vm …`: builds the virtual machine, packs it into a file, and opens its console."""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import termios
import time
import tty
from pathlib import Path

from labkit.cli.common import AddVerb, answer, say
from labkit.node import Home, NodeError
from labkit.node.machine import build, image_bundle, machine, packages
from labkit.node.vm.vm_home import MachinePaths
from labkit.node.vm.warm import warm

DETACH = b"\x1d"
"""Ctrl-], as telnet(1) has it."""


def add(verb: AddVerb) -> None:
    text = "build the virtual machine, carry it elsewhere, or see its console"
    command = verb("vm", run, text, "labkit vm build", reports=False, node=False)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("build", help="make the machine of the distribution's packages, boot it once, and save it")
    make.add_argument("--output", metavar="FILE", type=Path, help="also write it into one file, and its checksum into another")
    make.add_argument("--json", action="store_true", help="print JSON for programs")
    use = actions.add_parser("use", help="take a machine that `labkit vm build --output FILE` wrote")
    use.add_argument("file", type=Path)
    use.add_argument("--sha256", metavar="SUM", default="", help="its checksum (default: that in FILE.sha256)")
    use.add_argument("--json", action="store_true", help="print JSON for programs")
    actions.add_parser("console", help="be at the machine's console; Ctrl-] leaves it")


def run(arguments: argparse.Namespace) -> int:
    return {"build": make_image, "use": use_image, "console": console}[arguments.action](arguments)


def make_image(arguments: argparse.Namespace) -> int:
    """Build it. Prints each step with its time, and the sizes in the end."""
    if reason := packages.builds_here():
        raise NodeError(reason, "Use the kind containerd or kind, or `labkit vm use FILE`.")
    if arguments.output:
        image_bundle.refuse_unwritable(arguments.output)
    home, began = Home.find(), time.monotonic()

    def progress(text: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {text}")

    tools = packages.ensure_tools(home.cache, progress, building=True)
    image = build.build(home.cache, tools, progress)
    accelerator = machine.accelerator(tools)
    try:
        state = build.save_state(image, tools, accelerator, home.cache, progress, warm)
    except machine.MachineError as error:
        raise NodeError(f"The machine did not boot: {error}", f"Its disks are in {image.directory}.") from None
    report = {**build.as_record(image), "state": str(state), "state_bytes": state.stat().st_size, "accelerator": accelerator}
    report["seconds"] = round(time.monotonic() - began, 1)
    if arguments.output:
        progress(f"writing {arguments.output}")
        report |= {"output": str(arguments.output), "sha256": image_bundle.pack(image, arguments.output)}
    answer(arguments, report, lambda: described(image, report))
    return 0


def described(image: build.MachineImage, report: dict[str, object]) -> str:
    sizes = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in image.sizes.items())
    state = f"saved state {int(str(report['state_bytes'])) / 1e6:.0f} MB ({build.described(str(report['accelerator']))})"
    lines = [f"The virtual machine is built: {image}.", f"{sizes}, {state}; in {image.directory}, after {report['seconds']} s."]
    if "output" in report:
        lines.append(f"{report['output']}: sha256 {report['sha256']}")
    return "\n".join(lines)


def use_image(arguments: argparse.Namespace) -> int:
    image = image_bundle.unpack(arguments.file, Home.find().cache, say, arguments.sha256)
    text = f"The virtual machine is here: {image}. Start it with `labkit up --node vm`."
    answer(arguments, build.as_record(image), lambda: text)
    return 0


def console(arguments: argparse.Namespace) -> int:
    """Join this terminal to the machine's first serial line, where a root shell waits."""
    path = MachinePaths(Home.find()).sockets / "console.sock"
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(str(path))
        except OSError:
            raise NodeError("The virtual machine does not run.", "Start it with `labkit up --node vm`.") from None
        if not sys.stdin.isatty():
            raise NodeError("A console needs a terminal.", "Run `labkit vm console` in one.")
        print("The machine's console; Ctrl-] leaves it.", flush=True)
        before = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            line.sendall(b"\n")
            join(line)
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
            print()
    return 0


def join(line: socket.socket) -> None:
    """Copy between the terminal and the serial line until Ctrl-] or the end of the machine."""
    while True:
        for ready in select.select([0, line.fileno()], [], [])[0]:
            data = os.read(ready, 4096)
            if not data or (ready == 0 and DETACH in data):
                return
            os.write(line.fileno() if ready == 0 else 1, data)
