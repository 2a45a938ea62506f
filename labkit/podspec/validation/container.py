"""Containers of each kind: names, images, ports, probes and hooks. Knowledge: pkg/apis/core/validation (validateContainers …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.podspec.validation import words
from labkit.podspec.validation.references import environment
from labkit.podspec.validation.resources import requirements
from labkit.podspec.validation.security import container_security
from labkit.podspec.validation.volumes import devices, mounts
from labkit.podspec.validation.words import Causes, duplicate, each, forbidden, invalid, not_found, required, unsupported

Manifest = Mapping[str, Any]
Volumes = Mapping[str, Manifest]
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
PROTOCOLS = ("SCTP", "TCP", "UDP")
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")
RESTART_POLICIES = ("Always", "Never", "OnFailure")
SIDECAR_ONLY = "may not be set for init containers without restartPolicy=Always"
NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"
EPHEMERAL_FIELDS = (
    "name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts", "volumeDevices", "terminationMessagePath",
    "terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce", "tty", "targetContainerName",
)  # fmt: skip


def containers(spec: Manifest, volumes: Volumes) -> Causes:
    """The regular containers: at least one, names and host ports of their own. `volumes`: what they may mount, by name."""
    given = spec.get("containers") or []
    if not given:
        yield required("spec.containers")
    seen: set[str] = set()
    for number, container in enumerate(given):
        path, name = f"spec.containers[{number}]", container.get("name") or ""
        yield from _common(container, spec, volumes, path)
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
        yield from _hooks_and_probes(container, spec, path)
        yield from _restart(container, path)
    yield from _host_port_conflicts(given, "spec.containers")


def init_containers(spec: Manifest, volumes: Volumes) -> Causes:
    """Init containers: probes and hooks only where they are sidecars; they run one by one, so ports may repeat between them."""
    seen = {container.get("name") for container in spec.get("containers") or []}
    for number, container in enumerate(spec.get("initContainers") or []):
        path, name = f"spec.initContainers[{number}]", container.get("name") or ""
        yield from _common(container, spec, volumes, path)
        yield from _restart(container, path)
        if name and name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
        yield from _host_port_conflicts([container], "spec.initContainers")
        if container.get("restartPolicy") == "Always":
            yield from _hooks_and_probes(container, spec, path)
        else:
            yield from (forbidden(f"{path}.{f}", SIDECAR_ONLY) for f in ("lifecycle", *PROBES) if container.get(f) is not None)


def ephemeral_containers(spec: Manifest, volumes: Volumes) -> Causes:
    others = {c.get("name") for kind in ("containers", "initContainers") for c in spec.get(kind) or []}
    seen = set(others)
    for number, container in enumerate(spec.get("ephemeralContainers") or []):
        path, name = f"spec.ephemeralContainers[{number}]", container.get("name") or ""
        target = container.get("targetContainerName")
        yield from _common(container, spec, volumes, path)
        yield from _trimmed(container, path)
        if name in seen:
            yield duplicate(f"{path}.name", name)
        seen.add(name)
        if target and target not in others:
            yield not_found(f"{path}.targetContainerName", target)
        wrong = [field for field, value in container.items() if value and field not in EPHEMERAL_FIELDS]
        yield from (forbidden(f"{path}.{field}", NOT_EPHEMERAL) for field in wrong)
        for index, mount in enumerate(container.get("volumeMounts") or []):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    yield forbidden(f"{path}.volumeMounts[{index}].{field}", NOT_EPHEMERAL)


def images_trimmed(spec: Manifest) -> Causes:
    """What holds for Pods and not for Pod templates."""
    for kind in ("containers", "initContainers"):
        for number, container in enumerate(spec.get(kind) or []):
            yield from _trimmed(container, f"spec.{kind}[{number}]")


def host_network_ports(spec: Manifest) -> Causes:
    """On the host's network a container's port is the host's."""
    for number, container in enumerate(spec.get("containers") or [] if spec.get("hostNetwork") else []):
        for index, port in enumerate(container.get("ports") or []):
            host = port.get("hostPort") or 0
            if host != (port.get("containerPort") or 0):
                at = f"spec.containers[{number}].ports[{index}].hostPort"
                yield invalid(at, host, "must match `containerPort` when `hostNetwork` is true")


def _common(container: Manifest, spec: Manifest, volumes: Volumes, path: str) -> Causes:
    name = container.get("name") or ""
    yield from each(f"{path}.name", name, words.label(name)) if name else [required(f"{path}.name")]
    if not container.get("image"):
        yield required(f"{path}.image")
    message = f"{path}.terminationMessagePolicy"
    yield from words.one_of(message, container.get("terminationMessagePolicy"), MESSAGE_POLICIES, needed=True)
    yield from _ports(container, f"{path}.ports")
    yield from environment(container, path)
    yield from mounts(container, f"{path}.volumeMounts", volumes)
    yield from devices(container, f"{path}.volumeDevices", volumes)
    yield from words.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), PULL_POLICIES, needed=True)
    claims = {claim["name"] for claim in spec.get("resourceClaims") or [] if claim.get("name")}
    yield from requirements(container.get("resources") or {}, f"{path}.resources", claims)
    yield from _resize(container, spec, f"{path}.resizePolicy")
    host_users = spec.get("hostUsers") is not False
    yield from container_security(container.get("securityContext") or {}, f"{path}.securityContext", host_users=host_users)


