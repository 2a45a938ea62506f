"""The notebooks as a learner meets them: JupyterLab in Chromium, Run All, the figures, the predictions, light and dark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, expect

from labkit.figures.figure import NARROW
from labkit.figures.style import SMALL, contrast
from labkit.node import Home
from tests.browser.jupyterlab import JupyterLab
from tests.browser.learner import HALF_A_SCREEN, LAPTOP, PHONE, Learner, Looks, assert_no_serious_fault
from tests.waits import wait_for

Opens = Callable[..., Learner]
MIN_FIGURE = NARROW[-1]
READABLE = 4.5
"""The contrast that text needs (WCAG 2.2, 1.4.3)."""


@pytest.mark.parametrize("lesson", ["00", "02"])
def test_run_all(lesson: str, learner: Opens) -> None:
    """Every cell runs without an error; every figure is there, has its text, turns from light to dark with the page, and can be
    read on a laptop, on half a screen and on a phone; so can the prose. A screen reader finds no fault in a question."""
    notebook = learner(lesson)
    assert not notebook.figures()

    notebook.runs_all()

    assert not notebook.errors()
    assert notebook.numbers() == [f"[{number}]:" for number in range(1, len(notebook.cells_of("code")) + 1)]
    assert len(notebook.figures()) == len(draws(notebook))
    assert_readable(notebook, "light")
    assert_accessible(notebook)
    assert_has_text(notebook)

    notebook.switches_theme("dark")
    assert_readable(notebook, "dark")
    assert_accessible(notebook)
    for size in (LAPTOP, HALF_A_SCREEN, PHONE):
        notebook.page.set_viewport_size(size)
        assert_fits(notebook)


def test_the_address_opens_notebook_00_and_nothing_covers_it(jupyterlab: JupyterLab, chromium: Browser) -> None:
    """The address that JupyterLab prints. A question about news of JupyterLab's would be there when the page is."""
    page = chromium.new_page(viewport=LAPTOP)
    page.goto(f"{jupyterlab.url}?token={jupyterlab.token}")
    expect(page.locator(".lm-TabBar-tab.lm-mod-current", has_text="00-is-my-lab-real.ipynb").first).to_be_visible(timeout=60e3)
    expect(page.locator("#jp-main-statusbar").get_by_text(re.compile(r"\| Idle$"))).to_be_visible(timeout=60e3)
    assert page.locator(".Toastify__toast, .jp-toast").count() == 0
    page.close()


def test_a_terminal_finds_labkit_and_the_labs_cluster(learner: Opens, jupyterlab: JupyterLab) -> None:
    """The server has neither the environment's commands on PATH nor a terminal of its own, as where a service starts it."""
    page = learner("00")
    page.menu("File", "New", "Terminal")
    page.page.locator(".jp-Terminal .xterm-screen").click()
    page.page.keyboard.type("labkit status --json >status; kubectl get nodes -o name >nodes; echo $KUBECONFIG >done\n")
    done = jupyterlab.notebooks / "done"
    wait_for(lambda: done.exists() and done.read_text(), "the terminal's commands")
    assert json.loads((jupyterlab.notebooks / "status").read_text())["state"] == "ready"
    assert (jupyterlab.notebooks / "nodes").read_text().startswith("node/")
    assert Path(done.read_text().strip()) == Home.find().kubeconfig


def test_before_anything_is_run(learner: Opens) -> None:
    """The committed figures show in a notebook that is not trusted yet, on a dark page too."""
    notebook = learner("02", theme="dark", outputs=True)

    assert len(notebook.figures()) == len(draws(notebook))
    assert_readable(notebook, "dark")


def test_predictions(learner: Opens) -> None:
    """The learner works downwards, chooses an answer, runs the experiment, and is told how both go together."""
    notebook = learner("02")
    sandbox, sharing = asks(notebook, '"02.sandbox"') + asks(notebook, '"02.shared"')
    for question, option, said in (
        (sandbox, "two", "Seen: two. You predicted the same."),
        (sharing, "net and ipc", "Seen: net, ipc and uts. You predicted net and ipc."),
    ):
        answer = next(number for number in asks(notebook, ".seen(") if number > question)

        notebook.runs_to(question)
        notebook.chooses(question, option)
        notebook.runs_to(answer)

        assert said in notebook.output(answer)


def test_a_quiz_by_keyboard_alone(learner: Opens) -> None:
    """Tab reaches the question's group, arrows choose, Shift-Enter goes on; the group has the question as its name."""
    notebook = learner("02")
    question = asks(notebook, '"02.sandbox"')[0]
    notebook.runs_to(question)
    group = notebook.cell(question).get_by_role("radiogroup", name="How many new processes")
    buttons = group.get_by_role("radio").all()
    buttons[0].focus()
    for button, key in zip(buttons, ("Space", "ArrowDown", "ArrowDown"), strict=True):
        notebook.page.keyboard.press(key)
        expect(button).to_be_checked()
        if button.get_attribute("data-value") == "two":
            break
    notebook.page.keyboard.press("Shift+Enter")
    answer = next(number for number in asks(notebook, ".seen(") if number > question)
    notebook.runs_to(answer)
    assert "Seen: two. You predicted the same." in notebook.output(answer)


