"""A node of a learner's cluster that is a container of Docker (or Podman), made by kind or minikube: of the kinds `kind` and
`cri:docker://…`.

labkit needs no root for it, only the right to use Docker: commands go through `docker exec`, CRI through the relay. Where the
learner is root on the node's own kernel, the socket is reached directly below /proc/PID/root.
"""

from __future__ import annotations

from typing import Any

from labkit.cri import CriClient, verbose
from labkit.kernel.remote import RemoteKernel
from labkit.node.host import relay
from labkit.node.node import Node
from labkit.node.observe.source import ContainerSources
from labkit.node.packages.programs import ensure_programs
from labkit.node.pods.api_access import UsersApi
from labkit.node.pods.kubelet_pause import KubeletPause, kubelet_held
from labkit.node.pods.node_dns import KubeletDns
from labkit.node.pods.own_pods import OwnPods
from labkit.node.registry import node_registry as inside
from labkit.node.registry import share
from labkit.node.remote import pod_residue
from labkit.node.remote.container_access import InContainer, explained, kubeconfig, relay_name, start_relay
from labkit.node.remote.engine import COMMANDS, KIND_CLUSTER, Engine, NodeContainer
from labkit.node.remote.kind_cluster import CLUSTER, made_here
from labkit.node.remote.kind_daemon import KindDaemon
from labkit.node.state.home import Home
from labkit.node.state.ledger import Ledger, mark_of
from labkit.node.state.node_selector import NodeSelector
from labkit.util.progress import Progress


class KindNode(Node):
    """One node container of a cluster. Pids are the node's own; where this machine shows the node's processes too,
    `host.pids_here` maps them."""

    host: InContainer

    def __init__(
        self, home: Home, engine: Engine, container: NodeContainer, socket: str, *, why: str, lesson: str | None = None,
        selector: NodeSelector | None = None,
    ) -> None:
        self.home, self.engine, self.container = home, engine, container
        host = InContainer(engine, container)
        path = start_relay(home, engine, container, socket)
        with explained(home, engine, container), CriClient(f"unix://{path}") as cri:
            version = cri.version(timeout=10)
            driver = verbose.cgroup_driver(cri)
        super().__init__(
            kind="kind",
            name=container.name,
            endpoint=f"unix://{path}",
            runtime=f"{version.runtime_name} {version.runtime_version}",
            why=why,
            lesson=lesson,
            settings=settings(driver),
            host=host,
            kernel=RemoteKernel(host.run),
            ledger=Ledger(home, selector or selector_of(engine, container)),
            socket_path=socket,
        )
        self.own_pods = OwnPods(self, lambda sandbox: pod_residue.remove_of_pod(host.shell, pod_residue.PLACES, sandbox))
        self.api = users_api(home, host)
        self.dns = KubeletDns(host)
        self.sources = EngineSources(self)
        self.images_by = inside.Supply("")

    def kubelet_held(self) -> KubeletPause:
        return kubelet_held(self, asks=not self.is_made_here(), mark=mark_of(self.home))

    def is_made_here(self) -> bool:
        """Whether this home made the node's cluster."""
        return self.container.cluster == CLUSTER and made_here(self.home, self.engine, [self.container])

    @property
    def daemon(self) -> KindDaemon:
        """The node's containerd itself: kill, stop, start, restart. It is the cluster's, so it is not upgraded."""
        return KindDaemon(self)

    def provide_images(self, progress: Progress, *, again: bool = False) -> None:
        """Make the course's images available on the node (see `labkit.node.registry.node_registry.provide`)."""
        assert self.ledger
        self.ledger.note("registry")
        run = self.host.run
        share.register(run, self.ledger.mark, str(self.home.data))
        programs = ensure_programs(self.home.cache, progress)
        self.images_by = inside.provide(self.cri, run, programs, self.home.data, progress, self.socket_path, again=again)


class EngineSources(ContainerSources):
    """With the console, which the engine keeps."""

    node: KindNode

    def console(self, since: float) -> str:
        return self.node.engine.run("logs", "--since", f"{since:.3f}", self.node.container.name, timeout=30.0)


def users_api(home: Home, host: InContainer) -> UsersApi:
    """The API of the node's cluster. kubeadm names a node after its host, except for the one that `kind_cluster` names."""
    engine, container = host.engine, host.container
    is_labs = container.cluster == CLUSTER and container.role == "worker"
    prefix = "kind-" if KIND_CLUSTER in container.labels else ""
    return UsersApi(
        home,
        container.name,
        cluster=container.cluster,
        context=container.cluster and prefix + container.cluster,
        find_name=lambda: "sim-worker" if is_labs else host.shell(["hostname"]).strip(),
        own_config=kubeconfig(home, engine, container.name),
        engine=engine.environment(),
    )


def settings(driver: str) -> dict[str, Any]:
    return {
        "sandbox": {"cgroup_driver": driver, "cgroup_root": "/labkit", "log_root": f"{share.DIRECTORY}/log/pods"},
        "container": {"kubelet_root": f"{share.DIRECTORY}/kubelet"},
    }


def selector_of(engine: Engine, container: NodeContainer) -> NodeSelector:
    """The selector of this node alone."""
    return NodeSelector("kind", container.cluster, container.name, engine=engine.address())


def stop(home: Home, node_name: str) -> None:
    """End the node's relay, and with it every `docker exec` that it runs; remove the kubeconfig that `labkit env` wrote."""
    engine = Engine.find() or Engine(COMMANDS[0])
    relay.stop_relay(home, relay_name(engine, node_name))
    kubeconfig(home, engine, node_name).unlink(missing_ok=True)
