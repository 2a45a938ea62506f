"""Security contexts, of Pods and of containers. Knowledge: pkg/apis/core/validation (ValidateSecurityContext and its like)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from labkit.podspec.validation import words
from labkit.podspec.validation.words import Causes, duplicate, each, forbidden, invalid, required, too_long, unsupported

Manifest = Mapping[str, Any]
PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
SYSCTL_PART = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
SYSCTL = rf"({SYSCTL_PART}[\./])*{SYSCTL_PART}"
LONGEST_SYSCTL, LONGEST_PATH = 253, 4095
IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
HOST_NAMESPACES = (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))


def pod_security(spec: Manifest, path: str) -> Causes:
    """`spec.securityContext`, and what of it contradicts the host's namespaces."""
    context = spec.get("securityContext") or {}
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        if context.get(field) is not None:
            yield from each(f"{path}.{field}", context[field], words.user_id(context[field]))
    for number, group in enumerate(context.get("supplementalGroups") or []):
        yield from each(f"{path}.supplementalGroups[{number}]", group or 0, words.user_id(group or 0))
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        yield invalid(f"{path}.shareProcessNamespace", True, "ShareProcessNamespace and HostPID cannot both be enabled")
    yield from _sysctls(spec, context.get("sysctls") or [], f"{path}.sysctls")
    yield from _policy(context, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), path)
    yield from _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    yield from _app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")
    yield from _policy(context, "supplementalGroupsPolicy", ("Merge", "Strict"), path)
    yield from _policy(context, "seLinuxChangePolicy", ("MountOption", "Recursive"), path)


def container_security(context: Manifest, path: str, *, host_users: bool) -> Causes:
    """A container's securityContext."""
    for field in ("runAsUser", "runAsGroup"):
        if context.get(field) is not None:
            yield from each(f"{path}.{field}", context[field], words.user_id(context[field]))
    mount = context.get("procMount")
    if mount is not None and mount not in ("Default", "Unmasked"):
        yield unsupported(f"{path}.procMount", mount, ("Default", "Unmasked"))
    if host_users and mount == "Unmasked":
        yield invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    yield from _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            said = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            yield invalid(path, dict(context), said)
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or []):
            said = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            yield invalid(path, dict(context), said)
    yield from _app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def user_namespace(spec: Manifest, path: str) -> Causes:
    """A Pod with users of its own cannot share the host's other namespaces."""
    if spec.get("hostUsers") is False:
        for field, shown in HOST_NAMESPACES:
            if spec.get(field):
                yield forbidden(f"{path}.{shown}", "when `pod.Spec.HostUsers` is false")


def _policy(context: Manifest, field: str, allowed: tuple[str, ...], path: str) -> Causes:
    if context.get(field) is not None and context[field] not in allowed:
        yield unsupported(f"{path}.{field}", context[field], allowed)


def _sysctls(spec: Manifest, sysctls: list[Manifest], path: str) -> Causes:
    seen: set[str] = set()
    for number, sysctl in enumerate(sysctls):
        at, name = f"{path}[{number}].name", sysctl.get("name") or ""
        if not name:
            yield required(at)
        elif len(name) > LONGEST_SYSCTL or not re.fullmatch(SYSCTL, name):
            yield invalid(at, name, f"must have at most {LONGEST_SYSCTL} characters and match regex ^{SYSCTL}$")
        elif name in seen:
            yield duplicate(at, name)
        seen.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            yield invalid(at, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and (dotted == "kernel.sem" or dotted.startswith(IPC_SYSCTLS)):
            yield invalid(at, name, "may not be specified when 'hostIPC' is true")


def _seccomp(profile: Manifest | None, path: str) -> Causes:
    if profile is None:
        return
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        yield required(f"{path}.type", "type is required when seccompProfile is set")
    elif kind not in PROFILES:
        yield unsupported(f"{path}.type", kind, PROFILES)
    if kind == "Localhost" and local is None:
        yield required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")
    elif kind == "Localhost":
        yield from words.local_path(f"{path}.localhostProfile", str(local))
    elif local is not None:
        yield invalid(f"{path}.localhostProfile", dict(profile), "can only be set when seccomp type is Localhost")


def _app_armor(profile: Manifest | None, path: str) -> Causes:
    if profile is None:
        return
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if kind == "Localhost":
        if not (local or "").strip():
            yield required(f"{path}.localhostProfile", "must be set when AppArmor type is Localhost")
        elif local != str(local).strip():
            yield invalid(f"{path}.localhostProfile", local, "must not be padded with whitespace")
        if len(local or "") > LONGEST_PATH:
            yield too_long(f"{path}.localhostProfile", LONGEST_PATH)
    elif kind in PROFILES:
        if local is not None:
            yield invalid(f"{path}.localhostProfile", local, "can only be set when AppArmor type is Localhost")
    elif kind:
        yield unsupported(f"{path}.type", kind, PROFILES)
    else:
        yield required(f"{path}.type", "type is required when appArmorProfile is set")
