"""The learner's copy of the notebooks: without outputs, made once and never overwritten.

The copy's mark holds the SHA-256 of each file as the course wrote it. Where the course has another content now, its version is
newer. `update` only reports that; `reset` takes it, and keeps the learner's file under another name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import labkit
from labkit.course.jupyter.place import MARK, enclosing, hand_over
from labkit.node import NodeError
from labkit.node.state import trust
from labkit.util.outputs import write_whole

NAME = "my-notebooks"
"""The copy's directory in a checkout. Its .gitignore has it."""
PACKAGE = Path(labkit.__file__).parent
TRUST = "Choose a directory that only you can write to: root would run what is in it."


@dataclass(frozen=True)
class Update:
    """What was done with a copy. `added`: files written that were not there. `newer`: files of which the course has a newer
    version. `replaced`: files that `reset` wrote. `kept`: the learner's files in whose place they are, by the names they had."""

    added: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)


def source(package: Path = PACKAGE) -> Path:
    """The course's notebooks: in the package where a wheel was installed, beside it in a checkout. Raises NodeError."""
    for place in (package / "notebooks", package.parent / "notebooks"):
        if any(place.glob("00-*.ipynb")):
            return place
    raise NodeError("This installation of labkit has no notebooks.", "Install the package inside-the-node again.")


def default() -> Path:
    """The copy that is meant where none is named: the one around the working directory, else the checkout's. Raises NodeError."""
    if copy := enclosing(Path.cwd()):
        return copy
    if (PACKAGE.parent / "course").is_file():
        return PACKAGE.parent / NAME
    raise NodeError("No directory was named, and this one is no copy of the notebooks.", f"Name one: labkit course {NAME}")


def update(directory: Path) -> Update:
    """Make the copy, or add what it lacks. What is there stays as it is. An error or an interrupt leaves everything as it was.
    Raises NodeError."""
    files = given()
    with _opened(directory, files) as (notes, undo):
        missing = [name for name in files if not os.path.lexists(directory / name)]
        _note(directory, {**notes, **{name: _digest(files[name]) for name in missing}}, undo)
        for name in missing:
            _add(directory / name, files[name], undo)
        newer = [n for n in files if n not in missing and notes.get(n) != _digest(files[n]) and _differs(directory / n, files[n])]
    return Update(added=tuple(missing), newer=tuple(newer))


def reset(directory: Path, lesson: str) -> Update:
    """Bring the files of `lesson` ("03") as the course has them now. A file that differs is kept under another name. An error or
    an interrupt leaves everything as it was. Raises NodeError."""
    files = given([name for name in names() if lesson_of(name) == lesson])
    kept: dict[str, str] = {}
    replaced = []
    with _opened(directory, files) as (notes, undo):
        for name, data in files.items():
            path = directory / name
            if not os.path.lexists(path):
                _add(path, data, undo)
                replaced.append(name)
            elif _differs(path, data):
                aside = _free_name(path)
                undo.callback(_move_back, aside, path)
                path.rename(aside)
                _add(path, data, undo)
                kept[name] = str(aside.relative_to(directory))
                replaced.append(name)
        _note(directory, {**notes, **{name: _digest(data) for name, data in files.items()}}, undo)
    return Update(replaced=tuple(replaced), kept=kept)


