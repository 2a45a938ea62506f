"""Execute a notebook on a node and keep its outputs.

The node is the one that LABKIT_NODE chooses, or the first that works here; it is brought up where it is down, and stays up. The
notebook's metadata say where its outputs are from: the kind of node, the runtime, the version of the cgroups and labkit's. Cells
keep their ids and metadata. The notebook is written when all cells have run, and not at all where one fails.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import os
import re
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

import labkit
from authoring.lesson import Lesson, LessonError, read
from labkit.cri import CriError
from labkit.node import Node, NodeError
from labkit.podspec.messages import MachineInfo
from labkit.util.outputs import check_writable, write_whole

TIMEOUT_S = 300
CONTROL = re.compile(r"\x1b\[[0-9;]*m")


def run(lesson: Lesson) -> int:
    """Execute and save. Raises LessonError where a cell fails or no node can be had; the file is then as it was."""
    try:
        check_writable(lesson.notebook)
        with connected() as node:
            made_on = origin(node)
        write_whole(lesson.notebook, (nbformat.writes(executed(read(lesson.notebook), lesson, made_on)) + "\n").encode())
    except OSError as error:
        raise LessonError(f"{error.filename} cannot be written: {error.strerror}. See that the file is yours.") from None
    print(f"Saved: {lesson.notebook.name}, with outputs of {made_on['runtime']} (kind {made_on['node']}). The node stays up.")
    return 0


@contextlib.contextmanager
def connected(lesson: str | None = None) -> Any:
    """A node for a block. Raises LessonError where none can be had, or where it fails in the block."""
    try:
        with contextlib.closing(labkit.connect(lesson=lesson)) as node:
            yield node
    except (NodeError, CriError) as error:
        raise LessonError(str(error)) from None


def origin(node: Node) -> dict[str, str]:
    """What a notebook's metadata say about its outputs."""
    cgroups = f"v{MachineInfo.here().cgroup_version}" if node.kind == "containerd" else ""
    version = importlib.metadata.version("inside-the-node")
    return {"node": node.kind, "runtime": node.runtime, "cgroups": cgroups, "labkit": version}


def executed(notebook: Any, lesson: Lesson, made_on: dict[str, str]) -> Any:
    """The notebook with new outputs; cells and metadata are otherwise those of `notebook`."""
    new, env = copy.deepcopy(notebook), {**os.environ}
    if made_on["node"] == "containerd":  # a node elsewhere has a resolv.conf of its own
        env.setdefault("LABKIT_RESOLV_CONF", str(lesson.root / "authoring" / "resolv.conf"))
    for cell in new.cells:
        if cell.cell_type == "code":  # so that a cell with a count is one that has run
            cell.execution_count = None
    client = NotebookClient(
        new,
        timeout=TIMEOUT_S,
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(lesson.notebook.parent)}},
    )
    try:
        client.execute(env=env)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        ran = [i for i, cell in enumerate(new.cells) if cell.get("execution_count") is not None]
        reason = CONTROL.sub("", str(error)).strip().splitlines()[-1]
        where = f"Cell {max(ran, default=0)} of {lesson.notebook.name}"
        raise LessonError(f"{where} failed: {reason} Nothing was saved. Mend the cell and save again.") from None
    for cell, before in zip(new.cells, notebook.cells, strict=True):
        cell.metadata = before.metadata
        if cell.cell_type == "code":  # an empty display had progress in it (labkit.util.progress)
            cell.outputs = [output for output in cell.outputs if output.output_type != "display_data" or output.data]
    new.metadata = {**notebook.metadata, "labkit": made_on}
    nbformat.validate(new)
    return new
