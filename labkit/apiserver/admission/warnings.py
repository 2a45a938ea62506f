"""What is said about a Pod that is accepted: words that a client prints before its answer (the Warning header).

First Kubernetes' own, about what is legal and probably not meant (pkg/api/pod/warnings.go, pkg/api/node/util.go), in its order;
then the lab's, about what a real cluster would act on and this one does not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from labkit.apiserver.admission import ignored
from labkit.podspec.container_kinds import KINDS
from labkit.podspec.quantity import canonical, exact
from labkit.podspec.validation.field_errors import label

Manifest = Mapping[str, Any]

NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}
ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
SECCOMP_OF_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_OF_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
SHOWN = {"storageos": "storageOS"}
PROJECTED = {
    "configMap": "ConfigMap",
    "secret": "Secret",
    "downwardAPI": "DownwardAPI",
    "serviceAccountToken": "ServiceAccountToken",
    "clusterTrustBundle": "ClusterTrustBundle",
}
IN_BYTES = ("memory", "ephemeral-storage")
HOSTNAME = "this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended"
NULL_SELECTOR = "a null labelSelector results in matching no pod"
NEGATIVE_GRACE = "must be >= 0; negative values are invalid and will be treated as 1"
REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"


def of_pod(pod: Manifest, nodes: Collection[str]) -> Iterator[str]:
    """The warnings about a Pod whose defaults are filled in. `nodes`: the names of the nodes that there are."""
    spec, annotations = pod.get("spec") or {}, pod["metadata"].get("annotations") or {}
    if words := list(label(pod["metadata"]["name"])):
        yield f"metadata.name: {HOSTNAME}: [{' '.join(words)}]"
    yield from _node_labels(spec)
    for number, spread in enumerate(spec.get("topologySpreadConstraints") or []):
        path, key = f"spec.topologySpreadConstraints[{number}]", spread.get("topologyKey", "")
        if key in NODE_LABELS:
            yield f"{path}.topologyKey: {key} is {NODE_LABELS[key]}"
        if spread.get("labelSelector") is None:
            yield f"{path}.labelSelector: {NULL_SELECTOR}"
    yield from (f"metadata.annotations[{key}]: {words}" for key, words in ANNOTATIONS.items() if key in annotations)
    for number, volume in enumerate(spec.get("volumes") or []):
        yield from (f"spec.volumes[{number}].{SHOWN.get(kind, kind)}: {w}" for kind, w in VOLUMES.items() if kind in volume)
    yield from dict.fromkeys(_overlaps(spec))
    for number, server in enumerate((spec.get("dnsConfig") or {}).get("nameservers") or []):
        yield from _address(server, f"spec.dnsConfig.nameservers[{number}]")
    for number, alias in enumerate(spec.get("hostAliases") or []):
        yield from _address(alias.get("ip") or "", f"spec.hostAliases[{number}].ip")
    yield from _twice(spec.get("hostAliases"), "ip", "spec.hostAliases", "duplicate ip")
    yield from _twice(spec.get("imagePullSecrets"), "name", "spec.imagePullSecrets", "duplicate name")
    for number, secret in enumerate(spec.get("imagePullSecrets") or []):
        if not secret.get("name"):
            yield f'spec.imagePullSecrets[{number}].name: invalid empty name ""'
    yield from fractions(spec.get("overhead"), "spec.overhead")
    if SECCOMP_OF_POD in annotations and not (spec.get("securityContext") or {}).get("seccompProfile"):
        yield f"metadata.annotations[{SECCOMP_OF_POD}]: {SECCOMP}"
    containers = [(f"spec.{kind}[{n}]", c) for kind in KINDS for n, c in enumerate(spec.get(kind) or [])]
    for path, container in containers:
        yield from _of_container(container, path, annotations)
    yield from _ports(containers)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0:
        yield f"spec.terminationGracePeriodSeconds: {NEGATIVE_GRACE}"
    yield from _null_selectors(spec.get("affinity") or {})
    yield from (f"{path}: {words}" for path, words in ignored.of_pod(pod))
    if spec.get("nodeName") and spec["nodeName"] not in nodes:
        yield f'spec.nodeName: The lab has no node "{spec["nodeName"]}", so the Pod stays Pending until there is one.'


def _address(value: str, path: str) -> Iterator[str]:
    """An IPv6 address that is not written as RFC 5952 has it."""
    found = ipaddress.ip_address(value)
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        words = f'non-standard IP address "{value}" will be considered invalid in a future Kubernetes release'
        yield f'{path}: {words}: use "{found.ipv4_mapped}"'
    elif str(found) != value:
        yield f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{found}")'


def _node_labels(spec: Manifest) -> Iterator[str]:
    """Labels of nodes by names that they had once."""
    for key in sorted(spec.get("nodeSelector") or {}):
        if key in NODE_LABELS:
            yield f"spec.nodeSelector[{key}]: {NODE_LABELS[key]}"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    path = "spec.affinity.nodeAffinity"
    terms = [
        (f"{path}.{REQUIRED}.nodeSelectorTerms[{number}]", term)
        for number, term in enumerate((affinity.get(REQUIRED) or {}).get("nodeSelectorTerms") or [])
    ]
    terms += [
        (f"{path}.{PREFERRED}[{number}].preference", weighted.get("preference") or {})
        for number, weighted in enumerate(affinity.get(PREFERRED) or [])
    ]
    yield from expressions(terms)


def expressions(terms: Iterable[tuple[str, Manifest]]) -> Iterator[str]:
    """The same in the terms of a node selector, each with its path."""
    for path, term in terms:
        for number, expression in enumerate(term.get("matchExpressions") or []):
            key = expression.get("key", "")
            if key in NODE_LABELS:
                yield f"{path}.matchExpressions[{number}].key: {key} is {NODE_LABELS[key]}"


def _overlaps(spec: Manifest) -> Iterator[str]:
    """Files of one volume of which one would be written over another, or into it (warningsForOverlappingVirtualPaths)."""
    for volume in spec.get("volumes") or []:
        name = f'volume "{volume["name"]}"'
        for kind, field in (("configMap", "name"), ("secret", "secretName"), ("downwardAPI", "")):
            source = volume.get(kind) or {}
            paths = [item.get("path", "") for item in source.get("items") or []]
            yield from _overlapping(paths, f"{name} ({_source(PROJECTED[kind], source, field)})")
        earlier: list[str] = []
        for source in (volume.get("projected") or {}).get("sources") or []:
            if not source:
                yield f"{name} (Projected) has no sources provided"
            for kind, what in PROJECTED.items():
                part = source.get(kind) or {}
                paths = [part["path"]] if part.get("path") else [item.get("path", "") for item in part.get("items") or []]
                words = f"{name} (Projected {_source(what, part, 'name' if part.get('name') else 'signerName')})"
                yield from _overlapping(paths, words)
                yield from _overlapping(sorted({*paths, *earlier}) if paths else [], words)
                earlier += paths


def _source(kind: str, source: Manifest, field: str) -> str:
    return f'{kind} "{source[field]}"' if source.get(field) else kind


def _overlapping(paths: Iterable[str], words: str) -> Iterator[str]:
    seen: list[str] = []
    for path in (path.rstrip("/") for path in paths):
        for other in seen:
            if path and other and (path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")):
                yield f'{words}: overlapping paths: "{path}" with "{other}"'
                break
        seen.append(path)


def _twice(items: Iterable[Manifest] | None, field: str, path: str, words: str) -> Iterator[str]:
    seen: set[str] = set()
    for number, item in enumerate(items or []):
        value = item.get(field, "")
        if value in seen:
            yield f'{path}[{number}].{field}: {words} "{value}"'
        seen.add(value)


def fractions(amounts: Manifest | None, path: str, names: Iterable[str] = IN_BYTES) -> Iterator[str]:
    """Amounts of bytes that are none, such as 100m of memory, by one who thinks of CPUs or of mega."""
    for name in names:
        if name in (amounts or {}) and exact((amounts or {})[name]) * 1000 % 1000:
            value = canonical(str((amounts or {})[name]))
            yield f'{path}[{name}]: fractional byte value "{value}" is invalid, must be an integer'


def _of_container(container: Manifest, path: str, annotations: Manifest) -> Iterator[str]:
    seccomp = SECCOMP_OF_CONTAINER + container.get("name", "")
    if seccomp in annotations and not (container.get("securityContext") or {}).get("seccompProfile"):
        yield f"metadata.annotations[{seccomp}]: {SECCOMP}"
    resources = container.get("resources") or {}
    for name in IN_BYTES:
        for kind in ("limits", "requests"):
            amounts = {name: resources[kind][name]} if name in (resources.get(kind) or {}) else {}
            yield from fractions(amounts, f"{path}.resources.{kind}")
    seen: set[str] = set()
    for number, variable in enumerate(container.get("env") or []):
        name, value = variable.get("name", ""), variable.get("value") or ""
        own = f"$({name})"
        if name in seen and (variable.get("valueFrom") or value == own or own not in value):
            yield f'{path}.env[{number}]: hides previous definition of "{name}", which may be dropped when using apply'
        seen.add(name)


def _ports(containers: Iterable[tuple[str, Manifest]]) -> Iterator[str]:
    """Ports of all containers, which share one network: the same one twice, or one that may be."""
    others: dict[tuple[Any, Any], list[tuple[str, Any, Any]]] = {}
    for of_container, container in containers:
        for number, port in enumerate(container.get("ports") or []):
            path, host_ip, host_port = f"{of_container}.ports[{number}]", port.get("hostIP", ""), port.get("hostPort", 0)
            protocol = port.get("protocol", "TCP")
            if host_ip and not host_port:
                fields = f"Name:{port.get('name', '')} HostPort:0 ContainerPort:{port['containerPort']} Protocol:{protocol}"
                yield f"{path}: hostIP set without hostPort: {{{fields} HostIP:{host_ip}}}"
            known = others.setdefault((port.get("containerPort"), protocol), [])
            for other, other_ip, other_port in known:
                if (host_ip, host_port) == (other_ip, other_port):
                    yield f"{path}: duplicate port definition with {other}"
                elif not host_port or not other_port:
                    yield f"{path}: overlapping port definition with {other}"
                elif host_port == other_port and (host_ip == "") is not (other_ip == ""):
                    yield f"{path}: dangerously ambiguous port definition with {other}"
            known.append((path, host_ip, host_port))


def _null_selectors(affinity: Manifest) -> Iterator[str]:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        for number, term in enumerate(terms.get(REQUIRED) or []):
            if term.get("labelSelector") is None:
                yield f"spec.affinity.{kind}.{REQUIRED}[{number}].labelSelector: {NULL_SELECTOR}"
        for number, weighted in enumerate(terms.get(PREFERRED) or []):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"spec.affinity.{kind}.{PREFERRED}[{number}].podAffinityTerm.labelSelector: {NULL_SELECTOR}"
