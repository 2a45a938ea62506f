"""Seeded chaos on a node under load: whatever is killed, stopped, replaced or filled up, the node comes back and tells the truth.

After each fault every Pod runs again, nothing is left without an owner, and what the API says of containers is what /proc shows.
The faults come from a seed, which a failure tells with the list of them: LABKIT_SEED=… makes the same again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.figures.runtime.load import Load
from labkit.kernel import LocalKernel, Process
from labkit.kubelet.api import ApiClientError
from labkit.node import Home
from labkit.node.lab.daemon import Daemon
from labkit.node.packages import releases, versions
from tests.conftest import labkit
from tests.live.cluster import Cluster, wait_for
from tests.live.remains import Runtime, containers_alive, unowned, untrue
from tests.live.web import SERVE, wait_until_it_listens

IMAGE = "registry.lab/busybox:1"
PODS, WEBS = 20, 3
HURRY = "0.02"
"""The kubelet's back-offs times this: a container that is killed again and again does not wait for minutes."""
CONVERGES_WITHIN_S, TELLS_WITHIN_S = 90.0, 2.0
GROWTH_FILES, GROWTH_MB = 16, 24
"""What labkit's own processes may hold more, open files and MB: the owner after all faults, kubelet and API after some work."""

KILLED = ("containerd", "kubelet", "kubeapi", "registry")
STOPPED = ("containerd", "kubelet", "kubeapi")


@dataclass
class Chaos:
    """A node, the faults done to it so far, and what its clients saw. `converged_s` is the longest that it took to have every Pod
    again after a fault, `slowest_s` the longest that the API took after that to tell the truth."""

    cluster: Cluster
    chance: random.Random
    addresses: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    grown: list[str] = field(default_factory=list)
    written: int = 0
    converged_s: float = 0.0
    slowest_s: float = 0.0

    def any(self) -> Fault:
        return self.chance.choices(list(FAULTS), list(FAULTS.values()))[0]

    def do(self, fault: Fault) -> set[str]:
        """Do it; the names of the Pods that it hits, and whose requests may so fail."""
        words, hit = fault(self)
        self.told.append(words)
        return hit

    @property
    def home(self) -> Home:
        return self.cluster.home

    def dial(self, name: str) -> socket.socket:
        return socket.create_connection((self.addresses[name], 80), 2)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Meanwhile a client counts in a ConfigMap, and makes and deletes a Pod."""
        stop = threading.Event()
        writer = threading.Thread(target=self.write_on, args=[stop])
        writer.start()
        try:
            yield
        finally:
            stop.set()
            writer.join()

    def write_on(self, stop: threading.Event) -> None:
        while not stop.wait(0.05):
            with contextlib.suppress(ApiClientError):
                self.cluster.api.patch(f"{self.cluster.path}/configmaps/count", {"data": {"n": str(self.written + 1)}})
                self.written += 1
            with contextlib.suppress(ApiClientError):
                if self.written % 10 == 0:
                    self.cluster.create(pod("visitor", "sleep 1000"))
                elif self.written % 10 == 8:
                    self.cluster.delete("visitor")


Fault = Callable[[Chaos], tuple[str, set[str]]]
"""Does something bad; what it was, in words, and the names of the Pods that may not answer because of it."""


def kill_a_program(chaos: Chaos) -> tuple[str, set[str]]:
    name = chaos.chance.choice(KILLED)
    before = chaos.cluster.process(name)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: chaos.cluster.process(name) not in (0, before), f"the owner to start {name} again")
    return f"SIGKILL {name}", set()


def stop_a_program(chaos: Chaos) -> tuple[str, set[str]]:
    name, seconds = chaos.chance.choice(STOPPED), chaos.chance.uniform(0.5, 2.0)
    held(chaos.cluster.process(name), seconds)
    return f"SIGSTOP {name} for {seconds:.1f} s", set()


def stop_a_shim(chaos: Chaos) -> tuple[str, set[str]]:
    name, shim, _, _ = victim(chaos)
    seconds = chaos.chance.uniform(0.5, 2.0)
    held(shim.pid, seconds)
    return f"SIGSTOP the shim of {name} for {seconds:.1f} s", set()


def kill_a_shim(chaos: Chaos) -> tuple[str, set[str]]:
    """Its pause and application outlive it for a moment, in which the Pod looks whole still."""
    name, shim, pause, application = victim(chaos)
    os.kill(shim.pid, signal.SIGKILL)
    wait_for(lambda: ended(pause) and ended(application), f"pause and application of {name} to end with their shim")
    return f"SIGKILL the shim of {name}", {name}


def kill_a_pause(chaos: Chaos) -> tuple[str, set[str]]:
    name, _, pause, _ = victim(chaos)
    os.kill(pause.pid, signal.SIGKILL)
    return f"SIGKILL the pause of {name}", {name}


def kill_an_application(chaos: Chaos) -> tuple[str, set[str]]:
    name, _, _, application = victim(chaos)
    os.kill(application.pid, signal.SIGKILL)
    return f"SIGKILL the application of {name}", {name}


def fill_the_disk(chaos: Chaos) -> tuple[str, set[str]]:
    """The lab's own file system, a small tmpfs, is full for a second."""
    full = chaos.home.data / "full"
    with full.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 65536)
    time.sleep(1.0)
    full.unlink()
    return "the disk full for a second", set()


