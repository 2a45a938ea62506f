"""What can go wrong with a node, said so that a learner can act on it."""

from __future__ import annotations

from labkit.util.showable import showable_lines


class NodeError(Exception):
    """A node cannot be used, started, reached or removed. `happened` says what, `todo` says what to do about it."""

    def __init__(self, happened: str, todo: str = "") -> None:
        self.happened, self.todo = happened, todo
        super().__init__(f"{happened} {todo}".strip())

    def _render_traceback_(self) -> list[str]:
        """Notebooks show the two sentences, not the stack (IPython's hook for exceptions of one's own)."""
        return [showable_lines(self)]
