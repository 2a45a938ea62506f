"""The questions of the notebooks: their files, their verdicts, and what each form of them shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from labkit.course import predict, predict_order, quiz
from labkit.course.jupyter import copy
from labkit.course.order import Order
from labkit.course.predict import Prediction
from labkit.node import NodeError
from tests.conftest import ROOT

WRONG = {"tempts": "It is near.", "shows": "The line says so.", "source": "man 1 true"}
RIGHT = {"right": "So it is.", "source": "man 1 false"}
WHICH = {"question": "Which?", "options": {"one": RIGHT, "two": WRONG, "three": {**WRONG, "elsewhere": "With CRI-O."}}}
STEPS = {
    "question": "What next?",
    "steps": ["fork", "exec", "exit"],
    "right": "A copy becomes another program.",
    "source": "man 2 fork",
    "swaps": [{"first": "exec", "then": "fork", **WRONG}],
}
FILES = sorted((ROOT / "notebooks/quizzes").glob("*.yaml"))


@pytest.fixture
def lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes quizzes/09.yaml beside the notebook."""
    (tmp_path / "quizzes").mkdir()
    monkeypatch.chdir(tmp_path)
    predict.cache_clear()
    predict_order.cache_clear()

    def write(content: object) -> None:
        text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
        (tmp_path / "quizzes/09.yaml").write_text(text)

    return write


def ask(content: Any) -> Prediction:
    return Prediction(quiz._QuizReader("quizzes/09.yaml, which").question("09.which", content))


def order() -> Order:
    return Order(quiz._QuizReader("quizzes/09.yaml, next").question("09.next", STEPS))


def test_a_question_is_read_from_the_file_beside_the_notebook_and_keeps_its_choice(lesson: Any) -> None:
    lesson({"which": WHICH})
    guess = predict("09.which")
    guess.choose("two")
    assert predict("09.which").choice == "two" and guess.options == ("one", "two", "three")


def test_a_question_of_the_course_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert predict("02.sandbox").question.text.endswith("?")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_files_of_the_course_are_complete_and_have_three_questions(path: Path) -> None:
    assert len(quiz.quiz(path)) >= 3, "a lesson has at least three questions (docs/authoring.md)"


def test_every_notebook_has_a_file() -> None:
    assert [path.stem for path in FILES] == [path.name[:2] for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]


def changed(**options: Any) -> dict[str, Any]:
    return {"which": {**WHICH, "options": {**WHICH["options"], **options}}}  # type: ignore[dict-item]


