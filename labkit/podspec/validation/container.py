"""Containers of each kind: names, images, ports, probes and hooks. Knowledge: pkg/apis/core/validation (validateContainers …)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec.container_kinds import containers, is_sidecar
from labkit.podspec.signals import stop_signals
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import between, enum, first, must, never, one_kind, unique, wrong
from labkit.podspec.validation.field_errors import Cause, Causes, duplicate, forbidden, invalid, not_found, unsupported
from labkit.podspec.validation.meta import not_negative
from labkit.podspec.validation.references import ENV, ENV_FROM
from labkit.podspec.validation.resources import REQUIREMENTS
from labkit.podspec.validation.rules import At, Check, Table, always, filled, given, inside, needed, of_holder, of_list
from labkit.podspec.validation.security import CONTAINER_SECURITY
from labkit.podspec.validation.volumes import DEVICE, MOUNT

Manifest = Mapping[str, Any]
PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
SIDECAR_ONLY = "may not be set for init containers without restartPolicy=Always"
NOT_EPHEMERAL = "cannot be set for an Ephemeral Container"
EPHEMERAL_FIELDS = (
    "name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts", "volumeDevices", "terminationMessagePath",
    "terminationMessagePolicy", "imagePullPolicy", "securityContext", "stdin", "stdinOnce", "tty", "targetContainerName",
)
port_number = between(1, 65535)


# Ports


def host_port_once(value: int, here: At) -> Causes:
    """No other port of the Pod is published there. An init container runs alone: no other of its own, and messages call it the
    first, as Kubernetes' do."""
    port, container, path = here.holder, here.holder.holder, here.path
    memory = container.memory
    if container.name == "initContainers":
        memory, path = port.memory, re.sub(r"\[\d+\]", "[0]", path, count=1)
    key = f"{port['protocol'] or ''}/{port['hostIP'] or ''}/{value}"
    if not first(memory, "hostPort", key):
        yield duplicate(path, key)


PORT: Table = (
    filled("name", field_errors.port_name, unique),
    needed("containerPort", port_number),
    filled("hostPort", port_number),
    needed("protocol", enum),
)
HOST_PORTS = inside("ports", (filled("hostPort", host_port_once),))
NETWORK_OF_HOST = inside("ports", (
    always("hostPort", wrong("must match `containerPort` when `hostNetwork` is true"), absent=0,
           when=lambda at: (at["hostPort"] or 0) != (at["containerPort"] or 0)),
))


# Probes and hooks


def port_reference(value: int | str, here: At) -> Iterator[str | Cause]:
    yield from field_errors.port_name(value) if isinstance(value, str) else port_number(value, here)


def within_grace(sleep: Manifest, here: At) -> Causes:
    seconds, grace = sleep.get("seconds") or 0, here.spec["terminationGracePeriodSeconds"]
    if grace is not None and not 0 <= seconds <= grace:
        yield invalid(here.path, seconds, f"must be non-negative and less than terminationGracePeriodSeconds ({grace})")


HEADER: Table = (always("name", field_errors.http_header, path=of_list),)
ACTIONS: dict[str, Table] = {
    "exec": (needed("command"),),
    "httpGet": (
        needed("path"),
        always("port", port_reference, absent=0),
        always("scheme", enum),
        inside("httpHeaders", HEADER),
    ),
    "tcpSocket": (always("port", port_reference, absent=0),),
    "grpc": (always("port", port_reference, absent=0),),
    "sleep": (given("", within_grace),),
}


def one_action(*kinds: str) -> Check:
    none, extra = "must specify a handler type", "may not specify more than 1 handler type"
    return one_kind({kind: ACTIONS[kind] for kind in kinds}, none, extra)


HOOK: Table = (given("", one_action("exec", "httpGet", "tcpSocket", "sleep")),)


def stop_signal(value: str, here: At) -> Causes:
    os = here.spec["os.name"]
    if not os:
        yield forbidden(here.path, "may not be set for containers with empty `spec.os.name`")
    elif value not in (supported := stop_signals(os)):
        yield unsupported(here.path, value, supported)


