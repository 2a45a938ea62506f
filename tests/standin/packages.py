"""Debian packages for the fixture, brought beside the system as labkit brings its own, and where Debian 13's come from."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.node import Home
from labkit.node.packages.unpack import Unpacked, fetch

NEWER_SUITE = "trixie"
SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))


def cache() -> Path:
    """Where everything is kept that a later run need not fetch or make again."""
    return Home.find().cache / "tests-standin"


def bring(name: str, packages: Sequence[str], *, suite: str = "") -> Unpacked:
    """`packages` and what they depend on, of this machine's own release or of another `suite`. Raises ProgramsError."""
    sources = sources_file(suite) if suite else None
    return fetch(packages, dest=cache() / f"{name}-{suite or codename()}", dependencies=True, sources=sources)


def codename() -> str:
    """This machine's release: "bookworm" for Debian 12 (os-release(5))."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def sources_file(suite: str) -> Path:
    """A file for apt (sources.list(5), the deb822 style) that has `suite` from the same mirrors as this machine's own release."""
    files = [SOURCES[0], *sorted(SOURCES[1].glob("*.list")), *sorted(SOURCES[1].glob("*.sources"))]
    stanzas = [stanza for file in files if file.exists() for stanza in stanzas_of(file)]
    moved = list(dict.fromkeys(moved for stanza in stanzas if (moved := with_suite(stanza, codename(), suite))))
    if not moved:
        raise RuntimeError(f"No source of this machine has {codename()} main, so no mirror is known that could have {suite}.")
    path = cache() / f"{suite}.sources"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(moved))
    return path


def stanzas_of(file: Path) -> Iterator[str]:
    """Each source as a deb822 stanza, in whichever of the two styles the file is."""
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    if file.suffix == ".sources":
        yield from (stanza.strip("\n") + "\n" for stanza in re.split(r"\n\s*\n", text) if stanza.strip())
        return
    for options, uri, suite, components in re.findall(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+)$", text, re.MULTILINE):
        signed_by = re.search(r"signed-by=(\S+)", options)
        key = f"Signed-By: {signed_by[1]}\n" if signed_by else ""
        yield f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: {components}\n{key}"


def with_suite(stanza: str, own: str, suite: str) -> str:
    """The stanza for `suite` in place of `own` ("trixie-updates" for "bookworm-updates"), main only; "" if it is another."""
    fields = dict(re.findall(r"^(\S+): *(.*(?:\n[ \t].*)*)$", stanza, re.MULTILINE))
    suites = [suite + s.removeprefix(own) for s in fields.get("Suites", "").split() if s == own or s.startswith(f"{own}-")]
    if "deb" not in fields.get("Types", "").split() or "main" not in fields.get("Components", "").split() or not suites:
        return ""
    fields |= {"Types": "deb", "Suites": " ".join(suites), "Components": "main"}
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if name != "Enabled")
