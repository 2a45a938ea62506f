"""Security contexts, of Pods and of containers. Knowledge: pkg/apis/core/validation (ValidateSecurityContext and its like)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import between, enum, must, unique, wrong
from labkit.podspec.validation.field_errors import MAX_INT32, Cause, Causes, invalid, required, too_long
from labkit.podspec.validation.rules import At, Table, always, every, filled, given, inside, needed

SYSCTL_PART = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
SYSCTL = rf"({SYSCTL_PART}[\./])*{SYSCTL_PART}"
LONGEST_SYSCTL, LONGEST_PATH = 253, 4095
SYSCTL_WORDS = f"must have at most {LONGEST_SYSCTL} characters and match regex ^{SYSCTL}$"
IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
UNMASKED = "`hostUsers` must be false to use `Unmasked`"
NO_ESCALATION = "cannot set `allowPrivilegeEscalation` to false and "
ONLY_LOCAL = "can only be set when {} type is Localhost"
user_id = between(0, MAX_INT32)


def is_sysctl(name: str) -> bool:
    return len(name) <= LONGEST_SYSCTL and re.fullmatch(SYSCTL, name) is not None


def no_escalation(at: At) -> bool:
    return at["allowPrivilegeEscalation"] is False


def both_pids(value: Any, here: At) -> Causes:
    """`shareProcessNamespace` is the spec's; the message names it as the context's."""
    if here.spec["hostPID"] and here.spec["shareProcessNamespace"]:
        yield invalid(here.path, True, "ShareProcessNamespace and HostPID cannot both be enabled")


def local_profile(value: str | None, here: At) -> Iterator[str | Cause]:
    if value is None:
        yield required(here.path, "must be set when seccomp type is Localhost")
    else:
        yield from field_errors.relative_path(value)


def of_host(value: str, here: At) -> Causes:
    """A sysctl of a namespace that is the host's."""
    dotted, spec = value.replace("/", "."), here.spec
    if spec["hostNetwork"] and dotted.startswith("net."):
        yield invalid(here.path, value, "may not be specified when 'hostNetwork' is true")
    elif spec["hostIPC"] and (dotted == "kernel.sem" or dotted.startswith(IPC_SYSCTLS)):
        yield invalid(here.path, value, "may not be specified when 'hostIPC' is true")


def is_local(at: At) -> bool:
    return bool(at["type"] == "Localhost")


def padded_path(value: str, here: At) -> Iterator[str | Cause]:
    if not value.strip():
        yield required(here.path, "must be set when AppArmor type is Localhost")
    elif value != value.strip():
        yield "must not be padded with whitespace"
    if len(value) > LONGEST_PATH:
        yield too_long(here.path, LONGEST_PATH)


SECCOMP: Table = (
    needed("type", enum, detail="type is required when seccompProfile is set"),
    always("localhostProfile", local_profile, when=is_local, absent=None),
    given("localhostProfile", lambda value, here: [invalid(here.path, dict(here.holder.value), ONLY_LOCAL.format("seccomp"))],
          when=lambda at: not is_local(at)),
)
APP_ARMOR: Table = (
    needed("type", enum, detail="type is required when appArmorProfile is set"),
    always("localhostProfile", padded_path, when=is_local),
    given(
        "localhostProfile", wrong(ONLY_LOCAL.format("AppArmor")), when=lambda at: at["type"] in ("RuntimeDefault", "Unconfined")
    ),
)
POD_SECURITY: Table = (
    given("fsGroup", user_id),
    given("runAsUser", user_id),
    given("runAsGroup", user_id),
    every("supplementalGroups", user_id, absent=0),
    always("shareProcessNamespace", both_pids),
    inside("sysctls", (needed("name", must(is_sysctl, SYSCTL_WORDS), unique), filled("name", of_host))),
    given("fsGroupChangePolicy", enum),
    inside("seccompProfile", SECCOMP),
    inside("appArmorProfile", APP_ARMOR),
    given("supplementalGroupsPolicy", enum),
    given("seLinuxChangePolicy", enum),
)
CONTAINER_SECURITY: Table = (
    given("runAsUser", user_id),
    given("runAsGroup", user_id),
    given("procMount", enum),
    given("procMount", wrong(UNMASKED), when=lambda at: at["procMount"] == "Unmasked" and at.spec["hostUsers"] is not False),
    inside("seccompProfile", SECCOMP),
    given("", wrong(NO_ESCALATION + "`privileged` to true"), when=lambda at: no_escalation(at) and at["privileged"]),
    given("", wrong(NO_ESCALATION + "`capabilities.Add` CAP_SYS_ADMIN"),
          when=lambda at: no_escalation(at) and "CAP_SYS_ADMIN" in (at["capabilities.add"] or ())),
    inside("appArmorProfile", APP_ARMOR),
)
