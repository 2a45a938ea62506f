"""One kernel at a time works on a lesson: each removes what the lesson has left on the node, and so the other's Pods.

The claim is a name in the network namespace (man 7 unix, abstract sockets; Linux alone has them): it ends with its kernel.
"""

from __future__ import annotations

import hashlib
import socket
import sys

from labkit.node.state.home import Home
from labkit.node.state.node_selector import NodeSelector
from labkit.util.errors import NodeError

CLAIMED: dict[str, socket.socket] = {}
"""This kernel's claims, for its whole life."""


def claim(home: Home, selector: NodeSelector, lesson: str, *, take_over: bool) -> None:
    """Claim a lesson on a node for this process; a second call changes nothing. Raises NodeError where another kernel has it,
    unless it is to be taken over."""
    digest = hashlib.sha256(repr((str(home.data), selector, lesson)).encode()).hexdigest()[:16]
    name = f"\0labkit-lesson-{digest}"
    if name in CLAIMED or sys.platform != "linux":
        return
    claimed = socket.socket(socket.AF_UNIX)
    try:
        claimed.bind(name)
    except OSError:
        claimed.close()
        if not take_over:
            raise NodeError(
                f"Another kernel works on lesson {lesson} on this node: each would remove the Pods of the other.",
                "Shut that kernel down (in JupyterLab: Running Terminals and Kernels, at the left). Or write"
                f' labkit.connect(lesson="{lesson}", take_over=True), which removes its Pods.',
            ) from None
    else:
        CLAIMED[name] = claimed
