"""What is said about a Pod that is accepted: words that a client prints before its answer (the Warning header).

First Kubernetes' own, about what is legal and probably not meant (pkg/api/pod/warnings.go); then the lab's, about what a real
cluster would act on and this one does not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from labkit.apiserver.objects import ignored

Manifest = Mapping[str, Any]


def of_pod(pod: Manifest, nodes: Collection[str]) -> Iterator[str]:
    """The warnings about a Pod whose defaults are filled in. `nodes`: the names of the nodes that there are."""
    spec = pod.get("spec") or {}
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    for number, secret in enumerate(spec.get("imagePullSecrets") or []):
        if not secret.get("name"):
            yield f'spec.imagePullSecrets[{number}].name: invalid empty name ""'
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or []):
            yield from _of_container(container, f"spec.{kind}[{number}]")
    yield from (f"{path}: {words}" for path, words in ignored.of_pod(pod))
    if spec.get("nodeName") and spec["nodeName"] not in nodes:
        yield f'spec.nodeName: The lab has no node "{spec["nodeName"]}", so the Pod stays Pending until there is one.'


def _of_container(container: Manifest, path: str) -> Iterator[str]:
    seen: set[str] = set()
    for number, variable in enumerate(container.get("env") or []):
        name, value = variable.get("name", ""), variable.get("value") or ""
        own = f"$({name})"
        if name in seen and (variable.get("valueFrom") or value == own or own not in value):
            yield f'{path}.env[{number}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)
    ports: dict[tuple[Any, ...], int] = {}
    for number, port in enumerate(container.get("ports") or []):
        key = tuple(port.get(field) for field in ("containerPort", "protocol", "hostPort", "hostIP"))
        if key in ports:
            yield f"{path}.ports[{number}]: duplicate port definition with {path}.ports[{ports[key]}]"
        ports.setdefault(key, number)
