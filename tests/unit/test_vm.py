"""The virtual machine's parts, without a machine: its files, its door's words, its parcel, what a saved state fits to."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import resource
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import labkit
from labkit.kernel.events.stream import Batch, Event, EventStream
from labkit.node import Home, NodeSelector
from labkit.node.kinds import discovery, vm
from labkit.node.machine import build, guest, image_bundle, machine, packages, python, root_files
from labkit.node.machine.tools import Tools
from labkit.node.packages.apt import ProgramsError
from labkit.node.state import status
from labkit.node.vm import owner, vm_pods
from labkit.node.vm.clock import Offset, shifted
from labkit.node.vm.enter import enter, quoted, server_users
from labkit.node.vm.vm_home import MachinePaths
from labkit.util.errors import NodeError

WORDS = [
    "", "plain", "two  words", "it's", 'a "quote"', "back\\slash\\n", "line\nbreak\ttab", "dollar $HOME `id` $(id)", "ä→",
    "\udcff",
]


CLIENT = "0100007F:9C40 0100007F:1F90 01 1000 5"
ME, OTHER = "0100007F:1F90 00000000:0000 0A 1000 6", "0200007F:1F90 00000000:0000 0A 1001 7"
DUAL = f"{'0' * 32}:1F90 {'0' * 32}:0000 0A 1001 8"
MAPPED = "0000000000000000FFFF00000100007F"


@pytest.mark.parametrize(
    ("tcp", "tcp6", "users"),
    [
        ([CLIENT, ME], [], {1000}),
        ([CLIENT, ME, OTHER], [DUAL], {1000}),
        ([CLIENT], [DUAL], {1001}),
        ([CLIENT, "0100007F:1F90 0100007F:9C40 01 0 0"], [DUAL], {1001}),
        ([CLIENT, ME, "0100007F:1F90 0100007F:9C40 01 1001 9"], [], {1001}),
        ([CLIENT], [f"{MAPPED}:1F90 {MAPPED}:9C40 01 1001 9"], {1001}),
        ([CLIENT, OTHER], [], set()),
        ([ME], [], None),
    ],
    ids=["my own", "another address's", "IPv6's", "not accepted yet", "who accepted it", "accepted by IPv6", "gone", "no list"],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the rows are of a little-endian machine")
def test_who_has_the_other_end_of_a_connection(tmp_path: Path, tcp: list[str], tcp6: list[str], users: set[int] | None) -> None:
    for name, rows in (("tcp", tcp), ("tcp6", tcp6)):
        lines = ["0: {} {} {} 0:0 00:0 0 {} 0 {} 1".format(*row.split()) for row in rows]
        (tmp_path / name).write_text("\n".join(["  sl  local_address rem_address", *lines, ""]))
    connection: Any = SimpleNamespace(getsockname=lambda: ("127.0.0.1", 40000), getpeername=lambda: ("127.0.0.1", 8080))
    assert server_users(connection, tmp_path) == users


def test_the_kernel_says_that_a_server_of_mine_is_mine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert server_users(client) == {os.geteuid()}
        with server.accept()[0]:
            assert server_users(client) == {os.geteuid()}


def test_words_reach_the_other_shell_as_they_are() -> None:
    line = b" ".join(map(quoted, WORDS))
    assert b"\n" not in line
    said = subprocess.run(["bash", "-c", b"printf '%s\\0' " + line], capture_output=True, check=True).stdout
    assert said == b"".join(os.fsencode(word) + b"\0" for word in WORDS)


def test_the_door_is_told_its_word_first(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        door = tmp_path / "door"
        door.write_text(json.dumps({"port": server.getsockname()[1], "word": "sesame"}))
        heard: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.makefile("rb").readline())

        listener = threading.Thread(target=serve)
        listener.start()
        with enter(door, "stream", ["echo", "x y"]):
            listener.join(10)
    assert heard == [b"sesame stream $'echo' $'x y'\n"]


def test_no_machine_no_door(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not run"):
        enter(tmp_path / "door", "stream", ["true"])


@pytest.mark.parametrize("name", ["door", "control", "rc", "containerd-service"])
def test_the_machines_scripts_are_shell(name: str) -> None:
    text = next(text for path, (text, _) in guest.texts().items() if path.endswith(f"/{name}"))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_a_cpio_archive_is_what_cpio_writes(tmp_path: Path) -> None:
    archive = root_files.cpio({"init": (b"#!/bin/sh\n", 0o755), "modules/a.ko": (b"abc", 0o644)}, ("modules",))
    assert archive == root_files.cpio({"modules/a.ko": (b"abc", 0o644), "init": (b"#!/bin/sh\n", 0o755)}, ("modules",))
    assert len(archive) % 4 == 0
    found, at = {}, 0
    while True:
        field = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        assert archive[at : at + 6] == b"070701"
        name = archive[at + 110 : at + 110 + field[11] - 1].decode()
        data = (at + 110 + field[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            break
        found[name] = (field[1], archive[data : data + field[6]])
        at = (data + field[6] + 3) // 4 * 4
    assert found == {"init": (0o100755, b"#!/bin/sh\n"), "modules": (0o040755, b""), "modules/a.ko": (0o100644, b"abc")}


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    needed = {"bridge": "stp,llc", "stp": "llc", "llc": "", "virtio-net": "net_failover", "net_failover": "built_in"}
    for name, needs in needed.items():
        suffix = {"stp": "ko.xz", "net_failover": "ko.zst"}.get(name, "ko")
        content = b"\x7fELF\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"
        (tmp_path / f"{name}.{suffix}").write_bytes(lzma.compress(content) if suffix == "ko.xz" else content)
    wanted = ["bridge", "virtio_net", "llc", "not_there"]
    order = [path.name for path in root_files.modules(tmp_path, wanted, lambda compressed: compressed.read_bytes())]
    assert order == ["llc.ko", "stp.ko.xz", "bridge.ko", "net_failover.ko.zst", "virtio-net.ko"]


def test_the_password_file_is_the_same_each_time_and_right() -> None:
    import bcrypt

    user, _, hashed = build.htpasswd("learner", "container").strip().partition(":")
    assert build.htpasswd("learner", "container") == f"{user}:{hashed}\n"
    assert bcrypt.checkpw(b"container", hashed.encode()) and not bcrypt.checkpw(b"other", hashed.encode())


def image_in(cache: Path, content: bytes = b"disk") -> build.MachineImage:
    directory = build.images(cache) / "0123456789abcdef"
    directory.mkdir(parents=True)
    names = ("vmlinuz", "initramfs", "root.squashfs")
    for name in names:
        (directory / name).write_bytes(content + name.encode())
    record = {"recipe": build.recipe(), "versions": {"containerd": "1.6.20~ds1-1"}, "seconds": 1.0,
              "sizes": {name: (directory / name).stat().st_size for name in names},
              "sha256": {name: build.sha256((directory / name).read_bytes()) for name in names}}
    (directory / build.RECORD).write_text(json.dumps(record))
    (directory / "state-tcg-aaaaaaaaaaaa.zst").write_bytes(b"state")
    build.point(build.images(cache) / "current", directory.name)
    image = build.find(cache)
    assert image
    return image


def test_a_place_where_no_parcel_can_be_is_refused_beforehand(tmp_path: Path) -> None:
    image_bundle.refuse_unwritable(tmp_path / "machine.tar")
    for place in (tmp_path, tmp_path / "nowhere" / "machine.tar"):
        with pytest.raises(ProgramsError, match="cannot be written"):
            image_bundle.refuse_unwritable(place)


def test_a_parcel_is_the_same_machine_elsewhere(tmp_path: Path) -> None:
    image = image_in(tmp_path / "here")
    first, second = image_bundle.pack(image, tmp_path / "a.tar"), image_bundle.pack(image, tmp_path / "b.tar")
    assert first == second and (tmp_path / "a.tar.sha256").read_text() == f"{first}  a.tar\n"
    there = image_bundle.unpack(tmp_path / "a.tar", tmp_path / "there", lambda text: None)
    assert there.key == image.key and there.directory != image.directory
    same = [{path.name: path.read_bytes() for path in each.directory.iterdir()} for each in (image, there)]
    assert same[0] == same[1]


@pytest.mark.parametrize("how", ["truncated", "altered", "altered and resigned", "another file"])
def test_a_damaged_parcel_is_refused(tmp_path: Path, how: str) -> None:
    whole = tmp_path / "a.tar"
    image_bundle.pack(image_in(tmp_path / "here"), whole)
    data = whole.read_bytes()
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how.startswith("altered"):
        data = data.replace(b"diskroot", b"DISKroot")
    else:
        data = b"not a machine"
    whole.write_bytes(data)
    sum = "" if how == "altered" else hashlib.sha256(data).hexdigest()
    with pytest.raises(ProgramsError):
        image_bundle.unpack(whole, tmp_path / "there", lambda text: None, sum)
    nothing_came_of_it(tmp_path / "there")


def nothing_came_of_it(cache: Path) -> None:
    assert build.find(cache) is None
    assert {path.name for path in cache.rglob("*")} <= {"vm", "lock"}


DISK = "0123456789abcdef/root.squashfs"
SPARSE = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 60)}
HARMS: dict[str, dict[str, Any]] = {
    "a path outside": {"name": "0123456789abcdef/../../evil"},
    "an absolute path": {"name": "/etc/cron.d/evil"},
    "a link": {"name": DISK, "type": tarfile.SYMTYPE, "linkname": "/etc/shadow"},
    "a hard link": {"name": DISK, "type": tarfile.LNKTYPE, "linkname": "/etc/shadow"},
    "a device": {"name": DISK, "type": tarfile.BLKTYPE, "devmajor": 8},
    "a pipe": {"name": DISK, "type": tarfile.FIFOTYPE},
    "a whiteout": {"name": "0123456789abcdef/.wh.root.squashfs"},
    "an exabyte of holes": {"name": DISK, "pax_headers": SPARSE},
    "an exabyte that is not there": {"name": DISK, "size": 1 << 60},
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_parcel_that_means_harm_is_refused(tmp_path: Path, harm: str) -> None:
    """Its checksum is right: whoever made the file gave it."""
    member = tarfile.TarInfo()
    for name, value in HARMS[harm].items():
        setattr(member, name, value)
    whole = tmp_path / "a.tar"
    whole.write_bytes(member.tobuf(tarfile.PAX_FORMAT) + b"\0" * 10240)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(ProgramsError, match=r"it has|end of data"):
            image_bundle.unpack(whole, tmp_path / "there", lambda text: None, hashlib.sha256(whole.read_bytes()).hexdigest())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    nothing_came_of_it(tmp_path / "there")


def test_a_parcel_needs_its_checksum(tmp_path: Path) -> None:
    whole = tmp_path / "a.tar"
    sum = image_bundle.pack(image_in(tmp_path / "here"), whole)
    (tmp_path / "a.tar.sha256").unlink()
    wrong = "is not what its checksum says"
    for given, words in (("", "no a.tar.sha256 lies beside it"), ("abc", "abc is no SHA-256"), ("0" * 64, wrong)):
        with pytest.raises(ProgramsError, match=words):
            image_bundle.unpack(whole, tmp_path / "there", lambda text: None, given)
    assert build.find(tmp_path / "there") is None
    assert image_bundle.unpack(whole, tmp_path / "there", lambda text: None, sum.upper()).key


def test_a_parcel_that_is_exchanged_after_it_was_checked_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "a.tar"
    image_bundle.pack(image_in(tmp_path / "here"), whole)

    def exchange(cache: Path, progress: object) -> Any:
        whole.write_bytes(b"another")
        return only_one(cache, progress)

    only_one = image_bundle.only_one
    monkeypatch.setattr(image_bundle, "only_one", exchange)
    image_bundle.unpack(whole, tmp_path / "there", lambda text: None)
    assert whole.read_bytes() == b"another" and build.find(tmp_path / "there") is not None


def test_an_image_is_not_taken_for_whole_when_a_file_is_short(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    image.disks.root.write_bytes(b"")
    assert build.find(tmp_path) is None


def test_an_altered_image_is_refused(tmp_path: Path) -> None:
    image = image_in(tmp_path)
    build.verify(image)
    image.disks.root.write_bytes(image.disks.root.read_bytes().swapcase())
    with pytest.raises(ProgramsError, match=r"root\.squashfs.*checksum differs"):
        build.verify(image)
    assert build.find(tmp_path) is None, "so that the next build makes it anew"


def test_a_saved_state_fits_one_qemu(tmp_path: Path) -> None:
    def tools(version: str) -> Tools:
        qemu = tmp_path / f"qemu-{version}"
        qemu.write_text(f"#!/bin/sh\necho QEMU emulator version {version}\n")
        qemu.chmod(0o755)
        return Tools(qemu, qemu, qemu, "", ())

    assert machine.fits(tools("7.2"), "tcg") == machine.fits(tools("7.2"), "tcg")
    assert len({machine.fits(tools("7.2"), "tcg"), machine.fits(tools("8.0"), "tcg"), machine.fits(tools("7.2"), "kvm")}) == 3


def test_a_machine_that_cannot_start_says_why(tmp_path: Path) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text("#!/bin/sh\necho 'qemu: no room' >&2\nexit 3\n")
    qemu.chmod(0o755)
    made = machine.Machine(Tools(qemu, qemu, qemu, "", ()), machine.Disks(qemu, qemu, qemu), tmp_path / "run", "tcg")
    with pytest.raises(machine.MachineError, match="exit code 3: qemu: no room"):
        made.let_in(10.0)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


FAKE_QEMU = """#!{python}
import os, re, socket, sys
words = " ".join(sys.argv)
door = int(re.search(r"hostfwd=tcp:127.0.0.1:(\\d+)", words)[1])
try:
    socket.create_server(("127.0.0.1", door))
