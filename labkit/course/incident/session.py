"""An incident as a learner has it: it begins, she asks for hints, answers, repairs, and it ends."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from labkit.course.incident import cells_noted, making, repair
from labkit.course.incident import incident_store as store
from labkit.course.incident.evidence import merged, shows, signs
from labkit.course.incident.fault import FAULTS, POD, SEEDS, Fault, Scene, draw, labelled, manifest_of, named, seed_of
from labkit.course.incident.incident_store import State
from labkit.course.incident.result import Result, Text
from labkit.course.verdict import Check, passed, refused
from labkit.node.state import incident_note
from labkit.node.state.home import Home
from labkit.util import progress
from labkit.util.errors import NodeError
from labkit.util.showable import showable

if TYPE_CHECKING:
    from labkit.node import Node

EVIDENCE_MAX = 200
BEGIN = "Begin one: labkit.open_incident(node), or `labkit incident start`."
HELP = "notebook 08, “Where to look first”"
ASK = f"A hint costs {store.HINT} points (incident.hint() or `labkit incident hint`), a wrong answer {store.WRONG}."
DRAWS = 200
"""So many seeds are drawn to find a fault that the learner has not met."""


def open_incident(node: Node, seed: int | str | None = None, *, fault: str = "") -> Incident:
    """The incident that is open on this node; where none is, one begins. `seed` draws its fault (None: a random seed), `fault`
    names it. Raises NodeError where another one is open, and for an unknown seed or name. Ctrl-C undoes what was made so far."""
    home, begins = Home.find(), False
    wanted = check_words(node.kind, seed, fault)
    with store.alone(home):
        state = store.load(home)
        making.refuse_another_node(state, node)
        if state and state.phase == "open":
            making.refuse_another(state, wanted, fault)
            making.go_on(home, node, state)
        else:
            if state and state.phase == "making":  # whoever made it was killed
                making.undo(node, home, state)
            wanted = new_seed(home, node.kind) if wanted is None and not fault else wanted
            chosen = named(fault, node.kind) if fault else draw(wanted or 0, node.kind)
            state, begins = making.begin(node, home, chosen, wanted), True
    cells_noted.watch(home, begins)
    return Incident(node, home, state)


def check_words(kind: str, seed: object, fault: str) -> int | None:
    """The seed as a number, where one is given. Raises NodeError for an unknown seed or name, and for a kind of node that cannot
    have the fault, before anything is started."""
    wanted = None if seed is None else seed_of(seed)
    if fault:
        named(fault, kind)
    else:
        draw(wanted or 0, kind)
    return wanted


def new_seed(home: Home, kind: str) -> int:
    """A random seed: of a fault that the learner has not met, else of the one that she met longest ago."""
    met = store.met(home)
    seeds = [secrets.randbelow(SEEDS) for _ in range(DRAWS)]
    return min(seeds, key=lambda seed: met.index(name) + 1 if (name := draw(seed, kind).name) in met else 0)


def end_incident(node: Node) -> Any:
    """End the incident, where one is open: undo its fault and give the result. Without one, whatever an incident may have left is
    looked for and undone."""
    home = Home.find()
    with store.alone(home):
        try:
            state = store.load(home)
        except NodeError:  # damaged: which fault it was is not known
            state = None
            store.forget(home)
        making.refuse_another_node(state, node)
        if state and state.phase == "open":
            return Result(home, making.close(node, home, state))
        if state and state.phase == "making":
            making.undo(node, home, state)
            return Text("The incident was being made, and is undone.")
        making.undo_all(node)
        return Result(home, state) if state else Text("No incident is open.")


def forget_incident(node: Node) -> None:
    """End the incident, where there was one, and forget its result."""
    home = Home.find()
    if (home.data / incident_note.NAME).exists():
        end_incident(node)
        store.forget(home)


class Incident:
    """The open incident. Its `repr` is the user's complaint, and no more."""

    def __init__(self, node: Node, home: Home, state: State) -> None:
        self.node, self.home, self._state = node, home, state

    def __repr__(self) -> str:
        return f"The user says: “{self._state.complaint}”"

    @property
    def causes(self) -> Text:
        """The causes among which to choose, by the names that `check` takes: also those that this kind of node cannot have."""
        return Text("\n".join(f"{name}: {FAULTS[name].cause}" for name in sorted(FAULTS)))

    def manifest(self, pod: str = POD) -> dict[str, Any]:
        """The manifest of the user's Pod, or of another user's, as it was applied, with the incident's label."""
        return manifest(self._state, pod)

    def hint(self) -> Text:
        """The next hint. Each costs points; the last one is given again for nothing."""
        with store.alone(self.home):
            return hint(self.home)

    def check(self, cause: str = "", evidence: str = "") -> Check:
        """Judge a cause (by its name in `causes`) and, when that is found, the evidence (what only this fault shows: words of a
        warning, a value, a key with its value, a file). Look whether the user's Pod is well and as in her manifest but for what
        was wrong, and stays so after a restart. When all three are found, the incident is closed."""
        with store.alone(self.home):
            return check(self.node, self.home, cause, evidence)

    def end(self) -> Any:
        """End the incident, found or not: undo the fault; the result."""
        return end_incident(self.node)

    def result(self) -> Result:
        """What was found, when, with which commands; `save` writes it as a page that prints well."""
        return Result(self.home, store.load(self.home))


