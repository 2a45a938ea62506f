"""What a machine looks like, by its own tools and files and nothing of labkit's.

`look` takes all of it, to be compared before and after while nothing else runs (`pytest.mark.alone`); `of` what belongs to one
home, whatever runs beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from labkit.node import Home

TREES = ("/run", "/var/lib", "/var/log", "/var/cache", "/etc", "/opt", "/usr", "/srv")
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
TEMPORARY = ("containerd", "runc", "labkit", "cni")


WORDS = ("containerd", "docker-registry", "labkit.node", "labkit.kubelet", "labkit.apiserver", "runc", "pause -P", "[labkit]")
"""In the command lines of what a lab can leave behind."""


def look(*ours: Path) -> dict[str, set[str]]:
    """Processes, mounts, links, network namespaces, firewall rules, sysctls, cgroups and files; `ours` are left out of
    the files."""
    return {
        "processes": {
            line
            for line in run("ps", "-ww", "-e", "-o", "args=").splitlines()
            if "<defunct>" not in line
            and any(
                word in line
                for word in WORDS
            )
        },
        "mounts": set(Path("/proc/mounts").read_text().splitlines()),
        "links": {line.split(":")[1] for line in run("ip", "-o", "link").splitlines()},
        "addresses and routes": {
            line.replace(" linkdown", "") for line in (run("ip", "-o", "addr") + run("ip", "route")).splitlines()
        },
        "network namespaces": set(run("ip", "netns").splitlines()),
        "rules": set(rules()),
        "sysctls": {line for line in run("sysctl", "-a").splitlines() if "forward" in line and ".conf.veth" not in line},
        "cgroups": set(cgroups()),
        "files": {name for tree in TREES for name in walk(Path(tree), ours)}
        | {str(f) for f in Path("/tmp").iterdir() if any(word in f.name for word in TEMPORARY)},
    }


def rules() -> Iterator[str]:
    """The firewall's, where it has a program to list them, without the packets that they have counted."""
    for command in (["iptables-save"], ["ip6tables-save"], ["nft", "list", "ruleset"]):
        if shutil.which(command[0], path=PATH):
            for line in run(*command).splitlines():
                if not line.startswith("#"):
                    yield re.sub(r"\[\d+:\d+\]|packets \d+ bytes \d+", "", line)


def of(home: Home) -> dict[str, set[str]]:
    """What there is of one lab, by its names: {kind: …} without kinds of which there is nothing. Its own directories, which are
    looked at more easily, are left out."""
    base = home.run.parent
    names = (str(base), f"labkit-{home.tag}")
    lines = {
        "processes": processes(),
        "mounts": Path("/proc/mounts").read_text().splitlines(),
        "links": run("ip", "-o", "link").splitlines(),
        "addresses and routes": (run("ip", "-o", "addr") + run("ip", "route")).splitlines(),
        "sysctls": run("sysctl", "-a").splitlines(),
        "cgroups": cgroups(),
        "files": [*map(str, Path("/tmp").iterdir()), *(name for tree in ("/run", "/etc") for name in walk(Path(tree), ()))],
    }
    found = {kind: {line for line in each if any(name in line for name in names)} for kind, each in lines.items()}
    found["files"] -= {str(base)}
    return {kind: each for kind, each in found.items() if each}


def cgroups() -> Iterator[str]:
    """Every cgroup's directory, but for those that go meanwhile, on which Path.glob would fail."""
    return (directory for directory, _, _ in os.walk("/sys/fs/cgroup"))


def processes() -> Iterator[str]:
    """Arguments, cgroups and environment of each process that is no zombie: a Pod's has the lab's name in its cgroup only."""
    for process in Path("/proc").glob("[0-9]*"):
        told = dict.fromkeys(("stat", "cmdline", "cgroup", "environ"), "")
        for name in told:
            with contextlib.suppress(OSError):  # it has ended, or nobody may read that
                told[name] = (process / name).read_text(errors="replace")
        if ") Z " not in told.pop("stat"):
            yield f"{process.name} {' '.join(told.values())}"


def at_rest(*ours: Path) -> dict[str, set[str]]:
    """The machine once nothing changes any more: the session's own lab may still be removing an earlier test's Pods."""
    end = time.monotonic() + 60
    before, now = {}, look(*ours)
    while before != now and time.monotonic() < end:
        time.sleep(1)
        before, now = now, look(*ours)
    return now


def walk(tree: Path, ours: tuple[Path, ...]) -> set[str]:
    found = set()
    for base, directories, files in os.walk(tree):
        directories[:] = [d for d in directories if Path(base, d) not in ours and d != "__pycache__"]
        found |= {os.path.join(base, name) for name in (*directories, *files)}
    return found


def run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": PATH}).stdout


def changed(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """Only what differs: {kind: {"new": …, "gone": …}}."""
    return {
        kind: {"new": after[kind] - before[kind], "gone": before[kind] - after[kind]}
        for kind in before
        if before[kind] != after[kind]
    }
