"""How long work is shown to whoever waits for it: in a notebook below the cell, elsewhere on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


def in_notebook() -> bool:
    """Whether this Python is a notebook's kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


@contextlib.contextmanager
def shown(after_s: float = 0.0) -> Iterator[Callable[[str], None]]:
    """A progress callable. What it showed below a cell is taken away at the end, so that the cell's output is the same
    whether there was
    anything to wait for or not. In a notebook the first `after_s` seconds of the work pass in silence."""
    if not in_notebook():
        yield lambda text: print(f"labkit: {text}", file=sys.stderr, flush=True)
        return
    from IPython.display import clear_output

    said = []
    begun = time.monotonic()

    def show(text: str) -> None:
        if time.monotonic() - begun < after_s:
            return
        clear_output(wait=True)
        print(text, flush=True)
        said.append(text)

    try:
        yield show
    finally:
        if said:
            clear_output()
