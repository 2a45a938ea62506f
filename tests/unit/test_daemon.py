"""Releases of containerd (packages, release files, versions), suites, the owner's control channel, and what a shim answers."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import random
import resource
import socket
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.node.lab import control
from labkit.node.lab.control import Control
from labkit.node.observe import shims, ttrpc
from labkit.node.packages import releases, suites, versions
from labkit.node.packages.apt import ProgramsError
from labkit.node.remote import kind_daemon
from labkit.node.remote.kind_daemon import KindDaemon
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from labkit.util.protowire import bytes_field, fields, number_field, text_field
from labkit.util.unix_sockets import private_socket
from tests.unit.test_programs import Source, needs_apt, source

__all__ = ["source"]

DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm", "VERSION_ID": "12"}
UBUNTU = {"ID": "ubuntu", "VERSION_CODENAME": "noble", "UBUNTU_CODENAME": "noble", "VERSION_ID": "24.04"}
MINT = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian", "VERSION_CODENAME": "wilma", "UBUNTU_CODENAME": "noble"}


@pytest.mark.parametrize(
    "wanted, version, meant",
    [
        ("1.7", "1.7.24", True), ("1.7.2", "1.7.24", False), ("v1.7.24", "1.7.24", True), ("2", "2.1.9", True),
        ("2.x", "2.1.9", True),
        ("1.7.x", "1.7.0", True), ("1", "2.1.9", False), ("2.1", "2.10.0", False), ("2.2.0", "2.2.0-rc.1", True),
    ],
)
def test_what_a_version_means(wanted: str, version: str, meant: bool) -> None:
    assert versions.means(wanted, version) is meant


@pytest.mark.parametrize(
    "package, version",
    [
        ("1.7.24~ds1-6+deb13u1", "1.7.24"), ("2.1.9+ds1-5", "2.1.9"), ("1.7.12-0ubuntu4.1", "1.7.12"),
        ("1:2.2.0~rc.1-1", "2.2.0-rc.1"),
        ("2.1.9+unknown", "2.1.9"), ("v2.0.0-beta.2", "2.0.0-beta.2"), ("1.6.20~ds1", "1.6.20"),
    ],
)
def test_containerds_own_version_in_a_packages(package: str, version: str) -> None:
    assert versions.upstream(package) == version


def test_versions_sort_by_number_and_candidates_come_first() -> None:
    right = ["1.6.20", "1.7.9", "1.7.24", "2.0.0-rc.1", "2.0.0", "2.1.9", "2.10.0"]
    assert sorted(random.Random(7).sample(right, len(right)), key=versions.order) == right


@pytest.mark.parametrize("word", ["newest", "", "1.7.24.3", "../../etc", "1..7", "-1"])
def test_words_that_are_no_version_are_refused_without_asking_anybody(tmp_path: Path, word: str) -> None:
    with pytest.raises(ProgramsError, match="is no version of containerd"):
        releases.ensure(tmp_path, word)
    assert list(tmp_path.iterdir()) == []


def test_suites_the_nearest_newer_first() -> None:
    assert suites.others(DEBIAN) == ("trixie", "forky", "sid", "bullseye")
    assert suites.others({**DEBIAN, "VERSION_CODENAME": "trixie"})[:2] == ("forky", "sid")
    assert suites.others(UBUNTU)[0] == "plucky" and suites.others(MINT) == suites.others(UBUNTU)
    assert suites.others({"ID": "fedora"}) == ()


DEB822 = """\
# a comment
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates bookworm-backports
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
ONE_LINE = """\
deb [arch=amd64 signed-by=/etc/apt/keyrings/u.gpg] http://mirror.example/ubuntu noble main universe  # words
deb http://mirror.example/ubuntu noble-security main
deb-src http://mirror.example/ubuntu noble main
deb https://other.example stable main
"""


def test_another_suite_comes_from_the_machines_own_mirrors_with_its_own_keys(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "debian.sources").write_text(DEB822)
    found = suites.sources("trixie", DEBIAN, tmp_path)
    assert "URIs: http://mirror.example/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share" in found
    assert "Suites: trixie-security" in found and "off.example" not in found and "backports" not in found
    assert "Suites: sid\n" in suites.sources("sid", DEBIAN, tmp_path)


