"""What each panel shows of a look at the node: a figure that exists, and for Pods a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from operator import attrgetter

from labkit import figures
from labkit.cri.pods import PodContainer, PodProcess, PodSnapshot
from labkit.figures.figure import Figure
from labkit.figures.pods.cluster_model import EventLine
from labkit.util.showable import showable

EVENTS = 12
"""So many events are shown, the newest."""


@dataclass(frozen=True)
class Look:
    """The node at one moment. host: its own namespaces, type → inode; None where they are not known. statuses: (namespace, name)
    of a Pod → STATUS, as the cluster's API has it; None where there is no API, or it does not answer."""

    processes: Sequence[PodProcess] = ()
    pods: Sequence[PodSnapshot] = ()
    host: Mapping[str, int] | None = None
    statuses: Mapping[tuple[str, str], str] | None = None
    events: Sequence[EventLine] = ()


@dataclass(frozen=True)
class Row:
    """One Pod in the table. made: by whom it is known, "API" or "by hand"."""

    pod: str
    status: str
    containers: str
    made: str

    def cells(self) -> tuple[str, ...]:
        return (self.pod, self.status, self.containers, self.made)


@dataclass(frozen=True)
class Picture:
    """What a panel shows. rows: of a table above the figure; None where the panel has none."""

    figure: Figure
    rows: Sequence[Row] | None = None

    def text(self) -> str:
        """The same for a screen reader, and where no widget is shown: names, states and order, never pids or times."""
        if self.rows is None:
            return self.figure.alt
        lines = [f"Pod {row.pod}: {', '.join(filter(None, row.cells()[1:]))}" for row in self.rows]
        return "\n".join([*(lines or ["No Pod is on the node."]), self.figure.alt])

    def table(self) -> str:
        """The rows as an HTML table, "" for a panel without one."""
        if self.rows is None:
            return ""
        if not self.rows:
            return "<p>No Pod is on the node.</p>"
        body = ""
        for row in self.rows:
            pod, *others = (f"<bdi>{escape(cell)}</bdi>" for cell in row.cells())
            body += f"<tr><th scope='row'>{pod}</th>{''.join(f'<td>{cell}</td>' for cell in others)}</tr>"
        heads = "".join(f"<th scope='col'>{head}</th>" for head in ("Pod", "Status", "Containers", "Made"))
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class View:
    """One kind of panel. name: of the kind. title: for its head. draw: a look and a width in px → what is shown. parts: what of a
    look it draws; while that is the same, so is the picture. asks_api: whether it shows what the cluster's API has."""

    name: str
    title: str
    draw: Callable[[Look, float], Picture] = field(compare=False)
    parts: Callable[[Look], object] = field(compare=False)
    asks_api: bool = False


def draw_tree(look: Look, width: float) -> Picture:
    return Picture(figures.process_tree(look.processes, look.pods, width=width))


def draw_namespaces(look: Look, width: float) -> Picture:
    return Picture(figures.namespace_matrix(look.pods, look.host, width=width))


def draw_pods(look: Look, width: float) -> Picture:
    return Picture(figures.event_log(sorted(look.events, key=lambda e: e.at)[-EVENTS:], width=width), rows(look))


def rows(look: Look) -> list[Row]:
    """The Pods that the runtime has, and those that only the API has as yet, by namespace and name."""
    statuses = dict(look.statuses or {})
    found: dict[tuple[str, str, str], Row] = {}
    for pod in look.pods:
        containers = ", ".join(f"{showable(c.name)} {c.state}" for c in newest(pod))
        status = statuses.pop((pod.namespace, pod.name), None)
        made = "API" if status else "by hand"
        found[pod.namespace, pod.name, pod.id] = Row(showable(pod.name), status or pod.state, containers, made)
    for (namespace, name), status in statuses.items():
        found[namespace, name, ""] = Row(showable(name), status, "", "API")
    return [found[key] for key in sorted(found)]


def newest(pod: PodSnapshot) -> list[PodContainer]:
    """The last attempt of each container."""
    return list({container.name: container for container in pod.containers}.values())


TREE = View("tree", "Processes, live", draw_tree, attrgetter("processes", "pods"))
NAMESPACES = View("namespaces", "Namespaces, live", draw_namespaces, attrgetter("pods", "host"))
PODS = View("pods", "Pods and events, live", draw_pods, attrgetter("pods", "statuses", "events"), asks_api=True)
