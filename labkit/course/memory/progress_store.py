"""The learner's events in one SQLite file below the user's state directory (XDG_STATE_HOME), or below LABKIT_HOME.

Nothing is ever changed but by a reset: an event is added, and everything else is computed from the events. So two notebooks can
write at the same time. Where the file cannot be written, the events stay in memory and are written as soon as that works; a
damaged file is kept under another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import platformdirs

from labkit.node.state import trust
from labkit.util.errors import NodeError

NAME = "progress.sqlite"
VERSION = 1
WAIT_S = 5.0
"""So long a notebook waits while another one writes."""
SCHEMA = """
CREATE TABLE events (id INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, lesson TEXT NOT NULL, item TEXT NOT NULL,
                     detail TEXT NOT NULL);
CREATE UNIQUE INDEX reached ON events (lesson, item) WHERE kind = 'cell';
"""
ADD = "INSERT OR IGNORE INTO events (at, kind, lesson, item, detail) VALUES (?, ?, ?, ?, ?)"
READ = "SELECT at, kind, lesson, item, detail FROM events ORDER BY id"
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TRUST = "Remove it, or set XDG_STATE_HOME or LABKIT_HOME to a directory that only you can write to."


@dataclass(frozen=True)
class LearnerEvent:
    """Something that the learner did. `kind`: "cell" (she reached the cell `item`), "prediction" and "review" (she answered the
    question `item`; `detail` has choice, seen and right), "check" (of the exercise `item`; done, and the number of the hint)."""

    at: datetime
    kind: str
    lesson: str
    item: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> tuple[str, ...]:
        return (self.at.isoformat(), self.kind, self.lesson, self.item, json.dumps(self.detail))


class Damaged(Exception):
    """The file is no database of the course's."""


class Newer(Exception):
    """The file was written by a later version of labkit."""


CANNOT = (sqlite3.Error, OSError, NodeError, Newer)


def path(environ: Mapping[str, str] | None = None) -> Path:
    """Where this user's progress is kept."""
    environ = os.environ if environ is None else environ
    if named := environ.get("LABKIT_HOME"):
        return Path(named).expanduser().absolute() / "state" / NAME
    return platformdirs.user_state_path("labkit") / NAME


@cache
def of_this_learner() -> ProgressStore:
    """The store of this process. Cached, so that what cannot be written is said once."""
    return ProgressStore(path())


