"""A Pod made by hand: the CRI calls that a kubelet makes, in its order, without a kubelet."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labkit.cri import CriError
from labkit.cri.pods import PodSnapshot
from labkit.cri.v1 import api_pb2
from labkit.node.pods import operations, pod_files
from labkit.podspec.messages import CreateContainerConfigError
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.node import Node

INIT_WITHIN_S = 120.0
REMOVE_WITHIN_S = 3.0

Manifest = Mapping[str, Any]


def start(node: Node, manifest: Manifest, auth: Mapping[str, str] | None, runtime_handler: str) -> PodSnapshot:
    """Start a complete manifest's Pod (see `Node.start_pod`). What could not be started is removed again."""
    pod_files.refuse_volumes(manifest)
    config = node.sandbox_config(manifest)
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


def start_container(
    node: Node, manifest: Manifest, spec: Manifest, sandbox_config: Any, sandbox: str, ip: str, auth: Mapping[str, str] | None
) -> str:
    """PullImage if absent, CreateContainer, StartContainer; the container's id."""
    image = operations.pull_if_absent(node.cri, spec["image"], auth, spec.get("imagePullPolicy", "IfNotPresent"))
    host_ip = node.settings.get("container", {}).get("host_ip")
    address = (ip or host_ip) if manifest["spec"].get("hostNetwork") else ip
    try:
        config = node.container_config(manifest, spec["name"], image_ref=image, pod_ip=address)
    except CreateContainerConfigError as error:
        raise NodeError(f"The container {spec['name']} cannot be configured: {error}.", "Change the manifest.") from None
    made = node.cri.create_container(
        pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config, timeout=60
    ).container_id
    node.cri.start_container(container_id=made, timeout=60)
    return str(made)


def run_init(node: Node, container: str, name: str) -> None:
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


def replace_twin(node: Node, manifest: Manifest) -> None:
    """Remove the Pod of that name that this lesson started before: a learner runs a cell twice. Refuse that of anybody else."""
    name, namespace = manifest["metadata"]["name"], manifest["metadata"]["namespace"]
    twins = [s for s in node.cri.list_pod_sandbox().items if (s.metadata.name, s.metadata.namespace) == (name, namespace)]
    if any(s.state == api_pb2.SANDBOX_READY and not node.is_of_lesson(s) for s in twins):
        raise NodeError(
            f"A Pod {namespace}/{name} runs on this node already.", "Remove it with node.remove_pod, or choose another name."
        )
    for sandbox in filter(node.is_of_lesson, twins):
        node.remove_sandbox(sandbox)


@contextlib.contextmanager
def removed_on_failure(node: Node, manifest: Manifest) -> Iterator[None]:
    try:
        yield
    except BaseException:
        remove_patiently(node, manifest)
        raise


def remove_patiently(node: Node, manifest: Manifest) -> None:
    """Remove what there is of a Pod, also while the runtime is restarted in the middle, once or several times."""
    deadline = time.monotonic() + 3 * REMOVE_WITHIN_S
    with contextlib.suppress(CriError):
        while True:
            node.cri.wait_until_ready(REMOVE_WITHIN_S)
            try:
                return node.remove_pod(manifest)
            except CriError as error:
                if error.code != "UNAVAILABLE" or time.monotonic() > deadline:
                    return
