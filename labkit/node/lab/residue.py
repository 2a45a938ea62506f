"""Everything that a lab can leave on a machine: how it is found, removed, and looked for again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from labkit.kernel import LocalKernel
from labkit.node.host import links
from labkit.node.host.config import SYSTEM_DIRECTORIES
from labkit.node.host.lab_processes import container_ids, own_processes
from labkit.node.observe.shims import socket_path
from labkit.node.state.home import Home
from labkit.node.state.ledger import kept_files
from labkit.util import trees
from labkit.util.errors import NodeError

KINDS = ("processes", "mounts", "network namespaces", "links", "cgroups", "rules", "files")
Residue = dict[str, list[str]]
CNI_NOTES = Path("/var/lib/cni")
"""Where CNI's library records what it made (libcni, CacheDir)."""

NOT_IN_KERNEL = ("not supported", "invalid argument", "does not exist")
"""The messages of these programs where the kernel has no netfilter of their kind, and so no rules."""


def find(home: Home, former: Home | None = None) -> Residue:
    """What of this lab is on the machine now, by kind (KINDS); empty lists where there is nothing. former: the home in which the
    lab was started, if it was another (`labkit.node.state.status.former_home`)."""
    if former:
        return {kind: list(dict.fromkeys([*own, *find(former)[kind]])) for kind, own in find(home).items()}
    own = mounts(home)
    return {
        "processes": [f"{p.comm} (pid {p.pid}, {p.role})" for p in own_processes(home)],
        "mounts": [m for m in own if not is_network_namespace(m)],
        "network namespaces": [m for m in own if is_network_namespace(m)],
        "links": links.links_of(home.bridge),
        "cgroups": [str(c) for c in cgroups(home)],
        "rules": rules(home),
        "files": [str(f) for f in files(home)],
    }


def still_there(paths: Iterable[str]) -> list[str]:
    """Those of the found files and cgroups that still exist, even if what showed whose they are is gone. Directories that labs
    share are left out: another lab may have put something there meanwhile."""
    shared = {*SYSTEM_DIRECTORIES, "k8s.io"}
    return [path for path in paths if os.path.lexists(path) and path not in shared and os.path.basename(path) not in shared]


def is_network_namespace(mount_point: str) -> bool:
    return "/netns/" in mount_point


def mounts(home: Home) -> list[str]:
    """Mount points of this lab, innermost first."""
    points = [m.mount_point for m in LocalKernel().mounts()]
    return sorted((p for p in points if below(p, home.run) or below(p, home.data)), key=len, reverse=True)


def below(path: str, directory: Path) -> bool:
    return path.startswith(f"{directory}/")


def cgroups(home: Home) -> list[Path]:
    """The lab's cgroup directories in every hierarchy, innermost first: those below its root, and those in containerd's own
    /k8s.io that have the id of one of its containers."""
    ids = container_ids(home, LocalKernel().snapshot(fds=False))
    found = []
    for mount in LocalKernel().cgroup_mounts().values():
        found += [Path(base) for base, _, _ in os.walk(mount.mount_point + home.cgroup_root)]
        default = Path(mount.mount_point + "/k8s.io")
        there = {d for d in default.glob("*") if d.is_dir()}
        own = {d for d in there if d.name in ids}
        found += [*own, *([default] if own and own == there else [])]
    return sorted(found, key=lambda p: len(p.parts), reverse=True)


def rules(home: Home) -> list[str]:
    """iptables and nftables rules that name the lab's bridge. labkit makes none, and this proves it. Also a sentence for each
    program that is installed and could not list them."""
    found = []
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # root by su(1) has no sbin in its PATH
    for command in (["iptables-save"], ["ip6tables-save"], ["nft", "list", "ruleset"]):
        if program := shutil.which(command[0], path=path):
            try:
                done = subprocess.run([program, *command[1:]], capture_output=True, encoding="utf-8", errors="replace")
            except OSError as error:
                found.append(f"{command[0]} could not look: {error.strerror}")
                continue
            if done.returncode and not any(words in done.stderr.lower() for words in NOT_IN_KERNEL):
                reason = (done.stderr.strip().splitlines() or [f"it exited with code {done.returncode}"])[-1]
                found.append(f"{command[0]} could not look: {reason}")
            found += [f"{command[0]}: {line.strip()}" for line in done.stdout.splitlines() if home.bridge in line]
    return found


def files(home: Home) -> list[Path]:
    """The lab's directories, and the files that containerd, shims and CNI's library put elsewhere for it."""
    found = [d for d in (home.run, home.data) if d.exists()]
    found += cni_results(home)
    found += [s for s in shim_sockets(home) if s.exists()]
    return found + left_system_directories(home)


