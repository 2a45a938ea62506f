"""Security context of a sandbox and of a container, as the kubelet fills it.

Knowledge: kubelet's kuberuntime/security_context.go, kuberuntime/util, kubernetes' pkg/securitycontext. A container's
setting wins over its Pod's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.cri.v1 import api_pb2 as pb
from labkit.podspec.container_kinds import KINDS, containers
from labkit.podspec.messages.container_env import CreateContainerConfigError

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
INHERITED = ("runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions", "seccompProfile", "appArmorProfile")


def namespace_options(pod: Mapping[str, Any]) -> pb.NamespaceOption:
    """POD for what the Pod shares, NODE for what it takes from its host. PID is CONTAINER unless the manifest shares it:
    CRI's zero value is POD, so a message without this option shares it by accident."""
    spec = pod["spec"]
    return pb.NamespaceOption(
        network=pb.NODE if spec.get("hostNetwork") else pb.POD,
        ipc=pb.NODE if spec.get("hostIPC") else pb.POD,
        pid=pb.NODE if spec.get("hostPID") else pb.POD if spec.get("shareProcessNamespace") else pb.CONTAINER,
        userns_options=pb.UserNamespace(mode=pb.NODE),
    )


def sandbox_security_context(pod: Mapping[str, Any]) -> pb.LinuxSandboxSecurityContext:
    """The sandbox's own: always the runtime's default seccomp profile."""
    context = pod["spec"]["securityContext"]
    return pb.LinuxSandboxSecurityContext(
        namespace_options=namespace_options(pod),
        privileged=any(c.get("securityContext", {}).get("privileged", False) for c in containers(pod["spec"], KINDS[:2])),
        seccomp=pb.SecurityProfile(profile_type=pb.SecurityProfile.RuntimeDefault),
        run_as_user=_int64(context.get("runAsUser")),
        run_as_group=_int64(context.get("runAsGroup")),
        supplemental_groups=_supplemental_groups(context),
        supplemental_groups_policy=context.get("supplementalGroupsPolicy", "Merge"),
        selinux_options=_selinux(context),
    )


def container_security_context(
    pod: Mapping[str, Any], container: Mapping[str, Any], *, image_user: int | str | None, kubelet_root: str, target_id: str
) -> pb.LinuxContainerSecurityContext:
    """image_user: the user in the image's config, a number or a name. target_id: the container whose PID namespace a
    debug container joins. Raises CreateContainerConfigError where runAsNonRoot is broken."""
    of_pod, own = pod["spec"]["securityContext"], container.get("securityContext", {})
    context = {**{name: of_pod[name] for name in INHERITED if name in of_pod}, **own}
    user = context.get("runAsUser", image_user)
    _check_non_root(pod, container, context, user)
    capabilities = context.get("capabilities")
    unmasked = context.get("procMount") == "Unmasked"
    apparmor = context.get("appArmorProfile")
    options = namespace_options(pod)
    if target_id and options.pid == pb.CONTAINER:
        options.pid, options.target_id = pb.TARGET, target_id
    return pb.LinuxContainerSecurityContext(
        capabilities=capabilities
        and pb.Capability(add_capabilities=capabilities.get("add", ()), drop_capabilities=capabilities.get("drop", ())),
        privileged=context.get("privileged", False),
        namespace_options=options,
        selinux_options=_selinux(context),
        run_as_user=_int64(user) if isinstance(user, int) else None,
        run_as_username=user if isinstance(user, str) else "",
        run_as_group=_int64(context.get("runAsGroup")),
        readonly_rootfs=context.get("readOnlyRootFilesystem", False),
        supplemental_groups=_supplemental_groups(of_pod),
        supplemental_groups_policy=of_pod.get("supplementalGroupsPolicy", "Merge"),
        no_new_privs=context.get("allowPrivilegeEscalation") is False,
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        seccomp=_profile(context.get("seccompProfile", {"type": "Unconfined"}), f"{kubelet_root}/seccomp/"),
        apparmor=apparmor and _profile(apparmor, ""),
        apparmor_profile=_apparmor_name(apparmor) if apparmor else "",
    )


def _check_non_root(
    pod: Mapping[str, Any], container: Mapping[str, Any], context: Mapping[str, Any], user: int | str | None
) -> None:
    if not context.get("runAsNonRoot"):
        return
    metadata = pod["metadata"]
    where = f'(pod: "{metadata["name"]}_{metadata["namespace"]}({metadata["uid"]})", container: {container["name"]})'
    if context.get("runAsUser") == 0:
        raise CreateContainerConfigError(f"container's runAsUser breaks non-root policy {where}")
    if isinstance(user, str) and user:
        raise CreateContainerConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root {where}"
        )
    if user == 0:
        raise CreateContainerConfigError(f"container has runAsNonRoot and image will run as root {where}")


def _supplemental_groups(context: Mapping[str, Any]) -> list[int]:
    fs_group = [context["fsGroup"]] if "fsGroup" in context else []
    return fs_group + context.get("supplementalGroups", [])


def _selinux(context: Mapping[str, Any]) -> pb.SELinuxOption | None:
    return pb.SELinuxOption(**context["seLinuxOptions"]) if "seLinuxOptions" in context else None


def _profile(profile: Mapping[str, Any], directory: str) -> pb.SecurityProfile:
    reference = directory + profile["localhostProfile"] if profile["type"] == "Localhost" else ""
    return pb.SecurityProfile(profile_type=profile["type"], localhost_ref=reference)


def _apparmor_name(profile: Mapping[str, Any]) -> str:
    """The older field for AppArmor, which runtimes before 1.28's CRI read."""
    fixed = {"RuntimeDefault": "runtime/default", "Unconfined": "unconfined"}
    return fixed.get(profile["type"]) or f"localhost/{profile['localhostProfile']}"


def _int64(value: int | None) -> pb.Int64Value | None:
    return None if value is None else pb.Int64Value(value=value)
