"""Notes for some nodes only: shown where they apply, nothing elsewhere, and no saved output has them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authoring.lesson import lessons
from labkit.course.notes import FILE, Note, note, notes
from labkit.node import NodeError
from tests.conftest import ROOT

NOTES = notes(ROOT / "notebooks" / FILE)


def node(kind: str, runtime: str) -> Any:
    return SimpleNamespace(kind=kind, runtime=runtime)


@pytest.mark.parametrize("name", NOTES)
def test_a_note_is_shown_where_it_applies_only(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = node("containerd", "containerd 1.6.20")
    note(elsewhere, name)
    assert capsys.readouterr().out == ""
    here = node(NOTES[name].kinds[0], "containerd 2.1.0") if NOTES[name].kinds else node("cri", "CRI-O 1.37.0")
    note(here, name)
    assert capsys.readouterr().out.strip() == NOTES[name].text


def test_an_unknown_note_is_named_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"There is no note 'hook'; there are .*hooks"):
        note(node("kind", "containerd"), "hook")


FAULTY = ["{", "- a", "a: {text: x}", "a: {kinds: [kind]}", "a: {kinds: [kind], runtime: cri-o, text: x}"]


@pytest.mark.parametrize("text", FAULTY)
def test_a_faulty_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(NodeError, match=r"notes\.yaml"):
        notes(tmp_path / FILE)


def test_every_note_is_shown_by_a_notebook_and_every_name_is_a_note() -> None:
    code = "\n".join(cell.source for lesson in lessons() for cell in lesson.code)
    assert set(re.findall(r'labkit\.note\(node, "([\w-]+)"\)', code)) == set(NOTES)


ASIDE = re.compile(r"\((?:On a (?:kind|cluster) node|With CRI-O|CRI-O)\b")


@pytest.mark.parametrize("lesson", list(lessons()), ids=lambda lesson: lesson.number)
def test_prose_has_no_aside_for_another_kind_of_node(lesson: Any) -> None:
    assert [found[0] for cell in lesson.prose if (found := ASIDE.search(cell.source))] == []


def test_a_note_applies_by_kind_or_by_runtime() -> None:
    by_kind, by_runtime = Note("x", kinds=("kind",)), Note("x", runtime="cri-o")
    assert by_kind.applies("kind", "containerd 2") and not by_kind.applies("vm", "containerd 2")
    assert by_runtime.applies("cri", "cri-o 1.30") and not by_runtime.applies("cri", "containerd 2")
