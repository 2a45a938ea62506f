"""binder/ by repo2docker's own steps, and a session as Binder gives it: uid 1000, no capability, no KVM, 2 GB of memory, one core
and two; in Chromium, notebook 02 is opened there and run.

What no registry of packages has is stood in for (`tests.standin.repo2docker`): Ubuntu 24.04 by Debian 13, conda by pip. The
session has no network but loopback, which is less than Binder gives: what it needs is in the image.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from labkit.node.packages.apt import Apt
from tests.browser.conftest import SCREENSHOTS, chromium  # noqa: F401
from tests.browser.jupyterlab import JupyterLab
from tests.browser.learner import LAPTOP, Learner
from tests.browser.test_jupyterlab import draws
from tests.conftest import CI, ROOT
from tests.live.cluster import wait_for
from tests.standin import repo2docker
from tests.standin.container import Session, session

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root, to be other users; CI runs it"),
]

MEMORY = 2 << 30
"""mybinder.org's limit for a session."""
PORT, BASE = 8888, "/user/x-y/"


def test_every_package_of_apt_txt_can_be_had(programs: Path) -> None:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "binder/apt.txt").read_text().splitlines()]
    names = [line for line in lines if line]
    apt = Apt(programs / "programs" / "apt")
    apt.update(lambda text: None)
    assert sorted(package.name for package in apt.plan(names)) == sorted(names)


