"""Node kind `cri:ENDPOINT`: a CRI socket of the learner's own (k3s, minikube, CRI-O, a node), whatever runtime speaks there.

`cri:unix:///run/k3s/containerd/containerd.sock`, or `cri:docker://NODE/path/to.sock` for a socket inside of a container. What the
runtime is, is asked, never assumed. The course's images come from a registry on this machine's loopback, which runtimes take
without TLS.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from labkit.cri import CriClient, CriError, verbose
from labkit.node.host import confined
from labkit.node.node import Node
from labkit.node.observe.source import Sources
from labkit.node.packages.programs import Programs, ensure_programs
from labkit.node.pods.own_pods import OwnPods
from labkit.node.registry import registry
from labkit.node.registry.course_images import course_images
from labkit.node.remote import leavings
from labkit.node.remote.container_choice import need_engine
from labkit.node.remote.kind import KindNode
from labkit.node.state import node_selector as choices
from labkit.node.state import status, trust
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability
from labkit.node.state.ledger import Ledger
from labkit.node.state.node_selector import Choice
from labkit.node.state.turns import one_choice_at_a_time, only_one
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.outputs import PRIVATE, read_note, write_whole
from labkit.util.progress import Progress

RUNTIMES = {"containerd": "containerd", "cri-o": "crio"}
"""runtime_name of the Version answer → comm of its process."""
LOGS = "/var/log/pods"


class EndpointNode(Node):
    """A runtime on this machine, by its socket."""

    def __init__(self, home: Home, endpoint: str, *, why: str, lesson: str | None = None) -> None:
        with CriClient(endpoint) as cri:
            version = cri.version(timeout=5)
            driver = verbose.cgroup_driver(cri)
        self.home, self.runtime_name = home, version.runtime_name
        super().__init__(
            kind="cri",
            name=os.uname().nodename,
            endpoint=endpoint,
            runtime=f"{version.runtime_name} {version.runtime_version}",
            why=why,
            lesson=lesson,
            settings={
                "sandbox": {"cgroup_driver": driver, "cgroup_root": home.cgroup_root},
                "container": {"kubelet_root": str(home.kubelet_root)},
            },
            ledger=Ledger(home, Choice("cri", endpoint=endpoint)),
        )
        self.own_pods = OwnPods(self, lambda sandbox: leavings.remove_of_pod(self.shell, places(home), sandbox))
        self.sources = Sources(self, [RUNTIMES.get(self.runtime_name, self.runtime_name)])

    def provide_images(self, progress: Progress, *, again: bool = False) -> None:
        """Serve the course's images on loopback; `images` then names them by that address. Raises NodeError where the runtime
        cannot pull from there."""
        host = Loopback(self.home).ensure(progress)
        if self.ledger:
            self.ledger.note("registry", host=host)
        self.images = {"busybox": f"{host}/busybox:1", "pause": f"{host}/pause:1"}
        try:
            self.cri.pull_image(image={"image": self.images["busybox"]}, timeout=30)
        except CriError as error:
            words = f"{self.runtime} cannot pull from the course's registry: {error.message.rstrip('.')}."
            raise NodeError(words, plain_http_advice(self.runtime_name, host)) from None


REGISTRIES_CONF = "/etc/containers/registries.conf.d/labkit.conf"
"""Where CRI-O looks for a registry of plain HTTP (man 5 containers-registries.conf.d)."""


def plain_http_advice(runtime_name: str, host: str) -> str:
    """What a learner does so that a runtime pulls by plain HTTP from "localhost:PORT"."""
    if runtime_name == "cri-o":
        line = f'registry = [{{location = "{host}", insecure = true}}]'
        command = f"echo '{line}' | sudo tee {REGISTRIES_CONF} && sudo systemctl reload crio"
        return f"Tell it that this registry speaks plain HTTP: {command}"
    return f"Let the runtime pull from http://{host} (containerd: hosts.toml below its config_path), then try again."


def allows_plain_http(host: str, directory: Path = Path(REGISTRIES_CONF).parent.parent) -> bool:
    """Whether a registries.conf on this machine names the registry."""
    files = [directory / "registries.conf", *directory.glob("registries.conf.d/*.conf")]
    return any(f'"{host}"' in file.read_text(errors="replace") for file in files if file.is_file())


def places(home: Home) -> leavings.PodPaths:
    return leavings.PodPaths(LOGS, str(home.kubelet_root / "pods"), home.cgroup_root.strip("/"))


START_WITHIN_S = 8.0
"""Shorter than a lab waits for another one (`labkit.node.state.turns`)."""


class Loopback:
    """A docker-registry of labkit's own on loopback, for runtimes whose configuration is not labkit's to write. It runs
    until `stop` and keeps its port, which may be in a runtime's configuration."""

    PORT = 15055

    def __init__(self, home: Home) -> None:
        self.home = home
        self.note = home.data / "loopback-registry.json"
        self.port_file = home.data / "loopback-registry.port"

    @property
    def port(self) -> int:
        """The port it has, or will have."""
        try:
            return int(self.port_file.read_text())
        except (OSError, ValueError):
            return self.PORT

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def choose_port(self, progress: Progress) -> int:
        """The port that it had before; another one only where that is taken. Kept for the next start."""
        port = self.port
        if not registry.is_free(port):
            port = registry.free_port()
            progress(f"port {self.port} is in use, so the course's registry has port {port} from now on")
        self.port_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.port_file, str(port).encode(), PRIVATE)
        return port

    def ensure(self, progress: Progress) -> str:
        """Start it unless it runs; "localhost:PORT". Raises NodeError, RegistryError and OSError."""
        if note := self.running():
            return str(note["host"])
        programs = ensure_programs(self.home.cache, progress)
        progress("starting the course's registry on loopback")
        with one_choice_at_a_time("registry-port"):
            return self.start(programs, progress)

    def start(self, programs: Programs, progress: Progress) -> str:
        directory, account = self.home.data / "loopback", confined.account(str(self.home.data))
        images = course_images(catatonit=programs.catatonit, busybox=programs.busybox)
        made = registry.configure(
            programs.docker_registry, directory, "registry", images, self.choose_port(progress), group=account
        )  # fmt: skip
        with trust.append(self.home.data / "loopback-registry.log") as log:
            process = subprocess.Popen(
                made.argv, executable=made.executable, cwd=made.directory, env=environment.daemon(), umask=environment.UMASK,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **confined.popen(account),
            )  # fmt: skip
        registry.wait_ready(made.url, START_WITHIN_S, lambda: process.poll() is None)
        host = made.url.replace("http://127.0.0.1", "localhost")
        note = {"pid": process.pid, "started": status.start_time(process.pid), "host": host}
        write_whole(self.note, json.dumps(note).encode(), PRIVATE)
        return host

    def running(self) -> dict[str, Any] | None:
        note = read_note(self.note, dict)
        if not isinstance(note.get("pid"), int) or not isinstance(note.get("host"), str):
            return None
        started = status.start_time(note["pid"])
        return note if started and started == note.get("started") else None

    def stop(self) -> None:
        if note := self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(note["pid"], 15)
        self.note.unlink(missing_ok=True)


