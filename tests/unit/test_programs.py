"""Fetching programs: real apt on a package source made here, and what a learner reads when it cannot work."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.node import NodeError
from labkit.node.packages import apt, programs, unpack
from labkit.node.packages.apt import Apt, ProgramsError, apt_usable
from labkit.node.packages.elf import is_static
from labkit.node.packages.programs import ensure_programs, find_programs, install_command
from labkit.node.packages.unpack import fetch, load

needs_apt = pytest.mark.skipif(not apt_usable(), reason="this machine has no apt-get and dpkg")


class Source:
    """A package source on this disk: `add` packages, `list` writes the sources.list that names it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "source"
        self.directory.mkdir()
        self.packages = ""

    def add(self, name: str, files: dict[str, bytes], mode: int = 0o755, depends: str = "") -> None:
        tree = self.directory / f"tree-{name}"
        (tree / "DEBIAN").mkdir(parents=True)
        fields = f"Package: {name}\nVersion: 1:2.0-1\nArchitecture: all\nMaintainer: Nobody <n@localhost>\nInstalled-Size: 12\n"
        fields += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN" / "control").write_text(f"{fields}Description: {name}\n")
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
            (tree / path).chmod(mode)
        deb = self.directory / f"{name}_2.0-1_all.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
        shutil.rmtree(tree)
        digest = hashlib.sha256(deb.read_bytes()).hexdigest()
        self.packages += f"{fields}Filename: ./{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {digest}\nDescription: {name}\n\n"

    def list(self, options: str = "[trusted=yes] ", release: bool = False) -> Path:
        """With a `release`, apt fetches a list again only when it has changed there."""
        (self.directory / "Packages.gz").write_bytes(gzip.compress(self.packages.encode()))
        if release:
            packages = (self.directory / "Packages.gz").read_bytes()
            sums = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages.gz\n"
            plain = f" {hashlib.sha256(self.packages.encode()).hexdigest()} {len(self.packages)} Packages\n"
            (self.directory / "Release").write_text(f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{sums}{plain}")
        file = self.directory / "sources.list"
        file.write_text(f"deb {options}copy:{self.directory} ./\n")
        return file


@pytest.fixture
def source(tmp_path: Path) -> Source:
    made = Source(tmp_path)
    made.add("labkit-test", {"usr/bin/tool": b"#!/bin/sh\necho tool\n", "usr/share/doc/tool": b"words"})
    return made


def left_in(directory: Path) -> set[str]:
    """What is there, apart from apt's own state and the lock."""
    return {path.name for path in directory.iterdir() if path.name != "lock" and not path.name.startswith("apt")}


def listing(*roots: str) -> list[tuple[str, int, int]]:
    paths = [Path(directory, name) for root in roots for directory, _, names in os.walk(root) for name in [*names, "."]]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in paths)


@needs_apt
def test_fetch_unpacks_beside_the_system(source: Source, tmp_path: Path) -> None:
    before = listing("/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg")
    said: list[str] = []
    got = fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list(), progress=said.append)
    assert listing("/var/lib/apt", "/var/cache/apt", "/var/lib/dpkg") == before
    assert got.versions == {"labkit-test": "1:2.0-1"}
    assert got.library_path == ()
    assert subprocess.run([got.root / "usr/bin/tool"], capture_output=True, check=True).stdout == b"tool\n"
    assert left_in(tmp_path / "cache") == {"one"}
    assert said[-1] == "unpacking labkit-test"


@needs_apt
def test_what_is_there_needs_no_apt(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list())
    monkeypatch.setenv("PATH", "/nowhere")
    assert fetch(["labkit-test"], dest=tmp_path / "cache" / "one") == first


@needs_apt
@pytest.mark.parametrize("damage", ["root/usr/bin/tool", "root/usr/share/doc/tool", unpack.RECORD])
def test_a_damaged_cache_is_fetched_anew(source: Source, tmp_path: Path, damage: str) -> None:
    dest = tmp_path / "cache" / "one"
    first = fetch(["labkit-test"], dest=dest, sources=source.list())
    (dest / damage).write_bytes(b"half")
    assert_fetched_anew(dest, source, first)


def exchange(file: Path) -> None:
    """Other content of the same size, and the same times, as whoever may write there can make it."""
    found = file.stat()
    file.write_bytes(file.read_bytes().swapcase())
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def plant(file: Path) -> None:
    (file.parent / "planted").write_text("#!/bin/sh\n")


