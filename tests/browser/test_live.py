"""Live panels, replays and the workspace as a learner meets them: JupyterLab in Chromium, by mouse and by keyboard."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page, expect

from labkit import connect
from tests.browser.jupyterlab import JupyterLab
from tests.browser.learner import HALF_A_SCREEN, LAPTOP, PHONE, Learner, assert_no_serious_fault
from tests.unit.flights import pods
from tests.waits import wait_for

POD = {"metadata": {"name": "live-seen"}, "spec": {"containers": [{"name": "main", "image": "registry.lab/busybox:1", "command": ["sleep", "1000"]}]}}  # noqa: E501
PANEL = "import labkit\nnode = labkit.connect()\nlabkit.live.tree(node)"
MENU = "labkit.live.menu(node)"
REPLAY = "from labkit.recording.flight import Flight\nimport labkit.live\nfrom pathlib import Path\nFlight.from_json(Path('flight.json').read_text()).replay()"  # noqa: E501
PROSE = "# Commands\n\nSee `labkit version` and `kubectl get pods`, or read `containerd`."
SCREENSHOTS = Path(__file__).parent / "screenshots"


@pytest.fixture
def page(jupyterlab: JupyterLab, chromium: Browser) -> Iterator[Page]:
    made = chromium.new_page(viewport=LAPTOP)
    yield made
    made.close()


def opens(page: Page, jupyterlab: JupyterLab, name: str, *cells: str) -> Learner:
    """A notebook of these code cells below one of prose."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(PROSE), *map(nbformat.v4.new_code_cell, cells)])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, jupyterlab.notebooks / f"{name}.ipynb")
    learner = Learner(page, (PROSE, *cells), ("markdown", *("code" for _ in cells)))
    learner.opens_address(jupyterlab.address(f"{name}.ipynb"))
    return learner


def test_a_panel_beside_the_notebook_shows_a_pod_that_starts(page: Page, jupyterlab: JupyterLab) -> None:
    """Opened by keyboard from its cell; what it shows changes without a cell being run; closed, it says so."""
    notebook = opens(page, jupyterlab, "panel", PANEL, MENU)
    notebook.runs_all()
    panel = notebook.cell(1).locator(".labkit-live")
    expect(panel.get_by_role("img", name=re.compile("Process tree"))).to_be_visible()
    expect(panel.get_by_text("Follows the kernel's process events")).to_be_visible()
    panel.get_by_role("button", name="Beside the notebook").focus()
    page.keyboard.press("Enter")
    beside = page.locator(".jp-LinkedOutputView .labkit-live")
    expect(beside.get_by_role("img", name=re.compile("Process tree"))).to_be_visible()
    expect(beside.get_by_role("button", name="Beside the notebook")).to_be_hidden()

    node = connect("containerd")
    pod = node.start_pod(POD)
    try:
        expect(beside.get_by_role("img", name=re.compile("Pod live-seen: the shim, below it pause and main"))).to_be_visible()
        assert_shown_well(notebook, ".jp-LinkedOutputView .labkit-live", "panel")
    finally:
        node.remove_pod(pod)
        node.close()
    expect(beside.get_by_role("img", name=re.compile("no shim"))).to_be_visible()

    menu = notebook.cell(2)
    menu.get_by_role("button", name="Pods and events").click()
    expect(menu.locator(".labkit-live").get_by_text("Pods and events, live")).to_be_visible()
    beside.get_by_role("button", name="Close").click()
    expect(beside.get_by_text("This panel is closed.")).to_be_visible()


def fits(page: Page, place: str) -> bool:
    """Whether the figure is no wider than its place."""
    return bool(page.evaluate(
        "place => { const box = document.querySelector(`${place} .labkit-picture`);"
        " return box && (box.scrollWidth <= Math.max(box.clientWidth, 300) + 1); }", place))


def assert_shown_well(notebook: Learner, place: str, name: str) -> None:
    """In both themes a screen reader finds no fault, and in each width the figure fits; a screenshot of each."""
    page = notebook.page
    for theme in ("light", "dark"):
        notebook.switches_theme(theme)
        assert_no_serious_fault(page, place)
        for size in (LAPTOP, HALF_A_SCREEN, PHONE):
            page.set_viewport_size(size)
            wait_for(lambda: fits(page, place), f"the {name} to be drawn for its width")
            keep(page, f"{name}-{theme}-{size['width']}")
        page.set_viewport_size(LAPTOP)


