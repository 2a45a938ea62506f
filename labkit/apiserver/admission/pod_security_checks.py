"""The controls of the Pod Security Standards, and in which words a Pod fails them. Knowledge: k8s.io/pod-security-admission
(policy/check_*.go)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.podspec.container_kinds import containers
from labkit.podspec.validation.field_errors import shown

Manifest = Mapping[str, Any]
LATEST = 10**9
CAPABILITIES = ("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
                "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT")
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SYSCTLS = {  # name → the minor version of Kubernetes since which baseline allows it
    **dict.fromkeys(("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
                     "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"), 0),
    "net.ipv4.ip_local_reserved_ports": 27,
    **dict.fromkeys(("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
                     "net.ipv4.tcp_keepalive_probes"), 29),
    **dict.fromkeys(("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"), 32),
}
VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret")
HANDLERS = (*((probe,) for probe in ("livenessProbe", "readinessProbe", "startupProbe")),
            ("lifecycle", "postStart"), ("lifecycle", "preStop"))


@dataclass(frozen=True)
class SecurityControl:
    """One control of the Pod Security Standards: the reason of its refusal, and what finds the detail ("" where all is well).
    `since`: the first minor version with it."""

    reason: str
    detail: Callable[[Manifest, int], str]
    since: int = 0


# The words of a violation


def _quoted(values: Iterable[Any]) -> str:
    return ", ".join(shown(value) for value in values)


def _count(one: str, values: Iterable[Any], many: str = "") -> str:
    """The noun in the singular or the plural, as many as there are."""
    return one if len(list(values)) == 1 else many or f"{one}s"


def _named(names: list[str]) -> str:
    return f"{_count('container', names)} {_quoted(names)}"


def _context(holder: Manifest, name: str) -> Any:
    return (holder.get("securityContext") or {}).get(name)


def _setters(pod: Manifest, bad: Callable[[Manifest], Iterable[Any]]) -> tuple[str, list[Any]]:
    """Who of the Pod and its containers has a security context with bad values, in words, and those values sorted."""
    of_pod = list(bad(pod["spec"].get("securityContext") or {}))
    of_containers = {c["name"]: list(bad(c.get("securityContext") or {})) for c in containers(pod["spec"])}
    names = [name for name, values in of_containers.items() if values]
    who = ["pod"] * bool(of_pod) + [_named(names)] * bool(names)
    return " and ".join(who), sorted({*of_pod, *(value for values in of_containers.values() for value in values)})


def _must_not(what: str, bad: Callable[[Manifest], Iterable[Any]], *, values: bool = False) -> Callable[[Manifest, int], str]:
    """Nobody has a security context that is `bad`; `values`: those that are bad are named."""

    def detail(pod: Manifest, minor: int) -> str:
        who, found = _setters(pod, bad)
        return f"{who} must not {what}{f' {_quoted(found)}' if values else ''}" if who else ""

    return detail


def _unless_user_namespace(detail: Callable[[Manifest, int], str], since: int = 33) -> Callable[[Manifest, int], str]:
    """Root in a user namespace is nobody outside of it."""
    return lambda pod, minor: "" if minor >= since and pod["spec"].get("hostUsers") is False else detail(pod, minor)


def _unless_windows(detail: Callable[[Manifest, int], str]) -> Callable[[Manifest, int], str]:
    def on_linux(pod: Manifest, minor: int) -> str:
        return "" if minor >= 25 and (pod["spec"].get("os") or {}).get("name") == "windows" else detail(pod, minor)

    return on_linux


def _each_must(what: str, right: Callable[[Manifest], bool]) -> Callable[[Manifest, int], str]:
    def detail(pod: Manifest, minor: int) -> str:
        names = [c["name"] for c in containers(pod["spec"]) if not right(c.get("securityContext") or {})]
        return f"{_named(names)} must {what}" if names else ""

    return detail


def _pod_or_each_must(what: str, right: Callable[[Manifest], bool | None], wrong: Callable[[Manifest, int], str]) -> Any:
    """The Pod, or each container, says so (`right`; None where it is silent), and nobody says otherwise (`wrong`)."""

    def detail(pod: Manifest, minor: int) -> str:
        if found := wrong(pod, minor):
            return found
        whole = right(pod["spec"].get("securityContext") or {})
        silent = [c["name"] for c in containers(pod["spec"]) if right(c.get("securityContext") or {}) is None and not whole]
        return f"pod or {_named(silent)} must {what}" if silent else ""

    return detail


# Baseline


def _apparmor(pod: Manifest, minor: int) -> str:
    who, found = _setters(pod, lambda c: ["Unconfined"] if _type(c, "appArmorProfile") == "Unconfined" else [])
    notes = {key: value for key, value in (pod["metadata"].get("annotations") or {}).items() if key.startswith(APPARMOR)}
    bad = sorted(
        f"{k}={shown(v)}" for k, v in notes.items() if v not in ("", "runtime/default") and not v.startswith("localhost/")
    )
    setters = [who] * bool(who) + [_count("annotation", bad)] * bool(bad)
    values = found + bad
    words = f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(values)}"
    return f"{'*' * (len(values) > 1)}{words}" if values else ""


def _host_namespaces(pod: Manifest, minor: int) -> str:
    return ", ".join(f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if pod["spec"].get(name))


def _host_paths(pod: Manifest, minor: int) -> str:
    names = [volume["name"] for volume in pod["spec"].get("volumes") or [] if volume.get("hostPath") is not None]
    return f"{_count('volume', names)} {_quoted(names)}" if names else ""


def _host_ports(pod: Manifest, minor: int) -> str:
    ports = {c["name"]: [str(p["hostPort"]) for p in c.get("ports") or [] if p.get("hostPort")] for c in containers(pod["spec"])}
    names, found = [name for name, used in ports.items() if used], sorted({port for used in ports.values() for port in used})
    uses = _count("uses", names, "use")
    return f"{_named(names)} {uses} {_count('hostPort', found)} {', '.join(found)}" if names else ""


def _hosts_of_handlers(pod: Manifest, minor: int) -> str:
    names, hosts = set(), set()
    for container in containers(pod["spec"]):
        for path in HANDLERS:
            handler: Any = container
            for step in path:
                handler = (handler or {}).get(step) or {}
            found = [handler[kind]["host"] for kind in ("httpGet", "tcpSocket") if (handler.get(kind) or {}).get("host")]
            hosts.update(found)
            names.update([container["name"]] if found else [])
    words = _count("probe or lifecycle host", hosts)
    return f"{_named(sorted(names))} {_count('uses', names, 'use')} {words} {_quoted(sorted(hosts))}" if names else ""


def _selinux(pod: Manifest, minor: int) -> str:
    allowed = ("", "container_t", "container_init_t", "container_kvm_t", *(("container_engine_t",) if minor >= 31 else ()))

    def bad(context: Manifest) -> list[str]:
        options = context.get("seLinuxOptions") or {}
        kind = [f"type:{options['type']}"] if options.get("type", "") not in allowed else []
        return kind + [field for field in ("user", "role") if options.get(field)]

    who, found = _setters(pod, bad)
    types = [value.removeprefix("type:") for value in found if value.startswith("type:")]
    words = [f"{_count('type', types)} {_quoted(types)}"] if types else []
    words += [f"{field} may not be set" for field in ("user", "role") if field in found]
    return f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(words)}" if who else ""


def _sysctls(pod: Manifest, minor: int) -> str:
    names = [each["name"] for each in _context(pod["spec"], "sysctls") or []]
    return ", ".join(name for name in names if SYSCTLS.get(name, LATEST + 1) > minor)


def _added(allowed: Iterable[str]) -> Callable[[Manifest, int], str]:
    def detail(pod: Manifest, minor: int) -> str:
        own = {c["name"]: _context(c, "capabilities") or {} for c in containers(pod["spec"])}
        added = {name: {*(capabilities.get("add") or [])} - {*allowed} for name, capabilities in own.items()}
        names, found = [name for name, more in added.items() if more], sorted({each for more in added.values() for each in more})
        return f"{_named(names)} must not include {_quoted(found)} in securityContext.capabilities.add" if names else ""

    return detail


def _capabilities(pod: Manifest, minor: int) -> str:
    return "; ".join(filter(None, (DROPS_ALL(pod, minor), _added(("NET_BIND_SERVICE",))(pod, minor))))


def _volumes(pod: Manifest, minor: int) -> str:
    volumes = pod["spec"].get("volumes") or []
    kinds = {volume["name"]: next((kind for kind in volume if kind != "name"), "unknown") for volume in volumes}
    names = [name for name, kind in kinds.items() if kind not in VOLUMES]
    types = sorted({kinds[name] for name in names})
    use, kind = _count("uses", names, "use"), _count("type", types)
    return f"{_count('volume', names)} {_quoted(names)} {use} restricted volume {kind} {_quoted(types)}" if names else ""


def _type(context: Manifest, profile: str) -> Any:
    return (context.get(profile) or {}).get("type")


def _confined(context: Manifest) -> bool | None:
    kind = _type(context, "seccompProfile")
    return None if kind is None else kind in ("RuntimeDefault", "Localhost")


def _unconfined(context: Manifest) -> list[Any]:
    return [_type(context, "seccompProfile")] if _confined(context) is False else []


def _drops_all(context: Manifest) -> bool:
    return "ALL" in ((context.get("capabilities") or {}).get("drop") or [])


UNCONFINED = _must_not("set securityContext.seccompProfile.type to", _unconfined, values=True)
DROPS_ALL = _each_must('set securityContext.capabilities.drop=["ALL"]', _drops_all)
PRIVILEGED = _must_not("set securityContext.privileged=true", lambda c: [True] if c.get("privileged") else [])
NO_ESCALATION = _each_must(
    "set securityContext.allowPrivilegeEscalation=false", lambda c: c.get("allowPrivilegeEscalation") is False
)
AS_ROOT = _must_not("set securityContext.runAsNonRoot=false", lambda c: [False] if c.get("runAsNonRoot") is False else [])
ROOT_ID = _must_not("set runAsUser=0", lambda c: [0] if c.get("runAsUser") == 0 else [])
PROC_MOUNT = _must_not(
    "set securityContext.procMount to",
    lambda c: [c["procMount"]] if c.get("procMount", "Default") != "Default" else [],
    values=True,
)
OVERRIDDEN = (
    SecurityControl("non-default capabilities", _added(CAPABILITIES)),
    SecurityControl("hostPath volumes", _host_paths),
    SecurityControl("seccompProfile", UNCONFINED, 19),
)
"""Controls of baseline for which restricted has stricter ones."""
BASELINE = (
    SecurityControl("forbidden AppArmor profile", _apparmor),
    OVERRIDDEN[0],
    SecurityControl("host namespaces", _host_namespaces),
    OVERRIDDEN[1],
    SecurityControl("hostPort", _host_ports),
    SecurityControl("probe or lifecycle host", _hosts_of_handlers, 34),
    SecurityControl("privileged", PRIVILEGED),
    SecurityControl("procMount", _unless_user_namespace(PROC_MOUNT, 35)),
    SecurityControl("seLinuxOptions", _selinux),
    OVERRIDDEN[2],
    SecurityControl("forbidden sysctls", _sysctls),
    SecurityControl("hostProcess", _must_not("set securityContext.windowsOptions.hostProcess=true",
                                   lambda c: [True] if (c.get("windowsOptions") or {}).get("hostProcess") else [])),
)
RESTRICTED = (
    SecurityControl("allowPrivilegeEscalation != false", _unless_windows(NO_ESCALATION), 8),
    SecurityControl("unrestricted capabilities", _unless_windows(_capabilities), 22),
    SecurityControl("restricted volume types", _volumes),
    SecurityControl("runAsNonRoot != true", _unless_user_namespace(_pod_or_each_must("set securityContext.runAsNonRoot=true",
          lambda c: c.get("runAsNonRoot"), AS_ROOT))),
    SecurityControl("runAsUser=0", _unless_user_namespace(ROOT_ID), 23),
    SecurityControl("seccompProfile", _unless_windows(_pod_or_each_must(
          'set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"', _confined, UNCONFINED)), 19),
)
CHECKS = {
    "privileged": (),
    "baseline": BASELINE,
    "restricted": (*(check for check in BASELINE if check not in OVERRIDDEN), *RESTRICTED),
}
