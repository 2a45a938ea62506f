"""Reads from CRI what the runtime holds of a Pod, never from memory alone.

Everything the kubelet must know of a Pod after a restart of its own is in names, labels and annotations there. Knowledge:
kubelet's kuberuntime_container.go and labels.go.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.pod.pod_runtime import CREATED, EXITED, RUNNING, UNKNOWN, Container, PodRuntime, Sandbox
from labkit.kubelet.pod.termination_message import last_words
from labkit.podspec.messages.configs import CONTAINER_NAME, POD_UID
from labkit.podspec.signals import of_cri

STATES = {pb.CONTAINER_RUNNING: RUNNING, pb.CONTAINER_CREATED: CREATED, pb.CONTAINER_EXITED: EXITED}
HASH = "io.kubernetes.container.hash"
RESTARTS = "io.kubernetes.container.restartCount"


@dataclass
class Runtime:
    """Reads Pods from CRI. What cannot change any more (a container that ended, a sandbox's address) is asked once. A Pod is read
    by one thread at a time."""

    cri: CriClient
    name: str = "containerd"
    _known: dict[str, PodRuntime] = field(default_factory=dict)

    def pod(self, uid: str) -> PodRuntime:
        """The Pod of that uid, with the status of each item that is new or has changed; an empty one where the runtime has
        nothing of it. Raises CriError."""
        wanted, at = {"label_selector": {POD_UID: uid}}, time.monotonic()
        sandboxes = self.cri.list_pod_sandbox(filter=wanted).items
        containers = self.cri.list_containers(filter=wanted).containers
        before = self._known.get(uid, PodRuntime(uid))
        boxes = (self._sandbox(s, before) for s in sorted(sandboxes, key=lambda s: (-s.metadata.attempt, -s.created_at)))
        newest_first = sorted(containers, key=lambda c: (-c.metadata.attempt, -c.created_at))
        found = (self._container(c, before) for c in newest_first)
        pod = PodRuntime(uid, tuple(b for b in boxes if b is not None), tuple(c for c in found if c is not None), at)
        self._known[uid] = pod
        return pod

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)

    def _sandbox(self, item: Any, before: PodRuntime) -> Sandbox | None:
        ready = item.state == pb.SANDBOX_READY
        known = next((box for box in before.sandboxes if box.id == item.id), None)
        if known is not None and (known.ips or known.host_network):  # one that is only being made has no address yet
            return replace(known, ready=ready)
        status = self._ask(lambda: self.cri.pod_sandbox_status(pod_sandbox_id=item.id).status)
        if status is None:
            return None
        ips = tuple(ip for ip in (status.network.ip, *(more.ip for more in status.network.additional_ips)) if ip)
        host_network = status.linux.namespaces.options.network == pb.NODE
        return Sandbox(item.id, item.metadata.attempt, ready, ips, item.created_at, host_network)

    def _container(self, item: Any, before: PodRuntime) -> Container | None:
        known = next((c for c in before.containers if c.id == item.id), None)
        if known is not None and known.state == STATES.get(item.state, UNKNOWN):
            return known
        status = self._ask(lambda: self.cri.container_status(container_id=item.id).status)
        return None if status is None else container(status)

    def _ask(self, question: Any) -> Any:
        """The answer, or None for what is gone meanwhile."""
        try:
            return question()
        except CriError as error:
            if not error.gone:
                raise
            return None


def container(status: Any) -> Container:
    """A Container from CRI's ContainerStatus."""
    state = CREATED if broke_off(status) else STATES.get(status.state, UNKNOWN)
    user = status.user.linux if status.HasField("user") and status.user.HasField("linux") else None
    return Container(
        id=status.id,
        name=status.labels.get(CONTAINER_NAME, status.metadata.name),
        state=state,
        attempt=int(status.annotations.get(RESTARTS, status.metadata.attempt)),
        hash=status.annotations.get(HASH, ""),
        image=status.image.image,
        image_id=status.image_id or status.image_ref,
        created=status.created_at,
        started=status.started_at,
        finished=status.finished_at,
        exit_code=status.exit_code,
        reason=status.reason,
        message=last_words(status) if state == EXITED else status.message,
        user=user and {"gid": user.gid, "supplementalGroups": list(user.supplemental_groups), "uid": user.uid},
        log_path=status.log_path,
        stop_signal=of_cri(pb.Signal.Name(status.stop_signal)),
    )


def broke_off(status: Any) -> bool:
    """Whether a start ended because who asked for it died in the middle (the runtime gives up a call whose client is gone),
    before the program can have run: so it is still to be started for the first time, and has not failed."""
    message = status.message if status.state == pb.CONTAINER_EXITED and not status.started_at else ""
    gone = "context canceled" in message or ("failed to start shim" in message and "signal: killed" in message)
    return gone and message.startswith("failed to create containerd task")