except OSError:
    sys.exit(f"qemu: -netdev user: Could not set up host forwarding rule 'tcp:127.0.0.1:{{door}}'")
monitor = socket.socket(socket.AF_UNIX)
monitor.bind(re.search(r"path=([^ ,]*/qmp.sock)", words)[1])
monitor.listen()
while True:
    connection = monitor.accept()[0]
    connection.sendall(b'{{"QMP": {{}}}}\\n')
    for line in connection.makefile():
        connection.sendall(b'{{"return": {{"status": "running"}}}}\\n')
"""


def test_a_port_that_was_taken_meanwhile_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu = tmp_path / "qemu"
    qemu.write_text(FAKE_QEMU.format(python=sys.executable))
    qemu.chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken, free = other.getsockname()[1], machine.free_port()
        ports = iter([taken, free])
        monkeypatch.setattr(machine, "free_port", lambda: next(ports))
        made = machine.Machine(Tools(qemu, qemu, qemu, "", ()), machine.Disks(qemu, qemu, qemu), tmp_path / "run", "tcg")
        try:
            assert made.ended() == "" and made.door[0] == free
        finally:
            made.process.kill()
            made.process.wait()


def test_the_clock_is_set_when_this_machine_has_slept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it sleeps, CLOCK_MONOTONIC stands still and the wall clock goes on (man 2 clock_gettime)."""

    class Ended(Exception):
        pass

    looks = iter(["", "", "", "it ended"])
    set_at: list[float] = []
    wall = [1_000_000.0]
    clock = SimpleNamespace(time=lambda: wall[0], monotonic=lambda: 50.0)

    def look(timeout: float) -> None:
        wall[0] += 3600.0 * (len(set_at) == 0)

    monkeypatch.setattr(owner, "time", clock)
    monkeypatch.setattr(owner, "set_clock", lambda places: set_at.append(wall[0]))
    made: Any = SimpleNamespace(ended=lambda: next(looks))
    control: Any = SimpleNamespace(next=look)
    operator: Any = SimpleNamespace(collect_garbage=lambda: None)
    api: Any = SimpleNamespace(due=lambda: False, output=tmp_path / "kubeapi.log")
    noted: Any = SimpleNamespace(sandboxes={})
    with pytest.raises(machine.MachineError, match="it ended"):
        owner.watch(made, MachinePaths(Home(tmp_path, tmp_path, tmp_path)), api, noted, operator, control)
    assert set_at == [1_003_600.0]


