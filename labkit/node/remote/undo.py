"""Undoes what a home has changed on a node that is not its own (`labkit.node.state.ledger`), and checks that it is undone.

Each part finds and removes one sort of change. A part that fails does not keep the others from being tried. What could not be
checked is reported, and never taken for absent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.cri import CriClient, CriError
from labkit.kernel import Process
from labkit.node.observe import cni
from labkit.node.observe.shims import is_shim
from labkit.node.pods import kubelet_pause, kubelet_watcher, operations
from labkit.node.pods.own_pods import is_ours
from labkit.node.remote import pod_residue
from labkit.node.remote.pod_residue import PodPaths, Shell
from labkit.node.state.ledger import HOME, Ledger, known_pods, mark_of
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.node import Node

KINDS = ("pod", "persistentvolumeclaim", "persistentvolume", "configmap", "secret")
"""In addition, the ledger records those that a lesson made."""
DELETE_WITHIN_S = 90
UNSEEN = "could not look at"
"""The beginning of a sentence about something that may still be there."""
TRIES = 3
OWN_LABEL = re.compile(r"labkit\.[a-z0-9-]+")


@dataclass
class Place:
    """A node as `clean` sees it. node: None where its runtime does not answer, with the reason in `why`; commands still run."""

    name: str
    ledger: Ledger
    shell: Shell
    places: PodPaths
    node: Node | None = None
    why: str = ""
    alone: list[str] = field(default_factory=list)
    """What was seen and left alone, since it belongs to another lab."""

    def running(self) -> Node:
        if self.node is None:
            raise NodeError(self.why)
        return self.node


@dataclass(frozen=True)
class Part:
    """One sort of change: `find` it, and `remove` what was found."""

    name: str
    find: Callable[[Place], list[str]]
    remove: Callable[[Place, list[str]], None]


def undo(place: Place, parts: tuple[Part, ...]) -> tuple[list[str], list[str]]:
    """Undo all changes. Returns ([what was found], [what is left, or could not be checked and why])."""
    found: list[str] = []
    troubles: dict[str, str] = {}
    for part in parts:
        try:
            there = part.find(place)
            found += there
            if there:
                part.remove(place, there)
        except Exception as error:  # of the engine, the runtime, the API, kubectl: the other parts are undone all the same
            troubles[part.name] = first_line(error)
    left: list[str] = []
    for part in parts:
        because = f" ({troubles[part.name]})" if part.name in troubles else ""
        try:
            left += [f"{place.name}: {what}{because}" for what in part.find(place)]
        except Exception as error:
            left.append(unseen(f"{part.name} on {place.name}", first_line(error)))
    return found, left


def unseen(what: str, why: str) -> str:
    """The sentence about something that may still be there."""
    return f"{UNSEEN} {what}, because: {why.rstrip('. ')}. Start it and run `labkit clean` again"


def first_line(error: Exception) -> str:
    words = error.happened if isinstance(error, NodeError) else str(error)
    return (words or type(error).__name__).partition("\n")[0]


# The network's configuration


def find_network(place: Place) -> list[str]:
    directories = sorted(place.ledger.values("network", "directory"))
    return [f"CNI configuration taken from {directory}" for directory in directories if cni.is_saved(place.shell, directory)]


def put_network_back(place: Place, found: list[str]) -> None:
    for directory in sorted(place.ledger.values("network", "directory")):
        cni.put_back(place.shell, directory)
    if place.node is not None:
        progress.wait("the network is ready", place.node.cni.network_ready, cni.NOTICED_WITHIN_S)


# Pods made by hand


def own_sandboxes(place: Place) -> list[Any]:
    """The sandboxes that this home made: by `node.start_pod`, which leaves its label and records the uid, or by a CRI call with a
    configuration of the learner's, whose answer was recorded."""
    known, made = known_pods(place.ledger.home), place.ledger.values("sandbox", "id")
    listed = sandboxes(place.running().cri)
    own = [s for s in listed if s.id in made or (is_ours(s.labels) and s.metadata.uid in known)]
    others = [s.metadata.name for s in listed if is_ours(s.labels) and s not in own]
    messages = [f"the Pod {name} on {place.name}: another lab made it" for name in others]
    place.alone[:] = sorted({*place.alone, *messages})
    return own


def sandboxes(cri: CriClient) -> list[Any]:
    """All sandboxes of the runtime. One that goes while they are listed does not make the list empty. Raises CriError."""
    for _ in range(TRIES - 1):
        try:
            return list(cri.list_pod_sandbox().items)
        except CriError as error:
            if not error.gone:
                raise
    return list(cri.list_pod_sandbox().items)


def find_pods(place: Place) -> list[str]:
    return [f"Pod {s.metadata.name}" for s in own_sandboxes(place)]


def remove_pods(place: Place, found: list[str]) -> None:
    for left in reversed(range(TRIES)):
        try:
            for sandbox in own_sandboxes(place):
                place.ledger.note("sandbox", id=sandbox.id)
                operations.remove_sandbox(place.running().cri, sandbox.id)
            return
        except CriError:  # a kubelet that is not held may be removing the same Pod
            if not left:
                raise