def cni_results(home: Home) -> list[Path]:
    """The results that CNI's library keeps of the lab's networks. Their names have network and sandbox; the loopback's has the
    sandbox alone."""
    ids = container_ids(home, LocalKernel().snapshot(fds=False))
    of_network = re.compile(rf"{re.escape(home.network)}-[0-9a-f]{{64}}-")  # another lab's network may begin with this one's name
    return sorted(f for f in CNI_NOTES.glob("*/*") if of_network.match(f.name) or any(i in f.name for i in ids))


def unmount_below(directory: Path) -> None:
    """Unmount whatever is mounted below a directory, innermost first: a container with mount propagation may have mounted a
    host's directory there, whose files must not be removed with it. Raises NodeError where a mount stays."""
    kernel = LocalKernel()
    mounted = kernel.mounts_below(str(directory))
    for point in mounted:
        subprocess.run(["umount", point], capture_output=True)
    if mounted and (stays := kernel.mounts_below(str(directory))):
        raise NodeError(f"{stays[0]} is still mounted, so nothing in {directory} was removed.", "Unmount it, then try again.")


def unlink_shim_socket(home: Home, sandbox_id: str) -> None:
    """Remove the socket of a shim that ended without removing it."""
    socket_path(str(home.socket), sandbox_id).unlink(missing_ok=True)


def shim_sockets(home: Home) -> list[Path]:
    """The sockets of the lab's shims. A shim that was killed leaves its socket. Each bundle says where it is (containerd 1.x in
    `address`, 2.x in `bootstrap.json`); where the bundle is gone, the shim's arguments do."""
    found = set()
    for bundle in home.bundles():
        with contextlib.suppress(OSError):
            found.add((bundle / "address").read_text())
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.add(json.loads((bundle / "bootstrap.json").read_text())["address"])
    pids = {p.pid for p in own_processes(home) if p.role == "shim"}
    for process in LocalKernel().snapshot(fds=False).processes.values():
        if process.pid in pids:
            found.add(str(socket_path(process.option("-address"), process.option("-id"))))
    return sorted(Path(address.removeprefix("unix://")) for address in found)


def left_system_directories(home: Home) -> list[Path]:
    """Empty directories that did not exist before the lab, innermost first."""
    try:
        before = json.loads((home.data / "system-directories.json").read_text())
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(before, list):
        return []
    made = [Path(d) for d in SYSTEM_DIRECTORIES if d not in before and Path(d).is_dir()]
    return sorted(
        (d for d in made if all(Path(base).is_dir() and not names for base, _, names in os.walk(d))),
        key=lambda d: len(d.parts),
        reverse=True,
    )


def in_kernel(home: Home) -> bool:
    """Whether processes, mounts, cgroups or links of the lab exist, even if its files are gone."""
    return bool(own_processes(home) or mounts(home) or cgroups(home) or links.links_of(home.bridge))


def remove_kernel_objects(home: Home, cgroups_before: Iterable[Path] = ()) -> None:
    """Remove mounts, links and cgroups. The processes must have ended. cgroups_before: the cgroups that the lab had while its
    processes ran; some are found only then."""
    for mount_point in mounts(home):
        subprocess.run(["umount", "--lazy", mount_point], capture_output=True)
    links.remove_links(home.bridge)
    for directory in sorted({*cgroups_before, *cgroups(home)}, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):
            directory.rmdir()


def remove_files(home: Home, keep: bool = False, found: Iterable[str] = ()) -> None:
    """Remove the lab's files, and the files that were `found` while it ran. Nothing is removed while anything of the lab is
    mounted: if a lazy unmount failed, the mounted file system must not be emptied."""
    if mounts(home):
        return
    for stray in {*files(home), *map(Path, found)}:
        if stray.is_file() or stray.is_socket():
            stray.unlink(missing_ok=True)
    for directory in left_system_directories(home):
        with contextlib.suppress(OSError):
            directory.rmdir()
    remove_trees(home, keep)


def remove_trees(home: Home, keep: bool) -> None:
    """Remove the lab's directories. keep: keep the list of nodes elsewhere and of the changes made there."""
    trees.remove(home.run)
    if not keep:
        trees.remove(home.data)
        return
    for entry in home.data.iterdir() if home.data.exists() else ():
        if entry in kept_files(home):
            continue
        if entry.is_dir() and not entry.is_symlink():
            trees.remove(entry)
        else:
            entry.unlink(missing_ok=True)


def remove_empty_parents(home: Home) -> None:
    """Remove the directory that LABKIT_HOME names if nothing else is in it."""
    if home.tag:
        with contextlib.suppress(OSError):
            home.run.parent.rmdir()
