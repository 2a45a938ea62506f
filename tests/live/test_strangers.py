"""Another user of the same machine tries the doors of a running lab: its registries, sockets, ports and files."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from labkit.apiserver.http import credentials
from labkit.course.jupyter.private_kernels import LONGEST_BYTES, NAME, listen_privately
from labkit.cri import CriClient, CriError
from labkit.node import Home
from labkit.node.host import containerd_setup
from labkit.node.pods import kubectl
from labkit.node.registry import registry
from labkit.node.remote.loopback_registry import Loopback
from labkit.node.state import status
from tests.conftest import labkit
from tests.live import exposed
from tests.standin.system import wait_for

STRANGER = 65534
DROP = """
import base64, encodings.idna, errno, hashlib, http.client, json, os, socket, ssl, sys, urllib.parse
os.setgroups([]), os.setresgid(STRANGER, STRANGER, STRANGER), os.setresuid(STRANGER, STRANGER, STRANGER), os.umask(0)
""".replace("STRANGER", str(STRANGER))
"""What Python needs is read before: the interpreter may lie where a stranger cannot read."""


def as_stranger(script: str, *arguments: str, input: str = "") -> Any:
    """What a Python script prints as JSON when a user with no rights runs it."""
    command = [sys.executable, "-I", "-c", DROP + script, *arguments]
    done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=60, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(lab_of_its_own: Home) -> Home:
    before = os.umask(0)
    try:
        labkit("up", "--node", "containerd")
    finally:
        os.umask(before)
    return lab_of_its_own


OPEN = """
opened = []
for path in sys.stdin.read().split("\\0"):
    for flags in (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_DIRECTORY):
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK))
        except OSError:
            continue
        opened.append(path)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        opened.append(path)
    except OSError:
        pass
print(json.dumps(sorted(set(opened))))
"""


def test_nothing_of_the_lab_can_be_opened_by_who_guesses_its_names(home: Home) -> None:
    """Whatever the umask of who started it: files, directories and sockets, logs too."""
    names = [str(path) for path in exposed.places(home)]
    assert len(names) > 100 and str(home.log_file) in names and str(home.socket) in names
    assert as_stranger(OPEN, input="\0".join(names)) == []
    for directory in (home.run, home.data):
        assert exposed.mode(directory) == "drwx------ 0"
    assert {exposed.mode(path) for path in home.data.glob("*.log")} == {"-rw------- 0"}


GREET = """
answers = {}
for port in sys.argv[1:]:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as client:
        context = ssl._create_unverified_context()
        try:
            client = context.wrap_socket(client)
        except OSError:
            client = socket.create_connection(("127.0.0.1", int(port)), timeout=10)
        client.sendall(b"GET /pods HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
        answers[port] = client.recv(1000).split(b" ")[1].decode()
print(json.dumps(answers))
"""


def test_who_has_no_token_hears_so_at_every_port(home: Home) -> None:
    ports = {one.address.rpartition(":")[2]: one for one in exposed.listeners(home) if not one.address.startswith(("/", "@"))}
    assert {one.address.rpartition(":")[0] for one in ports.values()} == {"127.0.0.1"}
    assert {ports[port].program: answer for port, answer in as_stranger(GREET, *ports).items()} == {
        "kubeapi": "401", "containerd": "404", "docker-registry": "404",
    }


SHIM = ("containerd-shim", "/run/containerd/s/HASH", "srw------- root")
OF_A_POD = ("RUN/runc", "drwx------ root")
OF_A_RELEASE = ("DATA/containerd-version", "-rw------- root")


def test_what_listens_is_what_the_documentation_lists(home: Home) -> None:
    sockets, _ = exposed.documented("containerd")
    assert exposed.sockets(home) == sockets - {SHIM}


def test_the_files_are_those_that_the_documentation_lists(home: Home) -> None:
    """And none elsewhere is open for writing."""
    _, files = exposed.documented("containerd")
    assert exposed.files(home) == files - {OF_A_POD, OF_A_RELEASE}
    assert exposed.written(home) == set()


WRITE = """
url, user, password = sys.argv[1:]
login = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

def ask(method, path, body=b"", **headers):
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=10)
    if where.scheme == "https":
        connection = http.client.HTTPSConnection(where.netloc, timeout=10, context=ssl._create_unverified_context())
    connection.request(method, path, body, {**login, **headers})
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("Location") or ""

