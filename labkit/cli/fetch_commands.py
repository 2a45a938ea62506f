"""`labkit fetch`: bring other releases of the node's programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from labkit.cli.common import AddVerb, answer, say
from labkit.node import Home, NodeError
from labkit.node.packages import releases


def add(verb: AddVerb) -> None:
    text = "fetch another release of containerd; without a version, list those that are here and those that can be fetched"
    command = verb("fetch", fetch, text, "labkit fetch containerd 1.7", node=False)
    command.add_argument("program", choices=["containerd"], help="the program")
    command.add_argument("version", nargs="?", help="a version or its beginning: 1.7, 1.7.24, 2")
    command.add_argument("--from", dest="file", metavar="FILE", type=Path, help="a release file of containerd's own (.tar.gz)")
    command.add_argument("--sha256", metavar="SUM", default="", help="its checksum (default: that in FILE.sha256sum)")


def fetch(arguments: argparse.Namespace) -> int:
    cache = Home.find().cache
    if arguments.file and arguments.version:
        raise NodeError("--from FILE takes the version from the file.", "Leave out the version.")
    if not (arguments.file or arguments.version):
        return listed(arguments, cache)
    if arguments.file:
        release = releases.from_file(cache, arguments.file, arguments.sha256, say)
    else:
        release = releases.ensure(cache, arguments.version, say)
    report = {"version": release.version, "package": release.package, "containerd": str(release.containerd)}
    todo = f"`labkit containerd upgrade {release.version}` puts it in place of the node's."
    answer(arguments, report, lambda: f"containerd {release.version} is here: {release.containerd}. {todo}")
    return 0


def listed(arguments: argparse.Namespace, cache: Path) -> int:
    here = releases.here(cache)
    offered = [o for o in releases.offers(cache, say) if o.version not in {r.version for r in here}]
    report = {
        "here": [{"version": r.version, "package": r.package, "default": r.default} for r in here],
        "offers": [vars(o) for o in offered],
    }

    def text() -> str:
        lines = [f"here         {r.version:<12} {r.package}{'  (the default)' if r.default else ''}" for r in here]
        lines += [f"can be had   {o.version:<12} {o.package} from {o.suite}" for o in offered]
        return "\n".join([*lines, f"any other    a release file from {releases.WHERE}, by --from FILE"])

    answer(arguments, report, text)
    return 0
