"""A wait with an end, for notebooks."""

from __future__ import annotations

from collections.abc import Callable

from labkit.util import progress
from labkit.util.errors import NodeError

POLL_S = 0.05


def within(seconds: float, happened: Callable[[], object]) -> bool:
    """Whether `happened` becomes true in this time: `within(20, lambda: …)`. It is called until it is."""
    return progress.wait("what comes next", happened, seconds, POLL_S)


def wait_until(what: str, happened: Callable[[], object], timeout: float = 30.0) -> None:
    """Call `happened` until it is true, for `timeout` seconds at most: `wait_until("the container ends", lambda: …)`.

    Raises NodeError, which says what did not happen.
    """
    if not progress.wait(what, happened, timeout, POLL_S):
        raise NodeError(
            f"Waited {timeout:g} s for this: {what}. It did not happen.",
            "Look at the cells above: one of them failed or was left out. Then run the notebook from its start.",
        )
