"""Who hands the work to whom: caller → CRI → containerd → shim → runc → the container's process, as a recording shows it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.figures import style
from labkit.figures.figure import MARGIN, Canvas, Figure, fit, in_any_width, title_height, wrap
from labkit.figures.flight.flight_text import NUMBERS, ending, precision
from labkit.figures.flight.rows import Family, is_asking
from labkit.figures.namespaces.groups import words
from labkit.recording.flight import FlightProcess
from labkit.recording.flight.data import by
from labkit.recording.flight.stages import brief

if TYPE_CHECKING:
    from labkit.cri.pods import PodProcess, PodSnapshot
    from labkit.recording.flight import Call, Flight

WIDTH, BOX, HIGH, LINE, STEP = 760.0, 118.0, 30.0, 17.0, 24.0
NARROW_BOX = 92.0
"""The width of a stage's box in a figure of less than 480 px."""


@dataclass(frozen=True)
class Link:
    """One stage of the chain: its name, colour, and the way by which the one above reaches it.

    `text`: what every way of recording sees of it, for the text alternative. `shown`: that with the short-lived processes, which
    a recording may miss where it is not exact; it is in the picture. `joined`: an arrow comes from the stage above; else it
    stands beside that one.
    """

    name: str
    role: str
    reached: str
    text: str
    shown: str
    joined: bool = True


@in_any_width
def call_chain(flight: Flight, pod: PodSnapshot | None = None, *, title: str | None = None, width: float = WIDTH) -> Figure:
    """Draw the chain from the caller of CRI down to the processes that stay, each stage with what was seen of it.

    `pod`: the Pod that was started meanwhile, as it is at the end. Where the recording is exact it adds nothing; where it only
    looks again and again, those that stay are known by it. Calls about other Pods, callers who only ask while others act, and
    stages of which there is no trace are left out.
    """
    flight = with_living(flight, pod.name, pod.processes) if pod else flight
    calls = tuple(acting(flight.calls, pod.name if pod else None))
    links = list(chain(flight, calls, pod.processes if pod else ()))
    heading = title or _title(links)
    heads = wrap(heading, width - 2 * MARGIN, style.TITLE, bold=True)
    note = wrap(precision(flight), width - 2 * MARGIN, style.SMALL)
    top = title_height(heads) + (15 * len(note) if precision(flight) else 0)
    box = BOX if width >= 480 else NARROW_BOX
    text_left = MARGIN + box + 18
    placed, y = [], top
    for number, link in enumerate(links):
        lines = wrap(link.shown, width - text_left - MARGIN, style.BODY)
        high = max(HIGH, LINE * len(lines) + 6)
        placed.append((link, y, high, lines))
        y += high + (0 if number == len(links) - 1 else STEP if links[number + 1].joined else 6)

    def paint(canvas: Canvas) -> None:
        canvas.title(heads)
        if precision(flight):
            for number, line in enumerate(note):
                canvas.text(MARGIN, title_height(heads) - 2 + 15 * number, line, style.SMALL, "muted")
        for number, (link, at, high, lines) in enumerate(placed):
            canvas.box(MARGIN, at, box, high, link.role)
            name = fit(link.name, box - 8, bold=True)
            canvas.text(MARGIN + box / 2, at + high / 2, name, colour=f"on {link.role}", bold=True, align="center")
            for index, line in enumerate(lines):
                canvas.text(text_left, at + high / 2 + LINE * (index - (len(lines) - 1) / 2), line)
            if number + 1 < len(placed) and placed[number + 1][0].joined:
                x, end = MARGIN + box / 2, at + high + STEP
                canvas.line([(x, at + high + 2), (x, end - 7)], "muted", 1.6)
                canvas.line([(x - 4, end - 8), (x, end - 3), (x + 4, end - 8)], "muted", 1.6)
                reached = fit(placed[number + 1][0].reached, width - x - 10 - MARGIN, style.SMALL)
                canvas.text(x + 10, at + high + STEP / 2, reached, style.SMALL, "muted")

    lines = [f"Call chain: {heading}.", *([f"{precision(flight).rstrip('.')}."] if precision(flight) else [])]
    for number, link in enumerate(links):
        lines.append(f"{'→ ' if number and link.joined else ''}{link.name}: {link.text}.")
    return Figure("\n".join(lines), paint, width, y + MARGIN)


