"""`node.api`: how the Kubernetes API of a node's cluster is reached, by a client, by kubectl, and from a shell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.node.pods import kubectl
from labkit.node.pods.api_client import api_client, core_v1
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api  # slow to import

    from labkit.node.state.home import Home

Warn = Callable[[str], None]


class NoApi:
    """The API of a node that is of no cluster: every way there raises NodeError. The base of the others."""

    def __init__(self, node_name: str) -> None:
        self._name = node_name

    @property
    def kube(self) -> CoreV1Api:
        """The official client. Raises NodeError."""
        raise self.of_no_cluster()

    def node_name(self) -> str:
        """What the cluster calls this node."""
        return self._name

    def kubectl_options(self) -> Sequence[str]:
        """What kubectl needs before all other arguments to speak with the node's cluster. Raises NodeError where it is of none:
        kubectl by itself would speak with the user's own."""
        raise self.of_no_cluster()

    def kubectl(self, arguments: Sequence[str], stdin: str | None = None) -> str:
        """Run kubectl with the node's cluster, in the namespace "default" where `arguments` name no other; what it prints. Raises
        NodeError."""
        options = [*self.kubectl_options(), "--namespace", kubectl.NAMESPACE]  # the context may name another by default
        return kubectl.run([*options, *arguments], self.environment(), stdin)

    def environment(self) -> dict[str, str]:
        """What other programs need in their environment to find the node's Kubernetes API; empty where the user's own do."""
        return {}

    def shell_environment(self, warn: Warn) -> dict[str, str]:
        """What a shell needs in its environment so that its commands, kubectl among them, find the node and its cluster. Calls
        `warn` with what cannot be had."""
        return {}

    def allocatable(self) -> Mapping[str, str]:
        """What the node gives to Pods, as its status has it; {} where no API answers."""
        from kubernetes.client import ApiException

        try:
            read: Any = self.kube.read_node(self.node_name())  # to the client every field may be None
            return dict(read.status.allocatable)
        except (NodeError, ApiException):
            return {}

    def of_no_cluster(self) -> NodeError:
        return NodeError(
            f"The node {self._name} is of no cluster, so there is no Kubernetes API.",
            "Use node.cri, or a node of kind `containerd`, `vm` or `kind`: `labkit doctor` says which can work here.",
        )


class LabApi(NoApi):
    """The lab's own Kubernetes on a private node; a kubeconfig of the lab's leads to it."""

    def __init__(self, node_name: str, home: Home, kubeconfig: Path) -> None:
        super().__init__(node_name)
        self.home, self.kubeconfig = home, kubeconfig

    @cached_property
    def kube(self) -> CoreV1Api:
        return core_v1(self.kubeconfig)

    def kubectl_options(self) -> Sequence[str]:
        return ()  # `environment` leads there

    def environment(self) -> dict[str, str]:
        return {kubectl.CONFIG: str(self.kubeconfig)}

    def shell_environment(self, warn: Warn) -> dict[str, str]:
        return {kubectl.USERS_OWN: kubectl.users_own(self.home), **self.environment()}


class UsersApi(NoApi):
    """The API of a cluster in the user's own kubeconfig, by a context that kind or minikube wrote there.

    cluster: its name, "" for a node of none. context: "" likewise. find_name: asks for what the cluster calls the node.
    own_config: where `shell_environment` writes a kubeconfig in which the node's cluster is the only one, since no variable names
    a context to kubectl.
    """

    def __init__(
        self, home: Home, node_name: str, *, cluster: str, context: str, find_name: Callable[[], str], own_config: Path,
        engine: Mapping[str, str],
    ) -> None:
        super().__init__(node_name)
        self.home, self.cluster, self._context, self.own_config = home, cluster, context, own_config
        self._find_name, self._engine = find_name, engine

    @property
    def context(self) -> str:
        """Raises NodeError for a container of no cluster: without a name a client takes the user's current context."""
        if not self._context:
            raise self.of_no_cluster()
        return self._context

    @property
    def kube(self) -> CoreV1Api:
        """As the kubeconfig is now. Raises NodeError."""
        from kubernetes import client, config

        context = self.context
        try:
            # As it is now: the client would take the one that was set when it was imported.
            return client.CoreV1Api(api_client(kubectl.users_own(self.home) or "~/.kube/config", context))
        except (config.ConfigException, OSError) as error:
            happened = f"There is no kubeconfig for the cluster {self.cluster} ({error})."
            raise NodeError(happened, f"Try: {self.export_command()}") from None

    def node_name(self) -> str:
        return self._find_name()

    def kubectl_options(self) -> Sequence[str]:
        return ("--context", self.context)

    def environment(self) -> dict[str, str]:
        return kubectl.users_environment(self.home)

    def shell_environment(self, warn: Warn) -> dict[str, str]:
        found = dict(self._engine)
        if self.cluster:
            try:
                kubectl.write_config_of(self.home, self.context, self.own_config)
            except (NodeError, OSError) as error:
                warn(f"kubectl of this shell does not reach the cluster {self.cluster} ({error}). Try: {self.export_command()}")
            else:
                found |= {kubectl.USERS_OWN: kubectl.users_own(self.home), kubectl.CONFIG: str(self.own_config)}
        return found

    def export_command(self) -> str:
        return f"kind export kubeconfig --name {self.cluster}"
