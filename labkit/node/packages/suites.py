"""Other releases of this machine's distribution, from its own mirrors: where newer and older packages come from.

A file of labkit's own names the other suite; the system's sources stay as they are. Knowledge: sources.list(5), both styles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

SUITES = {
    "debian": ("bullseye", "bookworm", "trixie", "forky", "sid"),
    "ubuntu": ("jammy", "noble", "plucky", "questing", "resolute"),
}
"""Releases of a distribution, oldest first. One that the mirror has not, or has no more, is passed over."""

KEPT = {"debian": {"main"}, "ubuntu": {"main", "universe"}}
"""The components that are asked for: containerd and what it needs is there."""


def own(release: Mapping[str, str]) -> tuple[str, str]:
    """(distribution, code name) of this machine by os-release(5), e.g. ("debian", "bookworm"); ("", "") for any other system.
    A derivative of Ubuntu has the packages, and the code name, of the Ubuntu below it."""
    if release.get("UBUNTU_CODENAME"):
        return "ubuntu", release["UBUNTU_CODENAME"]
    if release.get("ID") in SUITES:
        return release["ID"], release.get("VERSION_CODENAME", "sid")
    return "", ""


def others(release: Mapping[str, str]) -> tuple[str, ...]:
    """The other suites of this machine's distribution: the newer ones, the nearest first, then the older ones likewise."""
    distribution, codename = own(release)
    suites = SUITES.get(distribution, ())
    if codename not in suites:
        return suites
    at = suites.index(codename)
    return suites[at + 1 :] + tuple(reversed(suites[:at]))


def sources(suite: str, release: Mapping[str, str], etc: Path = Path("/etc/apt")) -> str:
    """The text of a sources file (deb822 style) that has `suite` from the same mirrors as this machine's own release, its
    updates and security updates too, and with the same keys. "" where no source of this machine has its own release."""
    distribution, codename = own(release)
    parts = etc / "sources.list.d"
    files = [etc / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]
    stanzas = [stanza for file in files if file.is_file() for stanza in _stanzas(file)]
    moved = [_moved(stanza, codename, suite, KEPT.get(distribution, set())) for stanza in stanzas]
    return "\n".join(dict.fromkeys(filter(None, moved)))


def _stanzas(file: Path) -> Iterator[dict[str, str]]:
    """Each source as the fields of a deb822 stanza, in whichever of the two styles the file is."""
    text = "\n".join(line for line in file.read_text(errors="replace").splitlines() if not line.startswith("#"))
    if file.suffix == ".sources":
        for stanza in re.split(r"\n[ \t]*\n", text):
            yield dict(re.findall(r"^(\S+): *(.*(?:\n[ \t].*)*)$", stanza, re.MULTILINE))
        return
    line = r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+([^#\n]+)"
    for options, uri, suite, components in re.findall(line, text, re.MULTILINE):
        signed_by = re.search(r"signed-by=(\S+)", options)
        more = {"Signed-By": signed_by[1]} if signed_by else {}
        yield {"Types": "deb", "URIs": uri, "Suites": suite, "Components": components.strip(), **more}


def _moved(fields: Mapping[str, str], codename: str, suite: str, kept: set[str]) -> str:
    """The stanza for `suite` in place of `codename` ("trixie-updates" for "bookworm-updates"); "" if it is another source's."""
    parts = [s.removeprefix(codename) for s in fields.get("Suites", "").split() if re.fullmatch(rf"{codename}(-\w+)?", s)]
    parts = [part for part in parts if part in ("", *(() if suite == "sid" else ("-updates", "-security")))]
    components = [c for c in fields.get("Components", "").split() if c in kept]
    if "deb" not in fields.get("Types", "").split() or fields.get("Enabled") == "no" or not (parts and components):
        return ""
    stanza = {"Types": "deb", "URIs": fields.get("URIs", ""), "Suites": " ".join(suite + p for p in parts)}
    stanza |= {"Components": " ".join(components), **{k: v for k, v in fields.items() if k == "Signed-By"}}
    return "".join(f"{name}: {value}\n" for name, value in stanza.items())


def read_os_release(file: Path = Path("/etc/os-release")) -> dict[str, str]:
    """The fields of os-release(5); empty where there is no such file."""
    try:
        text = file.read_text()
    except OSError:
        return {}
    return {key: value.strip("\"'") for key, value in re.findall(r"^([A-Z_]+)=(.*)$", text, re.MULTILINE)}
