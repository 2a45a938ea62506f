"""Suspends a node's kubelet while a learner makes Pods by hand.

A kubelet kills within a second every sandbox that it does not know. SIGSTOP suspends it, and running Pods do not notice. The
cluster would soon take the node for lost, so its Lease is renewed meanwhile (Kubernetes, "Leases", node heartbeats). A watcher on
the node resumes the kubelet when nobody has renewed the pause for a while.

Every pause has a file of its own on the node, whose name begins with the home's mark: several notebooks, also of several users,
may suspend one kubelet. It resumes when the last pause ends, and no home ends a pause of another.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from labkit.cri import CriError
from labkit.node.host.access import Kernel
from labkit.node.pods.kubelet_watcher import LET_GO, LIVE, TOUCH, WATCHER
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.pods.api_access import NoApi
    from labkit.node.state.node_selector import NodeSelector

HOLDS = "/run/labkit-hold"
"""A directory on the node with a file for each pause: the watcher's pid, then the kubelet's."""
BEAT_S = 3.0
SILENT_S = 15
"""The watcher resumes the kubelet when its file was not touched for so long (the notebook died)."""
HELD_WITHIN_S = 10.0
WITHOUT_LEASE_S = 240
"""The longest pause where the Lease cannot be renewed: Pods are evicted 300 s after the node was taken for lost
(tolerationSeconds)."""
LEASE_EVERY_BEATS = 3
LEASES = "kube-node-lease"
CONSENT = "LABKIT_HOLD"
STALE_AFTER_S = 25.0
"""A kubelet that was suspended for longer may first report that its runtime is down: the runtime's last answer is then older than
30 s (kubelet.go, baseRuntimeSyncThreshold). Ten seconds later, with its next status, it reports that the node is ready."""
SETTLED_S = 3.0
READY_WITHIN_S = 60.0
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")

NOT_HELD = "The lab's kubelet ignores Pods made by hand, so it is not suspended."


class Sentence(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


class CommandRunner(Protocol):
    def run(self, argv: Sequence[str]) -> bytes: ...


class Removes(Protocol):
    def remove_all(self) -> list[str]: ...


class Detaches(Protocol):
    def run(self, *arguments: str) -> str: ...


class ClusterNode(Protocol):
    """The part of a node that is used here: a node of a cluster that is a container."""

    name: str
    selector: NodeSelector

    @property
    def kernel(self) -> Kernel: ...
    @property
    def host(self) -> CommandRunner: ...
    @property
    def api(self) -> NoApi: ...
    @property
    def own_pods(self) -> Removes: ...
    @property
    def engine(self) -> Detaches: ...


class KubeletPause:
    """No pause: this node has no kubelet to suspend. `start` and `release` say so, so that cells are the same on every node.

    Also a context manager: `with node.kubelet_held(): …`.
    """

    def __init__(self, why: str = "No kubelet runs on this node, so none is suspended.") -> None:
        self.why = why

    def start(self) -> Sentence:
        return Sentence(self.why)

    def release(self) -> Sentence:
        return Sentence("No kubelet was suspended.")

    def others(self) -> list[str]:
        """The pauses of other notebooks on this node. Raises NodeError."""
        return []

    def __enter__(self) -> KubeletPause:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


HELD: dict[tuple[NodeSelector, str], ClusterKubeletPause] = {}
"""The pauses of this process that are not released, by node and by the home's mark."""