FAULTS: dict[Fault, int] = {
    kill_a_program: 8,
    stop_a_program: 4,
    stop_a_shim: 2,
    kill_a_shim: 3,
    kill_a_pause: 3,
    kill_an_application: 4,
    fill_the_disk: 2,
}
"""What is done, and how often compared with the others."""


def upgrade(version: str) -> Fault:
    def fault(chaos: Chaos) -> tuple[str, set[str]]:
        Daemon(chaos.home).upgrade(version)
        return f"upgrade to {version}", set()

    return fault


def go_back(chaos: Chaos) -> tuple[str, set[str]]:
    """containerd 1.x kills the Pods whose shims 2.x started: on the way back from that any may be hit."""
    daemon = Daemon(chaos.home)
    before = daemon.version
    daemon.downgrade("default", force=True)
    return f"back from {before}", set(chaos.addresses) if versions.order(before) >= versions.order("2.0.0") else set()


def victim(chaos: Chaos) -> tuple[str, Process, Process, Process]:
    """The name of a Pod, its shim, its pause and its application."""
    snapshot = LocalKernel().snapshot(fds=False)
    with CriClient(f"unix://{chaos.home.socket}") as cri:
        known = Runtime.of(cri)
    shims = {}
    for process in snapshot.processes.values():
        arguments = dict(zip(process.cmdline, process.cmdline[1:], strict=False))
        if arguments.get("-address") == str(chaos.home.socket) and "start" not in process.cmdline:
            shims[arguments["-id"]] = process
    ready = [box for box in known.sandboxes.values() if box.state == pb.SANDBOX_READY and box.id in shims]
    names = {box.metadata.name: box.id for box in ready if box.metadata.name.startswith("pod-")}
    name = chaos.chance.choice(sorted(names))
    shim = shims[names[name]]
    pause = application = None
    for child in snapshot.children(shim.pid):
        ids = {path.split("/")[-1] for path in child.cgroups.values()}
        pause = child if names[name] in ids else pause
        application = child if ids & known.containers.keys() else application
    assert pause and application, f"{name} is not whole"
    return name, shim, pause, application


