"""Pods that the node itself rejects, in the kubelet's words."""

from __future__ import annotations

import pytest

from labkit.kubelet.node.admission import Rejection, admit, apparmor_enabled
from tests.unit.kubelet_pods import container, pod

NODE = {"cpu": "1800m", "memory": "1Gi", "pods": "3"}


def asking(**requests):
    return pod(container(resources={"requests": requests}))


def test_what_fits_is_let_in():
    assert admit(asking(cpu="1800m", memory="1Gi"), [], {}, NODE) is None


def test_more_than_is_left_is_refused():
    found = admit(asking(cpu="1"), [asking(cpu="900m")], {}, NODE)
    assert found == Rejection("OutOfcpu", "Node didn't have enough resource: cpu, requested: 1000, used: 900, capacity: 1800")
    assert admit(asking(memory="2Gi"), [], {}, NODE).reason == "OutOfmemory"
    assert admit(pod(), [pod(), pod(), pod()], {}, NODE).reason == "OutOfpods"


def test_pods_that_ended_take_nothing():
    ended = {**asking(cpu="1800m"), "status": {"phase": "Succeeded"}}
    assert admit(asking(cpu="1800m"), [ended], {}, NODE) is None


def test_another_nodes_pod_is_refused():
    found = admit(pod(nodeSelector={"disk": "ssd"}), [], {"disk": "hdd"}, NODE)
    assert found.reason == "NodeAffinity" and found.message.startswith("Predicate NodeAffinity failed: node(s) didn't match")
    assert admit(pod(nodeSelector={"disk": "ssd"}), [], {"disk": "ssd"}, NODE) is None


def test_a_port_is_given_once():
    web = pod(container(ports=[{"containerPort": 80, "hostPort": 8080}]))
    assert admit(web, [web], {}, NODE).reason == "NodePorts"


def test_only_sysctls_that_a_namespace_holds_are_let_in():
    def setting(name, **spec):
        asking = pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})
        return admit({**asking, "spec": {**asking["spec"], **spec}}, [], {}, NODE)

    assert setting("net.ipv4.tcp_syncookies") is None and setting("net/ipv4/tcp_syncookies") is None
    assert setting("kernel.msgmax") == Rejection("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted')
    words = 'forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host net enabled'
    assert setting("net.ipv4.tcp_syncookies", hostNetwork=True).message == words


def test_pods_of_another_system_are_refused():
    assert admit(pod(os={"name": "windows"}), [], {}, NODE).reason == "PodOSNotSupported"
    assert admit(pod(os={"name": "linux"}), [], {}, NODE) is None


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [("In", ["a"], True), ("In", ["b"], False), ("NotIn", ["a"], False), ("NotIn", ["b"], True), ("Exists", [], True),
     ("DoesNotExist", [], False), ("Gt", ["1"], False)],
)
def test_required_node_affinity(operator, values, fits):
    term = {"matchExpressions": [{"key": "zone", "operator": operator, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    found = admit(pod(affinity={"nodeAffinity": required}), [], {"zone": "a"}, NODE)
    assert (found is None) is fits


def test_what_the_node_lacks_is_told_before_its_labels():
    wanted = pod(container(resources={"requests": {"cpu": "8"}}), nodeSelector={"disk": "ssd"})
    assert admit(wanted, [], {}, NODE).reason == "OutOfcpu"


def test_apparmor_needs_a_kernel_that_has_it(tmp_path):
    confined = {"appArmorProfile": {"type": "RuntimeDefault"}}
    for asking_for_it in (pod(securityContext=confined), pod(container(securityContext=confined))):
        found = admit(asking_for_it, [], {}, NODE, apparmor=False)
        assert found == Rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
        assert admit(asking_for_it, [], {}, NODE, apparmor=True) is None
    assert admit(pod(securityContext={"appArmorProfile": {"type": "Unconfined"}}), [], {}, NODE, apparmor=False) is None
    assert not apparmor_enabled(tmp_path)
    (tmp_path / "kernel/security/apparmor").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    for said, enabled in (("Y\n", True), ("N\n", False)):
        (tmp_path / "module/apparmor/parameters/enabled").write_text(said)
        assert apparmor_enabled(tmp_path) is enabled


def test_a_no_execute_taint_that_is_not_tolerated_keeps_a_pod_out():
    taint = {"key": "gpu", "value": "yes", "effect": "NoExecute"}
    words = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
    assert admit(pod(), [], {}, NODE, taints=[taint]) == Rejection("TaintToleration", words)
    assert admit(pod(tolerations=[{"key": "gpu", "operator": "Exists"}]), [], {}, NODE, taints=[taint]) is None
    assert admit(pod(), [], {}, NODE, taints=[{**taint, "effect": "NoSchedule"}]) is None


def test_what_the_runtime_or_the_system_cannot_do_keeps_a_pod_out():
    strict = pod(securityContext={"supplementalGroupsPolicy": "Strict"})
    words = "SupplementalGroupsPolicy=Strict is not supported in this node"
    assert admit(strict, [], {}, NODE, strict_groups=False) == Rejection("SupplementalGroupsPolicyNotSupported", words)
    assert admit(strict, [], {}, NODE) is None and admit(pod(), [], {}, NODE, strict_groups=False) is None
    labelled = pod()
    labelled["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    words = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
    assert admit(labelled, [], {}, NODE) == Rejection("PodOSSelectorNodeLabelDoesNotMatch", words)