def chain(flight: Flight, calls: Sequence[Call], living: Sequence[PodProcess] = ()) -> Iterable[Link]:
    """The stages that were seen, from the caller to the container's process. `calls`: those of the flight that count;
    `living`: the Pod's processes at the end."""
    family = Family(flight)
    roles: dict[str, list[FlightProcess]] = {}
    for process in flight.processes:
        roles.setdefault(process.role, []).append(process)
    for place, caller in enumerate(sorted({call.caller for call in calls})):
        mine = [call for call in calls if call.caller == caller]
        doing = [call.method for call in mine if not is_asking(call)]
        asking = dict.fromkeys(call.method for call in mine if is_asking(call))
        text = "calls " + words(_counted(doing)) if doing else "only asks"
        shown = text + (f"; asks {words(sorted(asking))}" if asking else "")
        yield Link(by(caller), "kubelet", "", text, f"{shown}.", joined=place == 0)
    services = sorted({call.service for call in calls}, reverse=True)
    forked = _forked(flight, family, "containerd")
    if "containerd" in roles or forked or services:
        text = f"answers as {words(services)}" if services else "was there"
        shown = text + (f"; forks {words(forked)}" if forked else "")
        yield Link("containerd", "containerd", "CRI: gRPC on a Unix socket" if calls else "", text, f"{shown}.")
    shims = [p for p in roles.get("shim", ()) if p.to_ns is None or p.from_ns is None or family.children.get(id(p))]
    lasting = [p for p in shims if p.from_ns is None or p.to_ns is None]
    if shims:
        # A process that outlived its runc is the shim's child too, but not forked by it.
        forked = [name for name in _forked(flight, family, "shim", lasting or shims) if name.startswith("runc")]
        pods = {p.pod for p in lasting if p.pod}
        text = f"{_number(len(lasting) or len(shims))} for {'the Pod' if len(pods) < 2 else f'{len(pods)} Pods'}"
        alive = sum(p.to_ns is None for p in lasting)
        end = "ends" if not alive else "lives on" if alive == 1 else "they live on"
        shown = text + (f"; {'forks' if len(lasting) < 2 else 'they fork'} {words(forked)}" if forked else "")
        way = _way(family, lasting, "shim", "shim start, which forks the lasting shim")
        yield Link("shim", "shim", way, f"{text}; {end}", f"{shown}; {end}.")
    runcs = [p for p in roles.get("runc", ()) if p.from_ns is not None]
    if runcs:
        inside = [p for role in ("pause", "application", "exec") for p in roles.get(role, ())]
        left = [brief(p.name) for p in inside if p.from_ns is not None and p.to_ns is None and _under(family, p, "runc")]
        text = "all end" if all(p.to_ns is not None for p in runcs) else "some live on"
        verbs = dict.fromkeys(brief(p.name).removeprefix("runc ") for p in runcs)
        shown = f"{words(list(verbs))}; {text}"
        stays = f" What stays: {words(_counted(left))}." if left else ""
        yield Link("runc", "runc", "fork and exec", text, f"{shown}.{stays}")
    elif any("runc" in os.path.basename(p.cmdline[0]) for p in living if p.role == "shim" and p.cmdline):
        yield Link("runc", "runc", "", "all end", "None lived long enough to be seen; the shim's program names it.")
    beside = False
    for role in ("pause", "application", "exec"):
        members = [p for p in roles.get(role, ()) if p.from_ns is not None or p.to_ns is not None]
        if members:
            names = [brief(p.name) + (f" ({p.container})" if p.container else "") for p in members]
            endings = [word for p in members if (word := ending(p))]
            stay = sum(p.to_ns is None for p in members)
            end = "ended" if not stay else "stays" if len(members) == 1 else f"{_number(stay)} of them stay{'s' * (stay == 1)}"
            text = f"{words(_counted(p.container for p in members if p.container))}; {end}".removeprefix("; ")
            named = "" if role == "pause" and len(names) == 1 else f"{words(_counted(names))}; "
            shown = f"{named}{end}" + (f" with {words(_counted(endings))}" if endings else "")
            way = "" if beside else _way(family, members, "runc", "fork, then exec of the image's program")
            name = "process" if role == "application" else role
            yield Link(name, role, way, text, f"{shown}.", joined=not beside)
            beside = True


def acting(calls: Sequence[Call], pod: str | None) -> Iterable[Call]:
    """The calls that are not about another Pod than `pod`, of those callers who do more than ask; of all where nobody does."""
    about = [call for call in calls if pod is None or call.pod in (None, pod)]
    callers = {call.caller for call in about if not is_asking(call)}
    return (call for call in about if not callers or call.caller in callers)


def with_living(flight: Flight, pod: str, living: Sequence[PodProcess]) -> Flight:
    """The flight of this Pod and no other, with those of its processes that live at the end, whatever the recording missed."""
    began = min((call.from_ns for call in flight.calls), default=0)  # they are the Pod's, so not older than the recording
    known = {p.pid: p for p in flight.processes if p.to_ns is None}
    missed = [
        FlightProcess(p.pid, p.ppid, p.role, began, None, name=name_of(p), pod=pod, container=p.container)
        for p in living
        if p.pid not in known
    ]
    pids = {p.pid for p in living}
    mine = [p for p in flight.processes if p.pod == pod or p.role == "containerd" or (p.pid in pids and p.to_ns is None)]
    return flight.with_processes((*mine, *missed))


def name_of(process: PodProcess) -> str:
    """Its command line, and whether it has ended."""
    return (" ".join(process.cmdline) or process.comm) + (f" ({process.ended})" if process.ended else "")


def _forked(flight: Flight, family: Family, role: str, only: list[FlightProcess] | None = None) -> list[str]:
    parents = [p for p in flight.processes if p.role == role] if only is None else only
    names = [brief(child.name) for p in parents for child in family.children.get(id(p), ()) if child.from_ns is not None]
    return _counted(sorted(names) if len(parents) > 1 or role == "containerd" else names)


def _way(family: Family, processes: list[FlightProcess], role: str, words: str) -> str:
    return words if any(_under(family, p, role) for p in processes) else ""


def _under(family: Family, process: FlightProcess, role: str) -> bool:
    then = family.origin(process)
    return then is not None and then.role == role


def _counted(names: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name if n == 1 else f"{name} ×{n}" for name, n in counts.items()]


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def _title(links: list[Link]) -> str:
    names = list(dict.fromkeys(link.name for link in links if link.role not in ("pause", "exec")))
    if not names:
        return "Nothing was recorded"
    if len(names) > 1 and links[0].role == "kubelet":
        names.insert(1 + sum(link.role == "kubelet" for link in links) - 1, "CRI")
    return "Who calls whom: " + " → ".join(names)
