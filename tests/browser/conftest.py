"""JupyterLab in Chromium, and a learner who works in it. Screenshots are kept when a test fails, or all with SCREENSHOTS=1."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from labkit import connect
from labkit.node import Home
from tests.browser.chromium import find_chromium
from tests.browser.jupyterlab import THEMES, JupyterLab, serve
from tests.browser.learner import HALF_A_SCREEN, LAPTOP, PHONE, Learner

SCREENSHOTS = Path(__file__).parent / "screenshots"
# Nothing but the page under test is to be asked for in the network.
CHROMIUM_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="module")
def jupyterlab(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JupyterLab]:
    with serve(tmp_path_factory.mktemp("jupyterlab")) as server:
        yield server


# A module's and not the session's: while Playwright runs, no other test can use asyncio.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = find_chromium(Home.find().cache)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found.program, args=CHROMIUM_OPTIONS,
                                             env={**os.environ, **found.environment})
        expect.set_options(timeout=60_000)  # the machine may be busy
        yield browser
        browser.close()


@pytest.fixture
def learner(request: pytest.FixtureRequest, jupyterlab: JupyterLab, chromium: Browser) -> Iterator[Callable[..., Learner]]:
    """`learner("02", theme="dark")` has opened that notebook. Afterwards kernels and Pods are gone."""
    pages: list[Page] = []
    lessons: set[str] = set()

    def open_notebook(lesson: str, theme: str = "light", outputs: bool = False) -> Learner:
        jupyterlab.start_with(theme)
        page = chromium.new_page(viewport=LAPTOP)
        pages.append(page)
        lessons.add(lesson)
        return Learner.opens(page, jupyterlab, lesson, outputs)

    yield open_notebook
    if os.environ.get("SCREENSHOTS") or request.node.stash[FAILED]:
        for number, page in enumerate(pages):
            _keep(page, f"{request.node.name}-{number}")
    for page in pages:
        _end_kernels(page, jupyterlab)
        page.close()
    for lesson in lessons:
        node = connect(lesson=lesson)
        node.remove_leftovers()
        node.close()


def _keep(page: Page, name: str) -> None:
    """The page as it is, and the notebook from top to bottom, light and dark, on a laptop, on half a screen and on a phone."""
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")
    page.keyboard.press("Escape")  # a dialog would cover the menu
    for theme, size in itertools.product(THEMES, (LAPTOP, HALF_A_SCREEN, PHONE)):
        page.set_viewport_size(LAPTOP)
        Learner(page, (), ()).switches_theme(theme)
        page.set_viewport_size(size)
        for _ in range(2):  # the height of a cell that was never in view is an estimate
            cells = page.locator(".jp-WindowedPanel-viewport").bounding_box()
            page.set_viewport_size({"width": size["width"], "height": round(cells["height"] if cells else 600) + 200})
            page.wait_for_timeout(300)
        page.evaluate("document.querySelector('.jp-WindowedPanel-outer')?.scrollTo(0, 0)")
        page.wait_for_timeout(300)
        page.screenshot(path=SCREENSHOTS / f"{name}-{theme}-{size['width']}.png")


def _end_kernels(page: Page, jupyterlab: JupyterLab) -> None:
    asks = page.context.request
    headers = {"Authorization": f"token {jupyterlab.token}"}
    for session in asks.get(f"{jupyterlab.url}api/sessions", headers=headers).json():
        asks.delete(f"{jupyterlab.url}api/sessions/{session['id']}", headers=headers)
