"""What a learner does and sees in a notebook in JupyterLab, told in her terms."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass

import nbformat
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Locator, Page, ViewportSize, expect

from labkit.figures.style import contrast
from tests.browser.jupyterlab import NOTEBOOKS, THEMES, JupyterLab

SECOND = 1000.0
LAPTOP: ViewportSize = {"width": 1440, "height": 900}
HALF_A_SCREEN: ViewportSize = {"width": 900, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
TIMES_OPENED = 3
"""Chromium gives its requests up when an address of the machine changes, which the Pods of other tests do at any time."""
ERRORS = ", ".join(f'[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr"))
SELECTED = ".jp-Notebook .jp-Cell.jp-mod-active"
FIGURES = ".jp-RenderedSVG > img, .jp-RenderedImage > img"


@dataclass(frozen=True)
class Learner:
    """A notebook opened in `page`. `cells` are the sources of its cells, `kinds` their kinds ("code", "markdown")."""

    page: Page
    cells: tuple[str, ...]
    kinds: tuple[str, ...]

    @classmethod
    def opens(cls, page: Page, jupyterlab: JupyterLab, lesson: str, outputs: bool) -> Learner:
        """Open the notebook of `lesson` ("02"). Without `outputs` the committed ones are taken out: what is seen then was run."""
        (original,) = NOTEBOOKS.glob(f"{lesson}-*.ipynb")
        notebook = nbformat.read(original, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code" and not outputs:
                cell.update(outputs=[], execution_count=None)
        nbformat.write(notebook, jupyterlab.notebooks / original.name)
        learner = cls(page, tuple(cell.source for cell in notebook.cells), tuple(cell.cell_type for cell in notebook.cells))
        learner.opens_address(jupyterlab.address(original.name))
        return learner

    def opens_address(self, address: str) -> None:
        """Open the page, and again where a request of it was cut off, until it has all cells and its kernel is idle."""
        for _ in range(TIMES_OPENED):
            self.page.goto(address)
            expect(self.is_idle.or_(self.is_cut_off).first).to_be_visible(timeout=60 * SECOND)
            if not self.is_cut_off.is_visible():
                break
        expect(self.page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(self.cells), timeout=60 * SECOND)
        self.waits_until_idle()

    def runs_all(self) -> None:
        """Run → Run All Cells, and wait for the last cell's number."""
        self.menu("Run", "Run All Cells")
        self._wait_for_number(max(self.cells_of("code")))
        self.waits_until_idle()

    def runs_the_rest(self) -> None:
        """Run → Run Selected Cell and All Below, and wait for the last cell's number."""
        self.menu("Run", "Run Selected Cell and All Below")
        self._wait_for_number(max(self.cells_of("code")), 240)
        self.waits_until_idle()

    def switches_theme(self, theme: str) -> None:
        """Settings → Theme → JupyterLab Light or Dark."""
        self.menu("Settings", "Theme", THEMES[theme])
        expect(self.page.locator(f'body[data-jp-theme-light="{"true" if theme == "light" else "false"}"]')).to_be_attached()

    def runs_to(self, cell: int) -> None:
        """Shift-Enter from the selected cell on, up to and with the cell of that number; once more where the page has not taken
        the key, as while it draws a cell's output."""
        for _ in range(2 * len(self.cells)):
            if (at := self._selected()) > cell:
                break
            self.page.keyboard.press("Shift+Enter")
            with contextlib.suppress(AssertionError):
                expect(self.page.locator(SELECTED)).not_to_have_attribute("data-windowed-list-index", str(at), timeout=5 * SECOND)
        self._wait_for_number(cell)

    def _selected(self) -> int:
        return int(self.page.locator(SELECTED).get_attribute("data-windowed-list-index") or 0)

    def chooses(self, cell: int, option: str) -> None:
        """Click on an option of the prediction below a cell."""
        self.cell(cell).get_by_role("radio", name=option, exact=True).check()

    def cells_of(self, kind: str) -> list[int]:
        """The numbers of the "code" or "markdown" cells."""
        return [number for number, its in enumerate(self.kinds) if its == kind]

    def output(self, cell: int) -> str:
        return self.cell(cell).locator(".jp-OutputArea-output").last.text_content() or ""

    def cell(self, number: int) -> Locator:
        return self.page.locator(f'.jp-Notebook .jp-Cell[data-windowed-list-index="{number}"]')

    def numbers(self) -> list[str]:
        """What stands before the code cells: ["[1]:", "[2]:", …]."""
        return self.page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()

    def errors(self) -> list[str]:
        return self.page.locator(ERRORS).all_text_contents()

    def figures(self) -> list[Locator]:
        return self.page.locator(FIGURES).all()

    def where(self, words: str) -> list[int]:
        """The numbers of the cells whose source contains `words`."""
        return [number for number, source in enumerate(self.cells) if words in source]

    def menu(self, *names: str) -> None:
        for name in names:
            self.page.locator(".lm-MenuBar-itemLabel, .lm-Menu-itemLabel").get_by_text(name, exact=True).click()

    def _wait_for_number(self, cell: int, seconds: float = 120) -> None:
        """A code cell has its number when the kernel has run it, [*] or [ ] before. An error ends the wait: it ends the run."""
        number = self.cell(cell).locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]:"))
        expect(number.or_(self.page.locator(ERRORS)).first).to_be_attached(timeout=seconds * SECOND)
        if errors := self.errors():
            raise AssertionError("The notebook says:\n" + "\n".join(errors))

    @property
    def is_idle(self) -> Locator:
        """The status bar says so; the toolbar does too, but hides what it has no room for."""
        return self.page.locator("#jp-main-statusbar").get_by_text(re.compile(r"\| Idle$"))

    @property
    def is_cut_off(self) -> Locator:
        """JupyterLab says that it has no kernel or no file since Chromium gave the request up (ERR_NETWORK_CHANGED)."""
        return self.page.get_by_role("dialog").filter(has_text="Failed to fetch")

    def waits_until_idle(self) -> None:
        expect(self.is_idle).to_be_visible(timeout=60 * SECOND)


def assert_no_serious_fault(page: Page, place: str) -> None:
    """axe-core finds nothing serious in what the CSS selector `place` finds."""
    found = Axe().run(page, context={"include": [[place]]}).response
    serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []


@dataclass(frozen=True)
class Looks:
    """What an eye makes of a picture: its background (#rrggbb), and the contrast of its strongest ink (1…21, WCAG)."""

    background: str
    ink: float

    @classmethod
    def of(cls, element: Locator) -> Looks:
        picture = Image.open(io.BytesIO(element.screenshot())).convert("RGB")
        background = _hex(picture.getpixel((2, 2)))
        colours = picture.getcolors(picture.width * picture.height) or []
        # A hundred pixels are less than one letter has; a single one may be an artefact.
        return cls(background, max((contrast(background, _hex(colour)) for count, colour in colours if count > 100), default=1.0))


def _hex(colour: object) -> str:
    assert isinstance(colour, tuple)
    return "#" + "".join(f"{part:02x}" for part in colour[:3])
