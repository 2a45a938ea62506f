"""What a machine looks like, by its own tools and files and nothing of labkit's: taken before and after, and compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

TREES = ("/run", "/var/lib", "/var/log", "/var/cache", "/etc", "/opt", "/usr", "/srv")
TEMPORARY = ("containerd", "runc", "labkit", "cni")


def look(*ours: Path) -> dict[str, set[str]]:
    """Processes, mounts, links, network namespaces, firewall rules, sysctls, cgroups and files; `ours` are left out of
    the files."""
    return {
        "processes": {
            line
            for line in run("ps", "-e", "-o", "args=").splitlines()
            if "<defunct>" not in line
            and any(
                word in line
                for word in ("containerd", "docker-registry", "labkit.node", "labkit.kube", "runc", "pause -P", "[labkit]")
            )
        },
        "mounts": set(Path("/proc/mounts").read_text().splitlines()),
        "links": {line.split(":")[1] for line in run("ip", "-o", "link").splitlines()},
        "addresses and routes": {
            line.replace(" linkdown", "") for line in (run("ip", "-o", "addr") + run("ip", "route")).splitlines()
        },
        "network namespaces": set(run("ip", "netns").splitlines()),
        "rules": {
            line
            for command in (["iptables-save"], ["ip6tables-save"], ["nft", "list", "ruleset"])
            if shutil.which(command[0])
            for line in run(*command).splitlines()
            if not line.startswith("#")
        },
        "sysctls": {line for line in run("sysctl", "-a").splitlines() if "forward" in line and ".conf.veth" not in line},
        "cgroups": {base for base, _, _ in os.walk("/sys/fs/cgroup")},
        "files": {name for tree in TREES for name in walk(Path(tree), ours)}
        | {str(f) for f in Path("/tmp").iterdir() if any(word in f.name for word in TEMPORARY)},
    }


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
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    ).stdout


def changed(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, dict[str, set[str]]]:
    """Only what differs: {kind: {"new": …, "gone": …}}."""
    return {
        kind: {"new": after[kind] - before[kind], "gone": before[kind] - after[kind]}
        for kind in before
        if before[kind] != after[kind]
    }
