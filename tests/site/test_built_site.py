"""The whole site: no warning, no broken link, nothing from elsewhere, light pages, and all of the course that it should have."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from authoring.lesson import lessons
from authoring.site import check
from authoring.site.check import Page
from labkit.course.quiz import quiz
from tests.conftest import ROOT
from tests.site.built import build

LESSONS = {lesson.number: lesson for lesson in lessons()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """The pages by their path below the site."""
    directory = build(tmp_path_factory.mktemp("site"))
    return {str(path.relative_to(directory)): page for path, page in check.pages(directory).items()}


def page_of(site: dict[str, Page], number: str) -> Page:
    return site[f"notebooks/{LESSONS[number].notebook.stem}.html"]


def test_no_link_is_broken_nothing_comes_from_elsewhere_and_each_page_is_light(site: dict[str, Page]) -> None:
    assert list(check.faults({page.file: page for page in site.values()})) == []


def test_style_sheets_and_pictures_load_nothing_from_elsewhere(site: dict[str, Page]) -> None:
    directory = site["index.html"].file.parent
    files = [path for path in directory.rglob("*") if path.suffix in (".css", ".svg")]
    wanted = re.compile(r"url\(\s*[\"']?(?!data:|#)((?:[a-z]+:)?//[^)\"']*)|@import[^;]*//|(?:xlink:href|href)=\"(https?://[^\"]*)")
    assert files and [f"{path.name}: {found[0]}" for path in files for found in wanted.finditer(path.read_text())] == []


def test_each_page_has_a_description_and_an_icon(site: dict[str, Page]) -> None:
    texts = {name: page.file.read_text() for name, page in site.items()}
    lacking = [name for name, text in texts.items() if '<meta name="description" content="' not in text or "icon.svg" not in text]
    assert lacking == []


@pytest.mark.parametrize("number", LESSONS)
def test_each_question_and_each_figure_is_on_its_page(site: dict[str, Page], number: str) -> None:
    page = page_of(site, number)
    assert sorted(page.quizzes) == sorted(quiz(LESSONS[number].quiz))
    cells = nbformat.read(LESSONS[number].notebook, as_version=4).cells
    drawn = [output for cell in cells for output in cell.get("outputs", []) if "image/svg+xml" in output.get("data", {})]
    assert drawn and len([name for name in page.loads if "/figures/" in name]) == len(drawn)


@pytest.mark.parametrize("number", LESSONS)
def test_each_lesson_needs_no_kernel_and_says_how_to_run_it(site: dict[str, Page], number: str) -> None:
    text = page_of(site, number).file.read_text()
    assert "sudo ./course start" in text and LESSONS[number].notebook.name in text
    assert "before your prediction.<" not in text, "only who runs it clears outputs"
    assert not re.search(r"jupyter-widgets|application/vnd\.jupyter|requirejs", text)


def test_notebook_07_leads_to_the_code_of_the_kubelet(site: dict[str, Page]) -> None:
    guide = site["labkit/kubelet/core/README.html"]
    assert guide.file in {page_of(site, "07").there(address) for address in page_of(site, "07").links}
    files = {guide.there(address) for address in guide.links}
    for source in (ROOT / "labkit/kubelet/core").glob("*.py"):
        if source.name != "__init__.py":
            assert guide.file.parent / f"{source.name}.html" in files, source.name


def test_each_page_has_the_way_to_run_it_a_search_and_the_contents(site: dict[str, Page]) -> None:
    assert {"index.html", "search.html", "docs/glossary.html", "docs/teaching.html"} <= site.keys()
    for name, page in site.items():
        text = page.file.read_text()
        assert 'class="sidebar-run"' in text and 'role="search"' in text, name
        targets = {page.there(address) for address in page.links}
        assert {page_of(site, number).file for number in LESSONS} - {page.file} <= targets, name


def test_no_page_names_an_address_that_is_not_there_yet(site: dict[str, Page]) -> None:
    assert [name for name, page in site.items() if any("OWNER/REPOSITORY" in address for address in page.links)] == []


def test_the_command_builds_it_again_in_the_same_place_and_keeps_it_where_it_cannot(site: dict[str, Page]) -> None:
    directory: Path = site["index.html"].file.parent
    before = directory.stat().st_ino
    build(directory.parent)
    assert directory.stat().st_ino != before and (directory / "index.html").is_file()