def names() -> list[str]:
    """The files of the course's notebooks, by their paths below `source`."""
    place = source()
    found = sorted(path.relative_to(place) for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [str(name) for name in found if not any(part.startswith(".") for part in name.parts)]


def given(wanted: Sequence[str] | None = None) -> dict[str, bytes]:
    """What the course puts into a copy now: contents by name, of all files or of those `wanted`. Notebooks have no outputs."""
    place = source()
    contents = {name: (place / name).read_bytes() for name in (names() if wanted is None else wanted)}
    return {name: without_outputs(data) if name.endswith(".ipynb") else data for name, data in contents.items()}


def without_outputs(notebook: bytes) -> bytes:
    """A notebook (nbformat 4) as if no cell of it had been run."""
    content: dict[str, Any] = json.loads(notebook)
    content["metadata"].pop("widgets", None)
    for cell in content["cells"]:
        cell["metadata"].pop("execution", None)
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return (json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()


def number_of(lesson: str) -> str:
    """ "03" for "3", "03" and "03-from-a-call-to-a-process.ipynb". Raises NodeError."""
    found = re.match(r"\d{1,2}(?!\d)", lesson)
    lessons = sorted({number for name in names() if (number := lesson_of(name))})
    if not found or found[0].zfill(2) not in lessons:
        raise NodeError(f"There is no lesson {lesson!r}.", f"There are: {', '.join(lessons)}.")
    return found[0].zfill(2)


def lesson_of(name: str) -> str:
    """The number with which a file's name begins: "03" of solutions/03.1.py. "" for a file of no lesson."""
    found = re.match(r"\d\d(?!\d)", Path(name).name)
    return found[0] if found else ""


def first_notebook() -> str:
    """The name of the notebook to begin with. Raises NodeError."""
    return next(source().glob("00-*.ipynb")).name


@contextlib.contextmanager
def _opened(directory: Path, files: Mapping[str, bytes]) -> Iterator[tuple[dict[str, str], contextlib.ExitStack]]:
    """The copy's notes and a stack on which to put what undoes a step. One process at a time has a copy open. An exception undoes
    the steps, and an OSError becomes a NodeError."""
    try:
        with contextlib.ExitStack() as lock, contextlib.ExitStack() as undo:
            if os.geteuid() == 0:
                trust.require(directory, TRUST)
            if os.path.lexists(directory) and not directory.is_dir():
                raise NodeError(f"{directory} is not a directory.", "Name a directory that is empty or not there yet.")
            _make_directory(directory, undo)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            lock.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not (directory / MARK).exists():
                _refuse_foreign(directory, files)
            yield _notes(directory), undo
            hand_over(directory)
            undo.pop_all()
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(directory) else ""
        raise NodeError(
            f"The notebooks cannot be written to {directory}: {error.strerror or error}{where}.",
            "Name a directory that you can write to, on a disk with space.",
        ) from None


def _refuse_foreign(directory: Path, files: Mapping[str, bytes]) -> None:
    """What the course would write there itself may be there: an `update` was killed."""
    top = {name.split("/")[0] for name in files}
    foreign = sorted(entry.name for entry in directory.iterdir() if entry.name not in top)
    foreign += sorted(n for n, data in files.items() if os.path.lexists(directory / n) and _differs(directory / n, data))
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise NodeError(
            f"{directory} is not empty, and is no copy of the notebooks: it has {', '.join(foreign[:3])}{more}.",
            "Name a directory that is empty or not there yet.",
        )


def _notes(directory: Path) -> dict[str, str]:
    """SHA-256 by name. A mark that cannot be read has none: every file that differs counts as older."""
    try:
        found = json.loads((directory / MARK).read_text())["files"]
        return {name: digest for name, digest in found.items() if isinstance(digest, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _note(directory: Path, notes: Mapping[str, str], undo: contextlib.ExitStack) -> None:
    mark = directory / MARK
    if not mark.exists():
        undo.callback(mark.unlink, missing_ok=True)
    content = {"what": "a learner's copy of the notebooks of Inside the Node", "files": dict(sorted(notes.items()))}
    data = json.dumps(content, indent=1).encode()
    if _differs(mark, data):
        write_whole(mark, data)


def _add(path: Path, data: bytes, undo: contextlib.ExitStack) -> None:
    _make_directory(path.parent, undo)
    undo.callback(path.unlink, missing_ok=True)
    write_whole(path, data)


def _make_directory(directory: Path, undo: contextlib.ExitStack) -> None:
    if directory.is_dir():
        return
    _make_directory(directory.parent, undo)
    directory.mkdir(exist_ok=True)
    undo.callback(_remove_empty, directory)
    hand_over(directory)


def _move_back(aside: Path, path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        aside.rename(path)


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def _free_name(path: Path) -> Path:
    """03-a.ipynb → 03-a.yours.ipynb, 03-a.yours-2.ipynb, …"""
    number = 1
    while True:
        free = path.with_name(f"{path.stem}.yours{'' if number == 1 else f'-{number}'}{path.suffix}")
        if not os.path.lexists(free):
            return free
        number += 1


def _differs(path: Path, data: bytes) -> bool:
    return not path.is_file() or path.read_bytes() != data


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