BAD = {
    "no file": (None, "09.which", r"quizzes/09\.yaml cannot be read: No such file.*labkit course --reset 09"),
    "no YAML": ("which: {", "09.which", r"quizzes/09\.yaml is not valid YAML: .*line 1.*Correct that line"),
    "a key twice": ("which: 1\nwhich: 2", "09.which", "not valid YAML: 'which' is there twice"),
    "empty": ("", "09.which", "has no questions"),
    "a list": ("- which", "09.which", "has no questions"),
    "no such question": ({"which": WHICH}, "09.what", r"no question '09\.what'\. It has 09\.which\."),
    "no name": ({"which": WHICH}, "which", r"'which' names no question\. Give a lesson and a name"),
    "a path": ({"which": WHICH}, "../etc.which", "names no question"),
    "no text": ({"which": {"options": WHICH["options"]}}, "09.which", "09.yaml, which: the key question is missing"),
    "no options": ({"which": {"question": "Which?"}}, "09.which", "the key options is missing"),
    "one option": ({"which": {"question": "Which?", "options": {"one": RIGHT}}}, "09.which", "at least two options"),
    "an empty text": ({"which": {**WHICH, "question": " "}}, "09.which", "the key question needs a text, not ' '"),
    "an unknown key": ({"which": {**WHICH, "hint": "Look."}}, "09.which", "the key hint is unknown"),
    "an option without a reason": (changed(two={"shows": "x", "source": "x"}), "09.which", "two': the key tempts is missing"),
    "an option without a source": (changed(two={"shows": "x", "tempts": "x"}), "09.which", "two': the key source is missing"),
    "an empty option": (changed(two=None), "09.which", "option 'two': .* are missing"),
    "none is right": (changed(one=WRONG), "09.which", "exactly one option needs the key right, not 0"),
    "two are right": (changed(two=RIGHT), "09.which", "exactly one option needs the key right, not 2"),
    "yes without quotes": ("which: {question: Q, options: {yes: {right: a, source: b}, no: {right: a, source: b}}}",
                           "09.which", "option True: an option that YAML reads as no text .put it into quotes."),
    "a step twice": ({"next": {**STEPS, "steps": ["fork", "fork"]}}, "09.next", "at least two steps, and each only once"),
    "a swap of a stranger": ({"next": {**STEPS, "swaps": [{"first": "clone", "then": "fork", **WRONG}]}},
                             "09.next", "'clone', which is no step"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_one_sentence_of_what_is_wrong_and_one_of_what_to_do(lesson: Any, name: str, monkeypatch: Any) -> None:
    content, identifier, says = BAD[name]
    if content is not None:
        lesson(content)
    with pytest.raises(NodeError, match=says) as raised:
        quiz.question(identifier, Path.cwd())
    assert raised.value.happened.endswith(".") and raised.value.todo.endswith((".", "09"))


def test_a_question_is_asked_in_its_own_way(lesson: Any) -> None:
    lesson({"which": WHICH, "next": STEPS})
    with pytest.raises(ValueError, match=r"asks for an order: use labkit\.predict_order"):
        predict("09.next")
    with pytest.raises(ValueError, match=r"asks for no order: use labkit\.predict"):
        predict_order("09.which")


@pytest.mark.parametrize("ask", [predict, predict_order])
def test_an_older_notebook_of_the_learner_s_says_how_to_get_the_newer(ask: Any) -> None:
    with pytest.raises(NodeError, match=r"older than the labkit that it uses.*labkit course --reset"):
        ask("Does the address change?", "yes", "no")


def test_the_learner_s_copy_has_the_files_and_a_reset_brings_them(tmp_path: Path) -> None:
    copy.update(tmp_path / "mine")
    mine = tmp_path / "mine/quizzes/02.yaml"
    assert mine.read_bytes() == (ROOT / "notebooks/quizzes/02.yaml").read_bytes()
    mine.write_text("mine")
    assert copy.reset(tmp_path / "mine", "02").kept == {"quizzes/02.yaml": "quizzes/02.yours.yaml"}
    assert mine.read_bytes() == (ROOT / "notebooks/quizzes/02.yaml").read_bytes()


def test_the_right_answer_is_explained() -> None:
    guess = ask(WHICH)
    guess.choose("one")
    said = repr(guess.seen("one"))
    assert said == "Seen: one. You predicted the same.\nWhy “one”: So it is.\nSource: man 1 false"


def test_a_wrong_answer_gets_why_it_tempts_and_what_shows_it() -> None:
    guess = ask(WHICH)
    guess.choose("two")
    said = repr(guess.seen("one"))
    assert said.startswith("Seen: one. You predicted two.\nWhy “two” is tempting: It is near.\n")
    assert "What shows that it is wrong: The line says so." in said and said.endswith("Why “one”: So it is.\nSource: man 1 false")


def test_without_a_choice_the_verdict_says_so_and_folds_the_explanation() -> None:
    shown = ask(WHICH).seen("one")._repr_mimebundle_()
    assert shown["text/plain"] == "Seen: one. You did not commit to an answer before it ran."
    assert "You did not commit" in shown["text/markdown"].partition("<details>")[0]
    assert "So it is." in shown["text/markdown"].partition("<details>")[2], "folded"


def test_with_a_choice_the_explanation_is_open() -> None:
    guess = ask(WHICH)
    guess.choose("one")
    assert "<details open>" in guess.seen("one")._repr_mimebundle_()["text/markdown"]


def test_another_node_may_answer_otherwise() -> None:
    guess = ask(WHICH)
    guess.choose("one")
    assert "Why “three”: With CRI-O." in repr(guess.seen("three"))
    assert "Your node differs: The node on which this notebook was written showed: one." in repr(guess.seen("two"))


def test_what_cannot_be_seen_is_explained_too() -> None:
    guess = ask(WHICH)
    assert repr(guess.unseen("There is no pause.")) == "There is no pause."
    guess.choose("two")
    assert "Where it can be seen: one. So it is." in repr(guess.unseen("There is no pause."))


def test_what_is_no_option_cannot_be_chosen() -> None:
    with pytest.raises(ValueError, match="'four' is none of the options: one, two, three"):
        ask(WHICH).choose("four")


def test_the_plain_form_has_the_question_once_and_no_answer() -> None:
    lines = repr(ask(WHICH)).splitlines()
    assert lines[0] == "Which?" and sorted(lines[1:]) == ["( ) one", "( ) three", "( ) two"]
    assert repr(ask(WHICH)) == repr(ask(WHICH))


def test_the_options_are_shuffled_and_the_same_for_one_learner() -> None:
    answers = tuple(map(str, range(6)))
    orders = {quiz.shuffled("09.which", answers, f"learner {n}") for n in range(20)}
    assert len(orders) > 10 and all(sorted(each) == sorted(answers) for each in orders)
    assert quiz.shuffled("09.which", answers, "me") == quiz.shuffled("09.which", answers, "me")


def test_the_buttons_have_every_option_and_a_click_is_the_choice() -> None:
    guess = ask(WHICH)
    shown = guess._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in shown and shown["text/plain"] == repr(guess)
    assert sorted(guess._buttons.options) == ["one", "three", "two"] and guess._buttons.value is None
    guess._buttons.value = "two"
    assert guess.choice == "two"


def test_markdown_in_an_answer_is_text() -> None:
    option = {"a <b> *c* `d`": RIGHT, "two": WRONG}
    shown = ask({**WHICH, "options": option}).seen("a <b> *c* `d`")._repr_mimebundle_()
    assert re.match(r"\*\*Seen: a &lt;b&gt; \\\*c\\\* \\`d\\`\.", shown["text/markdown"])


# --- an order --------------------------------------------------------------------------------------------------------


def test_an_order_is_shuffled_and_shows_the_question_once() -> None:
    lines = repr(order()).splitlines()
    assert lines[0] == "What next?" and set(lines[1:]) == {"( ) fork", "( ) exec", "( ) exit"}


def test_an_order_without_a_choice_says_so() -> None:
    said = repr(order().seen(["fork", "exec", "exit"]))
    assert said == "Seen, in this order:\n1. fork\n2. exec\n3. exit\nYou did not commit to an answer before it ran."


def test_an_order_counts_what_was_put_into_its_place_and_explains_a_swap() -> None:
    guess = order()
    guess._repr_mimebundle_()
    for step in ("exec", "fork", "exit"):
        guess._buttons[step].click()
    said = repr(guess.seen(["fork", "exec", "exit"]))
    assert "You had put 1 of 3 in this place." in said and "Why “exec” before “fork” is tempting: It is near." in said
    guess._buttons["exec"].click()
    assert guess.choice == ["fork", "exit"] and guess._buttons["fork"].description == "1. fork"
    assert "You had put 2 of 2" in repr(guess.seen(["fork", "exit"])), "what was not seen does not count"
    guess._box.children[-1].click()
    assert guess.choice == []


def test_an_order_refuses_a_stranger() -> None:
    with pytest.raises(ValueError, match="'clone' is none of the steps"):
        order().seen(["clone"])