def test_without_qemu_the_kind_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "builds_here", lambda: "This is no Debian.")
    monkeypatch.setattr(packages, "runs_here", lambda: "")
    verdict = vm.probe(Home(tmp_path, tmp_path, tmp_path))
    assert not verdict.usable and "install qemu-system-x86_64" in verdict.fix
    with pytest.raises(ProgramsError, match="qemu-system-x86_64 or zstd is missing") as told:
        packages.ensure_tools(tmp_path, lambda text: None)
    assert "Install both" in str(told.value)


def test_too_little_memory_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm, "available_mb", lambda: 300)
    monkeypatch.setattr(packages, "runs_here", lambda: "")
    monkeypatch.setattr(packages, "builds_here", lambda: "")
    verdict = vm.probe(Home(tmp_path, tmp_path, tmp_path))
    assert not verdict.usable and "300 MB are free" in verdict.why


def test_the_door_file_is_its_owners(tmp_path: Path) -> None:
    places = MachinePaths(Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache"))
    places.make()
    places.write_door(1234, "word")
    assert places.door.stat().st_mode & 0o777 == 0o600 and places.home.run.stat().st_mode & 0o777 == 0o700
    assert status.read(places.home) == {"state": "down"}


def test_events_are_told_in_the_other_clock() -> None:
    events = [Event("fork", at_ns, 5, 1) for at_ns in (10, 20)]
    stream = shifted(EventStream("tracefs", "Exact.", iter([Batch(events, 0, 3)]), lambda: None), Offset(1000, 2_000_000))
    assert [event.at_ns for event in stream] == [1010, 1020]
    stream.stop()
    assert stream.threads == 3 and "± 2.0 ms" in stream.precision


def test_the_kind_is_known() -> None:
    assert "vm" in discovery.kinds()
    with pytest.raises(NodeError, match="no kind of node"):
        discovery.resolve_usable(NodeSelector("vmware"), Home.find())


def test_pods_of_a_machine_that_ended_are_named_unless_the_api_knows_them(tmp_path: Path) -> None:
    noted = vm_pods.Noted(tmp_path / "pods.json")
    log = [
        'time="2026-01-01T00:00:00.1Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:NAME,Uid:UID,Namespace:default,'
        'Attempt:0,}"',
        'time="2026-01-01T00:00:00.2Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:NAME,Uid:UID,Namespace:default,'
        'Attempt:0,} returns sandbox id \\"ID\\""',
    ]
    gone = ['time="2026-01-01T00:00:00.3Z" level=info msg="RemovePodSandbox for \\"c\\""',
            'time="2026-01-01T00:00:00.4Z" level=info msg="RemovePodSandbox \\"c\\" returns successfully"']
    for name in "abc":
        noted.read([line.replace("NAME", name).replace("UID", f"uid-{name}").replace("ID", name) for line in log])
    noted.read(gone)
    left = vm_pods.left_in(tmp_path / "pods.json")
    assert vm_pods.without(left, set()) == ["a", "b"]
    assert vm_pods.without(left, {"uid-a"}) == ["b"]
    assert vm_pods.left_in(tmp_path / "none.json") == {}


LINKER = Path("/lib64/ld-linux-x86-64.so.2")


@pytest.mark.skipif(not LINKER.exists(), reason="machines are built on x86-64 with glibc")
def test_libraries_are_found_below_a_home_with_spaces_and_letters_of_any_kind(tmp_path: Path) -> None:
    places = root_files.libraries([Path(shutil.which("env") or "")], LINKER, "")
    libc = places["lib/libc.so.6"]
    home = tmp_path / "Ann Müller (x)"
    home.mkdir()
    shutil.copy(libc, home / "libc.so.6")
    assert root_files.libraries([Path(shutil.which("env") or "")], LINKER, str(home))["lib/libc.so.6"] == home / "libc.so.6"


def test_the_kubelet_needs_no_more_of_labkit_than_the_machine_gets(tmp_path: Path) -> None:
    for path in python.sources():
        target = tmp_path / "labkit" / path.relative_to(Path(labkit.__file__).parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    # -S: with site-packages' hooks an editable installation would fill in what is missing.
    script = "import sys; sys.path += sys.argv[1:]; import labkit.kubelet.__main__ as found; print(found.__file__)"
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    argv = [sys.executable, "-I", "-S", "-c", script, str(tmp_path), *libraries]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.startswith(str(tmp_path)), done.stderr
