"""Check of lesson 07, Could you be the kubelet?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cri_api.v1.api_pb2 import CONTAINER_EXITED

from labkit.course.verdict import Check, exercise

if TYPE_CHECKING:
    from labkit.node import Node


@exercise("07.1")
def policies(node: Node) -> Check:
    """07.1: a Pod `once` whose container ended with 3 and was not made again, and a Pod `stubborn` whose container was."""
    once, stubborn = containers(node, "once"), containers(node, "stubborn")
    for name, found in (("once", once), ("stubborn", stubborn)):
        if not found:
            return Check(False, f"there is no Pod called {name} on the node, or it has no container.")
    if len(once) > 1:
        return Check(False, f"the container of once was started {len(once)} times, although its policy is Never.")
    if once[0].state != CONTAINER_EXITED:
        return Check(False, "the container of once has not ended.")
    if (code := node.cri.container_status(container_id=once[0].id).status.exit_code) != 3:
        return Check(False, f"the container of once ended with {code}, not with 3.")
    if len(stubborn) < 2:
        return Check(False, "the container of stubborn was started once only: it fails, and its policy is OnFailure.")
    ended = [c for c in stubborn if c.state == CONTAINER_EXITED]
    if not any(node.cri.container_status(container_id=c.id).status.exit_code == 3 for c in ended):
        return Check(False, "no container of stubborn ended with 3.")
    return Check(True, "once was left as it ended, and stubborn was started again.")


def containers(node: Node, pod: str) -> list[Any]:
    """The containers of the newest Pod of that name, whatever their state."""
    sandboxes = [s for s in node.cri.list_pod_sandbox().items if s.metadata.name == pod]
    if not sandboxes:
        return []
    uid = max(sandboxes, key=lambda s: s.created_at).metadata.uid
    return [c for c in node.cri.list_containers().containers if c.labels.get("io.kubernetes.pod.uid") == uid]