# The kubelet that was held


def find_hold(place: Place) -> list[str]:
    names = place.shell(["sh", "-c", f"ls {kubelet_pause.HOLDS} 2>/dev/null || true"]).split()
    return ["a suspended kubelet"] if any(name.startswith(f"{mark_of(place.ledger.home)}.") for name in names) else []


def end_hold(place: Place, found: list[str]) -> None:
    place.shell(["sh", "-c", kubelet_watcher.LET_GO, "sh", kubelet_pause.HOLDS, f"{mark_of(place.ledger.home)}."])


# Objects of the cluster


def kubectl(place: Place, *arguments: str) -> str:
    return place.running().cluster.kubectl(*arguments)


def marked_objects(place: Place) -> list[dict[str, Any]]:
    """The cluster's objects that carry the home's mark."""
    kinds = [*dict.fromkeys([*KINDS, *sorted(place.ledger.values("cluster", "kind"))])]
    options = ("--all-namespaces", "-l", f"{HOME}={mark_of(place.ledger.home)}", "-o", "json", "--request-timeout=20s")
    while True:
        try:
            return list(json.loads(kubectl(place, "get", ",".join(kinds), *options))["items"])
        except NodeError as error:
            known = [kind for kind in kinds if f'have a resource type "{kind}"' not in error.happened]
            if known == kinds:
                raise
            kinds = known  # its CustomResourceDefinition is deleted, and with it all that was of that kind


def find_objects(place: Place) -> list[str]:
    if place.ledger.noted("kubectl"):
        message = f"what `labkit kubectl` made in the cluster of {place.name}: it is yours, as if kubectl itself had made it"
        place.alone[:] = sorted({*place.alone, message})
    if not place.ledger.noted("cluster"):
        return []
    found = [f"{item['kind']} {item['metadata']['name']}" for item in marked_objects(place)]
    for entry in place.ledger.noted("object"):
        options = ("-o", "name", "--ignore-not-found", "--request-timeout=20s")
        name = kubectl(place, "get", *options, "--", entry["kind"], entry["name"])
        found += [f"{entry['kind']} {entry['name']}"] if name.strip() else []
    for label in own_labels(place):
        names = kubectl(place, "get", "nodes", "-l", label, "-o", "name", "--request-timeout=20s").split()
        found += [f"label {label} of {name}" for name in names]
    return found


def own_labels(place: Place) -> list[str]:
    """The labels that lessons put on nodes. Only labkit's own are ever removed."""
    return [label for label in sorted(place.ledger.values("node label", "name")) if OWN_LABEL.fullmatch(label)]


def delete_objects(place: Place, found: list[str]) -> None:
    wait = (f"--timeout={DELETE_WITHIN_S}s", "--ignore-not-found")
    names: dict[str, list[str]] = {}
    for item in marked_objects(place):
        metadata = item["metadata"]
        names.setdefault(metadata.get("namespace", ""), []).append(f"{item['kind'].lower()}/{metadata['name']}")
    for namespace, those in sorted(names.items(), reverse=True):  # claims before their volumes, which have no namespace
        kubectl(place, "delete", *those, *(["--namespace", namespace] if namespace else []), *wait)
    for entry in place.ledger.noted("object"):
        kubectl(place, "delete", *wait, "--", entry["kind"], entry["name"])
    for label in own_labels(place):
        kubectl(place, "label", "nodes", "-l", label, f"{label}-")


# Shims that outlived their sandboxes


def orphans(place: Place) -> list[Process]:
    """Shims of sandboxes that this home made and that the runtime no longer knows (containerd 2, where the pause was killed)."""
    made = place.ledger.values("sandbox", "id")
    if not made:
        return []
    node = place.running()
    processes = node.kernel.snapshot(fds=False).processes.values()
    mine = [p for p in processes if is_shim(p) and p.option("-id") in made]
    known = {s.id for s in sandboxes(node.cri)} if mine else set()
    return [p for p in mine if p.option("-id") not in known]


def find_shims(place: Place) -> list[str]:
    return [f"shim {p.pid} of the sandbox {p.option('-id')[:13]}" for p in orphans(place)]


def end_shims(place: Place, found: list[str]) -> None:
    pod_residue.end_shims(place.shell, [p.option("-id") for p in orphans(place)])


# What Pods leave


def find_pod_residue(place: Place) -> list[str]:
    return pod_residue.find(place.shell, place.places, known_pods(place.ledger.home))


def remove_pod_residue(place: Place, found: list[str]) -> None:
    pod_residue.remove(place.shell, found)


NETWORK = Part("the network's configuration", find_network, put_network_back)
PODS = Part("Pods", find_pods, remove_pods)
HOLD = Part("the kubelet", find_hold, end_hold)
OBJECTS = Part("objects of the cluster", find_objects, delete_objects)
SHIMS = Part("shims", find_shims, end_shims)
LEAVINGS = Part("files and cgroups of Pods", find_pod_residue, remove_pod_residue)
