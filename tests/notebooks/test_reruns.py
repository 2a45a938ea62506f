"""What a learner does besides Run All: she runs a cell twice, interrupts one, or runs the last one early.

Interrupts come at random moments; TESTS_SEED=NUMBER repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import labkit
from labkit.node import Node
from tests.notebooks.kernels import session
from tests.notebooks.test_notebooks import NOTEBOOKS
from tests.tiers import SEED


@pytest.fixture(autouse=True)
def empty(node: Node, notebook: Path) -> Iterator[None]:
    """What one test leaves is no failure of the next."""
    yield
    with contextlib.closing(labkit.connect("containerd", lesson=notebook.name[:2])) as again:
        again.cluster.remove_leftovers()


EACH = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name[:2])
LONGEST_WAIT_S = 4.0


@EACH
def test_each_cell_can_be_run_twice(node: Node, notebook: Path) -> None:
    with session(notebook) as running:
        errors = [error for number in range(len(running)) for _ in range(2) if (error := running.run(number))]
    assert not errors, "\n".join(errors)
    assert [p.name for p in node.pods(others=True)] == []


@EACH
def test_a_cell_can_be_interrupted_and_all_be_run_again(node: Node, notebook: Path) -> None:
    seed = int(os.environ.get(SEED) or random.randrange(1_000_000))
    choose = random.Random(seed)
    with session(notebook) as running:
        number = choose.randrange(len(running))
        after_s = choose.uniform(0, LONGEST_WAIT_S) ** 2 / LONGEST_WAIT_S  # most cells take less than a second
        before = [error for each in range(number) if (error := running.run(each))]
        running.run(number, interrupt_after_s=after_s)
        errors = before + running.run_all()
    where = f"{running.name(number)} was interrupted after {after_s:.2f} s; {SEED}={seed} repeats it"
    assert not errors, "\n".join([where, *errors])
    assert [p.name for p in node.pods(others=True)] == []


@pytest.mark.soak
@EACH
def test_the_last_cell_cleans_up_after_any_other(node: Node, notebook: Path) -> None:
    left = {}
    with session(notebook) as running:
        places = range(1, running.last)
    for place in places:
        with session(notebook) as running:
            errors = [error for number in (*range(place), running.last) if (error := running.run(number))]
            left[running.name(place - 1)] = [*errors, *(p.name for p in node.pods(others=True))]
    assert {place: what for place, what in left.items() if what} == {}
