"""A Pod made by hand: the CRI calls that a kubelet makes, in its order, without a kubelet."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from labkit.cri import CriClient, CriError
from labkit.cri.pods import PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.node.host.access import Host
from labkit.node.pods import operations, pod_files
from labkit.podspec import DefaultedPod, defaulted, find_container, messages
from labkit.podspec.messages import CreateContainerConfigError
from labkit.podspec.messages.container_env import reads_limits
from labkit.podspec.messages.hosts import hosts_file
from labkit.util.errors import NodeError
from labkit.util.progress import attempts

if TYPE_CHECKING:
    from labkit.node.pods.api_access import NoApi
    from labkit.node.pods.node_dns import NodeDns
    from labkit.node.pods.own_pods import OwnPods

INIT_WITHIN_S = 120.0
REMOVE_WITHIN_S = 3.0

Manifest = Mapping[str, Any]


class CriPodsNode(Protocol):
    """A node, as far as it is needed here."""

    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def cri(self) -> CriClient: ...
    @property
    def host(self) -> Host: ...
    @property
    def api(self) -> NoApi: ...
    @property
    def dns(self) -> NodeDns: ...
    @property
    def own_pods(self) -> OwnPods: ...

    def pod(self, pod: Manifest) -> PodSnapshot: ...


def start(node: CriPodsNode, manifest: DefaultedPod, auth: Mapping[str, str] | None, runtime_handler: str) -> PodSnapshot:
    """Start a complete manifest's Pod (see `Node.start_pod`). What could not be started is removed again."""
    pod_files.refuse_volumes(manifest)
    config = sandbox_config(node, manifest)
    replace_twin(node, manifest)
    with removed_on_failure(node, manifest):
        sandbox = node.cri.run_pod_sandbox(config=config, runtime_handler=runtime_handler, timeout=60).pod_sandbox_id
        ip = node.cri.pod_sandbox_status(pod_sandbox_id=sandbox).status.network.ip
        for spec in manifest["spec"].get("initContainers") or []:
            started = start_container(node, manifest, spec, config, sandbox, ip, auth)
            if spec.get("restartPolicy") != "Always":  # such a one is a sidecar, which goes on beside the others
                run_init(node, started, spec["name"])
        for spec in manifest["spec"]["containers"]:
            start_container(node, manifest, spec, config, sandbox, ip, auth)
        return node.pod(manifest)


def sandbox_config(node: CriPodsNode, pod: Manifest, **more: Any) -> api_pb2.PodSandboxConfig:
    """See `Node.sandbox_config`."""
    pod = defaulted(pod)
    if "dns" not in more:
        more["dns"] = node.dns.of_pod(pod)
    node.own_pods.note(pod)
    more.setdefault("cluster_domain", node.dns.cluster_domain)
    return messages.sandbox_config(pod, **{**node.settings.get("sandbox", {}), **more})


def container_config(node: CriPodsNode, pod: Manifest, name: str, **more: Any) -> api_pb2.ContainerConfig:
    """See `Node.container_config`."""
    pod = defaulted(pod)
    if "pod_ip" not in more:
        more["pod_ip"] = operations.pod_ip(node.cri, pod["metadata"]["uid"])
    if "allocatable" not in more and reads_limits(find_container(pod, name)):
        more["allocatable"] = node.api.allocatable()
    config = messages.container_config(pod, name, **{**node.settings.get("container", {}), **more})
    ips = [more["pod_ip"]] if isinstance(more["pod_ip"], str) else more["pod_ip"] or []
    hosts = hosts_file(pod, ips, lambda: node.host.shell(["cat", "/etc/hosts"]), node.dns.cluster_domain)
    pod_files.make(pod, config, node.host, hosts=hosts)
    log = posixpath.join(sandbox_config(node, pod).log_directory, config.log_path)
    node.host.make_directory(posixpath.dirname(log), 0o755)  # containerd makes it where it is missing, CRI-O does not
    return config


def host_paths(settings: Mapping[str, Any]) -> str:
    """Where on a node the Pods' hostPath volumes may lie: beside the kubelet's directory of `Node.settings`."""
    return posixpath.join(posixpath.dirname(settings.get("container", {}).get("kubelet_root") or "/tmp/kubelet"), "hostpath")


def start_container(
    node: CriPodsNode,
    manifest: Manifest,
    spec: Manifest,
    sandbox_config: Any,
    sandbox: str,
    ip: str,
    auth: Mapping[str, str] | None,
) -> str:
    """PullImage if absent, CreateContainer, StartContainer; the container's id."""
    image = operations.pull_if_absent(node.cri, spec["image"], auth, spec.get("imagePullPolicy", "IfNotPresent"))
    host_ip = node.settings.get("container", {}).get("host_ip")
    address = (ip or host_ip) if manifest["spec"].get("hostNetwork") else ip
    try:
        config = container_config(node, manifest, spec["name"], image_ref=image, pod_ip=address)
    except CreateContainerConfigError as error:
        raise NodeError(f"The container {spec['name']} cannot be configured: {error}.", "Change the manifest.") from None
    made = node.cri.create_container(
        pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config, timeout=60
    ).container_id
    node.cri.start_container(container_id=made, timeout=60)
    return str(made)


def run_init(node: CriPodsNode, container: str, name: str) -> None:
    try:
        code = operations.wait_exit(node.cri, container, INIT_WITHIN_S)
    except TimeoutError:
        raise NodeError(
            f"The init container {name} still ran after {INIT_WITHIN_S:.0f} s.", "An init container must end."
        ) from None
    if code:
        raise NodeError(
            f"The init container {name} exited with code {code}.", "The kubelet would run it again; start_pod does not."
        )


def replace_twin(node: CriPodsNode, manifest: Manifest) -> None:
    """Remove the Pod of that name that this lesson started before: a learner runs a cell twice. Refuse that of anybody else."""
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    twins = [s for s in node.cri.list_pod_sandbox().items if (s.metadata.name, s.metadata.namespace) == (name, namespace)]
    if any(s.state == api_pb2.SANDBOX_READY and not node.own_pods.is_of_lesson(s) for s in twins):
        raise NodeError(
            f"A Pod {namespace}/{name} runs on this node already.", "Remove it with node.remove_pod, or choose another name."
        )
    for sandbox in filter(node.own_pods.is_of_lesson, twins):
        node.own_pods.remove_sandbox(sandbox)


@contextlib.contextmanager
def removed_on_failure(node: CriPodsNode, manifest: Manifest) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove_patiently(node, manifest)
        raise


def remove_patiently(node: CriPodsNode, manifest: Manifest) -> None:
    """Remove what there is of a Pod, also while the runtime is restarted in the middle, once or several times."""
    with contextlib.suppress(CriError):
        for _ in attempts(3 * REMOVE_WITHIN_S, 0.0):
            node.cri.wait_until_ready(REMOVE_WITHIN_S)
            try:
                return node.own_pods.remove(manifest)
            except CriError as error:
                if error.code != "UNAVAILABLE":
                    return
