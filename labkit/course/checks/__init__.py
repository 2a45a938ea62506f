"""Checks of the exercises, a module for each lesson: each looks at the node and says what is there and what is still missing."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from labkit.course.memory import noted
from labkit.course.verdict import CHECKS, Check
from labkit.util.showable import Absent

if TYPE_CHECKING:
    from labkit.node import Node

for _module in pkgutil.iter_modules(__path__):  # each registers its checks with @exercise
    import_module(f"{__name__}.{_module.name}")

_last: WeakKeyDictionary[Node, dict[str, Check]] = WeakKeyDictionary()


def check(exercise: str, node: Node) -> Check:
    """Look at `node` and judge exercise "00.1", "02.2", …. Where the same is missing as last time, the next hint is given.

    Raises Absent, naming the exercises there are.
    """
    if exercise not in CHECKS:
        raise Absent(f"There is no exercise {exercise!r}; there are {', '.join(CHECKS)}.")
    found, last = CHECKS[exercise](node), _last.setdefault(node, {})
    before = last.get(exercise)
    if before and before.missing == found.missing:
        found = found.with_hint(before.given + 1)
    last[exercise] = found
    noted.check(exercise, found.done, found.missing, found.given + 1 if found.hints else 0)
    return found
