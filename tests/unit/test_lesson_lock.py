"""Two kernels on one lesson: the second is refused, unless it takes the lesson over; a cell that is run again is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.node import Home, NodeError, NodeSelector
from labkit.node.state import lesson_lock

CLAIM = """
import sys
from pathlib import Path
from labkit.node import Home, NodeSelector
from labkit.node.state import lesson_lock
data = Path(sys.argv[1])
lesson_lock.claim(Home(data, data, data), NodeSelector("containerd"), "05", take_over=False)
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path, tmp_path, tmp_path)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another kernel, which works on lesson 05."""
    with subprocess.Popen([sys.executable, "-c", CLAIM, tmp_path], stdin=-1, stdout=-1, text=True) as kernel:
        assert kernel.stdout and kernel.stdout.readline() == "claimed\n"
        yield kernel
        kernel.kill()


def test_a_second_kernel_is_refused_until_the_first_one_ends(home: Home, other: subprocess.Popen[str]) -> None:
    with pytest.raises(NodeError, match=r"Another kernel works on lesson 05.*take_over=True"):
        lesson_lock.claim(home, NodeSelector("containerd"), "05", take_over=False)
    lesson_lock.claim(home, NodeSelector("containerd"), "05", take_over=True)
    lesson_lock.claim(home, NodeSelector("containerd"), "06", take_over=False)
    lesson_lock.claim(home, NodeSelector("vm"), "05", take_over=False)

    other.kill()
    other.wait()

    for _ in range(2):
        lesson_lock.claim(home, NodeSelector("containerd"), "05", take_over=False)
