"""What a fault of the incident is, and which one a seed draws."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from labkit.node.state.ledger import INCIDENT
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node import Node

POD = "orders"
"""The user's Pod: what she complains about."""
NEXT = "orders-next"
"""A second Pod, which a check starts."""
FIRST = "first-come"
"""Another user's Pod, which runs on a node on which no new one starts."""

# What users say. Each sentence is true of several faults, so that a learner who knows it still has to look.
NOT_READY = "My Pod orders is not ready, and I do not know why. Other Pods start on this node as always."
NOT_UP = (
    "Since our last release the Pod orders does not come up. The release before it was fine.",
    "kubectl apply took the manifest of orders without a word, and yet nobody can use it.",
    NOT_READY,
)
NO_NEW_PODS = (
    f"My Pod orders does not start on this node, and I have made it twice. {FIRST} was there before, and answers as always.",
    "New Pods do not start on this node, orders for instance. Those that ran before run on. Since when? Since there are a few"
    " more of them, I think.",
    "Somebody worked on the node last night, I am told. Since then no Pod that I make there starts, orders neither.",
)
NOT_REACHED = (
    "orders runs, kubectl says Running, and yet our Service sends it not one request.",
    "Nobody gets an answer from our Service any more. Its Pod orders is Running, says kubectl.",
    NOT_READY,
)
EVERYWHERE = ("containerd", "vm", "kind")
OWN = ("containerd", "vm")
"""The kinds of node of which all is the lab's own."""
SEEDS = 1_000_000
READY_WITHIN_S = 150.0
"""So long the kubelet may wait before it tries again what failed, and a little more."""


@dataclass
class Scene:
    """The node on which an incident is made. `kept`: what a fault has to remember until it is undone."""

    node: Node
    kept: dict[str, Any] = field(default_factory=dict)

    def apply(self, *manifests: Mapping[str, Any]) -> None:
        """Make objects that carry the incident's label, in place of those of an earlier incident."""
        cluster = self.node.cluster
        for manifest in manifests:
            if cluster.ledger:  # the learner may make it again without any label
                cluster.ledger.note("object", kind=str(manifest["kind"]).lower(), name=manifest["metadata"]["name"])
        cluster.recreate(*(labelled(manifest) for manifest in manifests))

    def pod(self, name: str = POD) -> dict[str, Any] | None:
        """A Pod as the API has it, in JSON; None where there is none."""
        text = self.node.cluster.kubectl("get", "pod", name, "--ignore-not-found", "-o", "json")
        return dict(json.loads(text)) if text.strip() else None

    def manifest(self, name: str = POD) -> dict[str, Any]:
        """The manifest of a Pod of the incident, as its user applied it. Raises NodeError where the incident has no such Pod."""
        return manifest_of(self.kept, name)

    def neighbour(self, manifest: Mapping[str, Any]) -> None:
        """Make the Pod of another user, and wait until it is ready."""
        name = manifest["metadata"]["name"]
        self.kept.setdefault("neighbours", {})[name] = manifest
        self.apply(manifest)
        if not self.wait_ready(name):
            raise NodeError(f"The Pod {name} did not get ready.", "The fault is undone. Try again.")
        self.note_uid(name)

    def note_uid(self, name: str) -> None:
        """Remember which Pod it is that the incident has made: one of the same name may be made in its place."""
        self.kept.setdefault("uids", {})[name] = (self.pod(name) or {"metadata": {}})["metadata"].get("uid", "")

    def data(self, name: str) -> dict[str, str]:
        """What a ConfigMap holds; empty where there is none."""
        text = self.node.cluster.kubectl("get", "configmap", name, "--ignore-not-found", "-o", "json")
        return dict(json.loads(text).get("data") or {}) if text.strip() else {}

    def wait_ready(
        self, name: str = POD, unless: Callable[[], bool] = lambda: False, within_s: float = READY_WITHIN_S
    ) -> bool:
        """Wait until a Pod is ready, unless something else is so; whether it is ready."""
        waited = progress.wait(f"the Pod {name}", lambda: is_ready(self.pod(name)) or unless(), within_s, 0.3)
        return waited and is_ready(self.pod(name))

    def tried(self, manifest: dict[str, Any], unless: Callable[[], bool]) -> bool:
        """Whether one more Pod of this manifest gets ready. It is removed."""
        self.node.cluster.recreate(labelled({**manifest, "metadata": {"name": NEXT}}))
        try:
            return self.wait_ready(NEXT, unless)
        finally:
            self.node.cluster.delete(NEXT)

    def start_again(self, name: str = POD) -> None:
        """Delete a Pod and make it again as it is now."""
        if made := self.pod(name):
            self.node.cluster.recreate(as_made(made))


