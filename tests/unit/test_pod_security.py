"""Pod Security by the labels of a namespace, in the words that clusters have printed (k8s.io/pod-security-admission)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.objects.rest import Api, Options, copied
from labkit.apiserver.storage.store import Store
from tests.unit.kubeapi_objects import container, pod

PODS, NAMESPACES = BY_PLURAL["pods"], BY_PLURAL["namespaces"]
ENFORCE, WARN, AUDIT = (f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "warn", "audit"))
SAFE = {
    "runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
NGINX = (
    'pods "web" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "app" must '
    'set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "app" must set '
    'securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "app" must set '
    'securityContext.runAsNonRoot=true), seccompProfile (pod or container "app" must set securityContext.seccompProfile.type to '
    '"RuntimeDefault" or "Localhost")'
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(Store(tmp_path / "objects.sqlite"))


def named(**labels: str) -> dict[str, Any]:
    return {"metadata": {"name": "safe", "labels": labels}}


def made(api: Api, *containers: dict[str, Any], options: Options | None = None, **spec: Any) -> None:
    new = pod(*containers, meta={"namespace": "safe"}, **spec)
    api.create(BY_PLURAL["pods"], "safe", new, options or Options())


def within(api: Api, **labels: str) -> Api:
    api.create(NAMESPACES, "", named(**labels))
    api.make_account(api.get(NAMESPACES, "", "safe").obj)
    return api


def test_a_common_pod_is_refused_by_restricted(api: Api) -> None:
    within(api, **{ENFORCE: "restricted"})
    with pytest.raises(ApiError) as refused:
        made(api)
    assert (refused.value.code, refused.value.message) == (403, NGINX)
    made(api, container(securityContext=SAFE))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hostNetwork": True, "hostPID": True}, "host namespaces (hostNetwork=true, hostPID=true)"),
        ({"containers": [container(securityContext={"privileged": True})]},
         'privileged (container "app" must not set securityContext.privileged=true)'),
        ({"containers": [container(ports=[{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 8080}])]},
         'hostPort (container "app" uses hostPorts 80, 8080)'),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "hostPath": {"path": "/etc"}}]},
         'hostPath volumes (volumes "a", "b")'),
        ({"containers": [container(securityContext={"capabilities": {"add": ["NET_ADMIN", "CHOWN"]}})]},
         'non-default capabilities (container "app" must not include "NET_ADMIN" in securityContext.capabilities.add)'),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
         'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
        ({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}},
         "forbidden sysctls (net.core.somaxconn)"),
        ({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}}},
         'seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)'),
        ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
         'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")'),
        ({"containers": [container(livenessProbe={"httpGet": {"port": 1, "host": "127.0.0.1"}})]},
         'probe or lifecycle host (container "app" uses probe or lifecycle host "127.0.0.1")'),
    ],
)
def test_what_baseline_refuses(api: Api, fields: dict[str, Any], words: str) -> None:
    within(api, **{ENFORCE: "baseline"})
    made(api)
    with pytest.raises(ApiError) as refused:
        made(api, *fields.pop("containers", []), **fields)
    assert refused.value.message == f'pods "web" is forbidden: violates PodSecurity "baseline:latest": {words}'


def test_restricted_has_its_own_words_for_what_baseline_forbids_too(api: Api) -> None:
    within(api, **{ENFORCE: "restricted"})
    with pytest.raises(ApiError) as refused:
        made(api, container(securityContext={**SAFE, "runAsUser": 0}), volumes=[{"name": "a", "hostPath": {"path": "/"}}])
    assert refused.value.message.partition(": violates ")[2] == (
        'PodSecurity "restricted:latest": restricted volume types (volume "a" uses restricted volume type "hostPath"), '
        'runAsUser=0 (container "app" must not set runAsUser=0)'
    )


def test_warn_lets_the_pod_in_and_a_version_has_its_own_controls(api: Api) -> None:
    within(api, **{WARN: "restricted", f"{ENFORCE}-version": "v1.33", ENFORCE: "baseline"})
    options = Options()
    made(api, container(livenessProbe={"tcpSocket": {"port": 1, "host": "10.0.0.1"}}), options=options)
    (warning,) = [words for words in options.warnings if "PodSecurity" in words]
    assert warning.startswith('would violate PodSecurity "restricted:latest": probe or lifecycle host (')


def test_a_namespace_that_gets_stricter_names_its_pods(api: Api) -> None:
    within(api)
    made(api)
    options = Options()
    change = {"metadata": {"labels": {ENFORCE: "restricted", AUDIT: "baseline"}}}
    api.patch(NAMESPACES, "", "safe", change, "application/merge-patch+json", options)
    assert options.warnings == [
        f"metadata.labels[{AUDIT}]: The lab's API keeps no audit log, so this label has no effect.",
        'existing pods in namespace "safe" violate the new PodSecurity enforce level "restricted:latest"',
        "web: allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile",
    ]
    stored = copied(api.get(PODS, "safe", "web"))
    api.update(PODS, "safe", "web", {**stored, "metadata": {**stored["metadata"], "labels": {"a": "b"}}})
    stored = copied(api.get(PODS, "safe", "web"))
    stored["spec"]["containers"][0]["image"] = "registry.lab/busybox:2"
    with pytest.raises(ApiError, match="violates PodSecurity"):
        api.update(PODS, "safe", "web", stored)


def test_a_label_that_names_no_level_is_refused(api: Api) -> None:
    with pytest.raises(ApiError) as refused:
        api.create(NAMESPACES, "", named(**{ENFORCE: "strict", f"{WARN}-version": "1.30"}))
    assert refused.value.code == 422 and refused.value.message == (
        f'Namespace "safe" is invalid: [metadata.labels[{ENFORCE}]: Invalid value: "strict": must be one of privileged, '
        f'baseline, restricted, metadata.labels[{WARN}-version]: Invalid value: "1.30": must be "latest" or "v1.x"]'
    )
