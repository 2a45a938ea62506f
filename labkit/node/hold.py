"""Holding a node's kubelet still while a learner makes Pods by hand.

A kubelet kills within a second every sandbox that it does not know. SIGSTOP holds it; running Pods do not notice.
Without more, the cluster
would take the node for lost: so its Lease is renewed meanwhile (man: Kubernetes, "Leases", node heartbeats). A watcher
on the node itself
lets the kubelet go on when nobody has said for a while that it shall be held.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from labkit.node.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.kind import KindNode

FLAG = "/run/labkit-hold"
BEAT_S = 3.0
SILENT_S = 15
"""The watcher lets the kubelet go on when the flag was not touched for so long (the notebook died)."""
WITHOUT_LEASE_S = 240
"""The longest hold where the Lease cannot be renewed: Pods are evicted 300 s after the node was taken for lost
(tolerationSeconds)."""
LEASE_EVERY_BEATS = 3
LEASES = "kube-node-lease"
CONSENT = "LABKIT_HOLD"

WATCHER = """
flag=$1 silent=$2 end=$(( $(date +%s) + $3 ))
shift 3
echo $$ >"$flag"
kill -STOP "$@"
while now=$(date +%s) && [ -e "$flag" ] && [ $((now - $(stat -c %Y "$flag"))) -lt "$silent" ] && [ "$now" -lt "$end" ];
do sleep 1; done
kill -CONT "$@"
rm -f "$flag"
"""


class Said(str):
    """A sentence that a notebook shows without quotation marks."""

    def __repr__(self) -> str:
        return str(self)


class Hold:
    """Nothing to hold: this node has no kubelet. `start` and `release` say so, so that cells are the same everywhere.

    Also a context manager: `with node.kubelet_held(): …`.
    """

    def __init__(self, why: str = "No kubelet runs on this node, so none has to be held.") -> None:
        self.why = why

    def start(self) -> Said:
        return Said(self.why)

    def release(self) -> Said:
        return Said("No kubelet was held.")

    def __enter__(self) -> Hold:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class KubeletHold(Hold):
    """Holds the kubelet of one node of a cluster still. `asks`: whether to ask first (a cluster that labkit did not make)."""

    def __init__(self, node: KindNode, *, asks: bool) -> None:
        super().__init__()
        self.node, self.asks = node, asks
        self.done = threading.Event()
        self.beats: threading.Thread | None = None
        self.lease: Callable[[], object] | None = None

    def start(self) -> Said:
        """Hold the kubelet; a second call changes nothing. Raises NodeError where it may not be held, or nobody agreed."""
        pids = self.kubelets()
        if not pids:
            return super().start()
        if self.beats is None:
            if self.asks:
                ask(self.node.name)
            self.lease = lease_of(self.node)
            refuse_limits(self.node)
            longest = 24 * 3600 if self.lease else WITHOUT_LEASE_S
            watcher = ["sh", "-c", WATCHER, "labkit-hold", FLAG, str(SILENT_S), str(longest), *map(str, pids)]
            self.node.engine.run("exec", "--detach", self.node.container.name, *watcher)
            self.done.clear()
            self.beats = threading.Thread(target=self.beat, daemon=True)
            self.beats.start()
        how = "its Lease is renewed" if self.lease else f"{WITHOUT_LEASE_S} s at the longest, since its Lease cannot be renewed"
        return Said(f"The kubelet of {self.node.name} is held still until release() or until this notebook ends ({how}).")

    def release(self) -> Said:
        """Remove labkit's Pods, then let the kubelet go on. Idempotent."""
        if self.beats is None:
            return super().release()
        self.done.set()
        self.beats.join()
        self.beats = None
        with contextlib.suppress(NodeError):
            self.node.remove_all_pods()
        let_go(self.node)
        return Said(f"The kubelet of {self.node.name} goes on.")

    def kubelets(self) -> list[int]:
        return [p.pid for p in self.node.kernel.snapshot(fds=False).processes.values() if p.comm == "kubelet"]

    def beat(self) -> None:
        number = 0
        while not self.done.wait(BEAT_S):
            with contextlib.suppress(NodeError):
                self.node.run(["touch", "-c", FLAG])
            if self.lease and number % LEASE_EVERY_BEATS == 0:
                with contextlib.suppress(Exception):  # the next beat tries again; the Lease lasts 40 s
                    self.lease()
            number += 1


LET_GO = f"""
read -r watcher <{FLAG} 2>/dev/null || exit 0
rm -f {FLAG}
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do
    kill -0 "$watcher" 2>/dev/null || exit 0
    sleep 0.1
done
"""


def let_go(node: KindNode) -> None:
    """Let a kubelet go on that labkit holds, if it does: without the flag the watcher ends the hold within a second."""
    node.run(["sh", "-c", LET_GO])


def ask(name: str) -> None:
    """Raises NodeError unless the learner agrees, or LABKIT_HOLD says so already."""
    if os.environ.get(CONSENT, "").lower() in ("yes", "1", "true"):
        return
    question = (
        f"labkit did not make this cluster. It would hold the kubelet of {name} still (SIGSTOP) while you make Pods by hand, "
        "renew the node's Lease meanwhile, and let it go on afterwards. Go on? [y/N] "
    )
    try:
        agreed = input(question).strip().lower() in ("y", "yes")
    except Exception:  # no one can be asked: each front end has an exception of its own for that
        agreed = False
    if not agreed:
        raise NodeError(f"The kubelet of {name} is left alone.", f"Agree when you are asked, or set {CONSENT}=yes.")


def refuse_limits(node: KindNode) -> None:
    """Raises NodeError where somebody's Pod has a time limit that a kubelet held still cannot keep (activeDeadlineSeconds)."""
    try:
        pods = node.kube.list_pod_for_all_namespaces(
            field_selector=f"spec.nodeName={node.cluster_name()}", _request_timeout=5
        ).items
    except Exception:  # no API server to ask: then the hold is short (WITHOUT_LEASE_S)
        return
    if limited := [p.metadata.name for p in pods if p.spec.active_deadline_seconds is not None]:
        raise NodeError(f"The Pod {limited[0]} on {node.name} has a time limit, which a kubelet held still cannot keep.",
                        "Choose another node (LABKIT_NODE_NAME), or wait until that Pod is done.")  # fmt: skip


def lease_of(node: KindNode) -> Callable[[], object] | None:
    """A function that renews the node's Lease, as its kubelet does every 10 s; None where there is no API server to
    renew it with."""
    try:
        from kubernetes.client import CoordinationV1Api

        api = CoordinationV1Api(node.kube.api_client)
        name = node.cluster_name()
        api.read_namespaced_lease(name, LEASES, _request_timeout=5)
    except Exception:  # whatever keeps the API from being asked, the hold is then short
        return None

    def renew() -> Any:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return api.patch_namespaced_lease(name, LEASES, {"spec": {"renewTime": now}}, _request_timeout=5)

    renew()
    return renew
