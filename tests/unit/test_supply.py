"""How the course's images come to a node: what a failed pull means, and when it is tried again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.node.registry import node_registry, share
from labkit.util.errors import NodeError

NOTE = f"{share.DIRECTORY}/{node_registry.REFUSED}"
Provide = Callable[..., node_registry.Supply]
LATE = CriError("PullImage", "DEADLINE_EXCEEDED", "context deadline exceeded", "")
REFUSED = CriError("PullImage", "UNKNOWN", "lookup registry.lab: no such host", "")


class Node:
    """A node on which no registry runs yet; `answers` are what its pulls end with, None for those that work."""

    def __init__(self, *answers: CriError | None) -> None:
        self.answers, self.files, self.pulls = list(answers), dict[str, bytes](), 0

    def run(self, argv: Sequence[str], stdin: bytes | None = None, timeout: float = 30.0) -> bytes:
        if argv == node_registry.sh(node_registry.ALIVE):
            raise NodeError("no registry runs")
        if argv[0] == "cat":
            if argv[1] not in self.files:
                raise NodeError("No such file")
            return self.files[argv[1]]
        if argv[:2] == ["rm", "-f"]:
            self.files.pop(argv[2], None)
        if stdin is not None and argv[-1].endswith(NOTE):
            self.files[NOTE] = stdin
        return b""

    def pull_image(self, **fields: Any) -> None:
        self.pulls += 1
        if error := self.answers.pop(0):
            raise error

    def version(self) -> Any:
        return SimpleNamespace(runtime_name="containerd")

    def image_status(self, **fields: Any) -> Any:
        return SimpleNamespace(image=SimpleNamespace(id="sha256:1"))

    def list_images(self) -> Any:
        return SimpleNamespace(images=[])


@pytest.fixture
def provide(monkeypatch: pytest.MonkeyPatch) -> Provide:
    monkeypatch.setattr(node_registry.certs, "directories", lambda *_: ["/etc/containerd/certs.d"])
    monkeypatch.setattr(node_registry, "registry_bundle", lambda *_: b"")
    return lambda node, **more: node_registry.provide(node, node.run, None, None, lambda line: None, "/run/x.sock", **more)


@pytest.mark.parametrize("error", [LATE, REFUSED], ids=["late", "refused"])
def test_what_a_pull_has_shown_is_asked_of_no_node_again_until_the_next_up(provide: Provide, error: CriError) -> None:
    node = Node(error, error, None)
    first = provide(node, again=True)
    assert first.by == "import" and provide(node) == first and node.pulls == 1
    assert provide(node, again=True).by == "import" and node.pulls == 2
    assert provide(node, again=True) == node_registry.Supply("pull") and NOTE not in node.files


def test_a_pull_that_does_not_end_is_no_refusal(provide: Provide) -> None:
    assert "did not end within 30 s" in (why := provide(Node(LATE)).why) and "does not use" not in why
    assert "does not use the addresses" in provide(node := Node(REFUSED)).why
    assert json.loads(node.files[NOTE])["places"] == ["/etc/containerd/certs.d"]
