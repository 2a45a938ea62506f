"""A Pod manifest: read from a dict or a V1Pod, checked, and completed with the API server's defaults.

Wording of problems: kubernetes' pkg/apis/core/validation and apimachinery's field errors. Defaults: kubernetes'
pkg/apis/core/v1/defaults.go.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Mapping
from typing import Any

from labkit.cri.rules import rule_problems
from labkit.cri.schema import type_problems
from labkit.showable import showable_lines

KINDS = ("initContainers", "containers", "ephemeralContainers")
STATIC_UIDS = uuid.UUID("6b1f3c52-6f5e-5d55-9d0c-6c61626b6974")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
PROBE_DEFAULTS = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
MODE_0644 = 0o644


class ManifestError(ValueError):
    """A Pod manifest that cannot be run. `problems` has a line for each thing wrong; `str()` has all of them."""

    def __init__(self, problems: list[str], name: str = "") -> None:
        self.problems = tuple(problems)
        self.name = name
        super().__init__(self.problems, name)

    def __str__(self) -> str:
        whole = f'The Pod "{self.name}" is invalid' if self.name else "The Pod is invalid"
        what = f"{whole}: {self.problems[0]}." if len(self.problems) == 1 else "\n* ".join([f"{whole}:", *self.problems])
        return f"{what}\nCorrect the manifest; `kubectl explain pod.spec` describes each field."

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback (IPython's protocol)."""
        return showable_lines(f"{type(self).__name__}: {self}").split("\n")


def with_defaults(pod: Any) -> dict[str, Any]:
    """A copy of a Pod manifest as the API server would store it: checked, defaults filled in, with a uid.

    pod: dict, or kubernetes.client.V1Pod. A uid that is there is kept; else each call makes a new random one, so call it
    once for a Pod and give its result to everything else. Raises ManifestError.
    """
    complete = read(pod)
    if not _plain(pod).get("metadata", {}).get("uid"):
        complete["metadata"]["uid"] = str(uuid.uuid4())
    return complete


def read(pod: Any) -> dict[str, Any]:
    """A checked copy with the defaults. A Pod without a uid gets one made of its namespace and name, the same each time,
    so that two messages built from one manifest agree (the kubelet does so for static Pods, by a hash of the manifest).

    Raises ManifestError.
    """
    plain = _plain(pod)
    problems = list(type_problems(plain))
    if not problems:
        problems = list(rule_problems(plain))
    if problems:
        raise ManifestError(problems, _name(plain))
    return _complete(_without_none(plain))


def container_names(pod: Mapping[str, Any], kinds: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """The names of a Pod's containers in the order in which they start: init, then regular, then ephemeral."""
    return tuple(container["name"] for kind in kinds for container in pod["spec"].get(kind) or ())


def find_container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """The container, init container or ephemeral container of that name. Raises ManifestError if there is none."""
    for kind in KINDS:
        for container in pod["spec"].get(kind, ()):
            if container["name"] == name:
                return container
    has = ", ".join(container_names(pod))
    raise ManifestError([f'container {name} is not valid for pod {_name(pod)}: its containers are {has}'], _name(pod))


def _plain(pod: Any) -> dict[str, Any]:
    """The manifest as dicts and lists with the API's own (camelCase) keys, not yet checked."""
    if isinstance(pod, Mapping):
        return copy.deepcopy(dict(pod))
    if hasattr(pod, "openapi_types"):
        from kubernetes.client import ApiClient

        return ApiClient().sanitize_for_serialization(pod)
    advice = ": read YAML with yaml.safe_load first" if isinstance(pod, (str, bytes)) else ""
    raise ManifestError([f"a Pod manifest is a dict or a V1Pod, not a {type(pod).__name__}{advice}"])


def _name(plain: Mapping[str, Any]) -> str:
    metadata = plain.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else ""
    return name if isinstance(name, str) else ""


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value


def _complete(pod: dict[str, Any]) -> dict[str, Any]:
    pod.setdefault("apiVersion", "v1")
    pod.setdefault("kind", "Pod")
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["namespace"] = metadata.get("namespace") or "default"
    metadata["uid"] = metadata.get("uid") or str(uuid.uuid5(STATIC_UIDS, f"{metadata['namespace']}/{metadata['name']}"))
    for name, value in (
        ("dnsPolicy", "ClusterFirst"),
        ("restartPolicy", "Always"),
        ("schedulerName", "default-scheduler"),
        ("securityContext", {}),
        ("terminationGracePeriodSeconds", 30),
        ("enableServiceLinks", True),
    ):
        spec.setdefault(name, value)
    for kind in KINDS:
        for container in spec.get(kind, ()):
            _complete_container(container, spec.get("hostNetwork", False))
    for volume in spec.get("volumes", ()):
        _complete_volume(volume)
    return pod


def _complete_container(container: dict[str, Any], host_network: bool) -> None:
    container.setdefault("imagePullPolicy", "Always" if _tag(container["image"]) == "latest" else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    for port in container.get("ports", ()):
        port.setdefault("protocol", "TCP")
        if host_network:
            port.setdefault("hostPort", port["containerPort"])
    for variable in container.get("env", ()):
        if "fieldRef" in variable.get("valueFrom", {}):
            variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")
    for probe in PROBES:
        if probe in container:
            container[probe] = {**PROBE_DEFAULTS, **container[probe]}
            if "httpGet" in container[probe]:
                container[probe]["httpGet"] = {"path": "/", "scheme": "HTTP", **container[probe]["httpGet"]}


def _tag(image: str) -> str:
    """The tag of an image reference; "latest" where it has neither tag nor digest."""
    if "@" in image:
        return ""
    match = re.search(r":([^:/]+)$", image)
    return match[1] if match else "latest"


def _complete_volume(volume: dict[str, Any]) -> None:
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if kind in volume:
            volume[kind].setdefault("defaultMode", MODE_0644)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "image" in volume:
        volume["image"].setdefault("pullPolicy", "Always" if _tag(volume["image"]["reference"]) == "latest" else "IfNotPresent")


