"""Node kind `cri:ENDPOINT`: a CRI socket of the learner's own (k3s, minikube, CRI-O, a node), whatever runtime speaks there.

`cri:unix:///run/k3s/containerd/containerd.sock`, or `cri:docker://NODE/path/to.sock` for a socket inside of a container. What the
runtime is, is asked, never assumed. The course's images come from a registry on this machine's loopback, which runtimes take
without TLS.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from labkit.cri import CriClient, CriError, verbose
from labkit.node.host.access import run_local
from labkit.node.node import Node
from labkit.node.observe.source import Sources
from labkit.node.packages.programs import find_programs
from labkit.node.pods.own_pods import OwnPods
from labkit.node.registry import node_registry
from labkit.node.remote import kind_clean, pod_residue, undo
from labkit.node.remote.container_selection import need_engine
from labkit.node.remote.kind_node import KindNode
from labkit.node.remote.loopback_registry import Loopback
from labkit.node.remote.undo import Part, Place
from labkit.node.state import node_selector
from labkit.node.state.home import Home
from labkit.node.state.kind_of_node import Availability, Cleaned, KindOfNode, Report, node_report
from labkit.node.state.ledger import Ledger
from labkit.node.state.locks import home_lock
from labkit.node.state.node_selector import IN_A_CONTAINER, NodeSelector
from labkit.util.errors import NodeError
from labkit.util.progress import Progress

RUNTIMES = {"containerd": "containerd", "cri-o": "crio"}
"""runtime_name of the Version answer → comm of its process."""
LOGS = "/var/log/pods"
COMMAND_WITHIN_S = 60.0


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
            ledger=Ledger(home, NodeSelector("cri", endpoint=endpoint)),
        )
        self.own_pods = OwnPods(self, lambda sandbox: pod_residue.remove_of_pod(self.shell, places(home), sandbox))
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


def places(home: Home) -> pod_residue.PodPaths:
    return pod_residue.PodPaths(LOGS, str(home.kubelet_root / "pods"), home.cgroup_root.strip("/"))


def probe(home: Home, selector: NodeSelector | None = None) -> Availability:
    """Whether the endpoint answers; without one, what to write. Never raises."""
    endpoint = selector.endpoint if selector else ""
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
        selector = NodeSelector("cri", endpoint=endpoint, engine=engine.address())
        node = KindNode(home, engine, engine.node_container(name), f"/{inner}", why=why, lesson=lesson, selector=selector)
        node.kind = "cri"
        return node
    path = Path(endpoint.removeprefix("unix://"))
    if path.exists() and not path.is_socket():
        raise NodeError(
            f"{path} is no socket but a {'directory' if path.is_dir() else 'file'}.", "Give the path of the runtime's socket."
        )
    return EndpointNode(home, f"unix://{path}", why=why, lesson=lesson)


def connect(home: Home, selector: NodeSelector, *, why: str, lesson: str | None, progress: Progress, again: bool = False) -> Node:
    """A Node for the endpoint, with the course's images within its reach. Raises NodeError or CriError."""
    with home_lock(home, progress):
        node = open_node(home, selector.endpoint, why=why, lesson=lesson)
        node.provide_images(progress, again=again)
        node.selector = node.ledger.selector if node.ledger else selector
        node_selector.remember(home, node.selector)
    return node


def up(home: Home, selector: NodeSelector, progress: Progress) -> Report:
    node = connect(home, selector, why="", lesson=None, progress=progress, again=True)
    node.close()
    node_selector.remember(home, node.selector, as_last=True)
    return report(home, selector)


def report(home: Home, selector: NodeSelector) -> Report:
    """The node's state, asked at this moment. When it was started is not labkit's to know."""
    try:
        with contextlib.closing(open_node(home, selector.endpoint)) as node:
            version = node.cri.version()
    except (NodeError, CriError) as error:
        return node_report("cri", error=str(error))
    runtime = {"name": version.runtime_name, "version": version.runtime_version}
    return node_report("cri", "ready", endpoint=node.endpoint, runtime=runtime)


def unanswered(home: Home, report: Report) -> dict[str, Report]:
    """The runtime was asked for the report; nothing else of the lab serves it."""
    return {}


def down(home: Home, selector: NodeSelector, progress: Progress) -> int:
    """Remove the Pods that this lab made by hand, and end its registry. How many Pods there were. Raises NodeError where the
    runtime could not be asked, or something stayed."""
    if is_in_container(selector):
        return kind_clean.down(home, selector, progress)
    with home_lock(home, progress):
        with reached(home, selector) as place:
            found, left = undo.undo(place, (undo.NETWORK, undo.PODS))
        Loopback(home).stop()
        if left:
            raise NodeError(f"Not all is down: {left[0]}.", "Then run this again.")
        return sum(what.startswith("Pod ") for what in found)


def clean(home: Home, selector: NodeSelector, progress: Progress) -> Cleaned:
    """As `kind_clean.clean`."""
    if is_in_container(selector):
        return kind_clean.clean(home, selector, progress)
    with home_lock(home, progress), reached(home, selector) as place:
        progress(f"removing labkit's Pods and images from {place.name}")
        found, left = undo.undo(place, PARTS)
        Loopback(home).stop()
    return found, left, place.alone


def is_in_container(selector: NodeSelector) -> bool:
    return selector.endpoint.startswith(IN_A_CONTAINER)


@contextlib.contextmanager
def reached(home: Home, selector: NodeSelector) -> Iterator[Place]:
    place = Place(selector.endpoint, Ledger(home, selector), lambda argv: run_local(argv, COMMAND_WITHIN_S), places(home))
    try:
        place.node = open_node(home, selector.endpoint)
    except (NodeError, CriError) as error:
        place.why = undo.first_line(error)
    try:
        yield place
    finally:
        if place.node:
            place.node.close()


def is_own(place: Place, name: str) -> bool:
    """Whether an image's name is of this home's registry: another one on loopback may serve the same images."""
    host = name.partition("/")[0]
    return host.startswith("localhost:") and host in place.ledger.values("registry", "host")


def find_images(place: Place) -> list[str]:
    images = place.running().cri.list_images().images
    return [f"image {name}" for image in images for name in node_registry.names_of(image) if is_own(place, name)]


def remove_images(place: Place, found: list[str]) -> None:
    node = place.running()

    def run(argv: Sequence[str]) -> bytes:
        """`ctr` with the lab's own program, at this runtime."""
        if not node.runtime.startswith("containerd"):
            raise NodeError(f"{argv[-1]} has other names, and {node.runtime} removes them all with it")
        ctr = str(find_programs(place.ledger.home.cache).ctr)
        return place.shell([ctr, "--address", node.socket_path, *argv[1:]]).encode()

    node_registry.forget(node.cri, run, lambda name: is_own(place, name))


PARTS = (undo.NETWORK, undo.PODS, undo.SHIMS, undo.LEAVINGS, Part("images", find_images, remove_images))

KIND = KindOfNode(probe, up, connect, report, unanswered, down, clean)
