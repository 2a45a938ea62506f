"""A notebook in a kernel of its own, cell by cell, in whatever order a learner may run them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

TIMEOUT_S = 300
CONTROL = re.compile(r"\x1b\[[0-9;]*m")


class Session:
    """A notebook's code cells and the kernel that runs them; `last` is the number of the last one."""

    def __init__(self, client: NotebookClient, path: Path) -> None:
        self._client, self.path = client, path
        self._cells = [(place, cell) for place, cell in enumerate(client.nb.cells) if cell.cell_type == "code"]
        self.last = len(self._cells) - 1

    def __len__(self) -> int:
        return len(self._cells)

    def name(self, number: int) -> str:
        """How a failure names a cell: "04[12]", its place in the file."""
        return f"{self.path.name[:2]}[{self._cells[number][0]}]"

    def run(self, number: int, interrupt_after_s: float | None = None) -> str:
        """Run one cell; "" or its error. With `interrupt_after_s` the kernel gets SIGINT, as from Jupyter's stop button."""
        place, cell = self._cells[number]
        timer = threading.Timer(interrupt_after_s or 0, self._interrupt)
        if interrupt_after_s is not None:
            timer.start()
        try:
            self._client.execute_cell(cell, place)
        except CellExecutionError as error:
            return f"{self.name(number)}: " + " ".join(CONTROL.sub("", str(error)).strip().splitlines()[-3:])
        finally:
            timer.cancel()
        return ""

    def run_all(self) -> list[str]:
        """As Run All does, but for going on after an error; the errors."""
        return [error for number in range(len(self)) if (error := self.run(number))]

    def texts(self, number: int) -> list[str]:
        """What the cell's last run printed and answered, as text."""
        return [text(output) for output in self._cells[number][1].outputs]

    def _interrupt(self) -> None:
        """To the kernel's process group, as jupyter_client does: kubectl in it gets the signal too."""
        os.killpg(self._client.km.provisioner.pid, signal.SIGINT)


@contextlib.contextmanager
def session(path: Path) -> Iterator[Session]:
    client = NotebookClient(nbformat.read(path, as_version=4), timeout=TIMEOUT_S, store_widget_state=False)
    client.resources["metadata"] = {"path": str(path.parent)}
    with client.setup_kernel():
        yield Session(client, path)


def text(output: Any) -> str:
    return str(output.get("text") or output.get("data", {}).get("text/plain", ""))