def keep(page: Page, name: str) -> None:
    """A screenshot, where they are kept."""
    if os.environ.get("SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"live-{name}.png")


def test_a_replay_by_keyboard(page: Page, jupyterlab: JupyterLab) -> None:
    """Arrow keys step, Home and End go to the ends, Space plays and pauses; each step is told in words."""
    (jupyterlab.notebooks / "flight.json").write_text(pods(1).to_json())
    notebook = opens(page, jupyterlab, "replay", REPLAY)
    notebook.runs_all()
    replay = notebook.cell(1).locator(".labkit-replay")
    slider, words = replay.get_by_role("slider", name="Event"), replay.get_by_role("status")
    last = int(slider.get_attribute("max") or 0)
    assert last > 20
    slider.focus()
    page.keyboard.press("Home")
    expect(words).to_have_text(f"0 of {last}: before the first event")
    page.keyboard.press("ArrowRight")
    expect(words).to_have_text(re.compile(rf"1 of {last}: RunPodSandbox begins, called by labkit"))
    covered = replay.locator(".labkit-picture svg > rect").last
    before = float(covered.get_attribute("width") or 0)
    page.keyboard.press("End")
    expect(words).to_have_text(re.compile(rf"{last} of {last}: "))
    assert float(covered.get_attribute("width") or 0) < before
    page.keyboard.press("ArrowLeft")
    expect(words).to_have_text(re.compile(rf"{last - 1} of {last}: "))
    expect(slider).to_have_attribute("aria-valuetext", re.compile(rf"{last - 1} of {last}: "))
    replay.get_by_role("combobox", name="Speed").select_option(label="10 × faster")
    slider.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    expect(words).to_have_text(re.compile(rf"{last} of {last}: "))
    expect(replay.get_by_role("button", name="Play")).to_be_visible()
    assert notebook.errors() == []
    assert_shown_well(notebook, ".labkit-replay", "replay")


def test_the_workspace_has_notebook_terminal_and_lessons(page: Page, jupyterlab: JupyterLab) -> None:
    """The address that ./course start opens. A command of the prose goes into the terminal by a click, and Enter runs it."""
    lesson = nbformat.read(jupyterlab.notebooks / "00-is-my-lab-real.ipynb", as_version=4)
    notebook = Learner(page, tuple(cell.source for cell in lesson.cells), ())
    notebook.opens_address(f"{jupyterlab.url}lab/workspaces/course/tree/00-is-my-lab-real.ipynb?token={jupyterlab.token}&reset")
    course = page.get_by_role("navigation", name="The lessons of the course")
    expect(course.get_by_role("link", name="00 · Is my lab real?")).to_have_attribute("aria-current", "page")
    expect(course.get_by_role("link")).to_have_count(len(list(jupyterlab.notebooks.glob("0*.ipynb"))))
    terminal = page.locator(".jp-Terminal")
    expect(terminal).to_have_count(1)
    expect(page.locator(".jp-Terminal .xterm-screen")).to_be_visible()
    wait_for(lambda: right_of(page, ".jp-Terminal", ".jp-NotebookPanel"), "the terminal right of the notebook")
    assert_no_serious_fault(page, ".labkit-course")
    keep(page, "workspace-1440")

    course.get_by_role("link", name="01 · What is the contract?").click()
    expect(course.get_by_role("link", name="01 · What is the contract?")).to_have_attribute("aria-current", "page")
    page.set_viewport_size(HALF_A_SCREEN)
    expect(course).to_be_hidden()
    keep(page, "workspace-900")


def right_of(page: Page, one: str, other: str) -> bool:
    boxes = [page.locator(each).first.bounding_box() for each in (one, other)]
    return all(boxes) and boxes[0]["x"] >= boxes[1]["x"] + boxes[1]["width"]


def test_a_command_of_the_prose_is_copied_and_goes_to_the_terminal(page: Page, jupyterlab: JupyterLab) -> None:
    notebook = opens(page, jupyterlab, "commands", "1")
    buttons = notebook.cell(0).locator(".labkit-copy")
    expect(buttons).to_have_count(2)
    assert_no_serious_fault(page, ".jp-MarkdownOutput")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = notebook.cell(0).get_by_role("button", name="Copy labkit version")
    button.click()
    expect(button).to_have_class(re.compile("labkit-done"))
    assert page.evaluate("navigator.clipboard.readText()") == "labkit version"

    notebook.menu("File", "New", "Terminal")
    expect(page.locator(".jp-Terminal .xterm-screen")).to_be_visible()
    page.locator(".lm-TabBar-tab", has_text="commands.ipynb").first.click()
    button.click()
    expect(page.locator(".jp-Terminal .xterm-screen")).to_be_visible()
    done = jupyterlab.notebooks / "version-done"
    page.locator(".jp-Terminal .xterm-screen").click()
    page.keyboard.type(" >version-done\n")
    wait_for(lambda: done.exists() and "labkit" in done.read_text(), "the command that was typed by the click")
