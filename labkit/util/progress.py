"""Waiting until something is so, and the progress of long work: in a notebook below the cell, elsewhere on standard error."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import sys
import time
from collections.abc import Callable, Iterator

Progress = Callable[[str], None]
"""Called with a line about what is being done now."""
QUIET_S = 5.0
"""So long a notebook waits without a word."""


SUMMARY: contextvars.ContextVar[bool] = contextvars.ContextVar("SUMMARY", default=False)


def quiet(text: str) -> None:
    """A Progress that shows nothing."""


def in_notebook() -> bool:
    """Whether this Python is a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def only_errors() -> None:
    """From now on, what labkit's libraries log below ERROR (a request that is tried again, a pool that is full) is not written
    below a notebook's cell: it depends on how fast the machine is, and labkit reports what fails."""
    if in_notebook():
        for library in ("pyroute2", "urllib3"):
            logging.getLogger(library).setLevel(logging.ERROR)


@contextlib.contextmanager
def summary(text: str) -> Iterator[None]:
    """While the block runs, this line is all that is shown of progress."""
    with shown() as show:
        show(text)
        before = SUMMARY.set(True)
        try:
            yield
        finally:
            SUMMARY.reset(before)


@contextlib.contextmanager
def shown(after_s: float = 0.0) -> Iterator[Progress]:
    """A callable that shows a line of progress. In a notebook each line replaces the one before, the last one disappears at
    the end, and work that is done within `after_s` seconds shows none.

    Below a cell it is an empty display that is updated: no output of the cell that is saved with the notebook, or that
    nbval compares, has any of it. So the cell's output is the same whether there was anything to wait for or not.
    """
    if SUMMARY.get():
        yield quiet
        return
    if not in_notebook():
        yield lambda text: print(f"labkit: {text}", file=sys.stderr, flush=True)
        return
    from IPython.display import DisplayHandle, display

    place: DisplayHandle | None = None
    begun = time.monotonic()

    def show(text: str) -> None:
        nonlocal place
        if time.monotonic() - begun < after_s:
            return
        if place is None:
            place = display({}, raw=True, display_id=True)
        if place is not None:
            place.update({"text/plain": text}, raw=True)

    try:
        yield show
    finally:
        if place is not None:
            place.update({}, raw=True)


def wait(what: str, happened: Callable[[], object], seconds: float, poll_s: float = 0.1) -> bool:
    """Call `happened` until it is true; whether it was within `seconds`. A notebook that waits for long shows what for."""
    shown_once = not in_notebook()
    with shown() as show:
        for left in attempts(seconds, poll_s):
            if happened():
                return True
            if seconds - left > QUIET_S and not shown_once:
                show(f"waiting, {seconds:.0f} s at most: {what}")
                shown_once = True
    return False


def attempts(within_s: float, every_s: float = 0.02) -> Iterator[float]:
    """Yield whenever it is time to look again: at once, then every `every_s` seconds, and a last time when `within_s` are over.
    Each time the seconds that are left."""
    end = time.monotonic() + within_s
    while (left := end - time.monotonic()) > 0:
        yield left
        time.sleep(min(every_s, max(end - time.monotonic(), 0.0)))
    yield 0.0
