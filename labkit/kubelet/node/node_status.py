"""The kubelet's node object: registered, kept up to date, and a Lease renewed as a sign of life.

Every ten seconds the status is made anew; it is sent when something but the time in it differs from what the API has, or after
five minutes. What changes Ready is sent at once. Knowledge: kubelet_node_status.go, nodestatus/setters.go and the lease
controller of component-helpers.
"""

from __future__ import annotations

import datetime
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.kubelet.api import MERGE_PATCH, ApiClient, ApiClientError
from labkit.kubelet.node import node_info
from labkit.kubelet.node.events import EventRecorder
from labkit.kubelet.node.node_health import LOOK_EVERY_S, RuntimeState, pressures

log = logging.getLogger("kubelet")

STATUS_EVERY_S = 10.0
SENT_AT_LEAST_EVERY_S = 300.0
LEASE_EVERY_S = 10.0
LEASE_DURATION_S = 40
AT_START_EVERY_S = 0.1
IMAGES_MOST, NAMES_MOST = 50, 5
NO_PORT = 0
"""The API's word for a kubelet that listens on no port (core/v1 DaemonEndpoint): ours has a Unix socket."""
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


@dataclass(frozen=True)
class NodeFacts:
    """What does not change while the kubelet runs. `root` is the directory of its volumes."""

    name: str
    address: str
    root: Path
    reserved: node_info.Reserved = field(default_factory=node_info.Reserved)
    pods: int = 110


