"""Which kinds of node can work on this machine, and why the others cannot."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from labkit.node.errors import NodeError
from labkit.node.home import Home
from labkit.node.programs import missing_advice

KINDS = ("kind", "containerd", "vm", "cri")
NOT_YET = "labkit cannot use this kind yet."


@dataclass(frozen=True)
class Verdict:
    """One row of `labkit doctor`. `fix` is the command or the step that would make the kind usable, "" where it is."""

    kind: str
    usable: bool
    why: str
    fix: str


def examine(home: Home) -> list[Verdict]:
    """A verdict for every kind of node, in the order in which `auto` prefers them."""
    return [LOOKS[kind](home) for kind in KINDS]


def look_kind(home: Home) -> Verdict:
    if not shutil.which("docker"):
        return Verdict("kind", False, f"{NOT_YET} There is no docker command here either.", "use the kind containerd")
    return Verdict("kind", False, NOT_YET, "use the kind containerd")


def look_containerd(home: Home) -> Verdict:
    if sys.platform != "linux":
        return Verdict(
            "containerd", False, f"It needs Linux, and this is {sys.platform}.", "run the course in a Linux virtual machine"
        )
    if os.geteuid() != 0:
        return Verdict("containerd", False, "It needs root, and this is an ordinary user.", "sudo ./course start")
    if lacks := missing_capabilities():
        return Verdict(
            "containerd",
            False,
            f"root lacks {', '.join(lacks)} here.",
            "run outside of this container, or give it these capabilities",
        )
    advice = missing_advice(home.cache)
    if advice:
        return Verdict("containerd", False, advice[0], advice[1])
    return Verdict("containerd", True, "root on Linux: a private containerd, apart from the system's", "")


def look_vm(home: Home) -> Verdict:
    return Verdict("vm", False, NOT_YET, "use the kind containerd")


def look_cri(home: Home) -> Verdict:
    return Verdict("cri", False, NOT_YET, "use the kind containerd")


LOOKS: dict[str, Callable[[Home], Verdict]] = {"kind": look_kind, "containerd": look_containerd, "vm": look_vm, "cri": look_cri}

NEEDED = {
    "CAP_SYS_ADMIN": 21,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_CHROOT": 18,
    "CAP_MKNOD": 27,
    "CAP_SETUID": 7,
    "CAP_SETGID": 6,
    "CAP_KILL": 5,
}
"""What namespaces, mounts, links and processes of other users need (man 7 capabilities): name → bit."""


def missing_capabilities() -> list[str]:
    with open("/proc/self/status") as status:
        effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def choose(wanted: str, home: Home) -> Verdict:
    """The verdict of the kind that `connect` shall use: the one asked for, or the first usable. Raises NodeError,
    saying why and what to do."""
    kind = wanted.partition(":")[0]
    if kind != "auto" and kind not in KINDS:
        raise NodeError(f"{wanted!r} is no kind of node.", f"Choose one of auto, {', '.join(KINDS)}.")
    verdicts = examine(home)
    for verdict in verdicts:
        if verdict.usable and kind in ("auto", verdict.kind):
            return verdict
    if kind == "auto":
        reasons = "; ".join(f"{v.kind}: {v.why}" for v in verdicts)
        fix = next((v.fix for v in verdicts if v.kind == "containerd"), "")
        raise NodeError(f"No kind of node can work here ({reasons}).", f"Try: {fix}.")
    verdict = next(v for v in verdicts if v.kind == kind)
    raise NodeError(f"A node of kind {kind} cannot work here. {verdict.why}", f"Try: {verdict.fix}.")
