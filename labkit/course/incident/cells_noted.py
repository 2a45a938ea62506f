"""The cells that are run while an incident is open, in its journal: noted when they begin, their errors when they end."""

from __future__ import annotations

import ast
from typing import Any

from labkit.course.incident import incident_store as store
from labkit.course.memory.cells import interactive
from labkit.node.state.home import Home

WATCHED = "_labkit_incident"
"""The attribute of IPython's shell that says that its cells are noted already."""


def watch(home: Home, begins: bool, shell: Any = None) -> None:
    """Note the cells of this kernel from now on, and the one that runs now. Where the incident goes on in another kernel
    (`begins` is False), that kernel's earlier cells belong to it too."""
    shell = shell or interactive()
    if shell is None:
        return
    watched = getattr(shell, WATCHED, False)
    before = [str(text) for text in shell.user_ns.get("In", [])]
    for text in before[-1:] if begins else [] if watched else before:
        note(home, text)
    if not watched:
        setattr(shell, WATCHED, True)
        shell.events.register("pre_run_cell", lambda info: note(home, str(info.raw_cell)))
        shell.events.register("post_run_cell", lambda result: note_error(home, result))


def note(home: Home, text: str) -> None:
    if text.strip() and not only_predicts(text):
        store.note(home, "notebook", text)


def note_error(home: Home, result: Any) -> None:
    error = result.error_before_exec or result.error_in_exec
    if error is not None:
        store.note(home, "error", f"{type(error).__name__}: {error}".split("\n")[0])


def only_predicts(cell: str) -> bool:
    """Whether a cell does nothing but ask the learner for a prediction, or show what came of it."""
    try:
        statements = ast.parse(cell).body
    except (SyntaxError, ValueError):
        return False
    return bool(statements) and all(is_prediction(each) for each in statements)


def is_prediction(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr | ast.Assign):
        return False
    found: ast.expr | None = statement.value
    if isinstance(found, ast.Name):
        return True
    called = found.func if isinstance(found, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("predict", "predict_order", "seen", "review", "progress")
