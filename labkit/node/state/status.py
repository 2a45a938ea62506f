"""`node.json`: what the background process says of the node it owns."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.kernel.parse import parse_stat
from labkit.util.errors import NodeError
from labkit.util.outputs import PRIVATE, read_note, write_whole

if TYPE_CHECKING:
    from labkit.node.state.home import Home

UP = ("ready", "restarting", "stopped")
"""States of a node whose owner runs."""
END_MOVED = "End it with `labkit down`, then start it with `labkit up`."
LOG_BYTES = 1 << 20
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ \w+ (.*)")
"""A line of logging's: time and words."""


def read(home: Home) -> dict[str, Any]:
    """What the node's owner wrote last, checked against the kernel: {"state": "down"} where there is none.

    state is "starting", "ready", "restarting", "stopped" (containerd alone, on request), "failed" or "down". A status whose
    owner is gone (same pid, same start time) is "down" with `stale` set: the owner was killed, and its programs may still run.
    A node whose directories were moved while it ran is "failed".
    """
    note = read_note(home.status_file, dict)
    if not isinstance(note.get("state"), str):
        return {"state": "down"}
    if note["state"] == "failed":
        return note
    if not isinstance(note.get("pid"), int) or start_time(note["pid"]) != note.get("started"):
        return {**note, "state": "down", "stale": True}
    if former := _former_run(home, note):
        return {**note, "state": "failed", "error": f"{moved_from(former)} {END_MOVED}"}
    return note


def former_home(home: Home) -> Home | None:
    """The home in which the node that runs was started, where its directories were moved since: its processes, cgroups and links
    carry the names of that one. None where nothing was moved."""
    return home.with_run(former) if (former := _former_run(home, read_note(home.status_file, dict))) else None


def refuse_moved(home: Home) -> None:
    """Raises NodeError where the node's directories were moved while it ran."""
    if former := former_home(home):
        raise NodeError(moved_from(former.run), END_MOVED)


def moved_from(run: Path) -> str:
    return f"The node's directory {run} was moved while the node ran."


def _former_run(home: Home, note: dict[str, Any]) -> Path | None:
    run, pid = note.get("run"), note.get("pid")
    if not isinstance(run, str) or not isinstance(pid, int) or start_time(pid) != note.get("started"):
        return None
    with contextlib.suppress(OSError):
        if os.path.samefile(run, home.run):
            return None
    return Path(run)


def write(home: Home, **news: Any) -> None:
    """Merge `news` into the status, atomically. A value of None removes its key."""
    note = read_note(home.status_file, dict)
    if news.get("state") == "starting":
        note = {}
        news["run"] = str(home.run)
        news["since"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    note = {k: v for k, v in {**note, **news}.items() if v is not None}
    write_whole(home.status_file, json.dumps(note, indent=1).encode(), PRIVATE)


def remove(home: Home) -> None:
    home.status_file.unlink(missing_ok=True)


def start_time(pid: int) -> int | None:
    """When the process started, ns since boot (man 5 proc_pid_stat): with the pid it names one process for ever. None where there
    is none or only its remains (a zombie, which its parent has not collected yet)."""
    try:
        with open(f"/proc/{pid}/stat", errors="surrogateescape") as file:
            stat = parse_stat(file.read())
            return None if stat.state in "ZX" else stat.start_ns
    except (FileNotFoundError, ProcessLookupError):
        return None


def unexpected(directory: Path, since: str) -> list[str]:
    """Unexpected exceptions of the node's Python programs: for each log the number since a time (RFC 3339), and the last."""
    found, began = [], datetime.datetime.fromisoformat(since).timestamp()
    for log in (directory / f"{name}.log" for name in ("labkit", "kubeapi", "kubelet")):
        with contextlib.suppress(OSError), log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - LOG_BYTES, 0))
            recent = [words for when, words in exceptions(file.read().decode(errors="replace")) if when >= began]
            if recent:
                found.append(f"{log}: {len(recent)} unexpected, the last: {recent[-1][:200]}")
    return found


def exceptions(text: str) -> list[tuple[float, str]]:
    """Time (s since 1970) and words of each exception that logging wrote with its traceback."""
    found: list[tuple[float, str]] = []
    when, what, last, raised = 0.0, "", "", False
    for line in [*text.split("\n"), "0000-00-00 00:00:00,0 END "]:
        if match := LINE.match(line):
            if raised:
                found.append((when, f"{what}: {last}"))
            if line.startswith("0000"):
                break
            what, raised = match[2], False
            with contextlib.suppress(ValueError):  # it only looks like a time
                when = datetime.datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").timestamp()
        elif line.startswith("Traceback "):
            raised = True
        elif line.strip() and not line.startswith(" "):
            last = line
    return found