mime = "application/vnd.oci.image.manifest.v1+json"
blob = b"x" * 1000
digest = "sha256:" + hashlib.sha256(blob).hexdigest()
statuses = {}
statuses["upload"], place = ask("POST", "/v2/busybox/blobs/uploads/")
if place:
    place = urllib.parse.urlsplit(place)
    where = f"{place.path}?{place.query}&digest={digest}"
    statuses["blob"], _ = ask("PUT", where, blob, **{"Content-Type": "application/octet-stream"})
    part = {"mediaType": mime.replace("manifest", "config"), "digest": digest, "size": len(blob)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": mime, "config": part, "layers": []}).encode()
else:
    manifest = b"{}"
statuses["mount"], _ = ask("POST", f"/v2/other/blobs/uploads/?mount={digest}&from=busybox")
statuses["manifest"], _ = ask("PUT", "/v2/busybox/manifests/1", manifest, **{"Content-Type": mime})
statuses["delete"], _ = ask("DELETE", f"/v2/busybox/manifests/{digest}")
statuses["delete blob"], _ = ask("DELETE", f"/v2/busybox/blobs/{digest}")
print(json.dumps(statuses))
"""


@pytest.mark.parametrize("name", registry.REGISTRIES)
def test_nobody_writes_to_a_registry(home: Home, name: str) -> None:
    before = stored(home)
    answers = as_stranger(WRITE, containerd_setup.registry_url(home, name), *registry.LOGIN)
    assert set(answers.values()) == {405}, answers
    assert stored(home) == before


def test_nobody_writes_to_the_registry_for_runtimes_of_others(home: Home, tmp_path: Path) -> None:
    loopback = Loopback(Home(tmp_path / "run", tmp_path / "data", home.cache))  # the lab's own files stay as listed
    try:
        url = f"http://{loopback.ensure(lambda text: None)}"
        before = stored(loopback.home)
        assert before and set(as_stranger(WRITE, url, *registry.LOGIN).values()) == {405}
        assert stored(loopback.home) == before
    finally:
        loopback.stop()


def stored(home: Home) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.data.glob("*/regist*/**/*") if path.is_file()}


IMPOSTOR = """
import ssl, sys
port, directory = int(sys.argv[1]), sys.argv[2]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{directory}/server.crt", f"{directory}/server.key")
""" + DROP + """
listener = socket.create_server(("127.0.0.1", port))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    try:
        if connection.recv(1, socket.MSG_PEEK) == bytes([22]):
            connection = context.wrap_socket(connection, server_side=True)
        asked = connection.recv(1000).decode()
        if asked:
            print(asked.splitlines()[0], flush=True)
        connection.close()
    except OSError:
        pass
"""


def test_who_takes_a_registrys_port_while_it_is_down_serves_nothing(home: Home, tmp_path: Path) -> None:
    """Another process answers at its port, in plain HTTP or with a certificate of its own: containerd asks it for no image."""
    credentials.make_certificates(tmp_path)
    said = status.read(home)
    port, old = containerd_setup.registry_url(home).rpartition(":")[2], said["processes"]["registry"]
    os.kill(said["pid"], signal.SIGSTOP)  # else a new registry is there at once, on another port
    try:
        os.kill(old, signal.SIGKILL)
        command = [sys.executable, "-I", "-c", IMPOSTOR, port, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as impostor, CriClient(f"unix://{home.socket}") as cri:
            assert impostor.stdout and impostor.stdout.readline() == "listening\n"
            with pytest.raises(CriError, match="certificate"):
                cri.pull_image(image={"image": "registry.lab/busybox:1"}, timeout=20)
            impostor.terminate()
            assert impostor.stdout.read() == ""
    finally:
        os.kill(said["pid"], signal.SIGCONT)
        wait_for(lambda: status.read(home)["state"] == "ready" and registry_pid(home, "registry") != old, "a new registry")


def test_the_registries_run_as_nobody_who_has_anything(home: Home) -> None:
    for name in registry.REGISTRIES:
        process = Path(f"/proc/{registry_pid(home, name)}")
        fields = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        uid = int(fields["Uid"].split()[0])
        with pytest.raises(KeyError):
            pwd.getpwuid(uid)
        assert {*fields["Uid"].split(), *fields["Gid"].split()} == {str(uid)} and fields["Groups"].strip() == ""
        assert int(fields["CapPrm"], 16) == int(fields["CapEff"], 16) == 0 and fields["NoNewPrivs"] == "1"
        owned = [p for p in home.run.parent.rglob("*") if p.lstat().st_uid == uid]
        writable = [p for p in containerd_setup.registries(home).rglob("*") if p.lstat().st_mode & 0o022]
        assert owned == writable == []


def registry_pid(home: Home, name: str) -> int:
    return int(status.read(home)["processes"][name])


VULTURE = (
    """
import pathlib, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{sys.argv[1]}/server.crt", f"{sys.argv[1]}/server.key")
"""
    + DROP
    + """
asked, ended = json.loads(sys.stdin.readline()), threading.Event()
got, taken, heard, rounds = set(), {}, [], 0

def listen(listener):
    while True:
        connection, _ = listener.accept()
        try:
            connection.settimeout(5)
            if connection.recv(1, socket.MSG_PEEK) == bytes([22]):
                connection = context.wrap_socket(connection, server_side=True)
            heard.append(connection.recv(10000).decode(errors="replace"))
            connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
        except OSError:
            pass
        connection.close()

def end():
    sys.stdin.readline()
    ended.set()

def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)

