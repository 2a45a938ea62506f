"""What can go wrong with a node, said so that a learner can act on it."""

from __future__ import annotations

from labkit.util.showable import ReadableError


class AdvisedError(ReadableError):
    """`happened` is a sentence of what happened, `todo` one of what to do about it."""

    def __init__(self, happened: str, todo: str = "") -> None:
        self.happened, self.todo = happened, todo
        super().__init__(f"{happened} {todo}".strip())


class NodeError(AdvisedError):
    """A node cannot be used, started, reached or removed."""
