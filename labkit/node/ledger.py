"""What a home has changed on nodes that are not its own: written down before it is done, so that `clean` can undo it.

A private node's changes all lie below its home, and a virtual machine's in the machine: they need no list. Those on a node of
kind `kind` or `cri`, who makes them, how they are known and undone: docs/architecture.md. A home's mark is a random word, made
once. What carries no mark of this home, and is in no list of its, is not removed.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from labkit.node.choice import Choice
from labkit.node.home import Home

DIRECTORY = "changes"


def mark_of(home: Home) -> str:
    """The home's mark: twelve hexadecimal digits, made at the first call."""
    file = home.data / DIRECTORY / "mark"
    for _ in range(2):
        try:
            if mark := file.read_text().strip():
                return mark
        except FileNotFoundError:
            home.make()
            file.parent.mkdir(exist_ok=True, mode=0o700)
        try:
            with file.open("x") as new:
                new.write(secrets.token_hex(6))
        except FileExistsError:
            pass  # another process of this home was quicker
    return file.read_text().strip()


class Ledger:
    """The changes of one home on one node, a line of JSON each. `choice` is the node as `labkit clean` finds it."""

    def __init__(self, home: Home, choice: Choice) -> None:
        self.home, self.choice = home, choice
        name = choice.endpoint or choice.node_name or choice.cluster
        self.path = home.data / DIRECTORY / f"{choice.kind}-{re.sub('[^A-Za-z0-9.-]', '_', name)[:150]}.jsonl"
        self._noted: set[str] = set()

    @property
    def mark(self) -> str:
        return mark_of(self.home)

    def note(self, change: str, **details: str) -> None:
        """Write a change down, once, before it is made."""
        line = json.dumps({"change": change, **details}, sort_keys=True)
        if line in self._noted:
            return
        known = set(self._lines())
        self.home.make()
        self.path.parent.mkdir(exist_ok=True, mode=0o700)
        with self.path.open("a") as file:
            if not known:
                file.write(json.dumps({"change": "node", **vars(self.choice)}) + "\n")
            if line not in known:
                file.write(line + "\n")
        self._noted = known | {line}

    def noted(self, change: str) -> list[dict[str, Any]]:
        """The changes of one sort, oldest first."""
        return [entry for entry in self.entries() if entry.get("change") == change]

    def values(self, change: str, key: str) -> set[str]:
        return {str(entry[key]) for entry in self.noted(change) if key in entry}

    def drop(self, change: str) -> None:
        """Forget the changes of one sort: they are undone."""
        rest = [line for line in self._lines() if json.loads(line).get("change") != change]
        new = self.path.with_suffix(".new")
        if self.path.exists():
            new.write_text("".join(f"{line}\n" for line in rest))
            new.replace(self.path)
        self._noted = set()

    def forget(self) -> None:
        """Everything is undone, and was looked for."""
        self.path.unlink(missing_ok=True)
        self._noted = set()

    def entries(self) -> Iterator[dict[str, Any]]:
        for line in self._lines():
            yield dict(json.loads(line))

    def _lines(self) -> list[str]:
        try:
            lines = self.path.read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line for line in lines if line.startswith("{") and line.endswith("}")]  # the last may be cut off by a full disk


def changed_nodes(home: Home) -> list[Choice]:
    """Every node on which this home has changed something since its last `clean`."""
    found = []
    for path in sorted((home.data / DIRECTORY).glob("*.jsonl")):
        first = json.loads((path.read_text().splitlines() or ["{}"])[0])
        if first.pop("change", "") == "node":
            found.append(Choice(**first))
    return found


def known_pods(home: Home) -> set[str]:
    """The uids of the Pods that this home made by hand, on whatever node."""
    return {uid for choice in changed_nodes(home) for uid in Ledger(home, choice).values("pod", "uid")}


def kept_files(home: Home) -> list[Path]:
    """The files that stay while a node could not be looked at: which nodes there are, what is changed there, and the mark."""
    return [home.data / DIRECTORY, home.data / "nodes.json"]
