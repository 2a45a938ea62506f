"""What the kubelet makes of which field of a Pod manifest (kuberuntime_sandbox.go, kuberuntime_container.go and _linux.go)."""

from __future__ import annotations

COPIED, TRANSLATED = "copied", "translated"
NOTES = "annotations.io.kubernetes."
RULES: tuple[tuple[str, str, str], ...] = (
    # manifest field, CRI field (sandbox: or container: first), how it gets there
    ("metadata.name", "sandbox:metadata.name", COPIED),
    ("metadata.namespace", "sandbox:metadata.namespace", COPIED),
    ("metadata.uid", "sandbox:metadata.uid", COPIED),
    ("metadata.labels", "sandbox:labels", COPIED),
    ("metadata.annotations", "sandbox:annotations", COPIED),
    ("metadata.name", "sandbox:hostname", COPIED),
    ("spec.hostname", "sandbox:hostname", COPIED),
    ("spec.dnsConfig", "sandbox:dns_config", TRANSLATED),
    ("spec.dnsPolicy", "sandbox:dns_config", TRANSLATED),
    ("spec.hostNetwork", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.hostPID", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.hostIPC", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.shareProcessNamespace", "sandbox:linux.security_context.namespace_options", TRANSLATED),
    ("spec.securityContext.sysctls", "sandbox:linux.sysctls", TRANSLATED),
    ("spec.terminationGracePeriodSeconds", f"container:{NOTES}pod.terminationGracePeriod", COPIED),
    ("container.ports", "sandbox:port_mappings", TRANSLATED),
    ("container.resources.requests.cpu", "sandbox:linux.resources.cpu_shares", TRANSLATED),
    ("container.resources.limits.cpu", "sandbox:linux.resources.cpu_quota", TRANSLATED),
    ("container.resources.limits.memory", "sandbox:linux.resources.memory_limit_in_bytes", TRANSLATED),
    ("container.name", "container:metadata.name", COPIED),
    ("container.image", "container:image.image", TRANSLATED),
    ("container.image", "container:image.user_specified_image", COPIED),
    ("container.command", "container:command", COPIED),
    ("container.args", "container:args", COPIED),
    ("container.workingDir", "container:working_dir", COPIED),
    ("container.env", "container:envs", COPIED),
    ("container.volumeMounts", "container:mounts", TRANSLATED),
    ("container.terminationMessagePath", "container:mounts", TRANSLATED),
    ("container.terminationMessagePath", f"container:{NOTES}container.terminationMessagePath", COPIED),
    ("container.terminationMessagePolicy", f"container:{NOTES}container.terminationMessagePolicy", COPIED),
    ("container.stdin", "container:stdin", COPIED),
    ("container.tty", "container:tty", COPIED),
    ("container.resources.requests.cpu", "container:linux.resources.cpu_shares", TRANSLATED),
    ("container.resources.limits.cpu", "container:linux.resources.cpu_quota", TRANSLATED),
    ("container.resources.requests.memory", "container:linux.resources.oom_score_adj", TRANSLATED),
    ("container.resources.limits.memory", "container:linux.resources.memory_limit_in_bytes", TRANSLATED),
    ("container.resources.limits.memory", "container:linux.resources.memory_swap_limit_in_bytes", TRANSLATED),
    ("container.securityContext.runAsUser", "container:linux.security_context.run_as_user", COPIED),
    ("container.securityContext.runAsGroup", "container:linux.security_context.run_as_group", COPIED),
    ("container.securityContext.readOnlyRootFilesystem", "container:linux.security_context.readonly_rootfs", COPIED),
    ("container.securityContext.privileged", "container:linux.security_context.privileged", COPIED),
    ("container.securityContext.capabilities", "container:linux.security_context.capabilities", TRANSLATED),
    ("container.securityContext.allowPrivilegeEscalation", "container:linux.security_context.no_new_privs", TRANSLATED),
    ("container.securityContext.seccompProfile", "container:linux.security_context.seccomp", TRANSLATED),
)
UNLESS = {("metadata.name", "sandbox:hostname"): "spec.hostname"}
"""A rule that another field of the manifest overrides."""
OPENED = {"sandbox": ("annotations", "linux.cgroup_parent"), "container": ("labels",)}
"""Fields of the messages that are the kubelet's own and worth seeing line by line."""
OPENED_HERE = ("container.livenessProbe", "container.readinessProbe", "container.startupProbe")
"""The same of the manifest: what stays with the kubelet."""
