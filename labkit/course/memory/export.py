"""The events for other programs: as JSON, and as xAPI statements (IEEE 9274.1.1), which a learning record store imports."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from labkit.course.memory.progress_store import VERSION, LearnerEvent
from labkit.course.quiz import Question

COURSE = "urn:inside-the-node:"
VERBS = {
    "answered": "http://adlnet.gov/expapi/verbs/answered",
    "experienced": "http://adlnet.gov/expapi/verbs/experienced",
    "passed": "http://adlnet.gov/expapi/verbs/passed",
    "attempted": "http://adlnet.gov/expapi/verbs/attempted",
}
ACTIVITIES = "http://adlnet.gov/expapi/activities/"


def plain(events: Iterable[LearnerEvent]) -> dict[str, Any]:
    return {
        "format": f"inside-the-node progress {VERSION}",
        "events": [
            {"at": e.at.isoformat(), "kind": e.kind, "lesson": e.lesson, "item": e.item, "detail": dict(e.detail)} for e in events
        ],
    }


def xapi(events: Iterable[LearnerEvent], learner: str) -> list[dict[str, Any]]:
    """A statement for each event. Its id follows from the event, so that a second import adds nothing."""
    from labkit.course.memory.schedule import questions

    asked = questions()
    return [statement(event, learner, asked.get(event.item)) for event in events]


def statement(event: LearnerEvent, learner: str, asked: Question | None) -> dict[str, Any]:
    verb = {"cell": "experienced", "check": "passed" if event.detail.get("done") else "attempted"}.get(event.kind, "answered")
    place = f"{event.lesson}/{event.item}" if event.kind == "cell" else event.item
    made: dict[str, Any] = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{COURSE}{learner}/{'/'.join(event.row())}")),
        "actor": {"objectType": "Agent", "account": {"homePage": "http://localhost/", "name": learner}},
        "verb": {"id": VERBS[verb], "display": {"en": verb}},
        "object": {"objectType": "Activity", "id": f"{COURSE}{place}", "definition": definition(event, asked)},
        "timestamp": event.at.isoformat(),
        "context": {"contextActivities": {"parent": [{"objectType": "Activity", "id": f"{COURSE}{event.lesson}"}]}},
    }
    if event.kind == "check":
        made["result"] = {"success": bool(event.detail.get("done"))}
    elif verb == "answered":
        choice = event.detail.get("choice")
        response = choice if isinstance(choice, str) else "[,]".join(map(str, choice or ()))
        made["result"] = {"response": response, "success": bool(event.detail.get("right"))}
    return made


def definition(event: LearnerEvent, asked: Question | None) -> dict[str, Any]:
    if event.kind == "cell":
        return {"type": f"{ACTIVITIES}lesson", "name": {"en": f"a cell of notebook {event.lesson}"}}
    if event.kind == "check":
        return {"type": f"{ACTIVITIES}performance", "name": {"en": f"exercise {event.item}"}}
    kind = "sequencing" if asked and asked.steps else "choice"
    named: dict[str, Any] = {"type": f"{ACTIVITIES}cmi.interaction", "interactionType": kind, "name": {"en": event.item}}
    if asked:
        answers = asked.steps or tuple(option.answer for option in asked.options)
        named |= {"description": {"en": asked.later or asked.text}}
        named |= {"choices": [{"id": each, "description": {"en": each}} for each in answers]}
    return named
