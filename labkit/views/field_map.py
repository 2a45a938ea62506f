"""A Pod manifest beside the CRI messages made of it, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.views import style
from labkit.views.figure import MARGIN, Canvas, Figure, fit, text_width, title_height, wrap
from labkit.views.namespace_groups import words

WIDTH, ROW, INDENT, HEAD = 860.0, 17.0, 10.0, 24.0
LONG = 6
"""So many lines of one list or map of a message are drawn; the rest are counted."""

COPIED, TRANSLATED = "copied", "translated"
RULES: tuple[tuple[str, str, str], ...] = (
    # manifest field, CRI field (sandbox: or container: first), how it gets there
    ("metadata.name", "sandbox:metadata.name", COPIED),
    ("metadata.namespace", "sandbox:metadata.namespace", COPIED),
    ("metadata.uid", "sandbox:metadata.uid", COPIED),
    ("metadata.labels", "sandbox:labels", COPIED),
    ("metadata.annotations", "sandbox:annotations", COPIED),
    ("spec.hostname", "sandbox:hostname", COPIED),
    ("spec.dnsConfig", "sandbox:dns_config", TRANSLATED),
    ("spec.dnsPolicy", "sandbox:dns_config", TRANSLATED),
    ("spec.hostNetwork", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.hostPID", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.hostIPC", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.shareProcessNamespace", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.securityContext.sysctls", "sandbox:linux.sysctls", TRANSLATED),
    ("spec.terminationGracePeriodSeconds", "container:annotations", TRANSLATED),
    ("container.ports", "sandbox:port_mappings", TRANSLATED),
    ("container.name", "container:metadata.name", COPIED),
    ("container.image", "container:image.image", COPIED),
    ("container.command", "container:command", COPIED),
    ("container.args", "container:args", COPIED),
    ("container.workingDir", "container:working_dir", COPIED),
    ("container.env", "container:envs", COPIED),
    ("container.volumeMounts", "container:mounts", TRANSLATED),
    ("container.stdin", "container:stdin", COPIED),
    ("container.tty", "container:tty", COPIED),
    ("container.resources.requests.cpu", "container:linux.resources.cpu_shares", TRANSLATED),
    ("container.resources.limits.cpu", "container:linux.resources.cpu_quota", TRANSLATED),
    ("container.resources.requests.memory", "container:linux.resources.oom_score_adj", TRANSLATED),
    ("container.resources.limits.memory", "container:linux.resources.memory_limit_in_bytes", TRANSLATED),
    ("container.securityContext.runAsUser", "container:linux.security_context.run_as_user", COPIED),
    ("container.securityContext.runAsGroup", "container:linux.security_context.run_as_group", COPIED),
    ("container.securityContext.readOnlyRootFilesystem", "container:linux.security_context.readonly_rootfs", COPIED),
    ("container.securityContext.privileged", "container:linux.security_context.privileged", COPIED),
    ("container.securityContext.capabilities", "container:linux.security_context.capabilities", TRANSLATED),
    ("container.securityContext.allowPrivilegeEscalation", "container:linux.security_context.no_new_privs", TRANSLATED),
    ("container.securityContext.seccompProfile", "container:linux.security_context.seccomp", TRANSLATED),
)
"""What the kubelet makes of what (kuberuntime_sandbox.go, kuberuntime_container.go, kuberuntime_container_linux.go)."""


@dataclass(frozen=True)
class Line:
    """One line of a document: its path, depth, and the text. `field`: the path of the field that it belongs to."""

    path: str
    depth: int
    text: str


def field_map(
    manifest: Mapping[str, Any],
    sandbox_config: Mapping[str, Any],
    container_config: Mapping[str, Any],
    *,
    title: str | None = None,
    width: float = WIDTH,
) -> Figure:
    """Draw the manifest on the left and both messages on the right, a line from each field to the one made of it.

    `manifest`: a Pod as a dict; of its containers the one is drawn whose name `container_config` carries. The messages as
    dicts with the names of api.proto (labkit.cri.text.to_dict). Fields of the manifest without a line stay with the kubelet;
    fields of the messages without one are the kubelet's own.
    """
    name = container_config.get("metadata", {}).get("name", "")
    left = list(_manifest_lines(manifest, name))
    messages = [("sandbox", "PodSandboxConfig", sandbox_config), ("container", "ContainerConfig", container_config)]
    wanted = {end for start, end, _ in RULES if _place(left, start) is not None}
    right = {}
    for key, _, config in messages:
        opened = {end.partition(":")[2] for end in wanted if end.startswith(key + ":")}
        right[key] = [Line(f"{key}:{line.path}", line.depth, line.text) for line in _lines(config, opened)]
    links = [
        (rule, start, end)
        for rule in RULES
        for start in [_place(left, rule[0])]
        for end in [_place(right[rule[1].partition(":")[0]], rule[1])]
        if start is not None and end is not None
    ]
    told = title or _title(left, links)
    heads = wrap(told, width - 2 * MARGIN, style.TITLE, bold=True)
    top = title_height(heads)
    column = (width - 2 * MARGIN) * 0.415
    far = width - MARGIN - column
    heights = HEAD + ROW * len(left), sum(HEAD + ROW * len(lines) + 12 for lines in right.values())
    starts, y = {}, top
    for key, _, _ in messages:
        starts[key] = y
        y += HEAD + ROW * len(right[key]) + 12
    bottom = top + max(heights) + 4

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        linked_left, linked_right = {start for _, start, _ in links}, {(rule[1].partition(":")[0], end) for rule, _, end in links}
        _paint_document(canvas, MARGIN, top, column, "Pod manifest", left, _under(left, linked_left))
        for key, message, _ in messages:
            marked = _under(right[key], {end for which, end in linked_right if which == key}) - _added(left, right[key])
            _paint_document(canvas, far, starts[key], column, message, right[key], marked)
        for rule, start, end in links:
            begin = (MARGIN + column + 3, top + HEAD + ROW * (start + 0.5))
            finish = (far - 3, starts[rule[1].partition(":")[0]] + HEAD + ROW * (end + 0.5))
            canvas.line(_curve(begin, finish), "kubelet" if rule[2] == COPIED else "exec", 1.4)
            canvas.dot(*begin, 4, "kubelet" if rule[2] == COPIED else "exec")
            canvas.dot(*finish, 4, "kubelet" if rule[2] == COPIED else "exec")
        _paint_key(canvas, bottom + 10, {rule[2] for rule, _, _ in links})

    return Figure(_alternative_text(left, links, right, told), paint, width, bottom + 24)


def _manifest_lines(manifest: Mapping[str, Any], name: str) -> Iterable[Line]:
    """metadata and spec, without status and the other containers; the container's fields have paths from "container."."""
    opened = {start for start, _, _ in RULES}
    for part in ("metadata", "spec"):
        body = {key: value for key, value in manifest.get(part, {}).items() if key not in ("containers", "managedFields")}
        if body or part == "spec":
            yield Line(part, 0, f"{part}:")
            yield from _lines(body, opened, part, 1)
    containers = manifest.get("spec", {}).get("containers", [])
    chosen = next((each for each in containers if each.get("name") == name), None)
    if chosen is not None:
        yield Line("container", 1, "containers:" if len(containers) == 1 else f"containers:  # 1 of {len(containers)}")
        yield from _lines(chosen, opened, "container", 2)


