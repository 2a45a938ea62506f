"""Versions of containerd, and where its package keeps its systemd unit."""

from __future__ import annotations

import re

UNIT_DIRECTORIES = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
"""Where systemd looks for a unit, the first one first (man 5 systemd.unit)."""


def upstream(package: str) -> str:
    """containerd's own version in a package's: "1.7.24" of "1.7.24~ds1-6+b4", "2.2.0-rc.1" of "1:2.2.0~rc.1-1"."""
    match = re.match(r"(?:\d+:)?v?(\d+\.\d+\.\d+)(?:[~-]((?:alpha|beta|rc)[.\d]*))?", package)
    return "-".join(filter(None, match.groups())) if match else package


def order(version: str) -> tuple[object, ...]:
    """A key by which versions sort; a release candidate comes before its release."""
    base, _, candidate = version.partition("-")
    return (*(int(n) for n in re.findall(r"\d+", base)), not candidate, *(int(n) for n in re.findall(r"\d+", candidate)))


def means(wanted: str, version: str) -> bool:
    """Whether `wanted` ("1.7", "2", "2.x", "v1.7.24") means this version."""
    plain = wanted.removeprefix("v").replace("~", "-")
    plain = re.sub(r"(\.x)+$", "", plain)
    return version == plain or version.startswith(f"{plain}.") or version.startswith(f"{plain}-")