def lead_elsewhere(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    (file.parent.parent / "elsewhere").write_bytes(content)
    file.symlink_to("../elsewhere")


@needs_apt
@pytest.mark.parametrize("change", [exchange, plant, lead_elsewhere])
def test_a_program_that_was_exchanged_is_fetched_anew(source: Source, tmp_path: Path, change: Callable[[Path], None]) -> None:
    dest = tmp_path / "cache" / "one"
    first = fetch(["labkit-test"], dest=dest, sources=source.list())
    change(dest / "root/usr/bin/tool")
    assert_fetched_anew(dest, source, first)
    assert not (dest / "root/usr/bin/planted").exists()


@needs_apt
def test_a_cache_that_was_copied_is_as_good(source: Source, tmp_path: Path) -> None:
    """Its files have other inodes and change times: they are read once, and then no more."""
    first = fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list())
    copied = tmp_path / "other"
    shutil.copytree(tmp_path / "cache" / "one", copied, symlinks=True)
    before = (copied / unpack.RECORD).read_text()
    found = load(copied, ["labkit-test"])
    assert found and found.versions == first.versions and (copied / unpack.RECORD).read_text() != before


@needs_apt
def test_a_cache_into_which_another_user_may_write_is_refused(source: Source, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    with pytest.raises(NodeError, match=r"cache can be written by everybody\. Remove it, or set LABKIT_HOME"):
        fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list())


def assert_fetched_anew(dest: Path, source: Source, first: unpack.Unpacked) -> None:
    assert load(dest, ["labkit-test"]) is None
    assert fetch(["labkit-test"], dest=dest, sources=source.list()) == first
    assert left_in(dest.parent) == {"one"}
    assert load(dest, ["labkit-test"]) == first


