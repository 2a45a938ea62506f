"""Which cells of a lesson a learner has reached, as her notebook's kernel tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from typing import Any

from labkit.course.memory.progress_store import LearnerEvent, of_this_learner
from labkit.util.errors import NodeError

WATCHED = "_labkit_cells"
"""The attribute of IPython's shell that says that its cells are noted already."""


@cache
def of_lesson(lesson: str) -> dict[str, str]:
    """The code cells of the course's notebook, in its order: sources by id."""
    from labkit.course.jupyter.copy import source

    try:
        paths = sorted(source().glob(f"{lesson}-*.ipynb"))
        found = json.loads(paths[0].read_text())["cells"] if paths else []
        return {cell["id"]: "".join(cell["source"]).strip() for cell in found if cell["cell_type"] == "code"}
    except (NodeError, OSError, ValueError, KeyError, TypeError):  # a course that is damaged has no cells to count
        return {}


def watch(lesson: str, shell: Any = None) -> None:
    """Note from now on which cells of the lesson are run in this kernel; those that ran before are noted too.

    A cell that a program runs (nbval, nbclient) has no id from its notebook, and is not noted: no learner read it.
    """
    shell = shell or interactive()
    if shell is None or getattr(shell, WATCHED, False):
        return
    setattr(shell, WATCHED, True)
    known, before = of_lesson(lesson), [str(text).strip() for text in shell.user_ns.get("In", [])]
    reached: set[str] = set()

    def note(item: str) -> None:
        if item not in reached:
            reached.add(item)
            of_this_learner().add(LearnerEvent(datetime.now(UTC), "cell", lesson, item))

    def ran(result: Any) -> None:
        if (identifier := getattr(result.info, "cell_id", None)) is None:
            return
        if identifier not in known:  # another editor has ids of its own
            before.append(result.info.raw_cell.strip())
        for item, text in known.items():
            if item == identifier or text in before:
                note(item)
        before.clear()

    shell.events.register("post_run_cell", ran)


def interactive() -> Any:
    """IPython's shell where this is a notebook's kernel, else None."""
    from labkit.util.progress import in_notebook

    if not in_notebook():
        return None
    from IPython import get_ipython

    return get_ipython()
