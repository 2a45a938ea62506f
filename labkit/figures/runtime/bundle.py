"""An OCI bundle's config.json, which runc reads, beside the CRI messages that asked for what is in it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, text_width, title_height, wrap
from labkit.figures.namespaces.groups import words

WIDTH, STACKED, ROW, HEAD, GAP, BETWEEN = 860.0, 600.0, 18.0, 22.0, 7.0, 104.0
"""px; BETWEEN the two columns there is room for OWN. Below STACKED what was written is below what asked for it."""
OWN = "the runtime adds"
NAMESPACES = {"network": "network", "uts": "network", "ipc": "ipc", "pid": "pid", "mount": "", "user": "", "cgroup": ""}
"""OCI namespace type → the field of CRI's NamespaceOption that decides on it, "" where the runtime does (containerd's CRI plugin,
`spec_opts.go`: uts goes with network)."""
RESOURCES = (
    # ContainerConfig linux.resources, config.json linux.resources (OCI runtime-spec config-linux.md, "Control groups")
    ("cpu_shares", "cpu.shares"),
    ("cpu_quota", "cpu.quota"),
    ("cpu_period", "cpu.period"),
    ("memory_limit_in_bytes", "memory.limit"),
)


@dataclass(frozen=True)
class Pair:
    """One entry of config.json and the field of a CRI message that asked for it.

    asked: "" where no message did and the runtime added it. text: the pair in words without what differs from run to run, ""
    where even its presence depends on the machine.
    """

    group: str
    asked: str
    wrote: str
    text: str


@in_any_width
def bundle(
    spec: Mapping[str, Any],
    sandbox_config: Mapping[str, Any],
    container_config: Mapping[str, Any],
    *,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw what CRI asked for on the left, and what the runtime wrote into config.json for it on the right.

    `spec`: the bundle's config.json (OCI runtime-spec, config.md). The messages as dicts with the names of api.proto, as a
    recorded CreateContainer has them in `request["sandbox_config"]` and `request["config"]`. Drawn are program, namespaces,
    mounts and cgroup: what makes a process a container's.
    """
    rows = list(pairs(spec, sandbox_config, container_config))
    asked = sum(bool(row.asked) for row in rows)
    title_text = title or _title(asked, len(rows) - asked)
    heads = wrap(title_text, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    if width < STACKED:
        return _stacked(rows, heads, width, _alternative_text(rows, title or ""))
    column = (width - 2 * MARGIN - BETWEEN) / 2
    far = width - MARGIN - column
    placed: list[tuple[Pair, float, list[str]]] = []
    bands: list[tuple[str, float, float]] = []
    y = top + HEAD
    for group in dict.fromkeys(row.group for row in rows):
        begin = y
        y += HEAD
        for row in (row for row in rows if row.group == group):
            lines = wrap(row.wrote, column - 22, style.SMALL)
            placed.append((row, y, lines))
            y += ROW * len(lines)
        bands.append((group, begin, y + 2 - begin))
        y += GAP

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for x, heading in ((MARGIN, "CRI asked"), (far, "config.json says")):
            canvas.text(x + 8, top + HEAD / 2, heading, bold=True)
        for group, begin, high in bands:
            for x in (MARGIN, far):
                canvas.box(x, begin, column, high, "band")
            canvas.text(MARGIN + 8, begin + HEAD / 2, group, style.SMALL, "muted", bold=True)
        for row, at, lines in placed:
            _paint_pair(canvas, row, at, lines, column, far)

    return Figure(_alternative_text(rows, title or ""), paint, width, y + 4)


def _stacked(rows: Sequence[Pair], heads: list[str], width: float, alt: str) -> Figure:
    steps: list[tuple[float, str, str, str, bool]] = []  # y, colour, words, ink, whether the line begins something
    bands, y = [], title_height(heads)
    room = width - 2 * MARGIN - 20
    for group in dict.fromkeys(row.group for row in rows):
        begin = y
        steps.append((y + HEAD / 2, "", group, "muted", True))
        y += HEAD
        for row in (row for row in rows if row.group == group):
            for number, line in enumerate(wrap(row.asked or OWN, room, style.SMALL)):
                steps.append((y + ROW / 2, "kubelet" if row.asked else "containerd", line, "muted", number == 0))
                y += ROW - 3
            for number, line in enumerate(wrap(f"→ {row.wrote}", room - 8, style.SMALL)):
                steps.append((y + ROW / 2, "", line, "text", number == 0))
                y += ROW - 3
            y += 6
        bands.append((begin, y - begin))
        y += GAP

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        for begin, high in bands:
            canvas.box(MARGIN, begin, width - 2 * MARGIN, high, "band")
        for at, colour, line, ink, _ in steps:
            if colour:
                canvas.box(MARGIN, at - ROW / 2 + 2, 4, 2 * ROW - 6, colour)
            inset = 12.0 if colour or ink == "muted" else 20.0
            canvas.text(MARGIN + inset, at, line, style.SMALL, ink, bold=not colour and ink == "muted")

    return Figure(alt, paint, width, y + 4)


def pairs(spec: Mapping[str, Any], sandbox_config: Mapping[str, Any], container_config: Mapping[str, Any]) -> Iterable[Pair]:
    """The entries in the order in which they are drawn: program, namespaces, mounts, cgroup."""
    yield from _program(spec, container_config)
    yield from _namespaces(spec, container_config)
    yield from _mounts(spec, container_config)
    yield from _cgroup(spec, sandbox_config, container_config)


def _program(spec: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Pair]:
    process = spec.get("process", {})
    line = [*config.get("command", []), *config.get("args", [])]
    args = " ".join(process.get("args", []))
    asked = f"command: {' '.join(line)}" if line else ""
    yield Pair("program", asked, f"process.args: {args}", f"{'command' if asked else OWN} → process.args {args}")
    given = {each.get("key"): each.get("value", "") for each in config.get("envs", [])}
    names = [entry.partition("=")[0] for entry in process.get("env", [])]
    mine = [name for name in names if name in given]
    if mine:
        yield Pair("program", f"envs: {', '.join(mine)}", f"process.env: {', '.join(mine)}", f"envs → process.env {words(mine)}")
    if own := [name for name in names if name not in given]:
        yield Pair("program", "", f"process.env: {', '.join(own)}", f"{OWN} → process.env {words(own)}")
    image = config.get("image", {}).get("user_specified_image") or config.get("image", {}).get("image", "")
    root = spec.get("root", {}).get("path", "")
    short = root.rpartition("/")[2]
    yield Pair("program", f"image: {image}", f"root.path: {root}", f"image → root.path {short}")


def _namespaces(spec: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Pair]:
    options = config.get("linux", {}).get("security_context", {}).get("namespace_options", {})
    entries = {each["type"]: each.get("path", "") for each in spec.get("linux", {}).get("namespaces", [])}
    for kind, option in NAMESPACES.items():
        chosen = options.get(option, "POD") if option else ""
        if kind not in entries and not (option and chosen == "NODE"):
            continue
        path = entries.get(kind, "")
        does = "none: the node's own" if kind not in entries else f"join {path}" if path else "make a new one"
        text = does.partition(" /")[0] + (" the pause's" if path and chosen == "POD" else "")
        asked = f"namespace_options.{option}: {chosen}" if option else ""
        asked += ", and uts" if kind == "uts" else ""
        # Only a kernel with cgroup v2 gives a container a cgroup namespace of its own.
        text = "" if kind == "cgroup" else f"{f'{option} {chosen}' if option else OWN} → {kind}: {text}"
        yield Pair("namespaces", asked, f"{kind}: {does}", text)


def _mounts(spec: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Pair]:
    wanted = {each.get("container_path") for each in config.get("mounts", [])}
    own: dict[str, list[str]] = {}
    for mount in spec.get("mounts", []):
        place, kind = mount["destination"], mount.get("type", "bind")
        if place in wanted:
            source = _end(mount.get("source", ""))
            yield Pair("mounts", f"mounts: {place}", f"{place}: bind {source}", f"mounts {place} → bind {place}")
        else:
            bound = kind in ("bind", "rbind")
            own.setdefault("files and memory of the Pod" if bound else "the kernel's own", []).append(place)
    for what, places in own.items():
        yield Pair("mounts", "", f"{what}: {', '.join(places)}", f"{OWN} → {what}: {words(sorted(places), 12)}")


def _cgroup(spec: Mapping[str, Any], sandbox: Mapping[str, Any], config: Mapping[str, Any]) -> Iterable[Pair]:
    parent = sandbox.get("linux", {}).get("cgroup_parent", "")
    path = spec.get("linux", {}).get("cgroupsPath", "")
    if path:
        asked = f"cgroup_parent: {_end(parent)}" if parent else ""
        # With systemd the path is slice:prefix:name, and the slice is the last part of the parent.
        inside = parent and (path.startswith(parent) or path.partition(":")[0] == parent.rpartition("/")[2])
        text = "cgroupsPath below it" if inside else "cgroupsPath"
        yield Pair("cgroup", asked, f"cgroupsPath: {_end(path)}", f"{'cgroup_parent' if asked else OWN} → {text}")
    given, written = config.get("linux", {}).get("resources", {}), spec.get("linux", {}).get("resources", {})
    for field, name in RESOURCES:
        group, _, key = name.partition(".")
        value = written.get(group, {}).get(key)
        if value is not None:
            asked = f"resources.{field}: {given[field]}" if field in given else ""
            yield Pair("cgroup", asked, f"{name}: {value}", f"{field if asked else OWN} → {name} {value}")


def _end(path: str) -> str:
    """The last parts of a path, ids in it short."""
    short = re.sub(r"([0-9a-f]{8})[0-9a-f]{5,}|([0-9a-f]{8})(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}", r"\1\2…", path)
    parts = short.split("/")
    return short if len(parts) <= 3 else "…/" + "/".join(parts[-2:])


def _paint_pair(canvas: Canvas, row: Pair, top: float, lines: Sequence[str], column: float, far: float) -> None:
    y = top + ROW / 2
    canvas.box(far, top + 2, 4, ROW * len(lines) - 4, "kubelet" if row.asked else "containerd")
    for number, line in enumerate(lines):
        canvas.text(far + 12, y + ROW * number, fit(line, column - 22, style.SMALL), style.SMALL)
    if not row.asked:
        canvas.text(far - BETWEEN / 2, y, OWN, style.SMALL, "muted", align="center")
        return
    asked = fit(row.asked, column - 22, style.SMALL)
    canvas.box(MARGIN, top + 2, 4, ROW - 4, "kubelet")
    canvas.text(MARGIN + 12, y, asked, style.SMALL)
    begin = MARGIN + 12 + text_width(asked, style.SMALL) + 8
    canvas.line([(begin, y), (far - 8, y)], "line", 1.0)
    canvas.line([(far - 12, y - 3.5), (far - 7, y), (far - 12, y + 3.5)], "line", 1.0)


def _title(asked: int, own: int) -> str:
    things = "1 thing" if asked == 1 else f"{asked} things"
    return f"What runc reads: {things} that CRI asked for, {own} group{'s' * (own != 1)} that the runtime adds"


def _alternative_text(rows: Sequence[Pair], title: str) -> str:
    lines = [f"Bundle: {title or 'what CRI asked for, and what the runtime wrote for it into config.json'}."]
    for group in dict.fromkeys(row.group for row in rows):
        texts = [row.text for row in rows if row.group == group and row.text]
        lines.append(f"{group.capitalize()}: {'; '.join(texts)}.")
    return "\n".join(lines)