def of_readiness(at: At) -> bool:
    return at.name == "readinessProbe"


PROBE: Table = (
    given("", one_action("exec", "httpGet", "tcpSocket", "grpc")),
    *(filled(number, not_negative) for number in PROBE_NUMBERS),
    given("terminationGracePeriodSeconds", must(lambda value: value > 0, "must be greater than 0")),
    given("terminationGracePeriodSeconds", wrong("must not be set for readinessProbes"), when=of_readiness),
    always("successThreshold", must(lambda value: value == 1, "must be 1"), absent=0, when=lambda at: not of_readiness(at)),
)
HOOKS_AND_PROBES: Table = (
    inside("lifecycle.postStart", HOOK),
    inside("lifecycle.preStop", HOOK),
    given("lifecycle.stopSignal", stop_signal),
    *(inside(probe, PROBE) for probe in PROBES),
)


# Containers


def name_once(*others: str) -> Check:
    """No container of these lists, and none before in the own one, has the name."""

    def unique_name(value: str, here: At) -> Causes:
        container = here.holder
        names = {c.get("name") for c in containers(here.spec.value, others)}
        container.memory.setdefault("name", names)
        yield from unique(value, here)

    return unique_name


def known_target(value: str, here: At) -> Causes:
    if value not in {c.get("name") for c in containers(here.spec.value, ("containers", "initContainers"))}:
        yield not_found(here.path, value)


def only_ephemeral_fields(container: Manifest, here: At) -> Causes:
    for name, value in container.items():
        if value and name not in EPHEMERAL_FIELDS:
            yield forbidden(f"{here.path}.{name}", NOT_EPHEMERAL)


RESIZE: Table = (
    always("resourceName", unique, path=of_holder),
    needed("resourceName", enum, path=of_list),
    needed("restartPolicy", enum, path=of_list),
    always("restartPolicy", must(lambda value: value == "NotRequired", "must be 'NotRequired' when `restartPolicy` is 'Never'"),
           path=of_list, when=lambda at: at.spec["restartPolicy"] == "Never"),
)
TRIMMED: Table = (filled("image", must(lambda value: value == value.strip(), "must not have leading or trailing whitespace")),)
CONTAINER: Table = (
    needed("name", field_errors.label),
    needed("image"),
    needed("terminationMessagePolicy", enum),
    inside("ports", PORT),
    inside("env", ENV),
    inside("envFrom", ENV_FROM),
    inside("volumeMounts", MOUNT),
    inside("volumeDevices", DEVICE),
    needed("imagePullPolicy", enum),
    inside("resources", REQUIREMENTS),
    inside("resizePolicy", RESIZE),
    inside("securityContext", CONTAINER_SECURITY),
)
RESTART: Table = (
    given("restartPolicy", enum),
    needed("restartPolicy", detail="must specify restartPolicy when restart rules are used",
           when=lambda at: at["restartPolicyRules"] and at["restartPolicy"] is None),
    filled("restartPolicyRules", lambda value, here: [Cause(
        here.path, "FieldValueTooMany", f"Too many: {len(value)}: must have at most 20 items")] if len(value) > 20 else []),
)


REGULAR: Table = (*CONTAINER, always("name", name_once()), *HOOKS_AND_PROBES, *RESTART)
INIT: Table = (
    *CONTAINER,
    *RESTART,
    filled("name", name_once("containers")),
    HOST_PORTS,
    inside("", HOOKS_AND_PROBES, when=lambda at: is_sidecar(at.value)),
    *(given(name, never(SIDECAR_ONLY), when=lambda at: not is_sidecar(at.value)) for name in ("lifecycle", *PROBES)),
)
EPHEMERAL: Table = (
    *CONTAINER,
    *TRIMMED,
    always("name", name_once("containers", "initContainers")),
    filled("targetContainerName", known_target),
    given("", only_ephemeral_fields),
    inside("volumeMounts", tuple(filled(name, never(NOT_EPHEMERAL)) for name in ("subPath", "subPathExpr"))),
)