@needs_apt
def test_more_packages_than_an_earlier_fetch_had(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "cache" / "one"
    source.add("labkit-more", {"usr/bin/more-tool": b"#!/bin/sh\n"})
    fetch(["labkit-test"], dest=dest, sources=source.list())
    assert set(fetch(["labkit-test", "labkit-more"], dest=dest, sources=source.list()).versions) == {"labkit-test", "labkit-more"}


@needs_apt
def test_a_second_fetch_waits_and_uses_what_the_first_brought(source: Source, tmp_path: Path) -> None:
    dest, sources = tmp_path / "cache" / "one", source.list()
    dest.parent.mkdir()
    waiting = threading.Event()
    said: list[str] = []

    def progress(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            waiting.set()

    with (dest.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keywords = {"dest": dest, "sources": sources, "progress": progress}
        fetchers = [threading.Thread(target=fetch, args=[["labkit-test"]], kwargs=keywords) for _ in range(2)]
        for fetcher in fetchers:
            fetcher.start()
        assert waiting.wait(30)
        assert left_in(dest.parent) == set()
    for fetcher in fetchers:
        fetcher.join(60)
    assert load(dest, ["labkit-test"]) is not None
    assert said.count("unpacking labkit-test") == 1


@needs_apt
@pytest.mark.parametrize("step", ["reading the package lists", "unpacking"])
def test_an_interrupt_leaves_nothing(source: Source, tmp_path: Path, step: str) -> None:
    dest = tmp_path / "cache" / "one"

    def interrupt(text: str) -> None:
        if text.startswith(step):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(["labkit-test"], dest=dest, sources=source.list(), progress=interrupt)
    assert left_in(dest.parent) == set()


@needs_apt
def test_what_a_killed_fetch_left_is_swept(source: Source, tmp_path: Path) -> None:
    dest = tmp_path / "cache" / "one"
    (dest.parent / ".one.killed" / "unpacked" / "root").mkdir(parents=True)
    dest.mkdir()
    fetch(["labkit-test"], dest=dest, sources=source.list())
    assert left_in(dest.parent) == {"one"}


@needs_apt
def test_no_set_uid_program_is_left(source: Source, tmp_path: Path) -> None:
    source.add("labkit-suid", {"usr/bin/become": b"#!/bin/sh\n"}, mode=0o4755)
    got = fetch(["labkit-suid"], dest=tmp_path / "cache" / "one", sources=source.list())
    assert (got.root / "usr/bin/become").stat().st_mode & 0o7777 == 0o755


@needs_apt
def test_a_missing_library_comes_along(source: Source, tmp_path: Path) -> None:
    program = Path("/bin/ls").read_bytes()
    needed = subprocess.run(["ldd", "/bin/ls"], capture_output=True, text=True, check=True).stdout
    name, path = next(words[::2][:2] for words in map(str.split, needed.splitlines()) if words[0].startswith("libselinux"))
    other = name.replace("selinux", "labkitx")
    source.add("liblabkitx1", {f"usr/lib/x86_64-linux-gnu/{other}": Path(path).read_bytes()}, mode=0o644)
    source.add("labkit-ls", {"usr/bin/ls": program.replace(name.encode(), other.encode())}, depends="adduser, liblabkitx1 (>= 1)")
    got = fetch(["labkit-ls"], dest=tmp_path / "cache" / "one", sources=source.list())
    assert set(got.versions) == {"labkit-ls", "liblabkitx1"}
    environment = {"LD_LIBRARY_PATH": os.pathsep.join(map(str, got.library_path))}
    assert subprocess.run([got.root / "usr/bin/ls", "/"], env=environment, capture_output=True).returncode == 0
    assert subprocess.run([got.root / "usr/bin/ls", "/"], env={}, capture_output=True).returncode == 127


@needs_apt
def test_dependencies_that_are_not_installed(source: Source, tmp_path: Path) -> None:
    source.add("labkit-inner", {"usr/share/inner": b"x"})
    source.add("labkit-outer", {"usr/share/outer": b"x"}, depends="labkit-inner")
    alone = fetch(["labkit-outer"], dest=tmp_path / "cache" / "one", sources=source.list())
    closure = fetch(["labkit-outer"], dest=tmp_path / "cache" / "one", sources=source.list(), dependencies=True)
    assert set(alone.versions) == {"labkit-outer"}
    assert set(closure.versions) == {"labkit-outer", "labkit-inner"}


@needs_apt
@pytest.mark.parametrize(("release", "words"), [(None, "does not have a Release file"), ("Suite: stable\n", "is not signed")])
def test_an_unsigned_source(source: Source, tmp_path: Path, release: str | None, words: str) -> None:
    if release:
        (source.directory / "Release").write_text(release)
    with pytest.raises(ProgramsError, match=rf"^apt does not trust a package source: .* {words}\. Repair the key"):
        fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list(options=""))
    assert left_in(tmp_path / "cache") == set()


@needs_apt
def test_an_archive_that_is_not_the_listed_one(source: Source, tmp_path: Path) -> None:
    deb = source.directory / "labkit-test_2.0-1_all.deb"
    deb.write_bytes(bytes(deb.stat().st_size))
    with pytest.raises(ProgramsError, match=r"^A downloaded file is not the one that was signed: .*try again"):
        fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list())
    assert left_in(tmp_path / "cache") == set()


@needs_apt
@pytest.mark.parametrize("old", [b"SHA256: ", b"Package: ", b"Filename: "])
def test_a_package_list_that_was_altered_is_fetched_anew(source: Source, tmp_path: Path, old: bytes) -> None:
    sources = source.list(release=True)
    first = fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=sources)
    state = tmp_path / "cache" / "apt-one"
    (altered,) = [path for path in (state / "lists").iterdir() if "Packages" in path.name]
    data, place = altered.read_bytes(), altered.read_bytes().index(old) + len(old) + 3
    altered.write_bytes(data[:place] + (b"0" if data[place : place + 1] != b"0" else b"1") + data[place + 1 :])
    again = fetch(["labkit-test"], dest=tmp_path / "cache" / "two", sources=sources, state=state)
    assert again.versions == first.versions


@needs_apt
def test_an_unknown_package(source: Source, tmp_path: Path) -> None:
    with pytest.raises(ProgramsError, match=r"have no package labkit-nowhere\. Enable the component"):
        fetch(["labkit-nowhere"], dest=tmp_path / "cache" / "one", sources=source.list())


@needs_apt
def test_a_source_that_does_not_answer(tmp_path: Path) -> None:
    sources = tmp_path / "sources.list"
    sources.write_text("deb http://127.0.0.1:9/debian stable main\n")
    with pytest.raises(ProgramsError, match=r"could not find runc, since a package source does not answer: .*Check the network"):
        fetch(["runc"], dest=tmp_path / "cache" / "one", sources=sources)


