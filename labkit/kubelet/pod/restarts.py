"""Whether a container that ended starts again, by its own rules and policy and its Pod's. Pure.

Knowledge: kubelet's container/helpers.go, api/v1/pod/util.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labkit.kubelet.pod.pod_runtime import CREATED, EXITED, UNKNOWN, PodRuntime

Spec = Mapping[str, Any]


def to_be_restarted(pod: Mapping[str, Any], container: Spec, runtime: PodRuntime) -> bool:
    """Whether a container that does not run should (ShouldContainerBeRestarted)."""
    status = runtime.newest(container["name"])
    if "deletionTimestamp" in pod["metadata"]:
        return False
    if status is None:
        return True
    if status.state != EXITED:
        return status.state in (UNKNOWN, CREATED)
    return restarts_after(pod["spec"], container, status.exit_code)


def restarts_after(spec: Spec, container: Spec, exit_code: int) -> bool:
    """Whether a container that ended with this exit code starts again: the first of its own rules that matches says so, then
    its own policy, then its Pod's (ContainerShouldRestart)."""
    if any(rule["action"] == "Restart" for rule in matching_rules(container, exit_code)[:1]):
        return True
    policy = restart_policy(spec, container)
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def matching_rules(container: Spec, exit_code: int) -> list[Spec]:
    """The rules of restartPolicyRules that this exit code matches, in their order."""
    rules = container.get("restartPolicyRules", ())
    asked = ((rule, rule.get("exitCodes") or {"operator": "", "values": ()}) for rule in rules)
    return [rule for rule, codes in asked if (exit_code in codes["values"]) is (codes["operator"] == "In") and codes["operator"]]


def restart_policy(spec: Spec, container: Spec) -> str:
    """The container's own policy where it has one, else the Pod's."""
    return str(container.get("restartPolicy") or spec["restartPolicy"])
