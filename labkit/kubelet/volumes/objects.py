"""ConfigMaps and Secrets that Pods refer to, read from the API when they are needed.

Nothing is kept longer than a moment: the kubelet's own cache is a watch on each object; asking anew shows the same.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.kubelet.api import ApiClient, ApiClientError, segment


@dataclass(frozen=True)
class Objects:
    api: ApiClient

    def read(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """The object, None where there is none. `kind`: "configmaps" or "secrets". Raises ApiError."""
        if not name:
            return None
        try:
            return self.api.get(f"/api/v1/namespaces/{segment(namespace)}/{kind}/{segment(name)}")
        except ApiClientError as error:
            if error.code == 404:
                return None
            raise

    def data(self, kind: str, namespace: str, name: str) -> dict[str, bytes] | None:
        """Key → bytes of a ConfigMap or Secret, None where there is none. Raises ApiError."""
        found = self.read(kind, namespace, name)
        return None if found is None else data_of(found)

    def of_environment(self, pod: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, dict[str, dict[str, bytes]]]:
        """{"configmaps": {name: data}, "secrets": …} of all that a container's variables refer to; of a ConfigMap the text alone
        (kubelet_pods.go, makeEnvironmentVariables, does not look at binaryData). Raises ApiError."""
        result: dict[str, dict[str, dict[str, bytes]]] = {"configmaps": {}, "secrets": {}}
        for kind, name in environment_references(container):
            if name not in result[kind]:
                found = self.read(kind, pod["metadata"]["namespace"], name)
                if found is not None:
                    result[kind][name] = data_of({**found, "binaryData": None})
        return result


def environment_references(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(kind, name) of each ConfigMap and Secret that env and envFrom name."""
    for source in container.get("envFrom", ()):
        if "configMapRef" in source:
            yield "configmaps", source["configMapRef"].get("name", "")
        if "secretRef" in source:
            yield "secrets", source["secretRef"].get("name", "")
    for variable in container.get("env", ()):
        value = variable.get("valueFrom") or {}
        if "configMapKeyRef" in value:
            yield "configmaps", value["configMapKeyRef"].get("name", "")
        if "secretKeyRef" in value:
            yield "secrets", value["secretKeyRef"].get("name", "")


def data_of(thing: Mapping[str, Any]) -> dict[str, bytes]:
    """Key → bytes: a Secret's data and a ConfigMap's binaryData are base64, a ConfigMap's data is text."""
    if thing.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (thing.get("data") or {}).items()}
    text = {key: value.encode() for key, value in (thing.get("data") or {}).items()}
    return {**text, **{key: base64.b64decode(value) for key, value in (thing.get("binaryData") or {}).items()}}
