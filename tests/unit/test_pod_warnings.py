"""What Kubernetes says of a Pod that it accepts and that is hardly meant so (pkg/api/pod/warnings.go): each warning of its."""

from __future__ import annotations

from typing import Any

import pytest

from labkit.apiserver.admission import warnings

APP = {"name": "app", "image": "a"}
AFFINITY = "spec.affinity.podAntiAffinity"
REQUIRED, PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
OS = 'deprecated since v1.14; use "kubernetes.io/os" instead'
NULL = "a null labelSelector results in matching no pod"
SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
FRACTION = "is invalid, must be an integer"


def said(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> list[str]:
    """Kubernetes' own; the lab's about what it does not act on are of another test."""
    pod = {"metadata": {"name": "p", "annotations": annotations or {}}, "spec": {"containers": [APP], **spec}}
    return [each for each in warnings.of_pod(pod, ()) if "The lab" not in each and "the lab" not in each]


def container(**fields: Any) -> dict[str, Any]:
    return {"containers": [{**APP, **fields}]}


def ports(*lists: list[dict[str, Any]]) -> dict[str, Any]:
    return {"containers": [{**APP, "name": f"c{number}", "ports": each} for number, each in enumerate(lists)]}


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def file(path: str) -> dict[str, str]:
    return {"key": path, "path": path}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"nodeSelector": {"beta.kubernetes.io/os": "linux", "mine": "x"}}, [f"spec.nodeSelector[beta.kubernetes.io/os]: {OS}"]),
        (
            {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "beta.kubernetes.io/os", "operator": "Exists"}]}]}}}},
            [f"spec.affinity.nodeAffinity.{REQUIRED}.nodeSelectorTerms[0].matchExpressions[0].key: "
             f"beta.kubernetes.io/os is {OS}"],
        ),
        (
            {"topologySpreadConstraints": [{"topologyKey": "kubernetes.io/hostname", "maxSkew": 1}]},
            [f"spec.topologySpreadConstraints[0].labelSelector: {NULL}"],
        ),
        (
            {"affinity": {"podAntiAffinity": {REQUIRED: [{}], PREFERRED: [{"weight": 1, "podAffinityTerm": {}}]}}},
            [f"{AFFINITY}.{REQUIRED}[0].labelSelector: {NULL}",
             f"{AFFINITY}.{PREFERRED}[0].podAffinityTerm.labelSelector: {NULL}"],
        ),
        (
            {"hostAliases": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}]},
            ['spec.hostAliases[2].ip: duplicate ip "192.0.2.1"'],
        ),
        (
            {"imagePullSecrets": [{"name": "s"}, {"name": "s"}, {}]},
            ['spec.imagePullSecrets[1].name: duplicate name "s"', 'spec.imagePullSecrets[2].name: invalid empty name ""'],
        ),
        (
            container(resources={"limits": {"memory": "100m", "cpu": "100m"}, "requests": {"memory": "64Mi"}}),
            [f'spec.containers[0].resources.limits[memory]: fractional byte value "100m" {FRACTION}'],
        ),
        (
            container(resources={"requests": {"ephemeral-storage": "0.5"}}),
            [f'spec.containers[0].resources.requests[ephemeral-storage]: fractional byte value "500m" {FRACTION}'],
        ),
        ({"overhead": {"memory": "1500m"}}, [f'spec.overhead[memory]: fractional byte value "1500m" {FRACTION}']),
        (
            ports([{"containerPort": 80}], [{"containerPort": 80}]),
            ["spec.containers[1].ports[0]: duplicate port definition with spec.containers[0].ports[0]"],
        ),
        (
            ports([{"containerPort": 80}, {"containerPort": 80, "hostPort": 8080}]),
            ["spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]"],
        ),
        (
            ports([{"containerPort": 80, "hostPort": 80}, {"containerPort": 80, "hostPort": 80, "hostIP": "192.0.2.1"}]),
            ["spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]"],
        ),
        (
            ports([{"containerPort": 80, "hostIP": "192.0.2.1", "name": "w"}]),
            ["spec.containers[0].ports[0]: hostIP set without hostPort: "
             "{Name:w HostPort:0 ContainerPort:80 Protocol:TCP HostIP:192.0.2.1}"],
        ),
        (ports([{"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]), []),
        (
            {"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}, {"name": "w", "storageos": {}}]},
            ["spec.volumes[0].gitRepo: deprecated in v1.11",
             "spec.volumes[1].storageOS: deprecated in v1.22, non-functional in v1.25+"],
        ),
        (
            volume(configMap={"name": "c", "items": [file("a"), file("b/"), file("a/x"), file("ab")]}),
            ['volume "v" (ConfigMap "c"): overlapping paths: "a/x" with "a"'],
        ),
        (
            volume(secret={"secretName": "s", "items": [file("a"), file("a")]}),
            ['volume "v" (Secret "s"): overlapping paths: "a" with "a"'],
        ),
        (
            volume(downwardAPI={"items": [file("a/b"), file("a")]}),
            ['volume "v" (DownwardAPI): overlapping paths: "a" with "a/b"'],
        ),
        (
            volume(projected={"sources": [
                {"secret": {"name": "s", "items": [file("t")]}}, {"serviceAccountToken": {"path": "t/u"}}]}),
            ['volume "v" (Projected ServiceAccountToken): overlapping paths: "t/u" with "t"'],
        ),
        (volume(projected={"sources": [{}]}), ['volume "v" (Projected) has no sources provided']),
        (volume(projected={"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "s", "items": [file("t")]}}]}), []),
    ],
)
def test_what_is_hardly_meant_is_said(spec: dict[str, Any], expected: list[str]) -> None:
    assert said(spec) == expected


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("scheduler.alpha.kubernetes.io/critical-pod", 'non-functional in v1.16+; use the "priorityClassName" field instead'),
        ("seccomp.security.alpha.kubernetes.io/pod", SECCOMP),
        ("container.seccomp.security.alpha.kubernetes.io/app", SECCOMP),
    ],
)
def test_annotations_that_have_lost_their_meaning(key: str, words: str) -> None:
    assert said({}, {key: "x"}) == [f"metadata.annotations[{key}]: {words}"]


def test_a_field_stands_for_the_annotation() -> None:
    profile = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    assert said(profile, {"seccomp.security.alpha.kubernetes.io/pod": "x"}) == []


def test_a_name_that_is_no_host_s_and_addresses_that_are_written_otherwise() -> None:
    spec = {
        "containers": [APP], "dnsConfig": {"nameservers": ["1.2.3.4", "2001:db8:0:0::2"]},
        "hostAliases": [{"ip": "::ffff:1.2.3.4"}],
    }
    assert list(warnings.of_pod({"metadata": {"name": "web.a"}, "spec": spec}, ())) == [
        "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: "
        "[must not contain dots]",
        'spec.dnsConfig.nameservers[1]: IPv6 address "2001:db8:0:0::2" should be in RFC 5952 canonical format ("2001:db8::2")',
        'spec.hostAliases[0].ip: non-standard IP address "::ffff:1.2.3.4" will be considered invalid in a future Kubernetes '
        'release: use "1.2.3.4"',
    ]
