"""The timeline of an incident: lanes, names of what was found, its text."""

from __future__ import annotations

import pytest

from labkit.figures.runtime.incident_timeline import MARKS, IncidentMoment, incident_timeline
from tests.unit.test_views_flight_timeline import Paper, clashes

MOMENTS = [
    *(IncidentMoment(after, "command") for after in (3, 20, 60, 200, 260, 400)), IncidentMoment(90, "error"),
    IncidentMoment(120, "hint"), IncidentMoment(150, "wrong answer"), IncidentMoment(540, "found", "repair"),
    IncidentMoment(261, "found", "cause"), IncidentMoment(261.01, "found", "evidence"),
]  # fmt: skip


def test_the_text_tells_what_was_found_after_how_many_commands_and_no_time() -> None:
    assert incident_timeline(MOMENTS).alt == (
        "An incident over time: found: cause and evidence after 5 commands, then repair after 6 commands.\n"
        "Also: 1 error, 1 hint, 1 wrong answer."
    )
    assert incident_timeline([]).alt == "An incident over time: nothing was found."
    assert incident_timeline(MOMENTS[:1]).alt == "An incident over time: nothing was found."


@pytest.mark.parametrize("width", [300.0, 480.0, 700.0])
def test_the_title_has_the_times_and_each_kind_of_moment_its_lane(width: float) -> None:
    paper = Paper(incident_timeline(MOMENTS, width=width))
    assert paper.heading == "Found: cause and evidence after 4 min, then repair after 9 min"
    assert set(MARKS) <= set(paper.words()) and clashes(paper) == []
    assert len(paper.dots) == len(MOMENTS)
    assert not {"hint", "error"} & set(Paper(incident_timeline(MOMENTS[:1], width=width)).words())


@pytest.mark.parametrize("width", [300.0, 700.0])
@pytest.mark.parametrize("seconds", [0, 0.4, 59, 600, 7200, 400_000])
def test_an_incident_of_any_length_has_an_axis_and_no_text_on_another(seconds: float, width: float) -> None:
    found = [IncidentMoment(seconds * part, "found", name) for part, name in ((0.1, "cause"), (0.11, "evidence"), (1, "repair"))]
    paper = Paper(incident_timeline(found, width=width))
    assert "0 s" in paper.words() and clashes(paper) == []
