"""Directories deeper than Python's recursion and longer than PATH_MAX: a Pod can make one, and it must be removable."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from labkit.util import trees

LEVELS = 1500


@pytest.fixture(params=["d", "long-" * 20], ids=["deep", "deep-and-long"])
def deep(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with LEVELS below one another, a file in each hundredth, and a link that leads out of it."""
    top = tmp_path / "volume"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for level in range(LEVELS):
        os.mkdir(request.param, dir_fd=here)
        below = os.open(request.param, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        if not level % 100:
            os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.symlink(tmp_path / "kept", "link", dir_fd=here)
    os.close(here)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    return top


def test_it_is_removed_and_what_a_link_leads_to_stays(deep: Path) -> None:
    trees.remove(deep)
    assert not deep.exists() and (deep.parent / "kept/file").read_text() == "kept"
    trees.remove(deep)  # what is not there is no error


def test_all_of_it_is_measured(deep: Path) -> None:
    before = trees.usage(deep)
    here = os.open(deep, os.O_RDONLY)
    for _ in range(LEVELS):
        (name,) = [entry.name for entry in os.scandir(here) if entry.is_dir(follow_symlinks=False)]
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    file = os.open("large", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(file, b"x" * 1_000_000)
    os.fsync(file)
    os.close(file)
    os.close(here)
    assert trees.usage(deep) >= before + 1_000_000
    trees.remove(deep)


def test_a_flat_directory_is_measured_as_du_does(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "b").write_bytes(b"y" * 5_000)
    (tmp_path / "link").symlink_to("/usr")
    expected = sum(path.lstat().st_blocks for path in (tmp_path, *tmp_path.rglob("*"))) * 512
    (tmp_path / "a" / "again").hardlink_to(tmp_path / "a" / "file")
    (tmp_path / "another").hardlink_to(tmp_path / "a" / "file")
    assert trees.usage(tmp_path) == expected and trees.usage(tmp_path / "none") == 0


def test_no_more_than_a_few_files_are_open_at_a_time(deep: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    expected = trees.usage(deep)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        assert trees.usage(deep) == expected
        trees.remove(deep)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not deep.exists()