@needs_apt
def test_too_little_room_is_said_before_the_download(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(ProgramsError, match=rf"^The disk that holds {tmp_path}/cache is full: 1 MB are needed there\. Free some"):
        fetch(["labkit-test"], dest=tmp_path / "cache" / "one", sources=source.list())
    assert left_in(tmp_path / "cache") == set()


@needs_apt
def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProgramsError, match=r"^labkit cannot write .*/file \(File exists\)\. .*LABKIT_HOME"):
        fetch(["runc"], dest=tmp_path / "file" / "one")


@needs_apt
def test_no_hook_of_the_system_runs(tmp_path: Path) -> None:
    own = Apt(tmp_path / "apt")
    own._write_configuration()
    code, dump = own._run(["apt-config", "dump"])
    assert code == 0
    assert f'Dir::State::lists "{tmp_path}/apt/lists";' in dump
    assert "-Invoke" not in dump.replace('-Invoke "";', "").replace('-Invoke-Success "";', "")


@pytest.mark.parametrize(
    ("release", "command"),
    [
        ('ID=fedora\nVERSION_ID="42"', "Install them: sudo dnf install containerd docker-distribution"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"', "Install them: sudo dnf install containerd docker-distribution"),
        ("ID=arch", "Install them: sudo pacman -S containerd docker-registry"),
        ("ID=alpine", "Install them: sudo apk add containerd docker-registry"),
        ('ID="opensuse-leap"\nID_LIKE="suse opensuse"', "Install them: sudo zypper install containerd distribution-registry"),
        ("ID=linuxmint\nID_LIKE=ubuntu", "Install them: sudo apt-get install containerd docker-registry"),
        ("ID=nixos",
         "Install them with your distribution's package manager; in Debian their packages are containerd docker-registry."),
    ],
)
def test_each_distribution_has_its_command(tmp_path: Path, release: str, command: str) -> None:
    (tmp_path / "os-release").write_text(release + "\n")
    assert install_command(["containerd", "docker-registry"], tmp_path / "os-release") == command


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one directory, without apt-get; nothing is looked for elsewhere. Returns the directory."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setattr(programs, "BINARY_DIRECTORIES", ())
    monkeypatch.setattr(programs, "CNI_DIRECTORIES", (str(directory).lstrip("/"),))
    return directory


def put(directory: Path, name: str, text: bytes) -> None:
    (directory / name).write_bytes(text)
    (directory / name).chmod(0o755)


STATIC_ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + bytes(48)
"""A 64-bit ELF header that announces no segments, so no interpreter."""


def test_no_apt_and_nothing_on_path(bare_machine: Path, tmp_path: Path) -> None:
    with pytest.raises(ProgramsError) as caught:
        ensure_programs(tmp_path / "cache")
    assert caught.value.happened == (
        "This machine has no apt-get to fetch programs with, and no containerd, containerd-shim-runc-v2, ctr, runc, CNI plugins, "
        "busybox, catatonit, docker-registry on PATH."
    )
    assert caught.value.todo.startswith("Install them")
    assert not (tmp_path / "cache").exists()


def test_programs_on_path(bare_machine: Path, tmp_path: Path) -> None:
    for name in ("containerd", "containerd-shim-runc-v2", "ctr", "registry", "bridge", "host-local", "loopback"):
        put(bare_machine, name, b"#!/bin/sh\n")
    put(bare_machine, "runc", b"#!/bin/sh\necho runc version 1.2.3\n")
    put(bare_machine, "catatonit", STATIC_ELF)
    put(bare_machine, "busybox", Path("/bin/ls").read_bytes())
    assert find_programs(tmp_path).missing == ("busybox",)  # a dynamic one is of no use in an image of one file
    put(bare_machine, "busybox-static", STATIC_ELF)
    found = ensure_programs(tmp_path)
    assert (found.source, found.missing, found.versions) == ("path", (), {"runc": "1.2.3"})
    assert (found.docker_registry, found.busybox) == (bare_machine / "registry", bare_machine / "busybox-static")
    assert found.cni_dir == bare_machine


def test_static_programs_have_no_interpreter(tmp_path: Path) -> None:
    (tmp_path / "static").write_bytes(STATIC_ELF)
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert is_static(tmp_path / "static")
    assert not is_static(tmp_path / "script")
    assert not is_static(Path("/bin/ls"))


def test_apt_says_that_the_disk_is_full() -> None:
    output = "Err:1 http://example.org stable InRelease\n  Error writing to file - write (28: No space left on device)\n"
    assert str(apt.explain(output, "find runc", Path("/cache"))).startswith("The disk that holds /cache is full")
