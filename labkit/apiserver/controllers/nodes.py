"""What becomes of a node whose kubelet no longer speaks: a small part of the node lifecycle controller.

A kubelet renews its Lease every ten seconds. After fifty without a renewal every condition of the node turns Unknown, it is
tainted `unreachable` and its Pods are not ready; all of that is undone when the kubelet speaks again. No Pod is evicted for it.
A node that says of itself that it is not ready gets no taint: its Pods are bound, wait there, and say why in their own events.
Knowledge: pkg/controller/nodelifecycle (node_lifecycle_controller.go).
"""

from __future__ import annotations

from typing import Any

from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.controllers.event_recorder import with_condition
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.objects.strategy import timestamp

LOOK_EVERY_S = 5.0
GRACE_S = 50.0
CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
UNREACHABLE = "node.kubernetes.io/unreachable"
NEVER, STOPPED = ("NodeStatusNeverUpdated", "Kubelet never posted node status."), (
    "NodeStatusUnknown", "Kubelet stopped posting node status.")


class NodeLifecycleController(Controller):
    """Looks at every node's Lease by this process's own clock, so that no clock of anybody else matters."""

    component = "node-controller"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.heard: dict[str, tuple[Any, float]] = {}
        self.looked: float | None = None

    def reconcile(self, now: float) -> float:
        """Judge every node.

        Time in which this process did not run (it was stopped, or the machine was paused) does not count as a kubelet's
        silence.
        """
        slept = now - self.looked - LOOK_EVERY_S if self.looked is not None else 0.0
        self.looked = now
        if slept > LOOK_EVERY_S:
            self.heard = {name: (sign, at + slept) for name, (sign, at) in self.heard.items()}
        for (_, name), entry in self.store.list("nodes"):
            sign = self.sign_of_life(name, entry.obj)
            if self.heard.get(name, (None, 0.0))[0] != sign:
                self.heard[name] = (sign, now)
            if now - self.heard[name][1] >= GRACE_S:
                self.lose(name, entry.obj)
            elif not is_unknown(entry.obj) and tainted(entry.obj):
                self.store.put("nodes", with_taints(entry.obj, []))
        return LOOK_EVERY_S

    def sign_of_life(self, name: str, node: Any) -> Any:
        lease = self.store.get("leases", "kube-node-lease", name)
        beats = [c.get("lastHeartbeatTime") for c in conditions(node).values() if c.get("status") != "Unknown"]
        return ((lease.obj.get("spec") or {}).get("renewTime") if lease else None, max(filter(None, beats), default=None))

    def lose(self, name: str, node: Any) -> None:
        if is_unknown(node) and tainted(node):
            return
        now, there, new = timestamp(), conditions(node), node
        for kind in CONDITIONS:
            reason, message = STOPPED if kind in there else NEVER
            heard = there.get(kind, {}).get("lastHeartbeatTime") or now
            new = with_condition(new, kind, "Unknown", reason, message, lastHeartbeatTime=heard)
        taint = {"key": UNREACHABLE, "timeAdded": now}
        self.store.put("nodes", with_taints(new, [{**taint, "effect": "NoSchedule"}, {**taint, "effect": "NoExecute"}]))
        self.recorder.event(new, "Node", "Normal", "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        for _, entry in self.store.list("pods"):
            if entry.obj["spec"].get("nodeName") == name and conditions(entry.obj).get("Ready", {}).get("status") == "True":
                self.store.put("pods", with_condition(entry.obj, "Ready", "False", lastProbeTime=None))
                self.recorder.event(entry.obj, "Pod", "Warning", "NodeNotReady", "Node is not ready")


def conditions(thing: Any) -> dict[str, Any]:
    return {c.get("type", ""): c for c in (thing.get("status") or {}).get("conditions") or []}


def is_unknown(node: Any) -> bool:
    return bool(conditions(node).get("Ready", {}).get("status") == "Unknown")


def tainted(node: Any) -> bool:
    return any(t.get("key") == UNREACHABLE for t in (node.get("spec") or {}).get("taints") or [])


def with_taints(node: Any, unreachable: list[dict[str, str]]) -> dict[str, Any]:
    """A copy with these taints of this controller's, and all others as they are."""
    spec = dict(node.get("spec") or {})
    taints = [*(t for t in spec.pop("taints", None) or [] if t.get("key") != UNREACHABLE), *unreachable]
    return {**node, "metadata": dict(node["metadata"]), "spec": {**spec, **({"taints": taints} if taints else {})}}