def opened(home: Home) -> State:
    """The open incident. Raises NodeError where none is open."""
    state = store.load(home)
    if state is None:
        raise NodeError("No incident is open.", BEGIN)
    if state.phase == "making":
        todo = "Undo it: labkit.end_incident(node), or `labkit incident end`."
        raise NodeError("An incident was being made, and was interrupted.", todo)
    if state.phase == "closed":
        raise NodeError("The incident is closed.", BEGIN)
    return state


def manifest(state: State, pod: str = POD) -> dict[str, Any]:
    return labelled(manifest_of(state.kept, pod))


def hint(home: Home) -> Text:
    state = opened(home)
    chosen = FAULTS[state.fault]
    more = state.hints < len(chosen.hints)
    state.hints += more
    store.save(home, state)
    number = state.hints
    store.note(home, "hint", f"hint {number} of {len(chosen.hints)}: {chosen.hints[number - 1]}")
    costs = f"costs {store.HINT} points" if more else "the last one, costs nothing again"
    taught = f"\nSee {chosen.taught}." if number == len(chosen.hints) else ""
    return Text(f"Hint {number} of {len(chosen.hints)} ({costs}): {chosen.hints[number - 1]}{taught}")


def check(node: Node, home: Home, cause: str, evidence: str) -> Check:
    state = store.load(home)
    if state and state.phase == "closed":
        return judged_closed(state)
    state = opened(home)
    making.refuse_another_node(state, node)
    if making.go_on(home, node, state):
        saw = "the node was brought up again since the fault was made, so it has been made again."
        return refused(saw, f"{missing(state)}. Repair it once more.", taught=HELP)
    scene, chosen, wrong = Scene(node, state.kept), FAULTS[state.fault], len(state.wrong)
    verdicts = [judged_cause(state, cause), judged_evidence(scene, state, chosen, evidence)]
    store.save(home, state)
    for answer in state.wrong[wrong:]:
        store.note(home, "wrong answer", answer)
    if "repair" not in state.found:
        verdicts.append(judged_repair(scene, state, chosen))
    else:
        verdicts.append("The repair held.")
    store.save(home, state)
    if state.solved:
        return judged_closed(making.close(node, home, state))
    taught = chosen.taught if "cause" in state.found else HELP
    return refused(" ".join(verdicts), f"{missing(state)}. {ASK}", taught=taught)


def judged_repair(scene: Scene, state: State, chosen: Fault) -> str:
    with progress.shown() as show:
        wrong = repair.trouble(scene, chosen, cause_found="cause" in state.found, show=show)
    if wrong:
        return wrong
    state.found["repair"] = store.now()
    return f"The repair holds: {POD} was started again, and is ready."


def missing(state: State) -> str:
    return " and ".join(part for part in store.PARTS if part not in state.found)


def judged_closed(state: State) -> Check:
    if state.solved:
        return passed(f"cause, evidence and repair are found. {state.points} of 100 points. The incident is closed.")
    found = ", ".join(part for part in store.PARTS if part in state.found) or "nothing"
    return refused(f"the incident was ended. Found was: {found}.", f"an incident that is open. {BEGIN}", taught=HELP)


def judged_cause(state: State, cause: str) -> str:
    if "cause" in state.found:
        return "The cause is found."
    if not cause:
        return "No cause is named."
    if not isinstance(cause, str) or cause not in FAULTS:
        raise NodeError(f"There is no cause {cause!r}.", f"Choose among {', '.join(sorted(FAULTS))}.")
    if cause == state.fault:
        state.found["cause"] = store.now()
        return "The cause is found."
    note_wrong(state, f"cause {cause}")
    return f"{cause} is not the cause."


def judged_evidence(scene: Scene, state: State, chosen: Fault, evidence: str) -> str:
    """Evidence is evidence of a cause: it is judged, and may cost, when that is found."""
    if "evidence" in state.found:
        return "The evidence is found."
    text = " ".join(str(evidence or "").split())
    if not text:
        return "No evidence is named."
    if len(text) > EVIDENCE_MAX:
        raise NodeError(f"The evidence has {len(text)} letters.", f"Name one thing, in {EVIDENCE_MAX} at most.")
    if "cause" not in state.found:
        return "The evidence is judged when the cause is found."
    state.kept["signs"] = merged(state.kept.get("signs", {}), signs(scene))
    if shows(chosen, state.kept, text):
        state.found["evidence"] = store.now()
        return "The evidence is found."
    note_wrong(state, f"evidence {text}")
    return f"“{showable(text)}” does not show this fault."


def note_wrong(state: State, answer: str) -> None:
    """A wrong answer costs once, however often it is given."""
    if answer not in state.wrong:
        state.wrong.append(answer)