class NodeStatus(threading.Thread):
    """Registers the node, then keeps its status and its Lease. `registered` is set when the API knows the node."""

    def __init__(self, api: ApiClient, cri: CriClient, facts: NodeFacts, state: RuntimeState, recorder: EventRecorder) -> None:
        super().__init__(name="node-status", daemon=True)
        self.api, self.cri, self.facts, self.state, self.recorder = api, cri, facts, state, recorder
        self.registered = threading.Event()
        self.capacity = node_info.Capacity.here(facts.root, facts.pods)
        self.runtime = ""
        self.images: list[dict[str, Any]] = []
        self.sent_at = self.leased_at = self.made_at = float("-inf")
        self.errors: list[str] | None = None
        self.ready = ""

    def run(self) -> None:
        """For ever: look at the runtime every five seconds, and say what is new."""
        while True:
            try:
                self.state.look()
                self.once(time.monotonic())
                pause = LOOK_EVERY_S if self.state.answered else AT_START_EVERY_S
            except ApiClientError as error:
                if error.code:
                    log.warning("the node's status was refused: %s", error)
                if error.code == 404:
                    self.registered.clear()
                pause = LOOK_EVERY_S if self.registered.is_set() else AT_START_EVERY_S
            except Exception:
                log.exception("the node's status could not be made")
                pause = LOOK_EVERY_S
            time.sleep(pause)

    def once(self, now: float) -> None:
        """Register, renew, report: whichever of the three is due at `now` (seconds, monotonic). Raises ApiError."""
        errors = self.state.errors()
        if not self.registered.is_set():
            self.register()
            self.said_for_the_first_time()
        if now - self.leased_at >= LEASE_EVERY_S - LOOK_EVERY_S / 2:
            self.renew()
            self.leased_at = now
        if errors != self.errors or now - self.made_at >= STATUS_EVERY_S - LOOK_EVERY_S / 2:
            self.errors, self.made_at = errors, now
            self.report(now)

    def register(self) -> None:
        """Make the node object; one that is there already is taken over, with its labels and taints. Raises ApiError."""
        status = self.make({})
        metadata = {
            "name": self.facts.name,
            "labels": node_info.labels(self.facts.name),
            "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        }
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": status}
        try:
            self.api.post("/api/v1/nodes", node)
        except ApiClientError as error:
            if error.code != 409:
                raise
            self.api.patch(f"/api/v1/nodes/{self.facts.name}", {"metadata": metadata})
        self.made_at = float("-inf")
        self.registered.set()
        log.info("registered the node %s", self.facts.name)

    def said_for_the_first_time(self) -> None:
        self.event("Normal", "Starting", "Starting kubelet.")
        for reason in ("NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID"):
            self.event("Normal", reason, f"Node {self.facts.name} status is now: {reason}")

    def report(self, now: float) -> None:
        """Patch the status, where it is due. Raises ApiError."""
        before = self.api.get(f"/api/v1/nodes/{self.facts.name}").get("status") or {}
        status = self.make(before)
        there = timeless(before)
        same = all((there.get(key) or None) == (value or None) for key, value in timeless(status).items())
        if same and now - self.sent_at < SENT_AT_LEAST_EVERY_S:
            return
        self.api.patch(f"/api/v1/nodes/{self.facts.name}/status", {"status": status}, MERGE_PATCH)
        self.sent_at = now
        if ready_of(status) != self.ready:
            self.ready = ready_of(status)
            reason = "NodeReady" if self.ready == "True" else "NodeNotReady"
            self.event("Normal", reason, f"Node {self.facts.name} status is now: {reason}")

    def make(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """The whole status as it is now; conditions that hold on keep their time of transition from `before`."""
        self.ask_runtime()
        facts = self.facts
        return {
            "addresses": [{"address": facts.address, "type": "InternalIP"}, {"address": facts.name, "type": "Hostname"}],
            "allocatable": self.capacity.as_allocatable(facts.reserved),
            "capacity": self.capacity.as_capacity(),
            "conditions": conditions(self.state.errors(), pressures(facts.root), before.get("conditions") or [], timestamp()),
            "daemonEndpoints": {"kubeletEndpoint": {"Port": NO_PORT}},
            "images": self.images,
            "nodeInfo": node_info.node_info(self.runtime),
            "features": {"supplementalGroupsPolicy": self.state.strict_groups},
            **({"runtimeHandlers": self.state.handlers} if self.state.handlers else {}),
        }

    def ask_runtime(self) -> None:
        """Version and images as they are; as they were while the runtime does not answer."""
        try:
            version = self.cri.version(timeout=5.0)
            self.runtime = f"{version.runtime_name}://{version.runtime_version.removeprefix('v')}"
            self.images = image_list(self.cri.list_images(timeout=5.0).images)
        except CriError:
            self.runtime = self.runtime or "containerd://Unknown"

    def renew(self) -> None:
        """The Lease that says: this kubelet lives. Raises ApiError."""
        renewed = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {"holderIdentity": self.facts.name, "leaseDurationSeconds": LEASE_DURATION_S, "renewTime": renewed}
        try:
            self.api.patch(f"{LEASES}/{self.facts.name}", {"spec": spec}, MERGE_PATCH)
        except ApiClientError as error:
            if error.code != 404:
                raise
            metadata = {"name": self.facts.name, "namespace": "kube-node-lease"}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            self.api.post(LEASES, lease)

    def event(self, type: str, reason: str, message: str) -> None:
        """An event about the node; the kubelet gives its name for its uid, and kubectl looks for that."""
        about = {"kind": "Node", "name": self.facts.name, "uid": self.facts.name}
        self.recorder.event(about, type, reason, message)


def conditions(
    errors: Sequence[str], short: tuple[bool, bool, bool], before: Sequence[Mapping[str, Any]], now: str
) -> list[dict[str, Any]]:
    """MemoryPressure, DiskPressure, PIDPressure and Ready, in this order, in the kubelet's words.

    errors: why the node is not ready; short: of memory, disk, process ids; before: the conditions as last sent; now: RFC 3339.
    """
    memory, disk, pids = short
    made = [
        ("MemoryPressure", memory, *(
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available") if memory
            else ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"))),
        ("DiskPressure", disk, *(
            ("KubeletHasDiskPressure", "kubelet has disk pressure") if disk
            else ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"))),
        ("PIDPressure", pids, *(
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available") if pids
            else ("KubeletHasSufficientPID", "kubelet has sufficient PID available"))),
        ("Ready", not errors, *(
            ("KubeletNotReady", aggregate(errors)) if errors else ("KubeletReady", "kubelet is posting ready status"))),
    ]
    old = {c["type"]: c for c in before}
    return [
        {
            "lastHeartbeatTime": now,
            "lastTransitionTime": old[kind]["lastTransitionTime"] if old.get(kind, {}).get("status") == str(state) else now,
            "message": message,
            "reason": reason,
            "status": str(state),
            "type": kind,
        }
        for kind, state, reason, message in made
    ]


def aggregate(errors: Sequence[str]) -> str:
    """Several errors as apimachinery's NewAggregate writes them."""
    unique = list(dict.fromkeys(errors))
    return unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]"


def image_list(images: Sequence[Any]) -> list[dict[str, Any]]:
    """Names (digests, then tags, five at most) and sizes in bytes, the largest image first, fifty at most."""
    found = [{"names": [*i.repo_digests, *i.repo_tags][:NAMES_MOST], "sizeBytes": i.size} for i in images]
    return sorted(found, key=lambda i: (-i["sizeBytes"], i["names"]))[:IMAGES_MOST]


def timeless(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status without the times in it, to tell whether anything else changed."""
    bare = [{k: v for k, v in c.items() if not k.startswith("last")} for c in status.get("conditions") or []]
    return {**status, "conditions": bare}


def ready_of(status: Mapping[str, Any]) -> str:
    return next((str(c["status"]) for c in status.get("conditions") or [] if c["type"] == "Ready"), "")


def timestamp() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