def ended(process: Process) -> bool:
    try:
        return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def held(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def pod(name: str, script: str) -> dict[str, Any]:
    container = {"name": "app", "image": IMAGE, "command": ["sh", "-c", script]}
    return {"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}


@pytest.fixture(scope="module")
def cluster(lab_of_its_own: Home) -> Iterator[Cluster]:
    """A lab whose data lie on a small file system of their own, with the other versions of containerd at hand."""
    for version in ("1.7", "2"):
        releases.ensure(lab_of_its_own.cache, version)
    lab_of_its_own.data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m,mode=711", "tmpfs", str(lab_of_its_own.data)], check=True)
    try:
        labkit("up", "--node", "containerd", "--time-scale", HURRY)
        yield Cluster.of(lab_of_its_own)
        labkit("down")
    finally:
        subprocess.run(["umount", "--lazy", str(lab_of_its_own.data)], check=True)


@pytest.mark.parametrize(
    ("faults", "seed"),
    [pytest.param(60, None, id="60"), *(pytest.param(300, n, id=f"300-{n}", marks=pytest.mark.soak) for n in (1, 2, 3))],
)
def test_chaos(cluster: Cluster, faults: int, seed: int | None) -> None:
    seed = int(os.environ.get("LABKIT_SEED") or (random.randrange(2**32) if seed is None else seed))
    chaos = Chaos(cluster, random.Random(seed))
    cluster.create({"metadata": {"name": "count"}, "data": {"n": "0"}}, "configmaps")
    for number in range(PODS):
        cluster.create(pod(f"pod-{number}", SERVE if number < WEBS else "exec sleep 1000000"))
    try:
        converged(chaos)
        run(chaos, faults)
        count = int(cluster.api.get(f"{cluster.path}/configmaps/count")["data"]["n"])
        assert count >= chaos.written, "a write that was acknowledged is lost"
    except BaseException as error:
        raise AssertionError(f"{error}\nLABKIT_SEED={seed}; faults: {'; '.join(chaos.told)}") from error
    finally:
        for kind in ("pods", "configmaps"):
            with contextlib.suppress(ApiClientError):
                cluster.api.delete(f"{cluster.path}/{kind}")
    wait_for(lambda: unowned(cluster.home, set()) == [], "nothing to be left of Pods", CONVERGES_WITHIN_S)
    print(f"seed {seed}: {len(chaos.told)} faults; every Pod ran again after {chaos.converged_s:.1f} s at the latest, "
          f"the API told the truth {chaos.slowest_s:.2f} s after that; {', '.join(chaos.grown)}")


def run(chaos: Chaos, faults: int) -> None:
    """Faults one after another under load; meanwhile up to 1.7 and back, and up to 2.x and back."""
    turns = {faults // 4: upgrade("1.7"), faults // 2: go_back, 5 * faults // 8: upgrade("2"), 7 * faults // 8: go_back}
    first = sizes(chaos)
    for number in range(faults):
        asked = {name: Load(lambda name=name: chaos.dial(name), rate=20) for name in sorted(chaos.addresses)}  # type: ignore[misc]
        with contextlib.ExitStack() as clients:
            for load in asked.values():
                clients.enter_context(load)
            with chaos.writing():
                hit = chaos.do(turns.get(number) or chaos.any())
            converged(chaos)
        failed = {name: load.failed for name, load in asked.items() if load.failed and name not in hit}
        assert not failed, f"requests failed to Pods that nobody touched: {failed}"
    held_no_more(chaos, first, sizes(chaos), "owner")
    turns_of_work = [worked(chaos) for _ in range(4)]
    for name in ("kubelet", "kubeapi"):
        held_no_more(chaos, turns_of_work[1], turns_of_work[-1], name)


def worked(chaos: Chaos) -> dict[str, tuple[int, float]]:
    """Ten Pods come and go; how large labkit's processes are then."""
    names = [f"visitor-{number}" for number in range(10)]
    for name in names:
        chaos.cluster.create(pod(name, "sleep 1000"))
    wait_for(lambda: all(chaos.cluster.phase(name) == "Running" for name in names), "ten Pods to run")
    for name in names:
        chaos.cluster.delete(name)
    wait_for(lambda: all(chaos.cluster.pod(name) is None for name in names), "ten Pods to go")
    return sizes(chaos)


def held_no_more(chaos: Chaos, first: dict[str, tuple[int, float]], last: dict[str, tuple[int, float]], name: str) -> None:
    files, mb = last[name][0] - first[name][0], last[name][1] - first[name][1]
    chaos.grown.append(f"{name} holds {files} open files and {mb:.0f} MB more ({last[name][1]:.0f} MB)")
    assert files <= GROWTH_FILES and mb <= GROWTH_MB, chaos.grown[-1]


def sizes(chaos: Chaos) -> dict[str, tuple[int, float]]:
    """Open files and resident MB of the node's owner, the API and the kubelet."""
    pids = {"owner": int(chaos.home.status_file.read_text().partition('"pid": ')[2].partition(",")[0])}
    pids |= {name: chaos.cluster.process(name) for name in ("kubeapi", "kubelet")}
    found = {}
    for name, pid in pids.items():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found[name] = (
            len(os.listdir(f"/proc/{pid}/fd")), int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        )
    return found


def converged(chaos: Chaos) -> None:
    """Wait until every Pod runs and nothing is left over; then the API must tell the truth within two seconds."""
    began = time.monotonic()
    wait_until(lambda: differences(chaos), CONVERGES_WITHIN_S)
    chaos.converged_s = max(chaos.converged_s, time.monotonic() - began)
    began = time.monotonic()
    wait_until(lambda: untrue(pods_of(chaos), chaos.home), TELLS_WITHIN_S)
    chaos.slowest_s = max(chaos.slowest_s, time.monotonic() - began)
    for name in [f"pod-{number}" for number in range(WEBS)]:
        ip = chaos.cluster.status(name)["podIP"]
        wait_until_it_listens(ip)
        chaos.addresses[name] = ip


def wait_until(differences: Callable[[], list[str]], seconds: float) -> None:
    """Poll until nothing differs; the last differences are told."""
    end = time.monotonic() + seconds
    while True:
        began = time.monotonic()
        try:
            wrong = differences()
        except (ApiClientError, CriError, OSError) as error:
            wrong = [str(error)]
        if not wrong:
            return
        assert began < end, f"after {seconds:.0f} s: {'; '.join(wrong[:20])}"
        time.sleep(0.1)


def pods_of(chaos: Chaos) -> list[dict[str, Any]]:
    return list(chaos.cluster.api.get(f"{chaos.cluster.path}/pods")["items"])


def differences(chaos: Chaos) -> list[str]:
    """What is not as it should be: Pods without a living pause and application or not Running, a node not Ready, remains."""
    pods, alive, found = {p["metadata"]["name"]: p for p in pods_of(chaos)}, containers_alive(chaos.home), []
    for name in (f"pod-{number}" for number in range(PODS)):
        if name not in pods:
            found.append(f"{name} is lost")
            continue
        status, uid = pods[name]["status"], pods[name]["metadata"]["uid"]
        whole = [id[:12] for id, of in alive.items() if of == uid]
        ready = all(c["ready"] for c in status.get("containerStatuses") or ())
        if len(whole) != 2 or status.get("phase") != "Running" or not ready:
            found.append(f"{name} is {status.get('phase')}, alive of it are {whole}")
    if chaos.cluster.node_ready() != "True":
        found.append("the node is not Ready")
    return found or unowned(chaos.home, {p["metadata"]["uid"] for p in pods.values()})
