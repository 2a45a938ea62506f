"""What came of an incident: as text, as JSON, and as a page that prints well."""

from __future__ import annotations

import html
from datetime import datetime
from pathlib import Path
from typing import Any

from labkit.course.incident import incident_store as store
from labkit.course.incident.fault import FAULTS
from labkit.course.incident.incident_store import State
from labkit.figures.figure import Figure
from labkit.figures.markup import markup, theme_rules
from labkit.figures.runtime.incident_timeline import FOUND, IncidentMoment, incident_timeline
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from labkit.util.outputs import write_whole
from labkit.util.showable import showable, showable_lines

STYLE = """
body { font: 12pt/1.45 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 1.6rem }
blockquote { margin: 0; padding: .2rem 1rem; border-left: .25rem solid #5a5a5a }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #b4b4b4 }
td.at { white-space: nowrap; font-variant-numeric: tabular-nums } tr.found td { background: #f3f3f3; font-weight: bold }
tr.marked td { background: #f3f3f3; font-style: italic }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: .85em/1.4 ui-monospace, monospace }
svg { max-width: 100%; height: auto }
@media print { body { margin: 0; max-width: none; font-size: 10pt } tr, svg { break-inside: avoid } }
@media screen and (prefers-color-scheme: dark) { body { color: #e8e8e8; background: #111 }
  tr.found td, tr.marked td { background: #1f1f1f } th, td { border-color: #5c5c5c } DARK }
""".replace("DARK", theme_rules("svg"))


COMMANDS = ("notebook", "shell")
"""Where a command is run."""
MARKED = {"found": " class=found", "notebook": "", "shell": ""}


class Text(str):
    """A text that a notebook shows as it is."""

    def __repr__(self) -> str:
        return str(self)


class Result:
    """The result of the incident that is open or was last. Raises NodeError where there was none."""

    def __init__(self, home: Home, state: State | None) -> None:
        if state is None:
            raise NodeError("There was no incident.", "Begin one: labkit.open_incident(node), or `labkit incident start`.")
        self.state, self.journal, self.seeds_listed = state, store.journal(home), store.seeds_listed(home)

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The result without times and commands."""
        state = self.state
        found = [part for part in store.PARTS if part in state.found]
        lines = [
            f"The incident is {state.phase}. Found: {', '.join(found) or 'nothing'} ({len(found)} of {len(store.PARTS)}).",
            f"Hints: {state.hints}. Wrong answers: {len(state.wrong)}. Points: {state.points} of 100.",
        ]
        return [*lines, *([f"The cause was: {FAULTS[state.fault].cause}"] if state.phase == "closed" else [])]

    def report(self) -> dict[str, Any]:
        """The result as data. The fault is named when the incident is closed."""
        state = self.state
        closed = {"fault": state.fault, "cause": FAULTS[state.fault].cause, "ended": state.ended}
        return {
            "state": state.phase, "seed": state.seed, "node": state.node, "kind": state.kind, "begun": state.begun,
            "complaint": state.complaint, "found": state.found, "hints": state.hints, "wrong": state.wrong,
            "points": state.points, "seeds_listed": self.seeds_listed,
            **(closed if state.phase == "closed" else {}), "commands": self.journal,
        }

    def text(self) -> str:
        """The result with times and commands."""
        rows = [f"{clock(at)}  {'' if where in COMMANDS else f'{where}: '}{showable(text)}" for at, where, text in self.rows()]
        head = [f"Incident, seed {self.state.seed}, on {self.state.node} (kind {self.state.kind})"]
        return "\n".join([*head, f"“{self.state.complaint}”", "", *self.lines(), "", *rows])

    def rows(self) -> list[tuple[str, str, str]]:
        """Time, where, what, in their order: commands ("notebook", "shell"), "error", "hint", "wrong answer" and "found"."""
        commands = [(entry["at"], entry["where"], entry["text"]) for entry in self.journal]
        found = [(at, "found", part) for part, at in self.state.found.items()]
        return sorted([*commands, *found], key=lambda row: row[0])

    def timeline(self) -> Figure:
        """The same as a figure: when each part was found, and what was run and went wrong on the way."""
        begun = datetime.fromisoformat(self.state.begun)
        moments = []
        for at, where, text in self.rows():
            what = "command" if where in COMMANDS else where
            after = datetime.fromisoformat(at) - begun
            moments.append(IncidentMoment(after.total_seconds(), what, text if what == FOUND else ""))
        return incident_timeline(moments)

    def page(self) -> str:
        """The result as an HTML page of its own, which fetches nothing."""
        state = self.state
        facts = [("Seed", state.seed), ("Node", f"{state.node}, kind {state.kind}"), ("Begun", day(state.begun)),
                 ("Ended", day(state.ended) if state.ended else "still open")]
        if self.seeds_listed:
            facts.append(("Seeds and their faults", f"were listed in this home, {self.seeds_listed[:16].replace('T', ' ')} UTC"))
        table = "".join(f"<tr><th scope=row>{name}<td>{escaped(value)}" for name, value in facts)
        rows = "".join(
            f"<tr{MARKED.get(where, ' class=marked')}><td class=at>{clock(at)}<td>{escaped(where)}<td><pre>{escaped(text)}</pre>"
            for at, where, text in self.rows()
        )
        wrong = "".join(f"<li>{escaped(each)}" for each in state.wrong)
        lines = "".join(f"<p>{escaped(line)}</p>" for line in self.lines())
        return (
            f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
            f"<title>Incident {escaped(state.seed)}</title><style>{STYLE}</style>"
            f"<h1>Incident {escaped(state.seed)}</h1><table>{table}</table>"
            f"<h2>The complaint</h2><blockquote>{escaped(state.complaint)}</blockquote>"
            f"<h2>The result</h2>{lines}{f'<p>Wrong answers:</p><ul>{wrong}</ul>' if wrong else ''}"
            f"<h2>What was done, and when</h2>{markup(self.timeline())}"
            f"<table><tr><th>Time<th>Where<th>What{rows}</table></html>\n"
        )

    def save(self, path: str | Path) -> Text:
        """Write the page to a file; a sentence with its name."""
        return Text(f"The result is in {write_whole(path, self.page().encode())}.")


def escaped(value: object) -> str:
    return html.escape(showable_lines(value))


def clock(at: str) -> str:
    """The time of day of this machine."""
    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")


def day(at: str) -> str:
    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