class ProgressStore:
    """The events in the file `place`, and those that could not be written yet."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._waiting: list[LearnerEvent] = []
        self._said = False

    def add(self, event: LearnerEvent) -> None:
        """Keep an event. Never fails: what cannot be written now is written with a later event."""
        self._waiting.append(event)
        try:
            with self._writing() as database:
                database.executemany(ADD, [each.row() for each in self._waiting])
            self._waiting.clear()
        except CANNOT as error:
            self._say(error)

    def events(self) -> list[LearnerEvent]:
        """All events, the oldest first. Makes no file."""
        try:
            return [*self._read(), *self._waiting]
        except CANNOT as error:
            self._say(error)
            return list(self._waiting)

    def forget(self, lessons: Collection[str]) -> int:
        """Remove the events of these lessons; how many there were. Raises NodeError where the file cannot be changed."""
        try:
            if not self.place.exists():
                return 0
            with self._writing() as database:
                marks = ", ".join("?" * len(lessons))
                return database.execute(f"DELETE FROM events WHERE lesson IN ({marks})", tuple(lessons)).rowcount
        except CANNOT as error:
            what = f"{self.place} cannot be changed: {reason(error)}."
            raise NodeError(what, "Nothing was removed. Mend that first.") from None

    def _read(self) -> list[LearnerEvent]:
        if not os.path.lexists(self.place):
            return []
        try:
            with contextlib.closing(_connect(self.place, "ro")) as database:
                checked(database)
                return [event for row in rows(database) if (event := parsed(row))]
        except (sqlite3.DatabaseError, Damaged) as error:
            if not is_damaged(error):
                raise
            self._keep_aside()
            return self._read()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """The database in a transaction of its own, made or mended where that is needed."""
        self.place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        trust.require(self.place, TRUST)
        try:
            database = self._open()
        except (sqlite3.DatabaseError, Damaged) as error:
            if not is_damaged(error):
                raise
            self._keep_aside()
            database = self._open()
        with contextlib.closing(database):
            yield database
            database.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        """The database, locked for writing."""
        database = _connect(self.place, "rwc")
        try:
            database.execute("BEGIN IMMEDIATE")
            if checked(database):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            os.chmod(self.place, 0o600)
        except BaseException:
            database.close()
            raise
        return database

    def _keep_aside(self) -> None:
        """Give the damaged file another name, and put what can still be read of it into a new one. One process at a time."""
        with open(self.place.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                with contextlib.closing(_connect(self.place, "ro")) as database:
                    checked(database)
                return  # another process has mended it
            except (sqlite3.DatabaseError, Damaged) as error:
                if not is_damaged(error):
                    raise
            aside = free_name(self.place)
            saved = salvaged(self.place)
            self.place.rename(aside)
            self.place.with_name(f"{NAME}-journal").unlink(missing_ok=True)
            with contextlib.closing(self._open()) as database:
                database.executemany(ADD, [event.row() for event in saved])
                database.execute("COMMIT")
        say(f"Your progress file was damaged, and is now {aside}. {len(saved)} of its entries could be read and are kept.")

    def _say(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            what = f"Your progress cannot be kept in {self.place}: {reason(error)}."
            say(f"{what} It is remembered until this kernel ends, and the notebooks work as before.")


def _connect(place: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{place.as_uri()}?mode={mode}", uri=True, timeout=WAIT_S, isolation_level=None)


def checked(database: sqlite3.Connection) -> bool:
    """Whether the database is still empty. Raises Damaged, Newer, or sqlite3.DatabaseError."""
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise Newer("it was written by a newer labkit")
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if version == 0 and not tables:
        return True
    if version == 0 or tables != ["events"] or database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise Damaged
    return False


def is_damaged(error: Exception) -> bool:
    return isinstance(error, Damaged) or getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGED


def rows(database: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    if database.execute("PRAGMA user_version").fetchone()[0]:  # else nothing was ever written to it
        yield from database.execute(READ)


def parsed(row: tuple[Any, ...]) -> LearnerEvent | None:
    """The event of a row; None where it holds something else."""
    at, kind, lesson, item, detail = row
    with contextlib.suppress(ValueError, TypeError):
        time, content = datetime.fromisoformat(at), json.loads(detail)
        if time.tzinfo and isinstance(content, dict) and all(isinstance(text, str) for text in (kind, lesson, item)):
            return LearnerEvent(time, kind, lesson, item, content)
    return None


def salvaged(place: Path) -> list[LearnerEvent]:
    """What can be read of a damaged file, up to where the damage begins."""
    found: list[LearnerEvent] = []
    with contextlib.suppress(sqlite3.Error, UnicodeDecodeError), contextlib.closing(_connect(place, "ro")) as database:
        found.extend(event for row in database.execute(READ) if (event := parsed(row)))
    return found


def free_name(place: Path) -> Path:
    names = (place.with_name(f"{place.stem}.damaged-{number}{place.suffix}") for number in range(1, 10_000))
    return next(name for name in names if not os.path.lexists(name))


def reason(error: Exception) -> str:
    if isinstance(error, NodeError):
        return error.happened.rstrip(".")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error).rstrip(".")
    return f"the disk is full ({text})" if "is full" in text else text


def say(text: str) -> None:
    """On standard error: no verdict and no figure has it, and `labkit progress --json` stays JSON."""
    print(f"labkit: {text}", file=sys.stderr, flush=True)
