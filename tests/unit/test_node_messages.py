"""What a node answers where a lesson has stopped its runtime: why, and what to do, whatever was asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.node import Node, NodeError, connect


class Stopped(Node):
    """A node whose containerd a lesson has stopped."""

    daemon: Any = SimpleNamespace(state="stopped")


@pytest.mark.parametrize(
    "ask",
    [
        lambda node: node.cri.version(),
        lambda node: node.pods(),
        lambda node: node.listener(),
        lambda node: node.host_namespaces(),
        lambda node: node.record().__enter__(),
        lambda node: node.wait_exit("a"),
        lambda node: node.wait_not_ready("a"),
        lambda node: node.start_pod({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a:1"}]}}),
    ],
)
def test_a_runtime_that_a_lesson_has_stopped_is_named_as_stopped(tmp_path: Path, ask: Callable[[Node], object]) -> None:
    node = Stopped(kind="containerd", name="here", endpoint=f"unix://{tmp_path}/cri.sock", runtime="", why="", lesson="04")
    with pytest.raises((NodeError, CriError), match=r"(?s)containerd on here was stopped.*node\.daemon\.start"):
        ask(node)


def test_a_lesson_that_is_no_text_is_refused() -> None:
    with pytest.raises(NodeError, match='lesson="04"'):
        connect(lesson=4)  # type: ignore[arg-type]