@pytest.fixture(scope="module")
def image() -> Iterator[repo2docker.Image]:
    with tempfile.TemporaryDirectory(prefix="lk-binder-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        made = repo2docker.build(ROOT, Path(directory))
        steps = {"postBuild": "./binder/postBuild", "environment": "env update", "apt.txt": "qemu-system-x86"}
        for name, words in steps.items():
            print(f"{name}: {next(s for step, s in made.seconds.items() if words in step):.0f} s")
        yield made


@pytest.mark.soak
def test_the_image_has_the_machine_and_not_what_it_was_made_of(image: repo2docker.Image) -> None:
    cache = image.root / "home/jovyan/.cache/labkit"
    assert len(list((cache / "vm/current/").glob("state-tcg-*.zst"))) == 1
    assert {path.name for path in cache.iterdir()} == {"vm", "containerd"}
    assert not list(cache.rglob("lists"))
    du = subprocess.run(["du", "-sm", cache, image.root / "srv/conda", image.root], capture_output=True, text=True)
    print(f"MB on disk:\n{du.stdout}")


@pytest.mark.soak
@pytest.mark.parametrize("cores", [2, 1])
def test_a_session(cores: int, image: repo2docker.Image, chromium: Browser, tmp_path: Path) -> None:  # noqa: F811
    with tempfile.TemporaryDirectory(prefix="lk-binder-", dir="/tmp") as directory:
        fresh = Path(directory, "root")
        subprocess.run(["cp", "-a", image.root, fresh], check=True)
        place, token = dataclasses.replace(image, root=fresh).place(), secrets.token_hex(8)
        # As BinderHub calls it.
        command = ["jupyter-lab", "--ip=0.0.0.0", f"--port={PORT}", f"--ServerApp.base_url={BASE}",
                   f"--ServerApp.token={token}", "--ServerApp.trust_xheaders=True"]
        began = time.monotonic()
        with (
            session(place, [*image.entrypoint, *command], tmp_path / "log", memory=MEMORY, cores=cores) as running,
            forwarded(running) as port,
            watched(running) as resident,
        ):
            assert_nobody(running)
            lab = Lab(f"http://127.0.0.1:{port}{BASE}", token, fresh / "home/jovyan/my-notebooks", fresh)
            wait_for(lambda: answers(lab), "JupyterLab to answer")
            print(f"{cores} cores: JupyterLab after {time.monotonic() - began:.1f} s", end="")
            status = wait_for(lambda: ready(running), "the node to be ready")
            print(f", the node after {time.monotonic() - began:.1f} s", end="")
            assert (status["node"], status["accelerator"], status["how"]) == ("vm", "tcg", "resumed")
            opens_notebook_00(chromium, lab, f"binder-opens-{cores}")
            before = time.monotonic()
            runs_notebook_02(chromium, lab, f"binder-02-{cores}")
            print(f", notebook 02 in {time.monotonic() - before:.0f} s; at most {max(resident) >> 20} MB resident")
            is_healed(running, status)
            assert running.memory.kills() == 0


def opens_notebook_00(browser: Browser, lab: Lab, name: str) -> None:
    """Where no path is asked for."""
    page = browser.new_page(viewport=LAPTOP)
    page.goto(f"{lab.url}?token={lab.token}")
    expect(page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]')).to_be_visible(timeout=120e3)
    expect(page.locator(".lm-TabBar-tab.lm-mod-current", has_text="00-is-my-lab-real.ipynb").first).to_be_visible()
    keep(page, name)
    page.close()


def runs_notebook_02(browser: Browser, lab: Lab, name: str) -> None:
    """Cell by cell, since each may take its time on one core; every figure is there."""
    notebook = Learner.opens(browser.new_page(viewport=LAPTOP), lab, "02", False)
    for cell in notebook.cells_of("code"):
        notebook.runs_to(cell)
    assert not notebook.errors()
    assert len(notebook.figures()) == len(draws(notebook))
    for figure in notebook.figures():
        figure.scroll_into_view_if_needed()
        assert figure.evaluate("picture => picture.complete && picture.naturalWidth > 100")
    keep(notebook.page, name)
    notebook.page.close()


def is_healed(running: Session, status: Mapping[str, Any]) -> None:
    """The machine's owner is killed. Its remains stay in the table of processes: process 1 here collects nobody's."""
    running.run("sh", "-c", f"kill -KILL {status['pid']}")
    said = json.loads(running.run("labkit", "up", "--json"))
    assert said["state"] == "ready" and said["pid"] != status["pid"]
    assert running.run("labkit", "down", "--json")


def assert_nobody(running: Session) -> None:
    """The session's processes have no privilege, and nothing of this machine's that Binder has not."""
    said = dict(line.split(":\t", 1) for line in running.run("cat", "/proc/self/status").splitlines() if ":\t" in line)
    assert said["Uid"].split() == ["1000"] * 4
    assert (said["NoNewPrivs"], said["CapEff"], said["CapBnd"]) == ("1", "0" * 16, "0" * 16)
    assert running.run("ls", "/dev/kvm", check=False) == ""
    assert running.run("sh", "-c", "for d in / /etc /usr /srv /sys /proc/sys/kernel; do ! [ -w $d ] || echo $d; done") == ""


@dataclass(frozen=True)
class Lab(JupyterLab):
    """The session's server, as tests/browser knows one: it serves the repository, in which my-notebooks/ is."""

    def address(self, notebook: str) -> str:
        return super().address(f"my-notebooks/{notebook}")


def answers(lab: JupyterLab) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{lab.url}api/status?token={lab.token}", timeout=10) as answer:
        return bool(answer.status == 200)
    return False


def ready(running: Session) -> dict[str, Any] | None:
    said = running.run("labkit", "status", "--json", check=False)
    status: dict[str, Any] = json.loads(said) if said else {}
    return status if status.get("state") == "ready" else None


@contextlib.contextmanager
def watched(running: Session) -> Iterator[list[int]]:
    """The session's memory without page cache, bytes, looked at each half second."""
    seen, done = [running.memory.resident()], threading.Event()

    def look() -> None:
        while not done.wait(0.5):
            seen.append(running.memory.resident())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@contextlib.contextmanager
def forwarded(running: Session) -> Iterator[int]:
    """A port of this machine's loopback that leads to the session's JupyterLab."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    here, _ = server.accept()
                    threading.Thread(target=join, args=(here, lambda: running.connect(PORT)), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def join(here: socket.socket, connect: Callable[[], socket.socket]) -> None:
    with here, contextlib.suppress(OSError), connect() as there:
        back = threading.Thread(target=pump, args=(there, here), daemon=True)
        back.start()
        pump(here, there)
        back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def keep(page: Page, name: str) -> None:
    """The notebook from top to bottom, as a picture to be looked at, where SCREENSHOTS asks for it."""
    if os.environ.get("SCREENSHOTS"):
        SCREENSHOTS.mkdir(exist_ok=True)
        page.set_viewport_size({"width": LAPTOP["width"], "height": 16000})
        page.wait_for_timeout(2000)  # cells that were never in view are drawn now
        page.screenshot(path=SCREENSHOTS / f"{name}.png")
