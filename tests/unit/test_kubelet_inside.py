"""A path below a directory, while somebody exchanges what lies there; what is mounted by its descriptor, and unmounted again."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit.kubelet.volumes import inside
from labkit.kubelet.volumes.hostpaths import Fence
from labkit.kubelet.volumes.pod_volumes import mounts_below

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
OPENAT2, NO_SYMLINKS, BENEATH, RENAME_EXCHANGE = 437, 4, 8, 2


def openat2(base: int, path: str) -> int:
    """The kernel's own walk that neither leaves `base` nor follows a link (man 2 openat2). Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_NOFOLLOW, 0, BENEATH | NO_SYMLINKS)
    found = libc.syscall(ctypes.c_long(OPENAT2), ctypes.c_long(base), path.encode(), how, ctypes.c_long(ctypes.sizeof(how)))
    if found < 0:
        raise OSError(ctypes.get_errno(), path)
    return int(found)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A directory to look below, next to one that is somebody else's. Nothing stays mounted there."""
    (tmp_path / "base/a/b").mkdir(parents=True)
    (tmp_path / "base/a/file").write_text("")
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").write_text("")
    for name, target in (("in", "a"), ("out", "../victim"), ("root", "/"), ("loop", "loop"), ("gone", "absent")):
        (tmp_path / "base" / name).symlink_to(target)
    yield tmp_path
    for point in mounts_below(tmp_path):
        subprocess.run(["umount", "--lazy", point], check=True)


def leads_to(found: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{found}")
    finally:
        os.close(found)


NAMES = st.sampled_from(["a", "b", "file", "in", "out", "root", "loop", "gone", "absent", "..", "/etc"])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, max_size=4))
def test_a_walk_ends_where_the_kernels_own_does(tree: Path, parts: list[str]) -> None:
    base = os.open(tree / "base", os.O_PATH)
    try:
        try:
            wanted = leads_to(openat2(base, "/".join(parts) or "."))
        except OSError as error:
            if error.errno == errno.ENOSYS:
                pytest.skip("a kernel before 5.6")
            wanted = ""
        try:
            found = leads_to(inside.open_below(base, parts))
        except (OSError, ValueError):
            found = ""
    finally:
        os.close(base)
    upwards = ".." in parts or "/etc" in parts[1:]  # for the kernel a/.. is inside, and a//etc is a/etc; here nothing of it is
    assert found in ((wanted, "") if upwards or (parts and wanted and Path(wanted).is_symlink()) else (wanted,))
    assert found in ("", str(tree / "base")) or found.startswith(f"{tree}/base/")


def test_what_is_exchanged_again_and_again_never_leads_out(tree: Path) -> None:
    """A directory and a link to somebody else's take turns in its place, while directories are looked for and made below."""
    base, there, link = os.open(tree / "base", os.O_PATH), tree / "base/turn", tree / "base/link"
    there.mkdir()
    link.symlink_to(tree / "victim")
    ended, ways = threading.Event(), set()

    def exchange() -> None:
        libc = ctypes.CDLL(None)
        while not ended.is_set():
            libc.renameat2(inside.AT_FDCWD, os.fsencode(there), inside.AT_FDCWD, os.fsencode(link), RENAME_EXCHANGE)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        for number in itertools.takewhile(lambda number: number < 500 or len(ways) < 3, range(50_000)):
            try:
                parts = inside.parts_below(tree / "base", there / "made" / str(number))
                found = leads_to(inside.open_below(base, parts, 0o755)) if parts is not None else ""
            except (OSError, ValueError):
                ways.add("refused")
                continue
            ways.add("found" if found else "out")
            assert not found or found.startswith(f"{tree}/base/")
    finally:
        ended.set()
        thread.join()
        os.close(base)
    assert ways == {"found", "out", "refused"} and [path.name for path in (tree / "victim").iterdir()] == ["file"]


def test_the_fence_opens_what_it_has_seen_or_nothing(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory becomes a link after the fence has seen where it leads."""
    fence, path, real = Fence([tree / "base"]), tree / "base/a/b", inside.parts_below

    def then_exchange(base: Path, path: Path) -> tuple[str, ...] | None:
        parts = real(base, path)
        path.rmdir()
        path.symlink_to(tree / "victim")
        return parts

    monkeypatch.setattr(inside, "parts_below", then_exchange)
    with pytest.raises(ValueError, match="a link on the way leads elsewhere"), fence.opened(path):
        pass


@needs_root
def test_another_mount_namespace_is_not_entered_by_a_link_of_proc(tree: Path) -> None:
    """There the same path is a link to somebody else's directory: read as text it is inside, the kernel goes outside."""
    script = 'mount -t tmpfs none "$1/base" && ln -s "$1/victim" "$1/base/a" && echo && exec sleep 60'
    other = subprocess.Popen(["unshare", "--mount", "sh", "-c", script, "sh", str(tree)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline()
        path = Path(f"/proc/{other.pid}/root{tree}/base/a")
        assert inside.parts_below(tree / "base", path) == ("a",) and os.path.samefile(path, tree / "victim")
        for asked in (path, path / "file"):
            with pytest.raises(ValueError, match="a link on the way leads elsewhere"), Fence([tree / "base"]).opened(asked):
                pass
    finally:
        other.kill()
        other.communicate()


@needs_root
@pytest.mark.parametrize("old_kernel", [False, True])
def test_what_is_mounted_below_is_read_only_too(tree: Path, monkeypatch: pytest.MonkeyPatch, old_kernel: bool) -> None:
    if old_kernel:
        monkeypatch.setattr(inside, "_call", lambda *arguments: (_ for _ in ()).throw(OSError(errno.ENOSYS, "")))
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "base/a"], check=True)
    copied(tree / "base", tree / "place", read_only=True)
    for path in (tree / "place/new", tree / "place/a/new"):
        with pytest.raises(OSError, match="Read-only file system"):
            path.mkdir()
    assert (mounts_below(tree / "place/a") == []) is old_kernel
    (tree / "base/a/new").mkdir()  # the original is as it was


def copied(source: Path, place: Path, **how: bool) -> None:
    found = os.open(source, os.O_PATH)
    try:
        inside.mount(found, place, **how)
    finally:
        os.close(found)


@needs_root
@pytest.mark.parametrize("shared", [False, True])
def test_unmounting_a_copy_leaves_the_original(tree: Path, shared: bool) -> None:
    """Even where both are peers, as of a shared mount they are."""
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "base"], check=True)
    subprocess.run(["mount", "--make-shared", tree / "base"], check=True)
    (tree / "base/sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "base/sub"], check=True)
    copied(tree / "base", tree / "place", shared=shared)
    (tree / "place/sub/later").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "place/sub/later"], check=True)
    assert bool(mounts_below(tree / "base/sub/later")) is shared
    inside.unmount(tree / "place")
    assert mounts_below(tree / "place") == [] and str(tree / "base/sub") in mounts_below(tree / "base")


@needs_root
def test_a_place_is_mounted_anew(tree: Path) -> None:
    """A file in the stead of a directory, too; and what no mount is cannot be unmounted by mistake."""
    for source in ("a", "a/b", "a/file", "a"):
        copied(tree / "base" / source, tree / "place")
        assert os.path.samefile(tree / "place", tree / "base" / source) and len(mounts_below(tree / "place")) == 1
    inside.unmount(tree / "place")
    inside.unmount(tree / "place")
    inside.unmount(tree / "absent")
    assert list((tree / "place").iterdir()) == [] and mounts_below(tree) == []
