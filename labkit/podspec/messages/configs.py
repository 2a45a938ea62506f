"""CRI messages from a Pod manifest, as the kubelet 1.36 fills them: `sandbox_config(pod)`, `container_config(pod, name)`.

Knowledge: kubelet's kuberuntime_sandbox.go, kuberuntime_container.go, labels.go, container/helpers.go. Held against a
recording of a real kubelet in tests/unit/test_podspec_messages.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec.manifest import defaulted, find_container
from labkit.podspec.messages import dns as of_dns
from labkit.podspec.messages.container_env import CreateContainerConfigError, Data, EnvFile, environment, expand
from labkit.podspec.messages.container_mounts import container_mounts
from labkit.podspec.messages.hosts import CLUSTER_DOMAIN, kernel_hostname
from labkit.podspec.messages.linux_resources import (
    MachineInfo,
    cgroup_parent,
    container_resources,
    overhead_resources,
    sandbox_resources,
)
from labkit.podspec.messages.security_context import container_security_context, sandbox_security_context
from labkit.podspec.signals import to_cri

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
NOT_TEXT = (
    "the command, an argument or a path is not UTF-8 once its variables are filled in: "
    "use the variable itself, whose value may hold any bytes"
)
HOOK_FIELDS = (
    "exec", "httpGet", "tcpSocket", "sleep", "command", "path", "port", "host", "scheme", "httpHeaders", "name", "value",
    "seconds", "protocol",
)
LEFT_OUT_WHEN_EMPTY = ("command", "path", "host", "scheme", "httpHeaders")
PORT_FIELDS = ("name", "hostPort", "containerPort", "protocol", "hostIP")


def sandbox_config(
    pod: Any,
    *,
    attempt: int = 0,
    cgroup_root: str = "",
    cgroup_driver: str = "cgroupfs",
    dns: pb.DNSConfig | Mapping[str, Sequence[str]] | None = None,
    log_root: str = "/var/log/pods",
    seen: str | None = None,
    source: str = "api",
    machine: MachineInfo | None = None,
    cluster_domain: str = CLUSTER_DOMAIN,
) -> pb.PodSandboxConfig:
    """The PodSandboxConfig of a Pod, for RunPodSandbox and CreateContainer.

    pod: dict or V1Pod. attempt: how often its sandbox was made before. cgroup_driver: "cgroupfs" or "systemd", as the
    runtime has it. dns: servers, searches and options that dnsPolicy stands for on that node; None leaves
    the node's resolv.conf to the runtime. seen: when the Pod was first seen, RFC 3339 (default: now). machine: the node's
    (default: this one). cluster_domain: what the full names of Pods end in. Raises ManifestError, and HostnameError for a full
    name that is too long.
    """
    pod, machine = defaulted(pod), machine or MachineInfo.here()
    metadata, spec = pod["metadata"], pod["spec"]
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(
            name=metadata["name"], namespace=metadata["namespace"], uid=metadata["uid"], attempt=attempt
        ),
        hostname="" if spec.get("hostNetwork") else kernel_hostname(pod, cluster_domain),
        log_directory=f"{log_root}/{metadata['namespace']}_{metadata['name']}_{metadata['uid']}",
        dns_config=_dns(spec, dns),
        port_mappings=[_port_mapping(port) for container in spec["containers"] for port in container.get("ports", ())],
        labels={**metadata.get("labels", {}), **_pod_labels(pod)},
        annotations={
            **metadata.get("annotations", {}),
            "kubernetes.io/config.seen": seen or _now(),
            "kubernetes.io/config.source": source,
        },
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=cgroup_parent(pod, cgroup_root, cgroup_driver),
            security_context=sandbox_security_context(pod),
            sysctls={sysctl["name"]: sysctl["value"] for sysctl in spec["securityContext"].get("sysctls", ())},
            overhead=overhead_resources(pod, machine),
            resources=sandbox_resources(pod, machine),
        ),
    )


def container_config(
    pod: Any,
    name: str,
    *,
    attempt: int = 0,
    image_ref: str | None = None,
    image_user: int | str | None = 0,
    pod_ip: str | Sequence[str] | None = None,
    host_ip: str | Sequence[str] | None = None,
    kubelet_root: str = "/var/lib/kubelet",
    memory_capacity: int | None = None,
    allocatable: Mapping[str, str] | None = None,
    machine: MachineInfo | None = None,
    services: Iterable[Mapping[str, Any]] = (),
    env: Mapping[str, str] | None = None,
    configmaps: Data | None = None,
    secrets: Data | None = None,
    volume_paths: Mapping[str, str] | None = None,
    target_id: str = "",
    env_file: EnvFile | None = None,
) -> pb.ContainerConfig:
    """The ContainerConfig of one container (regular, init or ephemeral) of a Pod, for CreateContainer.

    attempt: its restart count. image_ref: what PullImage or ImageStatus answered (default: the name in the manifest). image_user:
    the user in the image's config. pod_ip, host_ip: an address, or a list of them (default: those in the manifest's status).
    machine: the node's (default: this one), memory_capacity: its memory in bytes; allocatable: what it gives to Pods, as its
    status has it. services: manifests of Services, for their variables. env: more variables, before the manifest's. configmaps,
    secrets: name → key → value. volume_paths: volume name → path on the node, for volumes whose plugin decides. target_id: the
    container whose PID namespace an ephemeral container joins. env_file: reads the value of a fileKeyRef. A value of `secrets`
    that is not UTF-8 reaches the runtime as it is. Raises ManifestError, and CreateContainerConfigError where something that the
    manifest refers to is missing.
    """
    pod, machine = defaulted(pod), machine or MachineInfo.here()
    if memory_capacity is not None:
        machine = replace(machine, memory_bytes=memory_capacity)
    if allocatable:
        machine = replace(machine, allocatable=allocatable)
    container = find_container(pod, name)
    for device in container.get("volumeDevices", ()):
        raise CreateContainerConfigError(f'cannot find volume "{device["name"]}" to pass into container "{name}"')
    host_ips = _addresses(host_ip, pod, "hostIP")
    pod_ips = _addresses(pod_ip, pod, "podIP") or (host_ips if pod["spec"].get("hostNetwork") else [])
    variables = environment(
        pod,
        container,
        pod_ips=pod_ips,
        host_ips=host_ips,
        machine=machine,
        services=services,
        configmaps=configmaps or {},
        secrets=secrets or {},
        extra=env or {},
        env_file=env_file,
    )
    try:
        return pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=name, attempt=attempt),
            image=pb.ImageSpec(image=image_ref or container["image"], user_specified_image=container["image"]),
            command=[expand(word, variables) for word in container.get("command", ())],
            args=[expand(word, variables) for word in container.get("args", ())],
            working_dir=container.get("workingDir", ""),
            mounts=container_mounts(
                pod,
                container,
                variables,
                kubelet_root=kubelet_root,
                volume_paths=volume_paths or {},
            ),
            envs=[pb.KeyValue(key=key, value=value.encode(errors="surrogateescape")) for key, value in variables.items()],
            labels={CONTAINER_NAME: name, **_pod_labels(pod)},
            annotations=_container_annotations(pod, container, attempt),
            log_path=f"{name}/{attempt}.log",
            stdin=container.get("stdin", False),
            stdin_once=container.get("stdinOnce", False),
            tty=container.get("tty", False),
            stop_signal=to_cri(container.get("lifecycle", {}).get("stopSignal")),
            linux=pb.LinuxContainerConfig(
                resources=container_resources(pod, container, machine),
                security_context=container_security_context(
                    pod, container, image_user=image_user, kubelet_root=kubelet_root, target_id=target_id
                ),
            ),
        )
    except UnicodeEncodeError:
        raise CreateContainerConfigError(NOT_TEXT) from None


def container_hash(container: Mapping[str, Any]) -> str:
    """The kubelet's hash of a container (annotation io.kubernetes.container.hash): a changed one means a new container.

    FNV-1a of 32 bits over Go's dump of the JSON of image and name: since 1.31 only these decide (HashContainer).
    """
    picked = _go_json({"image": container["image"], "name": container["name"]}).encode()
    value = 0x811C9DC5
    for byte in f"([]uint8)[{' '.join(map(str, picked))}]".encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{value:x}"


def _pod_labels(pod: Mapping[str, Any]) -> dict[str, str]:
    metadata = pod["metadata"]
    return {POD_NAME: metadata["name"], POD_NAMESPACE: metadata["namespace"], POD_UID: metadata["uid"]}


def _container_annotations(pod: Mapping[str, Any], container: Mapping[str, Any], attempt: int) -> dict[str, str]:
    annotations = {
        "io.kubernetes.container.hash": container_hash(container),
        "io.kubernetes.container.restartCount": str(attempt),
        "io.kubernetes.container.terminationMessagePath": container["terminationMessagePath"],
        "io.kubernetes.container.terminationMessagePolicy": container["terminationMessagePolicy"],
        "io.kubernetes.pod.terminationGracePeriod": str(pod["spec"]["terminationGracePeriodSeconds"]),
    }
    if "deletionGracePeriodSeconds" in pod["metadata"]:
        annotations["io.kubernetes.pod.deletionGracePeriod"] = str(pod["metadata"]["deletionGracePeriodSeconds"])
    if "preStop" in container.get("lifecycle", {}):
        annotations["io.kubernetes.container.preStopHandler"] = _go_json(_in_go_order(container["lifecycle"]["preStop"]))
    if container.get("ports"):
        ports = [{field: port[field] for field in PORT_FIELDS if port.get(field)} for port in container["ports"]]
        annotations["io.kubernetes.container.ports"] = _go_json(ports)
    return annotations


def _in_go_order(value: Any) -> Any:
    """A hook with its fields in the order of k8s.io/api's structs, without those that are left out when empty."""
    if isinstance(value, list):
        return [_in_go_order(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    names = sorted(value, key=HOOK_FIELDS.index)
    return {name: _in_go_order(value[name]) for name in names if value[name] or name not in LEFT_OUT_WHEN_EMPTY}


def _go_json(value: Any) -> str:
    """JSON as Go's encoding/json writes it: compact, with <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _dns(spec: Mapping[str, Any], base: pb.DNSConfig | Mapping[str, Sequence[str]] | None) -> pb.DNSConfig | None:
    if isinstance(base, pb.DNSConfig):
        base = {"servers": base.servers, "searches": base.searches, "options": base.options}
    whole = of_dns.with_own(spec, base)
    return None if whole is None else pb.DNSConfig(**of_dns.within_limits(whole)[0])


def _port_mapping(port: Mapping[str, Any]) -> pb.PortMapping:
    return pb.PortMapping(
        protocol=port["protocol"],
        container_port=port["containerPort"],
        host_port=port.get("hostPort", 0),
        host_ip=port.get("hostIP", ""),
    )


def _addresses(given: str | Sequence[str] | None, pod: Mapping[str, Any], field: str) -> list[str]:
    if given:
        return [given] if isinstance(given, str) else list(given)
    status = pod.get("status", {})
    listed = [entry["ip"] for entry in status.get(f"{field}s", ())]
    return listed or ([status[field]] if status.get(field) else [])


def _now() -> str:
    """The time in UTC, RFC 3339 with nanoseconds, as Go prints it."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}".rstrip("0").rstrip(".") + "Z"