class ClusterKubeletPause(KubeletPause):
    """Suspends the kubelet of one node of a cluster. `asks`: whether to ask the learner first (where this lab did not make the
    cluster). `mark`: of the home."""

    def __init__(self, node: ClusterNode, *, asks: bool, mark: str = "") -> None:
        super().__init__()
        self.node, self.asks = node, asks
        self.key = node.selector, mark
        self.name = f"{mark}.{secrets.token_hex(4)}"
        self.since: float | None = None
        """When this pause began (CLOCK_MONOTONIC), else None."""
        self.done = threading.Event()
        self.keeper: threading.Thread | None = None
        self.lease: Callable[[], object] | None = None
        self.before: frozenset[str] = frozenset()

    def start(self) -> Sentence:
        """Suspend the kubelet; a second call changes nothing. Raises NodeError where it may not be suspended, or the learner did
        not agree."""
        pids = list(self.kubelets())
        if not pids:
            return super().start()
        if self.since is None:
            if self.asks:
                ask(self.node.name)
            self.lease = lease_of(self.node)
            refuse_limits(self.node)
            self.before = frozenset()
            with contextlib.suppress(Exception):  # whatever the API's client raises, the hold itself needs no API
                self.before = not_ready_reasons(self.node)
            self.since = time.monotonic()
            try:
                self.watch(pids)
                if not progress.wait("the kubelet is suspended", self.begun, HELD_WITHIN_S):
                    raise NodeError(f"The kubelet of {self.node.name} could not be suspended.", "Try again.")
            except BaseException:
                self.since = None
                resume_kubelet(self.node, self.name)
                raise
            self.done.clear()
            self.keeper = threading.Thread(target=self.keep_alive, daemon=True)
            self.keeper.start()
            HELD[self.key] = self
        how = "its Lease is renewed" if self.lease else f"for {WITHOUT_LEASE_S} s at most, since its Lease cannot be renewed"
        return Sentence(f"The kubelet of {self.node.name} is suspended until release() or until this notebook ends ({how}).")

    def release(self) -> Sentence:
        """Remove labkit's Pods, resume the kubelet, and wait until the node is ready again. Idempotent.

        The kubelet resumes even if Pods could not be removed: it removes these itself. Raises NodeError where the kubelet cannot
        be reached; a second call tries again, and so does the watcher on the node.
        """
        if self.since is None:
            if self.others():
                return Sentence(f"This notebook holds no kubelet; another one holds that of {self.node.name}.")
            return super().release()
        try:
            # NodeError and CriError both: the runtime may be away, or the whole node.
            with contextlib.suppress(NodeError, CriError):
                self.node.own_pods.remove_all()
        finally:
            self.done.set()
            if self.keeper is not None:
                self.keeper.join()
                self.keeper = None
            try:
                resume_kubelet(self.node, self.name)
            except NodeError as error:
                raise NodeError(
                    f"The kubelet of {self.node.name} could not be resumed: {error.happened}",
                    f"It resumes by itself {SILENT_S} s after this, or call release() again.",
                ) from None
        held_s, self.since = time.monotonic() - self.since, None
        HELD.pop(self.key, None)
        left = wait_ready(self.node, held_s, self.before) if self.lease else ""
        return Sentence(f"The kubelet of {self.node.name} runs again{left}.")

    def others(self) -> list[str]:
        return [name for name in holders(self.node) if name != self.name]

    def watch(self, pids: Sequence[int]) -> None:
        """Start the watcher on the node, which suspends the kubelet."""
        longest = 24 * 3600 if self.lease else WITHOUT_LEASE_S
        watcher = ["sh", "-c", WATCHER, "labkit-hold", HOLDS, self.name, str(SILENT_S), str(longest), *map(str, pids)]
        self.node.engine.run("exec", "--detach", self.node.name, *watcher)

    def begun(self) -> bool:
        return self.name in holders(self.node) and all(state in "Tt" for state in self.kubelets().values())

    def kubelets(self) -> Mapping[int, str]:
        """The node's kubelets: pid → state (man 5 proc_pid_stat), "T" for a stopped one."""
        return {p.pid: p.state for p in self.node.kernel.snapshot(fds=False).processes.values() if p.comm == "kubelet"}

    def keep_alive(self) -> None:
        number = 0
        while not self.done.wait(BEAT_S):
            # Whatever is raised, by the engine, the kernel's view or the API's client: the next beat tries again in time.
            with contextlib.suppress(Exception):
                expired = self.node.host.run(["sh", "-c", TOUCH, "sh", f"{HOLDS}/{self.name}"])
                if expired and self.lease:  # this process had slept
                    self.watch(list(self.kubelets()))
            if self.lease and number % LEASE_EVERY_BEATS == 0:
                with contextlib.suppress(Exception):
                    self.lease()
            number += 1


def kubelet_held(node: ClusterNode, *, asks: bool, mark: str = "") -> ClusterKubeletPause:
    """The pause of a node's kubelet: the one that this process has, since a cell can be run twice, else a new one."""
    return HELD.get((node.selector, mark)) or ClusterKubeletPause(node, asks=asks, mark=mark)


