"""Whether the user's Pod is well again, is still hers, and stays well after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.course.incident.fault import POD, Fault, Scene, is_ready, labelled, user_pod
from labkit.util.errors import NodeError

NEXT = "orders-next"
"""A second Pod, which has to start too where the fault was the node's."""
FAILURES = 3
"""After so many warnings of it nobody waits any longer for that Pod."""
GONE = f"There is no Pod {POD}: the user needs it. incident.manifest() has its manifest; cluster.apply makes it again."


def trouble(scene: Scene, chosen: Fault) -> str:
    """What is still wrong, as a sentence; "" where the repair holds."""
    pod = scene.pod()
    if pod is None:
        return GONE
    if not is_ready(pod):
        return f"The Pod {POD} is not ready."
    if part := changed(pod, scene.kept["manifest"]):
        return f"The Pod {POD} is ready, and is no longer the user's: its {part} differs from her manifest."
    return after_restart(scene, chosen)


def changed(pod: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What of a Pod a repair must leave as it was, and has not; "" where it has."""
    parts = {
        "set of containers": lambda spec: [c["name"] for c in spec["containers"]],
        "set of init containers": lambda spec: [c["name"] for c in spec.get("initContainers", [])],
        "command": lambda spec: [c.get("command") for c in [*spec["containers"], *spec.get("initContainers", [])]],
        "image": lambda spec: [c["image"].rpartition(":")[0].rpartition("/")[2] for c in spec["containers"]],
        "environment": lambda spec: [e["name"] for c in spec["containers"] for e in c.get("env", [])],
        "set of volumes": lambda spec: [path for c in spec["containers"] for m in c.get("volumeMounts", [])
                                        if "serviceaccount" not in (path := m["mountPath"])],
        "readiness probe": lambda spec: [sorted({*c.get("readinessProbe", {})} & {"exec", "httpGet", "tcpSocket"})
                                         for c in spec["containers"]],
    }
    return next((name for name, of in parts.items() if of(pod["spec"]) != of(manifest["spec"])), "")


def after_restart(scene: Scene, chosen: Fault) -> str:
    """Restart what the repair has to outlive, and look again."""
    node = scene.node
    if chosen.restarts_runtime:
        try:
            node.daemon.restart()
        except NodeError as error:
            return f"The Pod {POD} was ready, but the runtime does not start again: {error.happened}"
    scene.start_again()
    if not scene.wait_ready():
        return f"The Pod {POD} was ready, and is not ready after it was started again: the repair does not hold."
    if chosen.another_pod:
        another = user_pod(scene)
        another["metadata"] = {"name": NEXT}
        node.cluster.recreate(labelled(another))
        ready = scene.wait_ready(NEXT, unless=lambda: sum(e.count for e in node.cluster.warnings(NEXT)) >= FAILURES)
        node.cluster.delete(NEXT)
        if not ready:
            return f"The Pod {POD} is ready, but the next Pod does not start: the cause is still there."
    return ""
