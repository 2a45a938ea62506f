"""A container's environment, and its command with $(VARIABLE) references filled in, as the kubelet makes them.

Knowledge: kubelet_pods.go (makeEnvironmentVariables), envvars/envvars.go, third_party/forked/golang/expansion and
pkg/api/v1/resource.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from labkit.podspec.container_kinds import containers
from labkit.podspec.go_text import go_quote
from labkit.podspec.messages.linux_resources import MachineInfo
from labkit.podspec.quantity import exact

Data = Mapping[str, Mapping[str, str | bytes]]
"""ConfigMaps or Secrets of the Pod's namespace: name → key → value (Secrets decoded)."""


EnvFile = Callable[[Mapping[str, Any]], str | None]
"""Reads what a fileKeyRef names, in a volume on the node; None where that is optional and not there."""


class CreateContainerConfigError(ValueError):
    """Something that a right manifest refers to is missing. In the kubelet's words, for the status of this name."""


def environment(
    pod: dict[str, Any],
    container: Mapping[str, Any],
    *,
    pod_ips: Sequence[str],
    host_ips: Sequence[str],
    machine: MachineInfo,
    services: Iterable[Mapping[str, Any]],
    configmaps: Data,
    secrets: Data,
    extra: Mapping[str, str],
    env_file: EnvFile | None = None,
) -> dict[str, str]:
    """The variables in order: envFrom, env, then those of services. Raises CreateContainerConfigError."""
    of_services = service_variables(services, pod["metadata"]["namespace"], pod["spec"]["enableServiceLinks"])
    result: dict[str, str] = dict(extra)
    for source in container.get("envFrom", ()):
        result.update(_from_source(source, configmaps, secrets))
    for variable in container.get("env", ()):
        value: str | None
        if variable.get("value"):
            value = expand(variable["value"], {**of_services, **result})
        elif env_file and "fileKeyRef" in variable.get("valueFrom", {}):
            value = env_file(variable["valueFrom"]["fileKeyRef"])
        elif "valueFrom" in variable:
            value = _from_reference(pod, container, variable, pod_ips, host_ips, machine, configmaps, secrets)
        else:
            value = ""
        if value is not None:
            result[variable["name"]] = value
    return {**result, **{name: value for name, value in of_services.items() if name not in result}}


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Fill in $(NAME); $$(NAME) stays $(NAME), and so does a name that is not known."""
    return re.sub(r"\$(?:\$|\(([^)]*)\))", lambda m: "$" if m[1] is None else variables.get(m[1], m[0]), text)


def service_variables(services: Iterable[Mapping[str, Any]], namespace: str, links: bool) -> dict[str, str]:
    """NAME_SERVICE_HOST, NAME_PORT_443_TCP … of the Services (manifests) that a Pod in `namespace` is told about:
    those of its namespace unless `links` is false, and always default/kubernetes."""
    result: dict[str, str] = {}
    for service in services:
        name, its_namespace = service["metadata"]["name"], service["metadata"].get("namespace", "default")
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports")
        master = (its_namespace, name) == ("default", "kubernetes")
        if address in (None, "", "None") or not ports or not (master or (links and its_namespace == namespace)):
            continue
        prefix = _variable_name(name)
        result[f"{prefix}_SERVICE_HOST"] = address
        result[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        result.update({f"{prefix}_SERVICE_PORT_{_variable_name(p['name'])}": str(p["port"]) for p in ports if p.get("name")})
        shown = f"[{address}]" if ":" in address else address
        for number, port in enumerate(ports):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{shown}:{port['port']}"
            link = f"{prefix}_PORT_{port['port']}_{protocol}"
            result.update({f"{prefix}_PORT": url} if number == 0 else {})
            result.update({link: url, f"{link}_PROTO": protocol.lower()})
            result.update({f"{link}_PORT": str(port["port"]), f"{link}_ADDR": address})
    return result


def _variable_name(name: str) -> str:
    upper = re.sub(r"[.-]", "_", name).upper()
    return f"_{upper}" if upper[:1].isdigit() else upper


def _from_source(source: Mapping[str, Any], configmaps: Data, secrets: Data) -> dict[str, str]:
    """All keys of a ConfigMap or Secret (envFrom)."""
    for field, kind, objects in (("configMapRef", "configmap", configmaps), ("secretRef", "secret", secrets)):
        reference = source.get(field)
        if reference is None:
            continue
        data = _find(kind, objects, reference)
        return {source.get("prefix", "") + key: _text(value) for key, value in (data or {}).items()}
    return {}


def _from_reference(
    pod: dict[str, Any],
    container: Mapping[str, Any],
    variable: Mapping[str, Any],
    pod_ips: Sequence[str],
    host_ips: Sequence[str],
    machine: MachineInfo,
    configmaps: Data,
    secrets: Data,
) -> str | None:
    """The value of a variable with valueFrom; None if an optional key is not there."""
    source = variable["valueFrom"]
    if "fieldRef" in source:
        return _field(pod, source["fieldRef"]["fieldPath"], variable["name"], pod_ips, host_ips)
    if "resourceFieldRef" in source:
        named = source["resourceFieldRef"].get("containerName")
        return resource_field(source["resourceFieldRef"], pod, container_of_field(pod, named) if named else container, machine)
    for field, kind, objects in (("configMapKeyRef", "configmap", configmaps), ("secretKeyRef", "secret", secrets)):
        if field not in source:
            continue
        reference = source[field]
        data = _find(kind, objects, reference)
        if data is not None and reference["key"] in data:
            return _text(data[reference["key"]])
        if reference.get("optional"):
            return None
        proper = {"configmap": "ConfigMap", "secret": "Secret"}[kind]
        raise CreateContainerConfigError(
            f"couldn't find key {reference['key']} in {proper} {pod['metadata']['namespace']}/{reference['name']}"
        )
    raise CreateContainerConfigError(f"variable {variable['name']}: {', '.join(source)} is not supported here")


def _find(kind: str, objects: Data, reference: Mapping[str, Any]) -> Mapping[str, str | bytes] | None:
    """The object that is referred to; None if it is optional and not there."""
    name = reference.get("name", "")
    if name not in objects and not reference.get("optional"):
        raise CreateContainerConfigError(f'{kind} "{name}" not found')
    return objects.get(name)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _field(pod: Mapping[str, Any], path: str, variable: str, pod_ips: Sequence[str], host_ips: Sequence[str]) -> str:
    """A field of the Pod by the downward API's path."""
    metadata, spec = pod["metadata"], pod["spec"]
    if path.startswith("status."):
        addresses = pod_ips if "podIP" in path else host_ips
        if not addresses:
            wanted = "pod_ip" if "podIP" in path else "host_ip"
            raise CreateContainerConfigError(f"variable {variable} wants {path}, which is not known yet: pass {wanted}=")
        return ",".join(addresses) if path.endswith("s") else addresses[0]
    if path.startswith("spec."):
        return spec.get(path.removeprefix("spec."), "")
    match = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
    return metadata.get(match[1], {}).get(match[2], "") if match else metadata[path.removeprefix("metadata.")]