def _lines(value: Mapping[str, Any], opened: set[str], path: str = "", depth: int = 0) -> Iterable[Line]:
    """One line a field; of lists and maps only those are opened that are in `opened` or hold something that is."""
    for key, each in value.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(each, Mapping | list) and not any(f"{known}.".startswith(f"{here}.") for known in opened):
            yield Line(here, depth, f"{key}: {_flow(each)}")
        elif isinstance(each, Mapping) and each:
            if set(each) == {"value"}:  # a message that only wraps a number, as Int64Value does
                yield Line(here, depth, f"{key}: {_scalar(each['value'])}")
                continue
            yield Line(here, depth, f"{key}:")
            inner = list(_lines(each, opened, here, depth + 1))
            deep = any(line.depth > depth + 1 for line in inner)
            yield from inner if deep or len(inner) <= LONG else _cut(inner, here, depth + 1)
        elif isinstance(each, list) and each and isinstance(each[0], Mapping):
            yield Line(here, depth, f"{key}:")
            items = [Line(here + "[]", depth + 1, "- " + _flow(item)) for item in each]
            yield from items if len(items) <= LONG else _cut(items, here, depth + 1)
        else:
            yield Line(here, depth, f"{key}: {_flow(each)}")


def _cut(lines: list[Line], path: str, depth: int) -> list[Line]:
    return [*lines[: LONG - 1], Line(path + "[]", depth, f"… {len(lines) - LONG + 1} more")]