def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)

TRIES = {"read": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK)), "bind": bind, "connect": connect,
         "make": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o666)), "directory": os.mkdir,
         "link": lambda path: os.symlink("/etc/passwd", path), "rename": lambda path: os.rename(path, path + ".taken")}
threading.Thread(target=end, daemon=True).start()
while not ended.is_set():
    for path in asked["paths"]:
        for name, attempt in TRIES.items():
            try:
                attempt(path)
                got.add(f"{name} {path}")
            except OSError:
                pass
    for port in asked["ports"]:
        if port not in taken:
            try:
                taken[port] = socket.create_server(("127.0.0.1", port))
                threading.Thread(target=listen, args=[taken[port]], daemon=True).start()
            except OSError:
                pass
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                text = (process / name).read_bytes()
            except OSError:
                continue
            got.update(f"secret in {process / name}" for secret in asked["secrets"] if secret.encode() in text)
    rounds += 1
print(json.dumps({"got": sorted(got), "taken": sorted(taken), "heard": heard, "rounds": rounds}))
"""
)
"""Tries each path again and again, takes each port that comes free and answers there as anybody would, and reads every argv."""


@contextlib.contextmanager
def vulture(directory: Path, **asked: Any) -> Iterator[dict[str, Any]]:
    """Another user who lies in wait; what he got is there after the block."""
    credentials.make_certificates(directory)
    command, found = [sys.executable, "-I", "-c", VULTURE, str(directory)], dict[str, Any]()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/") as process:
        assert process.stdin
        process.stdin.write(json.dumps(asked) + "\n")
        process.stdin.flush()
        try:
            yield found
        finally:
            said, _ = process.communicate("end\n", timeout=60)
    found.update(json.loads(said))


def test_who_lies_in_wait_gets_nothing_while_it_goes_down_and_up(home: Home, tmp_path: Path) -> None:
    """He waits before `down`, during it, between it and the next `up`, and during that: for paths, for ports, for a secret."""
    base = home.run.parent
    base.chmod(0o755)
    old = tmp_path / "kubeconfig"
    old.write_bytes(home.kubeconfig.read_bytes())
    token = json.loads(old.read_text())["users"][0]["user"]["token"]
    keys = [path.read_text().splitlines()[1] for path in home.data.glob("*/server.key")]
    ports = {int(one.address.rpartition(":")[2]) for one in exposed.listeners(home) if one.address.startswith("127.")}
    paths = [str(path) for path in (*exposed.places(home), home.run / "new", home.data / "new")]
    assert keys and len(ports) >= 4 and len(paths) > 100
    with vulture(tmp_path, paths=paths, ports=sorted(ports), secrets=[token, *keys]) as found:
        labkit("down")
        left = [str(path) for path in exposed.places(home)]
        assert exposed.listeners(home) == set() and as_stranger(OPEN, input="\0".join(left)) == []
        wait_for(lambda: not any(map(registry.is_free, ports)), "every port to be taken")
        ask = [kubectl.program(), "--kubeconfig", str(old), "get", "nodes"]
        refused = subprocess.run(ask, capture_output=True, text=True, timeout=60)
        assert refused.returncode and "certificate" in refused.stderr, "the old kubeconfig trusts only the lab's own certificate"
        labkit("up", "--node", "containerd")
        assert "sim-worker" in labkit("kubectl", "get", "nodes").stdout
        new = {int(one.address.rpartition(":")[2]) for one in exposed.listeners(home) if one.address.startswith("127.")}
        assert not new & ports
    assert found["got"] == [] and found["taken"] == sorted(ports) and found["rounds"] > 1
    assert found["heard"] == [""] * len(found["heard"]), "nobody spoke to him"
    assert status.read(home)["state"] == "ready"


EAVESDROPS = """
import os, socket, sys
import zmq
listener = zmq.Context().socket(zmq.SUB)
listener.subscribe(b"")
listener.setsockopt(zmq.RCVTIMEO, int(sys.argv[2]))
os.setgroups([]), os.setresgid(STRANGER, STRANGER, STRANGER), os.setresuid(STRANGER, STRANGER, STRANGER)
listener.connect(sys.argv[1])
print("connected", flush=True)
try:
    while b"hunter2" not in b"".join(listener.recv_multipart()):
        pass
    print("heard")
