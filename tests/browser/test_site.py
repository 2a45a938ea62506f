"""The course's static pages on a phone: no kernel, no mouse, light and dark."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, expect

from authoring.lesson import find
from labkit.course.quiz import quiz
from labkit.figures.style import COLOURS
from tests.browser.learner import assert_no_serious_fault
from tests.site.built import build

PHONE: ViewportSize = {"width": 390, "height": 844}
Opens = Callable[..., Page]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("site"))


@pytest.fixture
def opens(site: Path, chromium: Browser) -> Iterator[Opens]:
    """`opens("02", "dark")`: the page of that lesson, on a phone."""
    pages: list[Page] = []

    def open_page(lesson: str, scheme: str = "light") -> Page:
        page = chromium.new_page(viewport=PHONE, color_scheme=scheme)  # type: ignore[arg-type]
        pages.append(page)
        page.goto((site / "notebooks" / f"{find(lesson).notebook.stem}.html").as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


def tabs_to(page: Page, selector: str) -> None:
    """Press Tab until what the selector names has the focus."""
    for _ in range(300):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab leads to no {selector}")


def test_a_quiz_is_answered_by_keyboard_on_a_phone(opens: Opens) -> None:
    page, asked = opens("00"), quiz(find("00").quiz)["00.who"]
    form = page.locator("form#quiz-00-who")
    verdict = form.get_by_role("status")
    tabs_to(page, "#quiz-00-who input[type=radio]")
    expect(verdict).to_be_empty()
    page.keyboard.press("Space")
    for _ in asked.options:  # the arrow keys lead round, so that each is chosen once
        chosen = form.locator("label", has=page.locator("input:checked")).inner_text()
        page.keyboard.press("Enter")
        expect(verdict).to_contain_text("You predicted")
        right = next(each for each in asked.options if each.right)
        expect(verdict).to_contain_text("You predicted the same." if chosen == right.answer else f"You predicted {chosen}.")
        expect(verdict).to_contain_text("What shows that it is wrong" if chosen != right.answer else f"Why “{chosen}”")
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]


def test_an_order_is_given_by_keyboard(opens: Opens) -> None:
    page, asked = opens("03"), quiz(find("03").quiz)["03.steps"]
    form = page.locator("form#quiz-03-steps")
    verdict = form.get_by_role("status")
    tabs_to(page, "#quiz-03-steps button[data-step]")
    page.keyboard.press("Enter")
    first = form.locator("button[data-step]").first
    expect(first).to_have_text(f"1. {first.get_attribute('data-text')}")
    tabs_to(page, "#quiz-03-steps button[type=submit]")
    page.keyboard.press("Enter")
    expect(verdict).to_have_text(f"Give each of the {len(asked.steps)} steps its place first: {len(asked.steps) - 1} have none.")
    form.get_by_role("button", name="Start again").press("Enter")
    for number in range(len(asked.steps)):
        form.locator(f"[data-step='{number}']").press("Enter")
    form.get_by_role("button", name="Check").press("Enter")
    expect(verdict).to_contain_text(f"You had put {len(asked.steps)} of {len(asked.steps)} in this place.")
    expect(verdict).not_to_contain_text("is tempting")
    form.get_by_role("button", name="Start again").press("Enter")
    expect(verdict).to_be_empty()
    for number in reversed(range(len(asked.steps))):
        form.locator(f"[data-step='{number}']").press("Enter")
    form.get_by_role("button", name="Check").press("Enter")
    expect(verdict).to_contain_text(f"You had put {len(asked.steps) % 2} of {len(asked.steps)} in this place.")


@pytest.mark.parametrize(("scheme", "chosen"), [("light", ""), ("dark", ""), ("light", "dark"), ("dark", "light")])
def test_a_figure_has_the_colours_of_its_page(opens: Opens, scheme: str, chosen: str) -> None:
    """The page's scheme is the reader's machine's, or the one that she has chosen on the page."""
    page = opens("02", scheme)
    if chosen:
        page.evaluate("theme => { document.body.dataset.theme = theme }", chosen)
    picture = page.locator("figure.drawn img").first
    picture.scroll_into_view_if_needed()
    picture.evaluate("image => image.decode()")  # it is loaded when it comes into view
    corner = Image.open(io.BytesIO(picture.screenshot())).convert("RGB").getpixel((2, 2))
    assert "#" + bytes(corner).hex() == COLOURS["background"][(chosen or scheme) == "dark"]  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screen_reader_finds_no_fault(opens: Opens, scheme: str) -> None:
    for lesson in ("00", "05", "08"):
        page = opens(lesson, scheme)
        assert_no_serious_fault(page, "body")
        page.close()


def test_without_scripts_the_answers_are_folded_and_can_be_opened(site: Path, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False, viewport=PHONE)
    page = context.new_page()
    page.goto((site / "notebooks" / f"{find('02').notebook.stem}.html").as_uri())
    expect(page.get_by_role("button", name="Check").first).to_be_hidden()
    shown = page.locator("details.verdict").first
    expect(shown.locator("strong")).to_be_hidden()
    shown.locator("summary").click()
    expect(shown.locator("strong")).to_have_text("Seen: two.")
    context.close()