def _flow(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(each) for each in value) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    return {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)


def _place(lines: Sequence[Line], path: str) -> int | None:
    return next((number for number, line in enumerate(lines) if line.path == path), None)


def _under(lines: Sequence[Line], places: set[int]) -> set[int]:
    """`places` and the lines inside those fields."""
    roots = [lines[place].path for place in places]
    return {n for n, line in enumerate(lines) if any(line.path == r or line.path.startswith((r + ".", r + "[")) for r in roots)}


def _added(left: Sequence[Line], right: Sequence[Line]) -> set[int]:
    """Lines in the maps of a message which the kubelet added: labels and annotations that the manifest does not have."""
    given = {line.text for line in left}
    maps = ("labels.", "annotations.")
    return {n for n, line in enumerate(right) if line.path.partition(":")[2].startswith(maps) and line.text not in given}


def _paint_document(
    canvas: Canvas, x: float, y: float, width: float, heading: str, lines: Sequence[Line], marked: set[int]
) -> None:
    canvas.box(x, y, width, HEAD + ROW * len(lines) + 4, "band")
    canvas.text(x + 8, y + HEAD / 2, fit(heading, width - 12, style.BODY, bold=True), style.BODY, bold=True)
    for number, line in enumerate(lines):
        left = x + 8 + INDENT * line.depth
        shown = fit(line.text, x + width - 8 - left, style.SMALL)
        canvas.text(left, y + HEAD + ROW * (number + 0.5), shown, style.SMALL, "text" if number in marked else "muted")


def _curve(begin: tuple[float, float], end: tuple[float, float]) -> list[tuple[float, float]]:
    """A line that leaves and arrives level."""
    steps = [n / 24 for n in range(25)]
    return [(begin[0] + (end[0] - begin[0]) * t, begin[1] + (end[1] - begin[1]) * t * t * (3 - 2 * t)) for t in steps]


def _paint_key(canvas: Canvas, y: float, kinds: set[str]) -> None:
    x = MARGIN
    for kind, role, told in ((COPIED, "kubelet", "copied"), (TRANSLATED, "exec", "translated by the kubelet")):
        if kind in kinds:
            canvas.line([(x, y), (x + 18, y)], role, 1.8)
            canvas.text(x + 24, y, told, style.SMALL, "muted")
            x += 24 + text_width(told, style.SMALL) + 20
    rest = "grey: no line"
    canvas.text(x, y, rest, style.SMALL, "muted")


def _title(left: Sequence[Line], links: Sequence[tuple[tuple[str, str, str], int, int]]) -> str:
    starts = len({start for _, start, _ in links})
    return f"{starts} fields of the Pod manifest reach the runtime in two CRI messages"


def _alternative_text(
    left: Sequence[Line], links: Sequence[tuple[tuple[str, str, str], int, int]], right: Mapping[str, Sequence[Line]], title: str
) -> str:
    lines = [f"Field map: {title}."]
    for kind in (COPIED, TRANSLATED):
        mine = [f"{start} → {' '.join(_named(end))}" for (start, end, how), _, _ in links if how == kind]
        lines += [f"{kind.capitalize()}: {'; '.join(mine)}."] if mine else []
    linked = {start for _, start, _ in links}
    inside = _under(left, linked)
    kept = [line.path for n, line in enumerate(left) if n not in inside and not _leads(left, n, linked) and "[]" not in line.path]
    kept = [path for path in kept if path.rpartition(".")[0] not in kept and path != "container"]
    if kept:
        lines.append(f"Without a line, so kept by the kubelet: {words(kept, 30)}.")
    for key, members in right.items():
        ends = {end for rule, _, end in links if rule[1].startswith(key + ":")}
        inside = _under(members, ends)
        own = [line for n, line in enumerate(members) if line.depth == 0 and n not in inside and not _leads(members, n, ends)]
        if own:
            lines.append(
                f"The kubelet's own in {_named(key + ':')[0]}: {words((line.path.partition(':')[2] for line in own), 30)}."
            )
    return "\n".join(lines)


def _leads(lines: Sequence[Line], place: int, ends: set[int]) -> bool:
    return any(lines[end].path.startswith(lines[place].path + ".") for end in ends)


def _named(path: str) -> tuple[str, str]:
    key, _, rest = path.partition(":")
    return {"sandbox": "PodSandboxConfig", "container": "ContainerConfig"}[key], rest
