"""What a Pod made by hand leaves on its node when its sandbox is gone: files, logs, cgroups, systemd slices.

A runtime removes none of it, and a kubelet removes only that of its own Pods. The Pod's uid is in each name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.node.pods import pod_files
from labkit.node.registry import share
from labkit.util.safepath import is_component

Shell = Callable[[Sequence[str]], str]
"""Runs a command on the node. Returns its standard output. Raises NodeError."""

FIND = r"""
logs=$1 pods=$2 root=$3 slices=$4
for entry in "$logs"/* "$pods"/*; do [ ! -e "$entry" ] || printf 'file %s\n' "$entry"; done
for top in /sys/fs/cgroup /sys/fs/cgroup/*; do
    for base in "$top/$root" "$top/$slices.slice"; do [ ! -d "$base" ] || find "$base" -depth -type d; done
done | sed 's/^/cgroup /'
if [ -d /run/systemd/system ]; then
    units=$(systemctl list-units --all --plain --no-legend --type=slice "$slices.slice" "$slices-*.slice") || exit 1
    [ -z "$units" ] || echo "$units" | while read -r name rest; do echo "unit $name"; done
fi
true
"""

REMOVE = r"""
# /proc/mounts has blanks and backslashes as octal numbers (proc(5)).
octal() { printf '%s' "$1" | sed 's/\\/\\134/g; s/ /\\040/g'; }
points() {
    below=$(octal "$1")
    cut -d' ' -f2 /proc/mounts | while read -r p; do case "$p" in "$below"/*) printf '%s\n' "$p";; esac; done | sort -r
}
failed=
while [ $# -gt 0 ]; do
    case $1 in
    unit) systemctl stop "$2" && { systemctl reset-failed "$2" || true; } 2>/dev/null;;
    cgroup) [ ! -d "$2" ] || find "$2" -depth -type d -exec rmdir {} ';' 2>/dev/null;;
    file)
        for point in $(points "$2"); do umount "$point"; done
        if [ -z "$(points "$2")" ]; then rm -rf -- "$2"; else
            failed="$(points "$2" | head -n 1) is still mounted, so nothing in $2 was removed"
        fi;;
    esac
    shift 2
done
[ -z "$failed" ] || { echo "$failed" >&2; exit 1; }
"""

END_SHIMS = r"""
shims() {
    for file in $(grep -laF -- "$1" /proc/[0-9]*/cmdline 2>/dev/null); do
        pid=${file#/proc/}; pid=${pid%/cmdline}
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != containerd-shim ] || echo "$pid"
    done
}
for id; do
    for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
        [ -n "$(shims "$id")" ] || continue 2
        sleep 0.1
    done
    kill -9 $(shims "$id") 2>/dev/null
done
true
"""


@dataclass(frozen=True)
class PodPaths:
    """Where a node keeps the files of its Pods: the directories of logs and of Pods; `root` is the name of the cgroup above all
    Pods."""

    logs: str
    pods: str
    root: str = "labkit"


PLACES = PodPaths(f"{share.DIRECTORY}/log/pods", f"{share.DIRECTORY}/kubelet/pods")
"""On a node elsewhere."""


def find(shell: Shell, places: PodPaths, uids: Collection[str]) -> list[str]:
    """The residue of the Pods of these uids, and the cgroups that all Pods share if no other Pod has one: "file PATH", "cgroup
    PATH" or "unit NAME", innermost first. Raises NodeError."""
    known = {uid for uid in uids if is_component(uid)}
    output = shell(["sh", "-c", FIND, "sh", places.logs, places.pods, places.root, places.root.replace("-", "_")])
    lines = [line for line in output.split("\n") if line.startswith(("file ", "cgroup ", "unit "))]
    own = [line for line in lines if owner(line, places) in known]
    shared = [line for line in lines if owner(line, places) == ""]
    others = [line for line in lines if line not in own and line not in shared and not line.startswith("file")]
    return own + ([] if others or not known else shared)


def end_shims(shell: Shell, sandboxes: Iterable[str]) -> None:
    """End the shims of sandboxes that are removed: each gets two seconds to end by itself. Raises NodeError."""
    ids = [sandbox for sandbox in sandboxes if sandbox.isalnum()]
    if ids:
        shell(["sh", "-c", END_SHIMS, "sh", *ids])


def remove_of_pod(shell: Shell, places: PodPaths, sandbox: Any) -> None:
    """Remove the residue of one Pod whose sandbox has just been removed. Raises NodeError, as `remove` does."""
    end_shims(shell, [sandbox.id])
    if pod_files.has_files(sandbox.metadata):
        remove(shell, find(shell, places, [sandbox.metadata.uid]))


def remove(shell: Shell, found: Iterable[str]) -> None:
    """Remove the residue, units first, since they make cgroups. Raises NodeError, and removes no file, where anything is still
    mounted in a Pod's directory."""
    order = sorted(found, key=lambda line: ("unit", "cgroup", "file").index(line.partition(" ")[0]))
    if order:
        shell(["sh", "-c", REMOVE, "sh", *(word for line in order for word in line.split(" ", 1))])


def owner(line: str, places: PodPaths) -> str | None:
    """The uid of the Pod that it belongs to, "" for a cgroup that Pods share, None for anything else."""
    what, _, path = line.partition(" ")
    name = os.path.basename(path)
    if what == "file":
        return name if os.path.dirname(path) == places.pods else name.split("_", 2)[-1]
    below = [part for part in path.split("/") if part.startswith("pod") or "-pod" in part]
    if not below:
        return ""
    if below[0].endswith(".slice"):
        return below[0].removesuffix(".slice").partition("-pod")[2].replace("_", "-")
    return below[0].removeprefix("pod")
