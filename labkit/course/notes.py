"""Notes that are true on some nodes only, from notebooks/notes.yaml: each is shown where it applies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from labkit.util import progress
from labkit.util.errors import NodeError
from labkit.util.showable import Absent

if TYPE_CHECKING:
    from labkit.node import Node

FILE = "notes.yaml"


@dataclass(frozen=True)
class Note:
    """A text for nodes of these `kinds`, or for nodes with this `runtime`."""

    text: str
    kinds: tuple[str, ...] = ()
    runtime: str = ""

    def applies(self, kind: str, runtime: str) -> bool:
        """runtime: as `node.runtime` names it, "cri-o 1.37.0"."""
        return kind in self.kinds or (bool(self.runtime) and runtime.lower().startswith(self.runtime))


@cache
def notes(path: Path) -> dict[str, Note]:
    """The notes of a file by name. Raises NodeError where it cannot be read."""
    try:
        found = yaml.safe_load(path.read_text())
        rows = found.items()
        made = {name: Note(row["text"].strip(), tuple(row.get("kinds", ())), row.get("runtime", "")) for name, row in rows}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise NodeError(f"{path.name} cannot be read: {reason}.", "Its first lines say what a note has.") from None
    if unset := next((name for name, each in made.items() if bool(each.kinds) == bool(each.runtime)), None):
        raise NodeError(f"{path.name}, {unset}: a note has either kinds or a runtime.", "Give it one of the two.")
    return made


def note(node: Node, name: str) -> None:
    """Show the note where it applies to this node. Raises Absent, naming the notes there are.

    No saved output has it, as with progress, so that a notebook's outputs are the same on every node.
    """
    from labkit.course.jupyter.copy import source

    known = notes(source() / FILE)
    if name not in known:
        raise Absent(f"There is no note {name!r}; there are {', '.join(known)}.")
    if not known[name].applies(node.kind, node.runtime):
        return
    if not progress.in_notebook():
        print(known[name].text)
        return
    from IPython.display import DisplayHandle, display

    place: DisplayHandle | None = display({}, raw=True, display_id=True)
    if place is not None:
        shown = f"> **On this node:** {known[name].text}"
        place.update({"text/plain": known[name].text, "text/markdown": shown}, raw=True)
