"""What several lines of a lesson would measure, where the lines are not the lesson: the CRI calls stay in the notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.cri.pods import PodSnapshot
from labkit.kernel.parse import parse_mountinfo
from labkit.util.showable import Absent

if TYPE_CHECKING:
    from labkit.figures import Layer
    from labkit.kernel import Mount
    from labkit.node import Node
    from labkit.recording.flight import Flight

LEFT_OUT = "product_*"
"""A hook of kind's copies files of this name into each container."""


def shared_namespaces(pod: PodSnapshot, host: Mapping[str, int]) -> str:
    """The namespaces in which all applications of the Pod are together, but not with the node: "net, ipc and uts". Raises Absent
    where none runs."""
    spaces = [p.namespaces for p in pod.processes if p.role == "application"]
    if not spaces:
        raise Absent(f"No application of the Pod {pod.name} runs: start it again, and take it from node.pod then.")
    kinds = [kind for kind in spaces[0] if len({each.get(kind) for each in spaces}) == 1 and spaces[0][kind] != host.get(kind)]
    return " and ".join(", ".join(kinds).rsplit(", ", 1))


def order_of_steps(flight: Flight, container: str) -> list[str]:
    """The calls of a Pod's start, and what they caused, in the order in which they began. The steps of runc are those for
    `container`; what the kernel's events do not show is left out."""
    at = {call.method: call.from_ns for call in flight.calls if not call.asks}
    for step in flight.steps():
        if step.role == "cni" and step.from_ns:
            at.setdefault("CNI plugins make the network", step.from_ns)
        if step.role == "runc" and step.container == container and step.from_ns and step.to_ns:
            at.setdefault(f"the shim starts runc for {container}", step.from_ns)
            at["runc has ended, the shim stays"] = step.to_ns
    return sorted(at, key=lambda name: at[name])


def who_started(flight: Flight) -> str:
    """The roles of the first process that started, and of its parent, which was there before: "shim → runc". "" where a poll took
    the place of the kernel's events, since it cannot tell."""
    born = next((process for process in flight.processes if process.from_ns), None)
    above = next((process for process in flight.processes if born and process.pid == born.ppid), None)
    return f"{above.role} → {born.role}" if born and above and flight.source != "poll" else ""


@dataclass(frozen=True)
class Root:
    """A container's root directory: the image's `layers` from the lowest up, the overlay `mount`, and the files `written`
    into the container's own directory, with their sizes in bytes."""

    layers: tuple[Layer, ...]
    mount: Mount
    written: Mapping[str, int]


def container_root(node: Node, image_status: Any, pid: int) -> Root:
    """What is mounted as `/` for a process, by the kernel's /proc/PID/mountinfo, and the layers by `image_status`, the runtime's
    verbose answer to ImageStatus."""
    from labkit.figures import Layer

    mounts = parse_mountinfo(node.shell(["cat", f"/proc/{pid}/mountinfo"]))
    root = next(mount for mount in mounts if mount.mount_point == "/")
    places = dict(option.split("=", 1) for option in root.options if "=" in option)
    history = json.loads(image_status.info["info"])["imageSpec"]["history"]
    layers = tuple(
        Layer(layer["created_by"], holds=tuple(node.shell(["ls", directory]).split()))
        for layer, directory in zip(history, reversed(places["lowerdir"].split(":")), strict=False)
    )
    find = ["find", places["upperdir"], "-type", "f", "!", "-name", LEFT_OUT, "-printf", "%s /%P\n"]
    lines = (line.split(" ", 1) for line in node.shell(find).splitlines())
    return Root(layers, root, {name: int(size) for size, name in sorted(lines, key=lambda line: line[1])})