def probe(home: Home, choice: Choice | None = None) -> Availability:
    """Whether the endpoint answers; without one, what to write. Never raises."""
    endpoint = choice.endpoint if choice else ""
    if not endpoint:
        return Availability(
            "cri",
            False,
            "It is for a CRI socket of your own, which you name.",
            "labkit up --node cri:unix:///run/…/containerd.sock",
        )
    try:
        with contextlib.closing(open_node(home, endpoint)) as node:
            host = Loopback(home).host
            usable = getattr(node, "runtime_name", "") != "cri-o" or allows_plain_http(host)
            return Availability("cri", True, f"{node.runtime} at {endpoint}", "" if usable else plain_http_advice("cri-o", host))
    except (NodeError, CriError) as error:
        message = error.happened if isinstance(error, NodeError) else str(error).partition("\n")[0]
        todo = error.todo if isinstance(error, NodeError) else error.hint
        return Availability("cri", False, message, todo)


def open_node(home: Home, endpoint: str, *, why: str = "", lesson: str | None = None) -> KindNode | EndpointNode:
    """A Node for "unix:///path" or "docker://NODE/path". Raises NodeError or CriError."""
    if not endpoint:
        raise NodeError("The kind cri needs an endpoint.", "Write it as cri:unix:///run/containerd/containerd.sock.")
    if endpoint.startswith("docker://"):
        name, _, inner = endpoint.removeprefix("docker://").partition("/")
        engine = need_engine()
        choice = Choice("cri", endpoint=endpoint, engine=engine.address())
        node = KindNode(home, engine, engine.node_container(name), f"/{inner}", why=why, lesson=lesson, choice=choice)
        node.kind = "cri"
        return node
    path = Path(endpoint.removeprefix("unix://"))
    if path.exists() and not path.is_socket():
        raise NodeError(
            f"{path} is no socket but a {'directory' if path.is_dir() else 'file'}.", "Give the path of the runtime's socket."
        )
    return EndpointNode(home, f"unix://{path}", why=why, lesson=lesson)


def connect(home: Home, choice: Choice, *, why: str, lesson: str | None, progress: Progress, again: bool = False) -> Node:
    """A Node for the endpoint, with the course's images within its reach. Raises NodeError or CriError."""
    with only_one(home, progress):
        node = open_node(home, choice.endpoint, why=why, lesson=lesson)
        node.provide_images(progress, again=again)
        node.choice = node.ledger.choice if node.ledger else choice
        choices.remember(home, node.choice)
    return node


def up(home: Home, choice: Choice, progress: Progress) -> dict[str, Any]:
    node = connect(home, choice, why="", lesson=None, progress=progress, again=True)
    node.close()
    choices.remember(home, node.choice, as_last=True)
    return report(home, choice)


def report(home: Home, choice: Choice) -> dict[str, Any]:
    """The node's state, asked at this moment. When it was started is not labkit's to know."""
    try:
        with contextlib.closing(open_node(home, choice.endpoint)) as node:
            version = node.cri.version()
            runtime = {"name": version.runtime_name, "version": version.runtime_version}
            return {"node": "cri", "state": "ready", "endpoint": node.endpoint, "runtime": runtime, "pid": None, "since": None}
    except (NodeError, CriError) as error:
        none = {"endpoint": None, "runtime": None, "pid": None, "since": None}
        return {"node": "cri", "state": "down", **none, "error": str(error)}


def unanswered(home: Home, report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The runtime was asked for the report; nothing else of the lab serves it."""
    return {}