def pod_field(pod: Mapping[str, Any], path: str) -> str:
    """A field of the Pod as a downwardAPI volume writes it: labels and annotations as lines key="value", sorted by key."""
    if path in ("metadata.labels", "metadata.annotations"):
        items = sorted(pod["metadata"].get(path.removeprefix("metadata."), {}).items())
        return "\n".join(f"{key}={go_quote(value)}" for key, value in items)
    return _field(pod, path, path, (), ())


def container_of_field(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The container that a resourceFieldRef names. Raises CreateContainerConfigError."""
    found = next((each for each in containers(pod["spec"], ("containers", "initContainers")) if each["name"] == name), None)
    if found is None:
        raise CreateContainerConfigError(f"container {name} not found")
    return found


def reads_limits(container: Mapping[str, Any]) -> bool:
    """Whether a variable of the container is a limit, for which the node's Allocatable may have to be known."""
    sources = [variable.get("valueFrom", {}).get("resourceFieldRef", {}) for variable in container.get("env", ())]
    return any(source.get("resource", "").startswith("limits.") for source in sources)


def resource_field(
    reference: Mapping[str, Any], pod: Mapping[str, Any], container: Mapping[str, Any], machine: MachineInfo
) -> str:
    """A resource of the container in units of the divisor, rounded up. A limit that is not set is the Pod's own, else what the
    node gives to Pods, its Allocatable (defaultPodLimitsForDownwardAPI)."""
    kind, _, name = reference["resource"].partition(".")
    owners = [container["resources"].get(kind, {})]
    if kind == "limits" and not name.startswith("hugepages-"):
        owners += [pod["spec"].get("resources", {}).get("limits", {}), {name: machine.for_pods(name)}]
    given = next((owner[name] for owner in owners if name in owner and exact(owner[name])), 0)
    divisor = exact(reference.get("divisor") or 1) or 1
    return str(math.ceil(exact(given) / divisor))
