"""What the course remembers of a learner: answers, checks and cells, whatever happens to the file that they are in."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cli.__main__ import main
from labkit.course import checks, quiz
from labkit.course.memory import cells, export, overview, progress_store, schedule
from labkit.course.memory.opening import Review, review
from labkit.course.memory.progress_store import LearnerEvent, ProgressStore
from labkit.course.predict import Prediction
from labkit.course.verdict import refused
from tests.conftest import ROOT

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file, in a directory of the test's own."""
    monkeypatch.delenv("LABKIT_HOME", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    progress_store.of_this_learner.cache_clear()
    yield tmp_path / "labkit" / progress_store.NAME
    progress_store.of_this_learner.cache_clear()


def answered(identifier: str, right: bool = True, at: datetime = NOON, kind: str = "prediction") -> LearnerEvent:
    options = quiz.question(identifier, ROOT / "notebooks").options
    expected = next(option.answer for option in options if option.right)
    other = next(option.answer for option in options if not option.right)
    return LearnerEvent(
        at, kind, identifier[:2], identifier, {"choice": expected if right else other, "seen": expected, "right": right}
    )


# --- the file --------------------------------------------------------------------------------------------------------


def test_what_is_added_is_there_for_the_next_process(place: Path) -> None:
    ProgressStore(place).add(answered("02.pause"))
    assert ProgressStore(place).events() == [answered("02.pause")]
    assert place.stat().st_mode & 0o077 == 0 and place.parent.stat().st_mode & 0o077 == 0


def test_an_empty_store_makes_no_file(place: Path) -> None:
    assert ProgressStore(place).events() == [] and not place.parent.exists()


def test_labkit_home_has_a_file_of_its_own(tmp_path: Path) -> None:
    assert progress_store.path({"LABKIT_HOME": str(tmp_path)}) == tmp_path / "state" / progress_store.NAME
    assert progress_store.path({}).parent.name == "labkit"


ADD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from labkit.course.memory.progress_store import LearnerEvent, ProgressStore
for n in range(15):
    ProgressStore(Path(sys.argv[1])).add(LearnerEvent(datetime.now(UTC), "check", "02", f"{sys.argv[2]}.{n}", {"done": False}))
"""


def test_two_tabs_lose_nothing(place: Path) -> None:
    tabs = [subprocess.Popen([sys.executable, "-c", ADD, str(place), tab], stderr=subprocess.PIPE) for tab in "ab"]
    assert [tab.communicate()[1] for tab in tabs] == [b"", b""]
    assert {event.item for event in ProgressStore(place).events()} == {f"{tab}.{n}" for tab in "ab" for n in range(15)}


def test_a_cell_that_is_run_again_is_one(place: Path) -> None:
    for _ in range(2):
        ProgressStore(place).add(LearnerEvent(NOON, "cell", "02", "c1"))
    assert len(ProgressStore(place).events()) == 1


def malformed(place: Path) -> None:
    data = bytearray(place.read_bytes())
    data[100:] = b"\xff" * len(data[100:])
    place.write_bytes(data)


def other_table(place: Path) -> None:
    place.unlink()
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("create table recipes (name)")


def no_table(place: Path) -> None:
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("drop table events")


DAMAGES: dict[str, Any] = {
    "text": lambda place: place.write_text("no database " * 50),
    "malformed": malformed,
    "cut": lambda place: os.truncate(place, 3000),
    "another program's": other_table,
    "without its table": no_table,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_kept_aside_and_said(place: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    ProgressStore(place).add(answered("02.pause"))
    DAMAGES[damage](place)
    before = place.read_bytes()
    ProgressStore(place).add(answered("00.who"))
    assert "00.who" in [event.item for event in ProgressStore(place).events()]
    [aside] = place.parent.glob("*damaged*")
    assert aside.read_bytes() == before
    said = capsys.readouterr().err
    assert str(aside) in said and said.count("labkit:") == 1


def test_what_a_damaged_file_still_shows_is_not_lost(place: Path) -> None:
    ProgressStore(place).add(LearnerEvent(NOON, "check", "02", "exercise 0", {"done": False}))
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        rows = [(NOON.isoformat(), "check", "02", f"exercise {n}", "{}") for n in range(1, 400)]
        database.executemany("insert into events (at, kind, lesson, item, detail) values (?, ?, ?, ?, ?)", rows)
    with place.open("r+b") as file:
        file.seek(-8192, os.SEEK_END)
        file.write(b"\xff" * 8192)
    kept = ProgressStore(place)
    kept.add(answered("00.who"))
    assert {"exercise 0", "exercise 1", "00.who"} <= {event.item for event in ProgressStore(place).events()}


def test_an_odd_row_does_not_hide_the_others(place: Path) -> None:
    ProgressStore(place).add(answered("02.pause"))
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("insert into events (at, kind, lesson, item, detail) values ('x', 'check', '02', 'y', '{')")
    assert [event.item for event in ProgressStore(place).events()] == ["02.pause"]


def test_a_file_of_a_newer_labkit_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ProgressStore(place).add(answered("02.pause"))
    with contextlib.closing(sqlite3.connect(place)) as database, database:
        database.execute("pragma user_version = 99")
    before = place.read_bytes()
    kept = ProgressStore(place)
    kept.add(answered("00.who"))
    assert place.read_bytes() == before and [e.item for e in kept.events()] == ["00.who"]
    assert "newer labkit" in capsys.readouterr().err


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own answer where no page can be added, as on a full disk."""
    connect = sqlite3.connect

    def small(*arguments: Any, **keywords: Any) -> sqlite3.Connection:
        database = connect(*arguments, **keywords)
        database.execute("pragma max_page_count = 3")
        return database

    monkeypatch.setattr(sqlite3, "connect", small)


def test_on_a_full_disk_progress_is_kept_in_memory_and_written_when_there_is_room(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = ProgressStore(place)
    with monkeypatch.context() as patch:
        full(patch)
        for n in range(200):
            kept.add(LearnerEvent(NOON, "check", "02", f"exercise {n}", {"done": False, "missing": "x" * 100}))
        assert len(kept.events()) == 200
        said = capsys.readouterr().err
        assert said.count("labkit:") == 1 and "disk is full" in said
    kept.add(answered("02.pause"))
    assert len(ProgressStore(place).events()) == 201


def below_a_file(place: Path) -> None:
    place.parent.parent.joinpath("labkit").write_text("in the way")


def a_directory(place: Path) -> None:
    place.mkdir(parents=True)


def others_may_write(place: Path) -> None:
    place.parent.mkdir()
    place.parent.chmod(0o777)


@pytest.mark.parametrize("hinder", [below_a_file, a_directory, others_may_write])
def test_where_nothing_can_be_written_progress_is_in_memory_and_said_once(
    place: Path, hinder: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    hinder(place)
    kept = ProgressStore(place)
    kept.add(answered("02.pause"))
    kept.add(answered("00.who"))
    assert [event.item for event in kept.events()] == ["02.pause", "00.who"]
    said = capsys.readouterr().err
    assert said.count("labkit:") == 1 and str(place) in said and "until this kernel ends" in said


READ_ONLY = """
import os, sys
from pathlib import Path
from labkit.course.memory.progress_store import LearnerEvent, ProgressStore
from datetime import UTC, datetime
if os.geteuid() == 0:
    os.setgroups([]); os.setegid(65534); os.seteuid(65534)
kept = ProgressStore(Path(sys.argv[1]))
kept.add(LearnerEvent(datetime.now(UTC), "check", "02", "02.1", {"done": True}))
print(*(event.item for event in kept.events()))
"""


def test_a_read_only_home_is_read_and_what_is_new_is_in_memory() -> None:
    # Not below pytest's directories: they are for this user only, and each run of pytest that begins makes them so again.
    with tempfile.TemporaryDirectory(prefix="lk-progress-", dir="/tmp") as base:
        place = Path(base) / progress_store.NAME
        ProgressStore(place).add(answered("02.pause"))
        for path in (place.parent, place):
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, str(place)], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.split() == ["02.pause", "02.1"], done.stderr
    assert done.stderr.count("labkit:") == 1


# --- what is noted ---------------------------------------------------------------------------------------------------


def test_a_committed_answer_is_noted_once_and_an_uncommitted_never(place: Path) -> None:
    guess = Prediction(quiz.question("02.pause", ROOT / "notebooks"))
    guess.seen("they die with it")
    assert ProgressStore(place).events() == []
    guess.choose("they die with it")
    guess.seen("they run on, and reach each other")
    guess.choose("they run on, and reach each other")
    guess.seen("they run on, and reach each other")
    [event] = ProgressStore(place).events()
    assert (event.kind, event.item, event.detail["right"], event.detail["choice"]) == (
        "prediction", "02.pause", False, "they die with it",
    )


def test_a_check_is_noted_with_its_hint(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = refused("nothing.", "a Pod.", "Look.", "Look again.", taught="notebook 00, “Connect”")
    monkeypatch.setitem(checks.CHECKS, "99.1", lambda node: verdict)
    node: Any = type("Somebody", (), {})()
    for _ in range(2):
        checks.check("99.1", node)
    events = ProgressStore(place).events()
    assert [(event.kind, event.lesson, event.item, event.detail["hint"]) for event in events] == [
        ("check", "99", "99.1", 1), ("check", "99", "99.1", 2),
    ]


class Kernel:
    """A kernel as IPython shows it to a callback."""

    def __init__(self, *before: str) -> None:
        self.user_ns = {"In": ["", *before]}
        self.callbacks: list[Any] = []
        self.events = SimpleNamespace(register=lambda name, callback: self.callbacks.append(callback))

    def run(self, source: str, cell_id: str | None) -> None:
        for callback in self.callbacks:
            callback(SimpleNamespace(info=SimpleNamespace(raw_cell=source, cell_id=cell_id)))


def test_a_cell_that_jupyter_runs_is_reached_and_what_ran_before_too(place: Path) -> None:
    sources = cells.of_lesson("00")
    identifiers = list(sources)
    kernel = Kernel(sources[identifiers[0]])
    cells.watch("00", kernel)
    cells.watch("00", kernel)
    kernel.run("changed = True", identifiers[1])
    kernel.run(sources[identifiers[2]], "vscode-notebook-cell:/x#W0")
    kernel.run("what = 'mine'", "another")
    kernel.run(sources[identifiers[3]], None)  # a program ran it: nbval, nbclient
    assert [event.item for event in ProgressStore(place).events()] == identifiers[:3]


# --- what is due -----------------------------------------------------------------------------------------------------


def test_a_wrong_answer_comes_back_before_a_right_one_and_sooner() -> None:
    wrong, right = schedule.cards([answered("00.who", right=False), answered("00.version")]).values()
    assert wrong.wrong and not right.wrong and wrong.due < right.due
    assert wrong.due >= NOON and not right.is_due(NOON) and right.is_due(right.due)


def test_each_right_answer_lengthens_the_wait() -> None:
    events, waits = [], []
    at = NOON
    for kind in ("prediction", "review", "review", "review"):
        events.append(answered("00.who", at=at, kind=kind))
        [card] = schedule.cards(events).values()
        waits.append(card.due - at)
        at = card.due
    assert waits == sorted(waits) and waits[-1] > 3 * waits[0]


def test_a_clock_that_was_put_back_breaks_nothing() -> None:
    [card] = schedule.cards([answered("00.who", at=NOON), answered("00.who", right=False, at=NOON - 9 * DAY)]).values()
    assert card.wrong and card.due >= NOON


def test_a_notebook_opens_with_what_was_wrong_then_due_then_new_of_earlier_notebooks_only() -> None:
    events = [answered("02.pause", right=False), answered("00.version"), answered("01.crash"), answered("00.who", right=False)]
    late = schedule.chosen("02", events, NOON + 30 * DAY)
    assert late[0] == "00.who" and set(late[1:]) == {"00.version", "01.crash"}
    soon = schedule.chosen("02", events, NOON)
    assert soon[0] == "00.who" and len(soon) == 3
    assert schedule.chosen("03", events, NOON)[:2] == ["02.pause", "00.who"] or schedule.chosen("03", events, NOON)[:2] == [
        "00.who", "02.pause",
    ]
    assert schedule.chosen("00", events, NOON) == []


@pytest.mark.parametrize("lesson", ["01", "02", "03", "04", "05", "06", "07"])
def test_an_empty_store_has_three_questions_that_can_be_asked_apart_from_their_experiment(lesson: str) -> None:
    first = schedule.chosen(lesson, [], NOON)
    assert len(first) == 3 and first == schedule.chosen(lesson, [], NOON + DAY)
    assert all(each[:2] < lesson and quiz.question(each).later for each in first)


def test_a_question_that_the_course_no_longer_has_is_not_asked() -> None:
    gone = LearnerEvent(NOON, "prediction", "00", "00.gone", {"choice": "a", "seen": "b", "right": False})
    assert "00.gone" not in schedule.chosen("02", [gone], NOON)


# --- the opening -----------------------------------------------------------------------------------------------------


def test_the_opening_in_plain_text_is_the_same_whatever_is_known(place: Path) -> None:
    before = repr(review("03"))
    assert before.count("( )") >= 6
    ProgressStore(place).add(answered("02.pause", right=False))
    assert repr(review("03")) == before


def test_the_opening_asks_what_was_wrong_and_remembers_the_answer(place: Path) -> None:
    ProgressStore(place).add(answered("02.pause", right=False))
    opening = review("03")
    shown = opening._repr_mimebundle_()
    assert set(shown) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    first = opening.asked[0]
    assert first.question.id == "02.pause"
    first.answer("they run on, and reach each other")
    first.answer("they die with it")
    event = ProgressStore(place).events()[-1]
    assert (event.kind, event.item, event.detail["right"]) == ("review", "02.pause", True) and len(
        ProgressStore(place).events()
    ) == 2
    assert "Why" in first.verdict_shown


def test_what_her_own_node_showed_is_the_answer(place: Path) -> None:
    asked = quiz.question("02.sandbox")
    ProgressStore(place).add(LearnerEvent(NOON, "prediction", "02", asked.id, {"choice": "two", "seen": "none", "right": False}))
    first = review("03").asked[0]
    first.answer("none")
    assert ProgressStore(place).events()[-1].detail["right"] is True


def test_an_order_that_was_wrong_is_asked_as_an_order(place: Path) -> None:
    steps = quiz.question("03.steps").steps
    detail = {"choice": list(reversed(steps)), "seen": list(steps), "right": False}
    ProgressStore(place).add(LearnerEvent(NOON, "prediction", "03", "03.steps", detail))
    opening = review("04")
    opening._repr_mimebundle_()
    opening.asked[0].answer(steps)
    assert ProgressStore(place).events()[-1].detail["right"] is True


def test_the_first_notebook_has_no_earlier_one() -> None:
    assert repr(review("00")) == "There is no earlier notebook to ask about."


def test_an_unknown_lesson_is_refused() -> None:
    with pytest.raises(KeyError, match=r"There is no lesson '99'; there are 00, 01"):
        review("99")


def test_the_opening_works_where_nothing_can_be_kept(place: Path) -> None:
    below_a_file(place)
    assert isinstance(review("03"), Review)
    first = review("03").asked[0]
    first.answer(first.options[0])


# --- the map ---------------------------------------------------------------------------------------------------------


def test_the_map_counts_what_was_read_predicted_solved_and_is_due(place: Path) -> None:
    kept = ProgressStore(place)
    kept.add(answered("00.who", right=False))
    kept.add(answered("00.version"))
    kept.add(LearnerEvent(NOON, "cell", "00", next(iter(cells.of_lesson("00")))))
    kept.add(LearnerEvent(NOON, "check", "00", "00.1", {"done": False, "missing": "a Pod.", "hint": 1}))
    kept.add(LearnerEvent(NOON, "check", "00", "00.1", {"done": True}))
    rows = {row.lesson: row for row in overview.rows(kept.events(), NOON)}
    row = rows["00"]
    assert (row.cells_reached, row.predicted, row.right, row.solved, row.hints, row.due) == (1, 2, 1, 1, 1, 1)
    assert row.cells > 10 and row.questions == 5 and row.exercises == 1 and row.title == "Is my lab real?"
    assert rows["07"].predicted == 0 and list(rows)[:8] == [f"0{n}" for n in range(8)]


def test_the_map_in_a_notebook_is_the_same_text_whatever_is_known_and_prints_what_is(place: Path) -> None:
    shown = overview.progress()
    before = repr(shown)
    ProgressStore(place).add(answered("00.who", right=False))
    assert repr(overview.progress()) == before and str(overview.progress()) != str(shown)
    assert set(overview.progress()._repr_mimebundle_()) == {"application/vnd.jupyter.widget-view+json", "text/plain"}


# --- labkit progress -------------------------------------------------------------------------------------------------


def test_the_command_shows_the_map(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ProgressStore(place).add(answered("00.who", right=False))
    assert main(["progress"]) == 0
    said = capsys.readouterr().out
    assert "Is my lab real?" in said and str(place) in said
    assert main(["progress", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lessons"][0]["predicted"] == 1


def test_a_reset_forgets_one_lesson_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for identifier in ("00.who", "02.pause"):
        ProgressStore(place).add(answered(identifier))
    assert main(["progress", "--reset", "02"]) == 0
    assert [event.item for event in ProgressStore(place).events()] == ["00.who"]
    assert "02" in capsys.readouterr().out
    assert main(["progress", "--reset", "all"]) == 0
    assert ProgressStore(place).events() == []


def test_a_reset_of_no_lesson_forgets_nothing(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ProgressStore(place).add(answered("00.who"))
    assert main(["progress", "--reset", "00", "--reset", "3"]) == 1
    assert "There is no lesson '3'" in capsys.readouterr().err
    assert len(ProgressStore(place).events()) == 1


def test_a_reset_that_cannot_be_written_fails(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_directory(place)
    assert main(["progress", "--reset", "00"]) == 1
    assert str(place) in capsys.readouterr().err


def test_the_export_as_json_has_every_event(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [answered("00.who", right=False), LearnerEvent(NOON, "check", "00", "00.1", {"done": True})]
    for event in events:
        ProgressStore(place).add(event)
    assert main(["progress", "--export", "json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert [(e["kind"], e["item"]) for e in read["events"]] == [("prediction", "00.who"), ("check", "00.1")]


def test_the_export_as_xapi_has_a_statement_for_each_event() -> None:
    checked = [LearnerEvent(NOON, "check", "00", "00.1", {"done": done}) for done in (True, False)]
    kinds = [answered("00.who", right=False), answered("00.who", kind="review"), LearnerEvent(NOON, "cell", "00", "c1"), *checked]
    statements = export.xapi(kinds, "somebody")
    verbs = ["answered", "answered", "experienced", "passed", "attempted"]
    assert [s["verb"]["id"].rpartition("/")[2] for s in statements] == verbs
    assert len({s["id"] for s in statements}) == 5
    assert statements == export.xapi(kinds, "somebody"), "a second import adds nothing"
    first = statements[0]
    assert first["result"] == {"response": "yes", "success": False} and first["timestamp"] == "2026-03-01T12:00:00+00:00"
    assert first["object"]["definition"]["type"] == "http://adlnet.gov/expapi/activities/cmi.interaction"
    assert first["actor"]["account"]["name"] == "somebody"