def resume_kubelet(node: ClusterNode, prefix: str) -> None:
    """End the pauses whose names begin with `prefix`: a home's mark, or one pause's name. Raises NodeError."""
    node.host.run(["sh", "-c", LET_GO, "sh", HOLDS, prefix])


def holders(node: ClusterNode) -> list[str]:
    """The names of the pauses of a node's kubelet. Each begins with the mark of its home. Raises NodeError."""
    return node.host.run(["sh", "-c", f'{LIVE} live "$1"', "sh", HOLDS]).decode().split()


def not_ready_reasons(node: ClusterNode) -> frozenset[str]:
    """What keeps Pods from the node, according to the API: "not ready", and taints. Raises whatever the client raises."""
    node_object: Any = node.api.kube.read_node(node.api.node_name(), _request_timeout=5)
    found = {taint.key for taint in node_object.spec.taints or [] if taint.key in TAINTS}
    if not any(c.type == "Ready" and c.status == "True" for c in node_object.status.conditions or []):
        found.add("not ready")
    return frozenset(found)


def wait_ready(node: ClusterNode, held_s: float, before: frozenset[str]) -> str:
    """Wait until the API reports nothing against the node that was not there before the pause. Returns "", or words to add to a
    sentence.

    A kubelet that was suspended for long reports a failure a moment after it resumes, so the node must stay ready for a while.
    """
    settled_s = SETTLED_S if held_s > STALE_AFTER_S else 0.0
    well_since: float | None = None
    last = "its node was not seen"

    def settled() -> bool:
        nonlocal well_since, last
        try:
            new = not_ready_reasons(node) - before
            last = f"its node is {', '.join(sorted(new))}"
        except Exception as error:  # of the API's client, of its connections, or NodeError: asked again until the time is over
            new, last = frozenset({"unknown"}), f"its node could not be seen ({type(error).__name__})"
        if new:
            well_since = None
            return False
        well_since = well_since or time.monotonic()
        return time.monotonic() - well_since >= settled_s

    return (
        "" if progress.wait("the node is ready again", settled, READY_WITHIN_S) else f", but after {READY_WITHIN_S:.0f} s {last}"
    )


def ask(name: str) -> None:
    """Raises NodeError unless the learner agrees, or LABKIT_HOLD says so already."""
    if os.environ.get(CONSENT, "").lower() in ("yes", "1", "true"):
        return
    question = (
        f"labkit did not make this cluster. It would suspend the kubelet of {name} (SIGSTOP) while you make Pods by hand, "
        "renew the node's Lease meanwhile, and resume the kubelet afterwards. Continue? [y/N] "
    )
    try:
        agreed = input(question).strip().lower() in ("y", "yes")
    except Exception:  # no one can be asked: each front end has an exception of its own for that
        agreed = False
    if not agreed:
        raise NodeError(f"The kubelet of {name} is left alone.", f"Agree when you are asked, or set {CONSENT}=yes.")


def refuse_limits(node: ClusterNode) -> None:
    """Raises NodeError where somebody's Pod has a time limit that a suspended kubelet cannot keep (activeDeadlineSeconds)."""
    try:
        pods: Any = node.api.kube.list_pod_for_all_namespaces(
            field_selector=f"spec.nodeName={node.api.node_name()}", _request_timeout=5
        ).items
    except Exception:  # no API server to ask: then the hold is short (WITHOUT_LEASE_S)
        return
    if limited := [p.metadata.name for p in pods if p.spec.active_deadline_seconds is not None]:
        raise NodeError(f"The Pod {limited[0]} on {node.name} has a time limit, which a suspended kubelet cannot keep.",
                        "Choose another node (LABKIT_NODE_NAME), or wait until that Pod is done.")


def lease_of(node: ClusterNode) -> Callable[[], object] | None:
    """A function that renews the node's Lease, as its kubelet does every 10 s; None where there is no API server to
    renew it with."""
    try:
        from kubernetes.client import CoordinationV1Api

        api = CoordinationV1Api(node.api.kube.api_client)
        name = node.api.node_name()

        def renew() -> Any:
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            return api.patch_namespaced_lease(name, LEASES, {"spec": {"renewTime": now}}, _request_timeout=5)

        renew()
    except Exception:  # whatever keeps the API from being asked, the hold is then short
        return None
    return renew
