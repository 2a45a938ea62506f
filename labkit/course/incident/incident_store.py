"""The open incident, in a file of the lab's home: a kernel, a browser or a node that ends takes nothing of it along."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from labkit.course.incident.fault import FAULTS
from labkit.node.state import incident_note, trust
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from labkit.util.outputs import PRIVATE, write_whole

JOURNAL, LOCK, MET = "incident-journal.jsonl", "incident.lock", "incidents-met"
PARTS = ("cause", "evidence", "repair")
POINTS = {"cause": 40, "evidence": 30, "repair": 30}
HINT, WRONG = 10, 5
"""What a hint and a wrong answer cost."""
TEXT_MAX = 2000
HIDDEN = "…"
SECRET_WORD = r"""(password|passwd|passphrase|token|auth|\.dockerconfigjson)["']?[\s=:,]+"""
SECRETS = (
    re.compile(rf"""(?i)({SECRET_WORD})("[^"]*"|'[^']*'|[^\s"',)}}]+)"""),
    re.compile(r"""((?:-u|--user)[\s=]+[^\s:@/"']+:)[^\s@"']+"""),
    re.compile(r"""(://[^\s:@/"']+:)[^\s@/"']+(?=@)"""),
)


@dataclass
class State:
    """`phase`: "making" until the fault is made, "open" until all is found or the learner ends it, then "closed". `found`: when
    each part was. `wrong`: each wrong answer. `holds`: see `labkit.node.state.incident_note`."""

    seed: int | None
    fault: str
    kind: str
    node: str
    begun: str
    phase: str = "making"
    hints: int = 0
    found: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)
    holds: list[str] = field(default_factory=list)
    ended: str = ""

    @property
    def points(self) -> int:
        return max(0, sum(POINTS[part] for part in self.found) - HINT * self.hints - WRONG * len(self.wrong))

    @property
    def complaint(self) -> str:
        """What the user says."""
        return FAULTS[self.fault].complaint(self.seed)

    @property
    def solved(self) -> bool:
        return all(part in self.found for part in PARTS)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def load(home: Home) -> State | None:
    """The incident that is open, or was last; None where there was none. Raises NodeError where the file holds something else."""
    try:
        state = State(**incident_note.decoded((home.data / incident_note.NAME).read_bytes()))
        datetime.fromisoformat(state.begun)
        if state.phase not in ("making", "open", "closed") or not isinstance(state.found, dict) or state.fault not in FAULTS:
            raise ValueError
        return state
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError):
        todo = "End it with `labkit incident end`: what it made is looked for and undone."
        raise NodeError(f"The incident's file {home.data / incident_note.NAME} cannot be read.", todo) from None


def save(home: Home, state: State) -> None:
    write_whole(home.data / incident_note.NAME, incident_note.encoded(asdict(state)), PRIVATE)


def forget(home: Home) -> None:
    """Forget the incident and what was done in it."""
    for name in (incident_note.NAME, JOURNAL):
        (home.data / name).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(home: Home) -> Iterator[None]:
    """While an incident is made, checked or ended: nobody else does that. Raises NodeError where somebody does."""
    home.make()
    with trust.append(home.data / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            happened = "Another notebook or command is making, checking or ending the incident."
            raise NodeError(happened, "Wait until it is done, then try again.") from None
        yield


def note(home: Home, where: str, text: str) -> None:
    """Write a command into the journal while an incident is open. Never fails: the journal is no reason to stop a learner."""
    with contextlib.suppress(OSError, NodeError):
        state = load(home)
        if state is None or state.phase != "open":
            return
        entry = {"at": now(), "where": where, "text": without_secrets(text.strip())[:TEXT_MAX]}
        with trust.append(home.data / JOURNAL) as journal:
            journal.write(json.dumps(entry) + "\n")


def without_secrets(text: str) -> str:
    """A command whose passwords are left out: the journal's page is meant to be handed in."""
    for pattern in SECRETS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def remembered(home: Home) -> dict[str, Any]:
    """What outlives an incident; empty where nothing does, or the file is damaged."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        return incident_note.decoded((home.data / MET).read_bytes())
    return {}


def met(home: Home) -> list[str]:
    """The faults that the learner has met, the last one at the end."""
    found = remembered(home).get("faults")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def note_met(home: Home, fault: str) -> None:
    faults = [*(name for name in met(home) if name != fault), fault]
    write_whole(home.data / MET, incident_note.encoded({**remembered(home), "faults": faults}), PRIVATE)


def seeds_listed(home: Home) -> str:
    """When somebody had the faults listed with the seeds that draw them; "" where nobody had."""
    return str(remembered(home).get("seeds_listed", ""))


def note_seeds_listed(home: Home) -> None:
    home.make()
    write_whole(home.data / MET, incident_note.encoded({**remembered(home), "seeds_listed": now()}), PRIVATE)


def journal(home: Home) -> list[dict[str, str]]:
    """The commands, oldest first; lines that were cut off are left out."""
    found = []
    with contextlib.suppress(OSError):
        for line in (home.data / JOURNAL).read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and {"at", "where", "text"} <= entry.keys():
                    found.append(entry)
    return found