def test_a_pod_that_is_stuck(learner: Opens) -> None:
    """Notebook 05 from top to bottom: a right and a wrong prediction told back, the figures of statuses and events readable on
    both pages, and the checks, which find the broken Pods broken."""
    notebook = learner("05")
    last_call, status = asks(notebook, '"05.last-call"') + asks(notebook, '"05.typo"')
    for question, option in ((last_call, "StartContainer"), (status, "CrashLoopBackOff")):
        notebook.runs_to(question)
        notebook.chooses(question, option)

    notebook.runs_the_rest()

    assert not notebook.errors()
    first, second = (number for number in asks(notebook, ".seen(") if number < status + 2)
    assert "Seen: StartContainer. You predicted the same." in notebook.output(first)
    assert "Seen: ErrImagePull. You predicted CrashLoopBackOff." in notebook.output(second)
    assert notebook.output(asks(notebook, "labkit.break_pods(")[0]).count("Not yet:") == 3
    assert len(notebook.figures()) == len(draws(notebook))
    assert_readable(notebook, "light")
    notebook.switches_theme("dark")
    assert_readable(notebook, "dark")
    notebook.page.set_viewport_size(HALF_A_SCREEN)
    assert_fits(notebook)


WAITS = """
import time
from pathlib import Path
from labkit.util.progress import shown
print("before")
with shown() as show:
    show("fetching the first")
    show("fetching the second")
    while not Path("go").exists():
        time.sleep(0.05)
print("after")
"""


def test_progress_is_seen_while_it_lasts_and_leaves_no_gap(jupyterlab: JupyterLab, chromium: Browser) -> None:
    """As high as the output of a cell that had nothing to wait for."""
    cells = (WAITS, 'print("before\\nafter")')
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, jupyterlab.notebooks / "progress.ipynb")
    page = chromium.new_page(viewport=LAPTOP)
    notebook = Learner(page, cells, ("code", "code"))
    page.goto(jupyterlab.address("progress.ipynb"))
    notebook.waits_until_idle()

    page.keyboard.press("Shift+Enter")
    output = notebook.cell(0).locator(".jp-OutputArea")
    expect(output.get_by_text("fetching the second", exact=True)).to_be_visible()
    expect(output.get_by_text("fetching the first")).to_have_count(0)
    expect(output.get_by_text("before", exact=True)).to_be_visible()

    (jupyterlab.notebooks / "go").touch()
    notebook.runs_to(1)
    expect(output.get_by_text("fetching")).to_have_count(0)
    heights = [notebook.cell(number).locator(".jp-OutputArea").bounding_box()["height"] for number in (0, 1)]
    assert heights[0] == pytest.approx(heights[1], abs=2)
    page.close()


FIGURES = ("process_tree", "namespace_matrix", "pod_lifecycle", "event_log")
"""The functions that draw in the notebooks of these tests."""


def draws(notebook: Learner) -> list[int]:
    """The cells that make a figure."""
    return [number for figure in FIGURES for number in asks(notebook, f"labkit.{figure}(")]


def asks(notebook: Learner, code: str) -> list[int]:
    """The code cells, not the prose, in which this stands."""
    return [number for number in notebook.where(code) if number in notebook.cells_of("code")]


def assert_readable(notebook: Learner, theme: str) -> None:
    """Each figure is loaded and can be read on a page of that theme."""
    for figure in notebook.figures():
        figure.scroll_into_view_if_needed()
        assert figure.evaluate("picture => picture.complete && picture.naturalWidth > 100 && picture.naturalHeight > 50")
        looks = Looks.of(figure)
        assert contrast(looks.background, {"light": "#ffffff", "dark": "#111111"}[theme]) < 1.2
        assert looks.ink > READABLE


def assert_has_text(notebook: Learner) -> None:
    """Each figure's <img> has the text of the figure, which begins with a word and ends with a full stop or a name."""
    texts = [figure.get_attribute("alt") or "" for figure in notebook.figures()]
    assert all(len(text) > 20 and text[0].isalpha() for text in texts), texts


def assert_fits(notebook: Learner) -> None:
    """Letters of a figure are at least 10 px high, whatever the page's width; it is no wider than its place, where one scrolls if
    that is narrower still. Lines of prose have at most 75 letters."""
    for figure in notebook.figures():
        figure.scroll_into_view_if_needed()
        wait_for(lambda figure=figure: fits(figure), f"the page to show the variant that fits: {figure.get_attribute('alt')}")
    longest = notebook.page.evaluate(LONGEST_LINE)
    assert longest["letters"] <= 75, longest


def fits(figure: Locator) -> bool:
    drawn, shown, place = figure.evaluate(
        "image => [image.complete && image.naturalWidth, image.clientWidth, image.parentElement.clientWidth]"
    )
    return bool(drawn) and shown / drawn * SMALL >= 10 and shown <= max(place, MIN_FIGURE) + 1


def assert_accessible(notebook: Learner) -> None:
    """axe-core finds nothing serious in the questions that are on the page, nor in their verdicts."""
    quizzes = notebook.page.locator(".labkit-quiz")
    for quiz in quizzes.all():
        quiz.scroll_into_view_if_needed()
        expect(quiz).to_have_attribute("role", re.compile("group"))
    if quizzes.count():
        assert_no_serious_fault(notebook.page, ".labkit-quiz")


LONGEST_LINE = """() => {
  let longest = {letters: 0, text: ""};
  for (const block of document.querySelectorAll(".jp-Notebook .jp-RenderedMarkdown :is(p, li)")) {
    const lines = new Map();
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, range = document.createRange();
      for (let at = 0; at < node.length; at += 1) {
        range.setStart(node, at); range.setEnd(node, at + 1);
        const box = range.getClientRects()[0];
        if (!box) continue;
        const line = Math.round(box.bottom / 12);
        lines.set(line, (lines.get(line) ?? "") + node.data[at]);
      }
    }
    for (const text of lines.values())
      if (text.trim().length > longest.letters) longest = {letters: text.trim().length, text};
  }
  return longest;
}"""
"""The longest line of prose as it is laid out, and how many letters it has."""
