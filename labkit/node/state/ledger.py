"""What a home has changed on nodes that are not its own: written down before it is done, so that `clean` can undo it.

A private node's changes all lie below its home, and a virtual machine's in the machine: they need no list. Those on a node of
kind `kind` or `cri`, who makes them, how they are known and undone: docs/architecture.md. A home's mark is a random word, made
once. What carries no mark of this home, and is in no list of its, is not removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.node.state import trust
from labkit.node.state.node_selector import NodeSelector, of_note
from labkit.util.outputs import PRIVATE, write_whole

if TYPE_CHECKING:
    from labkit.node.state.home import Home

MANAGED_BY = "app.kubernetes.io/managed-by"
LESSON = "labkit.lesson"
"""The labels of Pods and objects that labkit makes."""
INCIDENT = "labkit.incident"
"""The label of every object that an incident makes. No end of a lesson removes what has it."""
HOME = "labkit.home"
"""The label with the mark of the home that made an object, on a cluster that is not the home's own."""
DIRECTORY = "changes"
MARK = re.compile("[0-9a-f]{12}")


@contextlib.contextmanager
def locked(home: Home) -> Iterator[Path]:
    """The directory of the changes, for one process of this home at a time."""
    home.make()
    directory = home.data / DIRECTORY
    directory.mkdir(exist_ok=True, mode=0o700)
    with trust.append(directory / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def mark_of(home: Home) -> str:
    """The home's mark: twelve hexadecimal digits, made at the first call."""
    with locked(home) as directory:
        file = directory / "mark"
        mark = contents(file).strip()
        if not MARK.fullmatch(mark):
            mark = secrets.token_hex(6)
            write_whole(file, mark.encode(), PRIVATE)
        return mark


class Ledger:
    """The changes of one home on one node, a line of JSON each. `selector` is the node as `labkit clean` finds it.

    Nothing is kept in memory: another process of the home may clean the node while this one lives.
    """

    def __init__(self, home: Home, selector: NodeSelector) -> None:
        self.home, self.selector = home, selector
        name = re.sub("[^A-Za-z0-9.-]", "_", selector.endpoint or selector.node_name or selector.cluster)[:100]
        decides = {key: value for key, value in vars(selector).items() if value or key != "engine"}  # older ledgers have none
        which = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
        self.path = home.data / DIRECTORY / f"{selector.kind}-{name}-{which}.jsonl"

    @property
    def mark(self) -> str:
        return mark_of(self.home)

    def note(self, change: str, **details: str) -> None:
        """Write a change down, once, before it is made."""
        entry = {"change": change, **details}
        with locked(self.home):
            known = read(self.path)
            if entry in known:
                return
            header = {"change": "node", **vars(self.selector)}
            # What was cut off by a full disk, or when a process was killed, stays a line of its own.
            begin = "" if (contents(self.path) or "\n").endswith("\n") else "\n"
            with self.path.open("a") as file:
                file.write(begin + text_of([entry] if header in known else [header, entry]))

    def noted(self, change: str) -> list[dict[str, Any]]:
        """The changes of one sort, oldest first."""
        return [entry for entry in read(self.path) if entry["change"] == change]

    def values(self, change: str, key: str) -> set[str]:
        return {entry[key] for entry in self.noted(change) if isinstance(entry.get(key), str)}

    def has_pod(self, uid: str) -> bool:
        """Whether this home made a Pod by hand, on whatever node."""
        return uid in known_pods(self.home)

    def drop(self, change: str) -> None:
        """Forget the changes of one sort: they have been undone."""
        with locked(self.home):
            if self.path.exists():
                kept = [entry for entry in read(self.path) if entry["change"] != change]
                write_whole(self.path, text_of(kept).encode(), PRIVATE)

    def forget(self) -> None:
        """Forget all of them: everything is undone, and was looked for."""
        self.path.unlink(missing_ok=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a ledger's file, but for lines that were cut off. None where there is no file."""
    entries = []
    for line in contents(path).splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            entries.append(json.loads(line))
    return [entry for entry in entries if isinstance(entry, dict) and "change" in entry]


def contents(path: Path) -> str:
    """The text of a file, "" where there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text(errors="replace")
    return ""


def text_of(entries: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(entry, sort_keys=True) + "\n" for entry in entries)


def changed_nodes(home: Home) -> list[NodeSelector]:
    """Every node on which this home has changed something since its last `clean`."""
    headers = [entry for path in sorted((home.data / DIRECTORY).glob("*.jsonl")) for entry in read(path)]
    named = [{key: value for key, value in entry.items() if key != "change"} for entry in headers if entry["change"] == "node"]
    return list(dict.fromkeys(found for fields in named if (found := of_note(fields))))


def known_pods(home: Home) -> set[str]:
    """The uids of the Pods that this home made by hand, on whatever node."""
    return {uid for selector in changed_nodes(home) for uid in Ledger(home, selector).values("pod", "uid")}


def kept_files(home: Home) -> list[Path]:
    """The files that stay while a node could not be looked at: which nodes there are, what is changed there, and the mark."""
    return [home.data / DIRECTORY, home.data / "nodes.json"]
