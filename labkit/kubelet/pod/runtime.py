"""What the runtime holds of a Pod: its sandboxes and containers, newest first, read from CRI and never from memory alone.

Everything the kubelet must know of a Pod after a restart of its own is in names, labels and annotations there. Knowledge:
kubelet's kuberuntime_container.go and labels.go.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec.messages.configs import CONTAINER_NAME, POD_UID
from labkit.podspec.signals import of_cri

RUNNING, CREATED, EXITED, UNKNOWN = "running", "created", "exited", "unknown"
STATES = {pb.CONTAINER_RUNNING: RUNNING, pb.CONTAINER_CREATED: CREATED, pb.CONTAINER_EXITED: EXITED}
HASH = "io.kubernetes.container.hash"
RESTARTS = "io.kubernetes.container.restartCount"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
MESSAGE_BYTES = 4096
LOG_LINES, LOG_BYTES = 80, 2048


@dataclass(frozen=True)
class Sandbox:
    """One sandbox of a Pod. `ips` are its addresses, empty on the host's network; `created` is ns since 1970."""

    id: str
    attempt: int
    ready: bool
    ips: tuple[str, ...]
    created: int
    host_network: bool = False


@dataclass(frozen=True)
class Container:
    """One attempt of a container as the runtime tells of it. Times are ns since 1970, 0 where there is none.

    `state` is "created" (and never started), "running", "exited" or "unknown"; `message` is what the container left as its last
    words.
    """

    id: str
    name: str
    state: str
    attempt: int
    hash: str
    image: str
    image_id: str
    created: int
    started: int
    finished: int
    exit_code: int
    reason: str
    message: str
    user: Mapping[str, Any] | None = None
    log_path: str = ""
    stop_signal: str = ""


@dataclass(frozen=True)
class PodRuntime:
    """All of a Pod in the runtime: `sandboxes` and `containers` newest first, dead ones too. It was asked at `at`
    (time.monotonic()): what happened before is in it."""

    uid: str
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
    at: float = field(default=0.0, compare=False)

    def newest(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name), None)

    def attempts(self, name: str) -> list[Container]:
        return [c for c in self.containers if c.name == name]

    @property
    def running(self) -> list[Container]:
        return [c for c in self.containers if c.state == RUNNING]

    @property
    def states(self) -> dict[str, object]:
        """Id → state of everything: differs when something came, went or changed."""
        return {**{box.id: box.ready for box in self.sandboxes}, **{c.id: c.state for c in self.containers}}

    @property
    def ips(self) -> tuple[str, ...]:
        return self.sandboxes[0].ips if self.sandboxes and self.sandboxes[0].ready else ()


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

    def states(self, sandboxes: Iterable[Any], containers: Iterable[Any]) -> dict[str, object]:
        """Id → state of what two lists hold, as `PodRuntime.states` has it."""
        boxes = {box.id: box.state == pb.SANDBOX_READY for box in sandboxes}
        return {**boxes, **{item.id: STATES.get(item.state, UNKNOWN) for item in containers}}

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


def last_words(status: Any) -> str:
    """What a container left in its termination log, or, where its policy says so and it failed, the end of its log; else
    the runtime's own message (getTerminationMessage)."""
    path = status.annotations.get(MESSAGE_PATH, "")
    text = ""
    for mount in status.mounts:
        if path and mount.container_path == path:
            text = tail(Path(mount.host_path), MESSAGE_BYTES)
    wants_log = status.annotations.get(MESSAGE_POLICY) == "FallbackToLogsOnError" and status.reason != "ContainerCannotRun"
    if not text and status.exit_code and wants_log:
        text = log_tail(Path(status.log_path))
    if status.message and text:
        return f"{status.message}: {text}"
    return text or str(status.message)


def tail(path: Path, size: int) -> str:
    """The last `size` bytes of a regular file; "" where there is none."""
    try:
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            file.seek(0, 2)
            file.seek(max(file.tell() - size, 0))
            return file.read(size).decode(errors="replace")
    except OSError:
        return ""


def log_tail(path: Path) -> str:
    """The end of a log in the CRI format ("TIME STREAM TAG TEXT"), without times: 80 lines and 2048 bytes at most."""
    lines = [line.split(" ", 3) for line in tail(path, LOG_BYTES * 8).removesuffix("\n").split("\n")[-LOG_LINES:]]
    return "".join(parts[3] + ("\n" if parts[2] == "F" else "") for parts in lines if len(parts) == 4)[-LOG_BYTES:]