def test_another_suite_of_ubuntu_from_one_line_sources(tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(ONE_LINE)
    found = suites.sources("plucky", UBUNTU, tmp_path)
    assert "Suites: plucky\nComponents: main universe\nSigned-By: /etc/apt/keyrings/u.gpg" in found
    assert "Suites: plucky-security" in found and "other.example" not in found
    assert suites.sources("plucky", {**UBUNTU, "UBUNTU_CODENAME": "jammy"}, tmp_path) == ""


PROGRAM = b"#!/bin/sh\necho 'containerd github.com/containerd/containerd/v2 v2.2.1 deadbeef'\n"


@pytest.fixture
def release_file(tmp_path: Path) -> Callable[..., Path]:
    """Makes a release file; `programs` replaces what is in it."""

    def make(name: str = "containerd-2.2.1-linux-amd64.tar.gz", **programs: bytes | None) -> Path:
        contents = {"bin/containerd": PROGRAM, "bin/containerd-shim-runc-v2": PROGRAM, "bin/ctr": PROGRAM, "bin/other": b"?"}
        contents |= {f"bin/{n.replace('_', '-')}": data for n, data in programs.items()}  # type: ignore[dict-item]
        file = tmp_path / name
        with tarfile.open(file, "w:gz") as archive:
            for path, data in contents.items():
                if data is not None:
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mode = len(data), 0o4755
                    archive.addfile(entry, io.BytesIO(data))
        file.with_name(f"{name}.sha256sum").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n")
        return file

    return make


def files_below(directory: Path) -> list[str]:
    return sorted(str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file() and p.name != "lock")


def test_a_release_file_with_its_checksum(tmp_path: Path, release_file: Callable[..., Path]) -> None:
    cache = tmp_path / "cache"
    file = release_file()  # once: a gzip file has the time in it
    release = releases.from_file(cache, file)
    assert (release.version, release.containerd.read_bytes()) == ("2.2.1", PROGRAM)
    assert release.containerd.stat().st_mode & 0o7777 == 0o755, "nothing set-uid comes in"
    assert releases.from_file(cache, file) == release
    assert releases.find(cache, "2.2") == release and "2.2.1" in [r.version for r in releases.here(cache)]
    assert not any(name.endswith("other") for name in files_below(cache))


def test_a_release_file_that_is_not_what_its_checksum_says_changes_nothing(
    tmp_path: Path, release_file: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    file = release_file()
    whole = file.read_bytes()
    for broken in (whole[:-20], whole[:50] + b"x" + whole[51:], b""):
        file.write_bytes(broken)
        with pytest.raises(ProgramsError, match="is not what its checksum says"):
            releases.from_file(cache, file)
    file.write_bytes(whole)
    with pytest.raises(ProgramsError, match="is not what its checksum says"):
        releases.from_file(cache, file, "0" * 64)
    file.with_name(f"{file.name}.sha256sum").unlink()
    with pytest.raises(ProgramsError, match="no checksum"):
        releases.from_file(cache, file)
    with pytest.raises(ProgramsError, match="cannot be read"):
        releases.from_file(cache, tmp_path / "absent.tar.gz", "0" * 64)
    assert files_below(cache) == []


def test_a_release_file_that_is_exchanged_after_it_was_checked_is_not_used(
    tmp_path: Path, release_file: Callable[..., Path]
) -> None:
    good = release_file()
    whole = good.read_bytes()
    other = release_file(containerd=PROGRAM + b"# another\n").read_bytes()
    good.write_bytes(whole)

    def exchange(text: str) -> None:
        if text.startswith("unpacking"):
            good.write_bytes(other)

    release = releases.from_file(tmp_path / "cache", good, hashlib.sha256(whole).hexdigest(), exchange)
    assert good.read_bytes() == other and release.containerd.read_bytes() == PROGRAM


def test_a_release_file_that_lacks_something_or_does_not_run_changes_nothing(
    tmp_path: Path, release_file: Callable[..., Path]
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ProgramsError, match="has no bin/ctr"):
        releases.from_file(cache, release_file(ctr=None))
    with pytest.raises(ProgramsError, match="does not run here"):
        releases.from_file(cache, release_file(containerd=b"\x7fELF of another machine"))
    with pytest.raises(ProgramsError, match="does not run here: no libc"):
        releases.from_file(cache, release_file(containerd=b"#!/bin/sh\necho no libc >&2; exit 1\n"))
    words = tmp_path / "words.tar.gz"
    words.write_text("no archive at all")
    with pytest.raises(ProgramsError, match="is no release file"):
        releases.from_file(cache, words, hashlib.sha256(words.read_bytes()).hexdigest())
    assert files_below(cache) == []


HARMS: dict[str, dict[str, Any]] = {
    "a link": {"type": tarfile.SYMTYPE, "linkname": "/etc/shadow"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "/bin/sh"},
    "a device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 1},
    "an exabyte of holes": {"pax_headers": {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 60)}},
    "a path outside": {"name": "bin/../../bin/containerd"},
    "an absolute path": {"name": "/bin/containerd"},
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_release_file_that_means_harm_changes_nothing(tmp_path: Path, harm: str) -> None:
    """Its checksum is right: whoever made the file gave it."""
    member = tarfile.TarInfo("bin/containerd")
    for name, value in HARMS[harm].items():
        setattr(member, name, value)
    file = tmp_path / "a.tar"
    file.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + b"\0" * 10240)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(ProgramsError, match="has no bin/containerd"):
            releases.from_file(tmp_path / "cache", file, hashlib.sha256(file.read_bytes()).hexdigest())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert files_below(tmp_path / "cache") == []


def test_a_release_file_that_unpacks_to_more_than_any_release_is_refused(
    release_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "LARGEST", 1 << 16)
    file = release_file(containerd=b"\0" * (1 << 20))
    assert file.stat().st_size < 1 << 16
    with pytest.raises(ProgramsError, match="has no bin/containerd"):
        releases.from_file(tmp_path / "cache", file)
    assert files_below(tmp_path / "cache") == []


def test_an_interrupt_while_unpacking_leaves_nothing(
    tmp_path: Path, release_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(releases, "_says", interrupted)
    with pytest.raises(KeyboardInterrupt):
        releases.from_file(tmp_path / "cache", release_file())
    assert files_below(tmp_path / "cache") == []


@pytest.fixture
def mirror(source: Source, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A mirror on this disk with one suite, "newer", that has a containerd 2.0."""
    programs = {f"usr/bin/{name}": PROGRAM for name in releases.FILES}
    source.add("containerd", programs)
    source.packages = source.packages.replace("Package: containerd\nVersion: 1:2.0-1", "Package: containerd\nVersion: 2.0.5-1")
    monkeypatch.setattr(suites, "others", lambda release: ("newer",))
    monkeypatch.setattr(suites, "sources", lambda suite, release: source.list().read_text())
    monkeypatch.setattr(releases, "_sources_file", lambda cache, suite: made(cache, source))
    return source


def made(cache: Path, source: Source) -> Path:
    file = cache / "newer.list"
    cache.mkdir(exist_ok=True)
    file.write_text(source.list().read_text())
    return file


@needs_apt
def test_a_package_is_fetched_once_and_lies_beside_the_others(tmp_path: Path, mirror: Source) -> None:
    cache = tmp_path / "cache"
    said: list[str] = []
    assert [(o.version, o.suite) for o in releases.offers(cache)] == [("2.0.5", "newer")]
    release = releases.ensure(cache, "2", said.append)
    assert release.version == "2.0.5" and release.containerd.read_bytes() == PROGRAM and said
    said.clear()
    assert releases.ensure(cache, "2.0", said.append) == release and said == [], "the second time nobody is asked"
    with pytest.raises(ProgramsError, match=r"no containerd 3 here.*2\.0\.5 \(newer\).*--from FILE"):
        releases.ensure(cache, "3")


@needs_apt
def test_a_package_that_is_cut_short_is_refused_and_changes_nothing(tmp_path: Path, mirror: Source) -> None:
    cache = tmp_path / "cache"
    deb = next(mirror.directory.glob("containerd_*.deb"))
    whole = deb.read_bytes()
    for broken in (whole[:-10], whole[:-1] + b"x"):
        deb.write_bytes(broken)
        with pytest.raises(ProgramsError, match=r"not the one that was signed|could not download"):
            releases.ensure(cache, "2")
        assert releases.find(cache, "2") is None
    deb.write_bytes(whole)
    assert releases.ensure(cache, "2").version == "2.0.5"


@needs_apt
def test_no_space_to_unpack_is_said_with_what_is_needed(tmp_path: Path, mirror: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and type("U", (), {"free": 10})())
    with pytest.raises(ProgramsError, match="is full: 1 MB are needed"):
        releases.ensure(tmp_path / "cache", "2")
    assert releases.find(tmp_path / "cache", "2") is None


def test_a_machine_without_apt_hears_where_a_release_would_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "apt_usable", lambda: False)
    with pytest.raises(ProgramsError, match=r"no apt-get.*github\.com/containerd.*--from FILE"):
        releases.ensure(tmp_path, "9")


# The control channel


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache")
    made.run.mkdir()
    return made


@pytest.fixture
def owner(home: Home) -> Iterator[Control]:
    made = Control(home)
    yield made
    made.close()


def asking(home: Home, said: list[str], **words: Any) -> tuple[threading.Thread, list[Any]]:
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(control.ask(home, said.append, **words))
        except NodeError as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def test_a_request_its_progress_and_its_answer(home: Home, owner: Control) -> None:
    said: list[str] = []
    thread, answers = asking(home, said, do="replace", version="2.0.5")
    request = owner.next(60)
    assert request is not None and request.words == {"do": "replace", "version": "2.0.5"}
    request.progress("stopping")
    request.done(version="2.0.5")
    thread.join(60)
    assert (said, answers) == (["stopping"], [{"version": "2.0.5"}])
    assert home.control.stat().st_mode & 0o777 == 0o600


def test_a_second_request_is_refused_at_once_and_a_third_is_taken_afterwards(home: Home, owner: Control) -> None:
    first, _ = asking(home, [], do="replace")
    request = owner.next(60)
    assert request is not None
    with pytest.raises(NodeError, match="busy with another replace"):
        control.ask(home, lambda text: None, do="kill")
    request.done()
    first.join(60)
    third, answers = asking(home, [], do="start")
    again = owner.next(60)
    assert again is not None
    again.refused("It does not start.", "Look.")
    third.join(60)
    assert str(answers[0]) == "It does not start. Look."


def test_an_asker_who_dies_does_not_hold_up_the_owner(home: Home, owner: Control) -> None:
    with socket.socket(socket.AF_UNIX) as gone:
        gone.connect(str(home.control))
        gone.sendall(b'{"do": "restart"}\n')
    request = owner.next(60)
    assert request is not None
    request.progress("x")
    request.done()
    for nonsense in (b"", b"no json\n", b"[]\n", b"{}\n", b'{"do": 3'):
        with socket.socket(socket.AF_UNIX) as strange:
            strange.connect(str(home.control))
            strange.sendall(nonsense)
    thread, answers = asking(home, [], do="start")
    last = owner.next(60)
    assert last is not None and last.words == {"do": "start"}
    last.done()
    thread.join(60)
    assert answers == [{}]


def test_nobody_to_ask(home: Home) -> None:
    with pytest.raises(NodeError, match="owner does not run"):
        control.ask(home, lambda text: None, do="kill")


def test_an_owner_that_hangs_is_not_one_that_was_stopped(home: Home) -> None:
    with private_socket(home.control), pytest.raises(NodeError, match="runs and does not answer"):
        control.ask(home, lambda text: None, 0.05, do=control.PING)


def test_an_owner_that_stops_says_so(home: Home) -> None:
    owner = Control(home)
    thread, answers = asking(home, [], do="kill")
    while owner.requests.empty():
        pass
    owner.close()
    thread.join(60)
    assert "being stopped" in str(answers[0])


# Shims


def test_the_exit_code_that_a_shim_keeps(tmp_path: Path) -> None:
    """A shim that speaks v2 alone: v3 is answered with an error, then State with status STOPPED and exit code 139."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                length, stream, kind, _ = ttrpc.HEADER.unpack(ttrpc.receive(connection, 10))
                request = dict(fields(ttrpc.receive(connection, length)))
                assert (stream, kind, request[2]) == (1, ttrpc.REQUEST, b"State") and dict(fields(request[3])) == {1: b"id-1"}
                if request[1] == b"containerd.task.v3.Task":
                    answer = bytes_field(1, b"\x08\x0c" + text_field(2, "not implemented"))
                else:
                    state = text_field(1, "id-1") + number_field(3, 4711) + b"\x20\x03" + number_field(9, 139)
                    answer = bytes_field(2, state)
                connection.sendall(ttrpc.HEADER.pack(len(answer), 1, ttrpc.RESPONSE, 0) + answer)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert ttrpc.task_state(str(path), "id-1") == ttrpc.TaskState("Stopped", 4711, 139)
        thread.join(60)


def test_a_shim_whose_answer_cannot_be_read_is_told_by_an_os_error() -> None:
    ours, shim = socket.socketpair()
    with ours, shim:
        shim.sendall(ttrpc.HEADER.pack(2, 1, ttrpc.RESPONSE, 0) + b"\x0a\x05")
        with pytest.raises(ConnectionError, match="a field is cut short"):
            ttrpc.call(ours, ttrpc.SERVICES[0], "State", b"")


def test_where_a_shim_listens_by_either_file_of_its_bundle() -> None:
    assert shims.address("address unix:///run/containerd/s/ab ") == "/run/containerd/s/ab"
    assert shims.address('address  {"version":3,"address":"unix:///run/s/cd","protocol":"ttrpc"}') == "/run/s/cd"
    assert shims.address("address  ") == ""


# A kind node's containerd


@dataclasses.dataclass
class Shell:
    """A node that answers commands from a list and notes them."""

    systemd: bool
    ledger: None = None
    name: str = "kind-worker"
    runtime: str = "containerd 2.1.9"
    pids: tuple[str, ...] = ("70",)
    endpoint: str = "unix:///run/relay.sock"

    def __post_init__(self) -> None:
        self.ran: list[str] = []

    def client(self, endpoint: str) -> contextlib.AbstractContextManager[Shell]:
        """In CriClient's place."""
        assert endpoint == self.endpoint
        return contextlib.nullcontext(self)

    def wait_until_ready(self, timeout: float) -> None:
        self.ran.append("ready")

    def shell(self, argv: list[str], *, timeout: float = 30) -> str:
        command = " ".join(argv)
        if "pidof" in command:
            pid, *rest = self.pids
            self.pids = tuple(rest) or self.pids
            return pid
        if "/run/systemd/system" in command:
            return "/usr/bin/systemctl" if self.systemd else ""
        self.ran.append(command)
        return ""


def test_a_kind_nodes_containerd_goes_through_systemd(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Shell(systemd=True)
    monkeypatch.setattr(kind_daemon, "CriClient", node.client)
    daemon: Any = KindDaemon(node)  # type: ignore[arg-type]
    daemon.kill()
    assert "NotReady" in capsys.readouterr().err
    daemon.start()
    daemon.restart()
    kill = "systemctl kill --kill-who=main --signal=KILL containerd"
    assert node.ran == [
        kill,
        "systemctl stop containerd",
        "systemctl start containerd",
        "ready",
        "systemctl restart containerd",
        "ready",
    ]
    for refused in ("upgrade", "downgrade", "fetch", "beside"):
        with pytest.raises(NodeError, match="belongs to its cluster"):
            getattr(daemon, refused)("2")


def test_a_kind_node_without_systemd_starts_containerd_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Shell(systemd=False, pids=("70", "70", "", "71"))
    monkeypatch.setattr(kind_daemon, "CriClient", node.client)
    assert KindDaemon(node).kill().pid == 71  # type: ignore[arg-type]
    assert node.ran == ["kill -9 70", "ready"]
    with pytest.raises(NodeError, match="has no systemd"):
        KindDaemon(node).stop()  # type: ignore[arg-type]