def _trimmed(container: Manifest, path: str) -> Causes:
    image = container.get("image") or ""
    if image != image.strip():
        yield invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _ports(container: Manifest, path: str) -> Causes:
    seen: set[str] = set()
    for number, port in enumerate(container.get("ports") or []):
        at, name, inner, host = f"{path}[{number}]", port.get("name"), port.get("containerPort"), port.get("hostPort")
        if name:
            problems = list(words.port_name(name))
            yield from each(f"{at}.name", name, problems)
            if not problems and name in seen:
                yield duplicate(f"{at}.name", name)
            seen.add(name)
        yield from each(f"{at}.containerPort", inner, words.port_number(inner)) if inner else [required(f"{at}.containerPort")]
        if host:
            yield from each(f"{at}.hostPort", host, words.port_number(host))
        yield from words.one_of(f"{at}.protocol", port.get("protocol"), PROTOCOLS, needed=True)


def _host_port_conflicts(given: list[Manifest], path: str) -> Causes:
    seen: set[str] = set()
    for number, container in enumerate(given):
        for index, port in enumerate(container.get("ports") or []):
            if port.get("hostPort"):
                key = f"{port.get('protocol') or ''}/{port.get('hostIP') or ''}/{port['hostPort']}"
                if key in seen:
                    yield duplicate(f"{path}[{number}].ports[{index}].hostPort", key)
                seen.add(key)


def _restart(container: Manifest, path: str) -> Causes:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is not None and policy not in RESTART_POLICIES:
        yield unsupported(f"{path}.restartPolicy", policy, RESTART_POLICIES)
    if rules and policy is None:
        yield required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    if len(rules) > 20:
        said = f"Too many: {len(rules)}: must have at most 20 items"
        yield words.Cause(f"{path}.restartPolicyRules", "FieldValueTooMany", said)


def _resize(container: Manifest, spec: Manifest, path: str) -> Causes:
    seen: set[str] = set()
    for number, policy in enumerate(container.get("resizePolicy") or []):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            yield duplicate(f"{path}[{number}]", name)
        seen.add(name)
        yield from words.one_of(path, name, ("cpu", "memory"), needed=True)
        yield from words.one_of(path, restart, ("NotRequired", "RestartContainer"), needed=True)
        if spec.get("restartPolicy") == "Never" and restart != "NotRequired":
            yield invalid(path, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'")


def _hooks_and_probes(container: Manifest, spec: Manifest, path: str) -> Causes:
    grace = spec.get("terminationGracePeriodSeconds")
    for hook in ("postStart", "preStop"):
        handler = (container.get("lifecycle") or {}).get(hook)
        if handler is not None:
            yield from _handler(handler, HOOK_HANDLERS, grace, f"{path}.lifecycle.{hook}")
    for kind in PROBES:
        if container.get(kind) is not None:
            yield from _probe(container[kind], kind, grace, f"{path}.{kind}")


def _probe(probe: Manifest, kind: str, grace: int | None, path: str) -> Causes:
    yield from _handler(probe, PROBE_HANDLERS, grace, path)
    for field in PROBE_NUMBERS:
        yield from words.not_negative(f"{path}.{field}", probe.get(field))
    own = probe.get("terminationGracePeriodSeconds")
    if own is not None and own <= 0:
        yield invalid(f"{path}.terminationGracePeriodSeconds", own, "must be greater than 0")
    if kind == "readinessProbe" and own is not None:
        yield invalid(f"{path}.terminationGracePeriodSeconds", own, "must not be set for readinessProbes")
    if kind != "readinessProbe" and (probe.get("successThreshold") or 0) != 1:
        yield invalid(f"{path}.successThreshold", probe.get("successThreshold") or 0, "must be 1")


def _handler(handler: Manifest, kinds: tuple[str, ...], grace: int | None, path: str) -> Causes:
    given = [kind for kind in kinds if handler.get(kind) is not None]
    if not given:
        yield required(path, "must specify a handler type")
        return
    yield from _action(given[0], handler[given[0]], grace, f"{path}.{given[0]}")
    yield from (forbidden(f"{path}.{kind}", "may not specify more than 1 handler type") for kind in given[1:])


def _action(kind: str, action: Manifest, grace: int | None, path: str) -> Causes:
    match kind:
        case "exec":
            if not action.get("command"):
                yield required(f"{path}.command")
        case "httpGet":
            if not action.get("path"):
                yield required(f"{path}.path")
            yield from _port_reference(action.get("port"), f"{path}.port")
            if action.get("scheme") not in ("HTTP", "HTTPS"):
                yield unsupported(f"{path}.scheme", action.get("scheme") or "", ("HTTP", "HTTPS"))
            for header in action.get("httpHeaders") or []:
                name = header.get("name") or ""
                yield from each(f"{path}.httpHeaders", name, words.http_header(name))
        case "tcpSocket" | "grpc":
            yield from _port_reference(action.get("port"), f"{path}.port")
        case "sleep":
            seconds = action.get("seconds") or 0
            if grace is not None and not 0 <= seconds <= grace:
                said = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                yield invalid(path, seconds, said)


def _port_reference(port: Any, path: str) -> Causes:
    if isinstance(port, str):
        yield from each(path, port, words.port_name(port))
    else:
        yield from each(path, port or 0, words.port_number(port or 0))