except zmq.Again:
    print("nothing")
""".replace("STRANGER", str(STRANGER))
"""Another user subscribes to what a kernel publishes: the text of its cells and their outputs."""


@pytest.mark.parametrize("as_the_course_starts_it", [True, False], ids=["the course's kernel", "a kernel by default"])
def test_nobody_reads_what_a_kernel_prints(as_the_course_starts_it: bool, tmp_path: Path) -> None:
    """The default, where another user hears each word, shows that the listener is no deaf one."""
    kernels = AsyncMappingKernelManager(connection_dir=str(tmp_path))
    if as_the_course_starts_it:
        listen_privately(kernels)

    async def heard() -> str:
        kernel = kernels.get_kernel(await kernels.start_kernel())
        client = kernel.client()
        client.start_channels()
        patience_ms = 3000 if as_the_course_starts_it else 60000
        command = [sys.executable, "-I", "-c", EAVESDROPS, kernel._make_url("iopub"), str(patience_ms)]
        try:
            await client.wait_for_ready(60)
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd="/") as listener:
                assert listener.stdout and listener.stdout.readline() == "connected\n"
                while listener.poll() is None:
                    await client.execute("print('hunter2')", reply=True, timeout=60)
                return listener.stdout.read().strip()
        finally:
            client.stop_channels()
            await kernels.shutdown_all(now=True)

    assert asyncio.run(heard()) == ("nothing" if as_the_course_starts_it else "heard")


def test_a_long_path_is_no_reason_for_ports(tmp_path: Path) -> None:
    kernels = AsyncMappingKernelManager(connection_dir=str(tmp_path / ("long" * 30)))
    listen_privately(kernels)
    there = Path(kernels.connection_dir)
    assert stat.S_IMODE(there.stat().st_mode) == 0o700 and len(str(there / NAME)) <= LONGEST_BYTES
    assert kernels.config.KernelManager.transport == "ipc"