class Fault:
    """A fault that is made on a node for real. `make` is given a node on which nothing of an incident is left, and returns when
    the user would notice. `undo` is for what is no object of the API: it works on whatever `make` has left, or the learner has
    made of it, with a runtime that runs, and can be run twice."""

    name = ""
    complaints: tuple[str, ...] = ()
    """What the user may say, and no more: the seed draws one."""
    cause = ""
    """A sentence; the learner chooses among those of all faults."""
    evidence: tuple[str, ...] = ()
    """Regular expressions of what only this fault has. `labkit.course.incident.evidence` also takes the words of a warning."""
    may_change: tuple[str, ...] = ()
    """The fields of the user's manifest that the fault concerns: a repair may change them, and what is below them."""
    neighbours: Mapping[str, tuple[str, ...]] = {}
    """The Pods of other users, which a repair has to leave running, and the fields of their manifests that it may change."""
    hints: tuple[str, ...] = ()
    """From the first to the plainest; none is the solution."""
    taught = ""
    kinds: tuple[str, ...] = EVERYWHERE
    """The kinds of node on which it can be made."""
    objects: tuple[tuple[str, str], ...] = ()
    """Kind and name of what is made besides the user's Pod."""
    restarts_runtime = False
    """Whether the repair has to outlive a restart of the runtime."""

    lasts = True
    """Whether it is still there when a node of the lab's own was brought down and up again."""

    another_pod = False
    """Whether the repair has to let another Pod start."""
    holds: tuple[str, ...] = ()
    """What nothing of the lab may repair in passing (`labkit.node.state.incident_note`)."""

    def complaint(self, seed: int | None) -> str:
        """What the user says in the incident of this seed, the same on every machine."""
        drawn = hashlib.sha256(f"{seed} complaint".encode()).digest()
        return self.complaints[int.from_bytes(drawn[:4], "big") % len(self.complaints)]

    def make(self, scene: Scene) -> None:
        raise NotImplementedError

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        """What only this fault can find wrong with a repair after which all Pods are ready; "" for nothing."""
        return ""

    def undo(self, scene: Scene) -> None:
        pass


FAULTS: dict[str, Fault] = {}


def fault(made: type[Fault]) -> type[Fault]:
    """Register a fault by its name."""
    FAULTS[made.name] = made()
    return made


def possible(kind: str) -> list[Fault]:
    """The faults that can be made on this kind of node, by name."""
    return [FAULTS[name] for name in sorted(FAULTS) if kind in FAULTS[name].kinds]


def draw(seed: int, kind: str) -> Fault:
    """The fault of a seed. The seed puts all faults into an order, and the first one that can be made on this kind of node is
    taken: two kinds that can both have it get the same. Raises NodeError where the kind can have none."""
    here = possible(kind)
    if not here:
        raise NodeError(f"On a node of kind {kind} no fault can be made.", f"Use one of kind {', '.join(EVERYWHERE)}.")
    return min(here, key=lambda each: hashlib.sha256(f"{seed} {each.name}".encode()).digest())


def seed_of(text: object) -> int:
    """A seed as the learner or her teacher gives it. Raises NodeError where it is none."""
    try:
        seed = int(str(text))
    except ValueError:
        seed = -1
    if not 0 <= seed < SEEDS or isinstance(text, bool):
        raise NodeError(f"{text!r} is no seed.", f"Give a whole number from 0 to {SEEDS - 1}.")
    return seed


def named(name: str, kind: str) -> Fault:
    """The fault of that name. Raises NodeError where there is none, or where this kind of node cannot have it."""
    there = [each.name for each in possible(kind)]
    if not isinstance(name, str) or name not in FAULTS:
        raise NodeError(f"There is no fault {name!r}.", f"A node of kind {kind} can have {', '.join(there)}.")
    if name not in there:
        raise NodeError(f"The fault {name} cannot be made on a node of kind {kind}.", f"It can have {', '.join(there)}.")
    return FAULTS[name]


def manifest_of(kept: Mapping[str, Any], name: str) -> dict[str, Any]:
    manifests = {POD: kept["manifest"], **kept.get("neighbours", {})}
    if name not in manifests:
        raise NodeError(f"The incident has no Pod {name!r}.", f"It has {', '.join(manifests)}.")
    return dict(json.loads(json.dumps(manifests[name])))


def labelled(manifest: Mapping[str, Any]) -> dict[str, Any]:
    made = json.loads(json.dumps(manifest))
    made["metadata"].setdefault("labels", {})[INCIDENT] = "open"
    return dict(made)


def is_ready(pod: Mapping[str, Any] | None) -> bool:
    conditions = ((pod or {}).get("status") or {}).get("conditions") or []
    gone = (pod or {}).get("metadata", {}).get("deletionTimestamp")
    return not gone and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


GIVEN = ("nodeName", "serviceAccountName", "serviceAccount", "tolerations", "priority", "preemptionPolicy")
"""What a cluster fills in, and would refuse or pin when the Pod is made again."""


def as_made(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest from which the same Pod is made again."""
    spec = {key: value for key, value in pod["spec"].items() if key not in GIVEN}
    tokens = {v["name"] for v in spec.get("volumes", []) if v["name"].startswith("kube-api-access-")}
    spec["volumes"] = [v for v in spec.get("volumes", []) if v["name"] not in tokens]
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        container["volumeMounts"] = [m for m in container.get("volumeMounts", []) if m["name"] not in tokens]
    metadata = {key: pod["metadata"][key] for key in ("name", "labels") if key in pod["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def user_pod(scene: Scene, **container: Any) -> dict[str, Any]:
    """The manifest of the user's Pod: a web server. What is given goes into its container, `spec` into the Pod's spec."""
    spec = container.pop("spec", {})
    web = {"name": "web", "image": scene.node.images["busybox"], "command": ["httpd", "-f", "-h", "/var/www"], **container}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD},
            "spec": {"containers": [web], "terminationGracePeriodSeconds": 1, **spec}}


def start(scene: Scene, manifest: dict[str, Any], *, until: Callable[[], object] | None, what: str) -> None:
    """Make the user's Pod and wait until her complaint is true. Raises NodeError where that does not happen."""
    scene.kept["manifest"] = manifest
    scene.apply(manifest)
    scene.note_uid(POD)
    if until and not progress.wait(what, until, READY_WITHIN_S, 0.2):
        raise NodeError(f"Waited {READY_WITHIN_S:.0f} s for this: {what}. It did not happen.", "The fault is undone. Try again.")


def has_event(scene: Scene, reason: str, words: str = "", pod: str = POD) -> Callable[[], bool]:
    """Whether a Pod has an event of that reason with these words."""
    return lambda: any(e.reason == reason and words in e.message for e in scene.node.cluster.events(pod))
