"""The virtual machine as a learner has it who is nobody on her machine: no root, no capability, no /dev/kvm, a home of her own.

Everything is built there anew, from packages; every listening port and socket of it is tried as another user; what happens to
a machine that is killed, damaged or moved is said and healed.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.kernel import LocalKernel
from labkit.node import Home
from labkit.node.machine.packages import builds_here
from labkit.node.registry.course_images import PAUSE
from labkit.node.registry.registry import is_free
from tests.conftest import CI, ROOT
from tests.live import exposed
from tests.live.test_strangers import vulture
from tests.waits import wait_for

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="needs root, to be other users; CI runs it"),
    pytest.mark.skipif(bool(builds_here()), reason=builds_here()),
]

LEARNER = 40000 + 2 * (os.getpid() % 5000)
STRANGER = LEARNER + 1
"""Another pair in each run: the end of one run kills what is left of its learner's processes."""
NOTEBOOKS = sorted(path.name[:2] for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
QUICK = ("00", "02")
"""What takes little of CI's time; the others are run with --soak."""


@dataclass(frozen=True)
class User:
    """Somebody without any privilege, with a home below /tmp that is hers alone."""

    uid: int
    home: Path
    path: str

    def popen(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        nobody = [
            "setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups", "--no-new-privs",
            "--bounding-set=-all", "--inh-caps=-all",
        ]
        environment = {
            "HOME": str(self.home), "LABKIT_HOME": str(self.home / "lab"), "PATH": "/usr/bin:/bin", "LABKIT_NODE": "vm",
            "PYTHONPATH": self.path, "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(self.home / "mpl"),
            "TMPDIR": str(self.home),
        }
        return subprocess.Popen(
            [*nobody, *argv], env=environment, cwd=self.home, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more
        )

    def run(self, *argv: str, code: int | None = 0, timeout: float = 900) -> str:
        process = self.popen(*argv)
        said, errors = process.communicate(timeout=timeout)
        assert code is None or process.returncode == code, f"{argv}: {process.returncode}\n{said[-6000:]}\n{errors[-3000:]}"
        return said if code == 0 else said + errors

    def python(self, *arguments: str, **more: Any) -> str:
        return self.run(PYTHON, *arguments, **more)

    def labkit(self, *arguments: str, **more: Any) -> str:
        return self.python("-m", "labkit.cli", *arguments, **more)

    def processes(self) -> list[str]:
        """Command lines of those that run (a zombie has none)."""
        found = [p for p in LocalKernel().snapshot(fds=False).processes.values() if p.uid == self.uid]
        return [" ".join(p.cmdline) for p in found if p.cmdline]


def usable_python() -> str:
    """An interpreter of this version that any user can run: this one may lie in root's own directory."""
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info.minor}"):
        if all(path.stat().st_mode & 0o001 for path in [Path(candidate), *Path(candidate).parents] if path.exists()):
            return candidate
    pytest.fail(f"No Python 3.{sys.version_info.minor} is here that every user may run.")


PYTHON = usable_python()


@pytest.fixture(scope="module")
def packages() -> Iterator[str]:
    """What PYTHONPATH needs, readable by all: the checkout, and a copy of this environment's packages."""
    source = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    with tempfile.TemporaryDirectory(prefix="lk-packages-", dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        target = Path(directory, "site-packages")
        shutil.copytree(source, target, copy_function=link_or_copy, symlinks=True)
        yield f"{ROOT}:{target}"


def link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.fixture(scope="module")
def user(packages: str) -> Iterator[Callable[[int], User]]:
    made: list[User] = []

    def make(uid: int) -> User:
        home = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
        os.chown(home, uid, uid)
        made.append(User(uid, home, packages))
        return made[-1]

    yield make
    for each in made:
        shutil.rmtree(each.home, ignore_errors=True)


@pytest.fixture(scope="module")
def learner(user: Callable[[int], User], tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """With a node that she brought up; in the end no process of hers is left, and no file outside of her home. What the first
    module's learner has built is the next one's, too: it takes a minute."""
    learner, built = user(LEARNER), tmp_path_factory.getbasetemp() / "vm-cache"
    (learner.home / "lab").mkdir(mode=0o700)
    os.chown(learner.home / "lab", LEARNER, LEARNER)
    if built.exists():
        shutil.move(built, learner.home / "lab/cache")
    try:
        yield learner
        report = json.loads(learner.labkit("clean", "--json"))
        assert report["left"] == []
        assert learner.processes() == []
        places = ["/tmp", "/run", "/var", "/dev/shm"]
        outside = ["find", *places, "-xdev", "-uid", str(LEARNER), "-not", "-path", f"{learner.home}*"]
        assert subprocess.run(outside, capture_output=True, text=True).stdout == ""
        shutil.move(learner.home / "lab/cache", built)
    finally:
        for process in LocalKernel().snapshot(fds=False).processes.values():
            if process.uid == LEARNER:
                os.kill(process.pid, signal.SIGKILL)


@pytest.fixture
def node(learner: User) -> dict[str, Any]:
    """Her node's status; it is brought up where it is down."""
    return dict(json.loads(learner.labkit("up", "--json")))


def test_nobody_has_a_real_node(learner: User, node: dict[str, Any]) -> None:
    status = learner.run("cat", "/proc/self/status")
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE) and re.search(r"^CapBnd:\s+0+$", status, re.MULTILINE)
    assert (node["node"], node["state"], node["runtime"]["name"]) == ("vm", "ready", "containerd")
    if not os.access("/dev/kvm", os.F_OK) or not os.stat("/dev/kvm").st_mode & 0o006:
        assert node["accelerator"] == "tcg"
    assert node["how"] == "resumed"
    kernel = learner.python("-c", "import labkit; print(labkit.connect('vm').shell(['uname', '-r']))")
    assert kernel.strip() != platform.release()


@pytest.mark.parametrize(
    "notebook", [each if each in QUICK else pytest.param(each, marks=pytest.mark.soak) for each in NOTEBOOKS]
)
def test_notebooks_run_as_committed(learner: User, node: dict[str, Any], notebook: str) -> None:
    rules = learner.home / "sanitize.cfg"
    shutil.copyfile(ROOT / "tests/notebooks/sanitize.cfg", rules)
    rules.chmod(0o644)
    path = learner.home / next((ROOT / "notebooks").glob(f"{notebook}-*.ipynb")).name
    shutil.copyfile(next((ROOT / "notebooks").glob(f"{notebook}-*.ipynb")), path)
    path.chmod(0o644)
    learner.python(
        "-m", "pytest", "-q", "--nbval", "--nbval-kernel-name=python3", "-p", "no:cacheprovider", "--rootdir", str(learner.home),
        "--nbval-cell-timeout=600", "--nbval-sanitize-with", str(rules), str(path), timeout=1800,
    )
    assert json.loads(learner.labkit("ps", "--json"))["pods"] == []


def test_of_the_pod_that_was_run_before_the_pauses_image_stays_alone(learner: User, node: dict[str, Any]) -> None:
    learner.labkit("down")
    learner.labkit("up")
    said = json.loads(learner.python("-c", FRESH))
    assert said == {
        "images": [[PAUSE]], "sandboxes": [], "containers": [], "blobs": ["3", "1/fs/pause"], "left": [], "address": "10.88.0.2",
    }


FRESH = """
import json, labkit
node = labkit.connect("vm")
sh = lambda script: node.shell(["sh", "-c", script]).split()
said = {
    "images": [list(each.repo_tags) for each in node.cri.list_images().images],
    "sandboxes": [each.id for each in node.cri.list_pod_sandbox().items],
    "containers": [each.id for each in node.cri.list_containers().containers],
    "blobs": sh("cd /var/lib/containerd; find *content*/blobs -type f | wc -l; find *fs/snapshots -type f -printf '%P\\n'"),
    "left": sh("ls -d /sys/fs/cgroup/warm; find /run/netns /var/lib/cni -mindepth 1; grep -l warm /var/log/*; true"),
}
spec = {"containers": [{"name": "main", "image": node.images["busybox"]}]}
config = node.sandbox_config({"metadata": {"name": "first"}, "spec": spec})
sandbox = node.cri.run_pod_sandbox(config=config, timeout=120).pod_sandbox_id
said["address"] = node.cri.pod_sandbox_status(pod_sandbox_id=sandbox).status.network.ip
node.cri.stop_pod_sandbox(pod_sandbox_id=sandbox)
node.cri.remove_pod_sandbox(pod_sandbox_id=sandbox)
print(json.dumps(said))
"""


def test_another_user_reaches_nothing(learner: User, node: dict[str, Any], user: Callable[[int], User]) -> None:
    """Every TCP port on which a process of hers listens, every Unix socket that one has, by path or by name."""
    stranger = user(STRANGER)
    # The API, which kubectl needs a port for, asks for its token: see test_vm_kube.
    api = node["processes"]["kubeapi"]
    pids = [p.pid for p in LocalKernel().snapshot(fds=False).processes.values() if p.uid == LEARNER and p.pid != api]
    ports = sorted({port for pid in pids for port in listening_ports(pid)})
    bound = {path for pid in pids for path in listening_sockets(pid)}
    sockets = sorted({str(path) for path in learner.home.rglob("*") if path.is_socket()} | bound)
    assert ports and {Path(path).name for path in sockets} >= {"console.sock", "control.sock", "qmp.sock", "vm.sock"}
    tries = [(port, words.hex()) for port in ports for words in WORDS]
    said = json.loads(stranger.python("-c", TRY_ALL, json.dumps([tries, sockets])))
    for (port, words), answer in zip(tries, said[0], strict=True):
        assert REFUSAL.fullmatch(answer), (port, bytes.fromhex(words), answer)
    assert dict(zip(sockets, said[1], strict=True)) == dict.fromkeys(sockets, "PermissionError")
    for path in (learner.home / "lab/run/vm/door", node["endpoint"].removeprefix("unix://")):
        assert "Permission denied" in stranger.run("cat", str(path), code=1)
    # The same, with the word that only the owner knows, is let in: so it is the word that kept the others out.
    door = json.loads((learner.home / "lab/run/vm/door").read_text())
    with socket.create_connection(("127.0.0.1", door["port"])) as connection:
        connection.sendall(f"{door['word']} stream echo here\n".encode())
        assert connection.makefile().read() == "here\n"


def test_what_it_shows_is_what_the_documentation_lists(learner: User, node: dict[str, Any]) -> None:
    home = Home(*(learner.home / "lab" / name for name in ("run", "data", "cache")))
    sockets, files = exposed.documented("vm")
    assert exposed.sockets(home) == sockets
    assert exposed.files(home) == files


def test_who_lies_in_wait_gets_nothing_while_the_machine_goes_down_and_up(
    learner: User, node: dict[str, Any], tmp_path: Path
) -> None:
    """Another user waits before `down`, during it, between it and the next `up`, and during that."""
    home = Home(*(learner.home / "lab" / name for name in ("run", "data", "cache")))
    door = json.loads((home.run / "vm/door").read_text())
    token = json.loads((home.run / "vm/kubeconfig").read_text())["users"][0]["user"]["token"]
    ports = {int(one.address.rpartition(":")[2]) for one in exposed.listeners(home) if one.address.startswith("127.")}
    paths = [str(path) for path in (*exposed.places(home), home.run / "new", home.run / "vm/new")]
    assert door["port"] in ports and len(ports) >= 2 and len(paths) > 20
    learner.home.chmod(0o755)  # so that only the lab's own modes keep others out
    try:
        with vulture(tmp_path, paths=paths, ports=sorted(ports), secrets=[token, door["word"]]) as found:
            learner.labkit("down")
            assert exposed.listeners(home) == set()
            wait_for(lambda: not any(map(is_free, ports)), "every port to be taken")
            learner.labkit("up")
            assert "sim-worker" in learner.labkit("kubectl", "get", "nodes")
    finally:
        learner.home.chmod(0o700)
    assert found["got"] == [] and found["taken"] == sorted(ports) and found["rounds"] > 1
    assert found["heard"] == [""] * len(found["heard"]), "nobody spoke to him"


WORDS = (
    b"x run m 'ls'\n", b" run m ls\n", b"\n", b"\0" * 70 + b"\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    *(f"GET {path} HTTP/1.0\r\n\r\n".encode() for path in ("/", "/api/v1/pods", "/pods", "/metrics", "/v2/")),
    b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n\r\n",
)
"""What is tried: the door's own words without its secret, HTTP/1 and HTTP/2 as the API, a kubelet and a registry are asked."""
REFUSAL = re.compile(r"|HTTP/1\.\d (400|401|403|404) .*|\x15\x03.*", re.DOTALL)
"""No answer, one that says no, or a TLS alert (RFC 8446, 6)."""
TRY_ALL = """
import json, socket, ssl, sys
tries, paths = json.loads(sys.argv[1])
def port(number, words, wrap):
    try:
        with socket.create_connection(("127.0.0.1", number), 20) as plain, wrap(plain) as connection:
            connection.sendall(words)
            return connection.recv(400).decode("latin-1")
    except OSError:
        return ""
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.set_alpn_protocols(["http/1.1"])
def either(number, words):
    return port(number, words, lambda plain: plain) + port(number, words, context.wrap_socket)
def path(name):
    try:
        socket.socket(socket.AF_UNIX).connect("\\0" + name[1:] if name.startswith("@") else name)
    except OSError as error:
        return type(error).__name__
    return "connected"
print(json.dumps([[either(number, bytes.fromhex(words)) for number, words in tries], [path(name) for name in paths]]))
"""


def listening_sockets(pid: int) -> list[str]:
    """Names of the Unix sockets on which a process listens; an abstract one begins with @ (man 5 proc, /proc/net/unix)."""
    inodes = open_files(pid)
    rows = [line.split(maxsplit=7) for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    listens = [row for row in rows if len(row) == 8 and int(row[3], 16) & 0x10000]
    return [row[7] for row in listens if f"socket:[{row[6]}]" in inodes]


def listening_ports(pid: int) -> list[int]:
    """TCP ports on which a process listens (man 5 proc, /proc/net/tcp)."""
    inodes = open_files(pid)
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


def open_files(pid: int) -> set[str]:
    try:
        return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
    except FileNotFoundError:
        return set()


def test_ps_tells_what_the_console_tells(learner: User, node: dict[str, Any]) -> None:
    learner.python("-c", START_POD)
    try:
        pods = json.loads(learner.labkit("ps", "--json"))["pods"]
        told = {p["pid"]: (p["ppid"], p["comm"]) for pod in pods for p in pod["processes"]}
        assert len(told) >= 3
        console = socket.socket(socket.AF_UNIX)
        console.connect(str(learner.home / "lab/run/vm/qemu/console.sock"))
        with console:
            words = "; ".join(["ps -o pid,ppid,comm", *(f"cat /proc/{pid}/stat" for pid in told)])
            console.sendall(f"\n{words}; echo en''d\n".encode())
            said, until = b"", time.monotonic() + 60
            while b"\r\nend\r\n" not in said and time.monotonic() < until:
                said += console.recv(65536)
        lines = re.findall(r"^(\d+) \((.*)\) \S (\d+) ", said.decode(), re.MULTILINE)
        assert {int(pid): (int(ppid), comm) for pid, comm, ppid in lines} == told
        listed = re.findall(r"^ *(\d+) +(\d+) (\S+) *\r?$", said.decode(), re.MULTILINE)
        assert {int(pid): (int(ppid), comm) for pid, ppid, comm in listed if int(pid) in told} == told
    finally:
        learner.python("-c", "import labkit; labkit.connect('vm').remove_pod('real')")


START_POD = """
import labkit
node = labkit.connect("vm")
node.start_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "real"},
    "spec": {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]}})
"""


def test_a_killed_qemu_is_said_and_healed(learner: User, node: dict[str, Any]) -> None:
    os.kill(node["processes"]["qemu"], signal.SIGKILL)
    said: dict[str, Any] = {"state": "ready"}
    until = time.monotonic() + 30
    while said["state"] == "ready" and time.monotonic() < until:
        said = json.loads(learner.labkit("status", "--json", code=None))
    assert said["state"] == "failed" and "SIGKILL" in said["error"]
    assert json.loads(learner.labkit("up", "--json"))["state"] == "ready"


def test_the_machine_ends_with_its_owner(learner: User, node: dict[str, Any]) -> None:
    os.kill(node["pid"], signal.SIGKILL)
    until = time.monotonic() + 30
    while any("qemu-system" in line for line in learner.processes()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any("qemu-system" in line for line in learner.processes())
    assert json.loads(learner.labkit("up", "--json"))["state"] == "ready"


def test_locks_and_files_that_nobody_holds_are_no_obstacle(learner: User, node: dict[str, Any]) -> None:
    """As after a crash of the whole machine: files that name processes of before, locks that are only files."""
    kept = learner.home / "kept"
    shutil.copytree(learner.home / "lab/run/vm", kept, ignore=lambda directory, names: [n for n in names if n.endswith(".sock")])
    learner.labkit("down")
    shutil.copytree(kept, learner.home / "lab/run/vm", dirs_exist_ok=True)
    for path in (learner.home / "lab/run/vm").rglob("*"):
        os.chown(path, LEARNER, LEARNER)
    (learner.home / "lab/cache/vm/lock").write_text("1")
    assert json.loads(learner.labkit("status", "--json", code=None))["state"] == "down"
    assert json.loads(learner.labkit("up", "--json"))["processes"]["qemu"] != node["processes"]["qemu"]


def test_a_machine_that_slept_goes_on(learner: User, node: dict[str, Any]) -> None:
    """qemu and its owner stand still, as when a laptop sleeps."""
    learner.python("-c", START_POD)
    both = [node["processes"]["qemu"], node["pid"]]
    try:
        for pid in both:
            os.kill(pid, signal.SIGSTOP)
        waiting = learner.popen(PYTHON, "-c", "import labkit; print(len(labkit.connect('vm').pods()))")
        time.sleep(5.0)
        assert waiting.poll() is None, "it waits for a node that sleeps"
        for pid in both:
            os.kill(pid, signal.SIGCONT)
        assert waiting.communicate(timeout=120)[0].rpartition("\n")[0].endswith("1")
        off = float(learner.python("-c", "import labkit; print(labkit.connect('vm').sources.clock_ahead_ns() / 1e9)"))
        assert abs(off) < 2.0
    finally:
        for pid in both:
            os.kill(pid, signal.SIGCONT)
        learner.python("-c", "import labkit; labkit.connect('vm').remove_pod('real')")


@pytest.mark.soak
def test_containerd_is_killed_and_replaced_under_a_pod(learner: User, node: dict[str, Any]) -> None:
    said = json.loads(learner.python("-c", REPLACED, timeout=1800))
    assert said["same"] == [True] * 5 and said["states"] == ["stopped", "running"] and said["gone"] == "UNAVAILABLE"
    assert [version.split(".")[:2] for version in said["versions"]] == [["1", "6"], ["1", "7"], ["2", said["two"]], ["1", "6"]]
    assert said["twice"].startswith("The node is busy with another") and said["unknown"].startswith("There is no containerd 99")
    assert said["left"] == []


REPLACED = """
import json, threading, labkit
from labkit.cri import CriError
node = labkit.connect("vm")
daemon = node.daemon
said = {"same": [], "states": [], "versions": [daemon.version]}
spec = {"containers": [{"name": "main", "image": node.images["busybox"], "command": ["sleep", "1000000"]}]}
node.start_pod({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "real"}, "spec": spec})
of = lambda: [(p.pid, p.role) for p in node.pod("real").processes if p.role != "runc"]
before = of()
daemon.kill()
said["states"].append(daemon.state)
try:
    node.cri.version()
except CriError as error:
    said["gone"] = error.code
daemon.start()
said["states"].append(daemon.state)
said["same"].append(of() == before)
daemon.restart()
said["same"].append(of() == before)
for version in ("1.7", "2"):
    done = daemon.upgrade(version)
    assert node.cri.version().runtime_version.startswith(done.after)
    said["versions"].append(done.after)
    said["same"].append(of() == before)
said["two"] = said["versions"][-1].split(".")[1]
first = threading.Thread(target=daemon.restart)
first.start()
while daemon.state != "restarting":
    pass
try:
    daemon.restart()
except labkit.NodeError as error:
    said["twice"] = error.happened
first.join()
try:
    daemon.upgrade("99")
except Exception as error:
    said["unknown"] = error.happened
said["versions"].append(daemon.downgrade("default").after)
said["same"].append(of() == before)
node.remove_pod("real")
said["left"] = node.shell(["sh", "-c", "ls /var/lib/labkit/containerd"]).split()
print(json.dumps(said))
"""


@pytest.mark.soak
def test_a_saved_state_of_another_qemu_is_made_anew(learner: User, node: dict[str, Any]) -> None:
    learner.labkit("down")
    state = next((learner.home / "lab/cache/vm/current/").glob("state-*.zst"))
    state.rename(state.with_name("state-tcg-0123456789ab.zst"))
    process = learner.popen(PYTHON, "-m", "labkit.cli", "up", "--json")
    said, told = process.communicate(timeout=600)
    assert "booting the machine once" in told and json.loads(said)["how"] == "resumed"
    assert state.exists()
    state.with_name("state-tcg-0123456789ab.zst").unlink()


def test_an_altered_disk_is_refused(learner: User, node: dict[str, Any]) -> None:
    learner.labkit("down")
    current = (learner.home / "lab/cache/vm/current").resolve()
    record, disk = current / "machine.json", current / "root.squashfs"
    whole, words = disk.read_bytes(), record.read_text()
    disk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        assert "checksum differs" in learner.labkit("up", code=1)
    finally:
        disk.write_bytes(whole)
        record.write_text(words)
        os.chown(record, LEARNER, LEARNER)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
def test_no_space_is_said_and_leaves_nothing(learner: User, node: dict[str, Any]) -> None:
    lab, small = learner.home / "small", learner.home / "small/cache/vm"
    small.mkdir(parents=True)
    (lab / "cache/programs").symlink_to(learner.home / "lab/cache/programs")
    os.chown(lab, LEARNER, LEARNER)
    os.chown(lab / "cache", LEARNER, LEARNER)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=20m,mode=700,uid={LEARNER}", "tmpfs", small], check=True)
    try:
        said = learner.run("env", f"LABKIT_HOME={lab}", PYTHON, "-m", "labkit.cli", "vm", "build", code=1)
        assert "No space left" in said and "Free some space" in said and "Traceback" not in said
        assert [path.name for path in small.iterdir()] == ["lock"]
    finally:
        subprocess.run(["umount", small], check=True)
        shutil.rmtree(lab)


def test_a_saved_state_that_does_not_fit_is_no_obstacle(learner: User, node: dict[str, Any]) -> None:
    learner.labkit("down")
    state = next((learner.home / "lab/cache/vm/current/").glob("state-*.zst"))
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    try:
        said = json.loads(learner.labkit("up", "--json"))
        assert said["state"] == "ready" and said["how"].startswith("booted")
    finally:
        state.write_bytes(whole)
        learner.labkit("down")


def test_two_at_once_have_one_machine(learner: User) -> None:
    learner.labkit("down")
    both = [learner.popen(PYTHON, "-m", "labkit.cli", "up", "--json") for _ in range(2)]
    said = [json.loads(each.communicate(timeout=300)[0]) for each in both]
    assert said[0]["processes"] == said[1]["processes"]
    assert sum("qemu-system" in line for line in learner.processes()) == 1


def test_the_clock_is_right_after_a_resume(learner: User, node: dict[str, Any]) -> None:
    off = float(learner.python("-c", "import labkit; print(labkit.connect('vm').sources.clock_ahead_ns() / 1e9)"))
    assert abs(off) < 2.0


@pytest.mark.soak
def test_equal_packages_make_an_equal_machine(learner: User) -> None:
    learner.labkit("down")
    machines = learner.home / "lab/cache/vm"
    first = {path.name: path.read_bytes() for path in (machines / "current").resolve().iterdir() if "state" not in path.name}
    key = (machines / "current").resolve().name
    shutil.rmtree(machines)
    learner.labkit("vm", "build")
    assert (machines / "current").resolve().name == key
    for name in ("vmlinuz", "initramfs", "root.squashfs"):
        assert (machines / "current" / name).read_bytes() == first[name], name
