"""What is refused, and in which words: those of Kubernetes 1.36's pkg/apis/core/validation and of Go's JSON decoder."""

import copy
import gc
import json
from pathlib import Path

import pytest
from hypothesis import given, settings

from authoring.generate import api_schema
from labkit.apiserver.objects import object_defaults
from labkit.apiserver.objects.validation import decoding_error, unknown_fields, validate
from labkit.podspec import schema
from labkit.podspec.validation import rules
from tests.truth import truth
from tests.unit.kubeapi_objects import WILD, container, pod, shaped

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and "
    "end with an alphanumeric "
    "character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    "start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    r"'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
C = "spec.containers[0]"


def said(resource, new, old=None):
    """The causes of an object with its defaults, as kubectl prints them below "is invalid"."""
    new = copy.deepcopy(new)
    object_defaults.fill(resource, new)
    return [f"{cause.field}: {cause.message}" for cause in validate(resource, new, old)]


def stored(resource, obj):
    obj = copy.deepcopy(obj)
    object_defaults.fill(resource, obj)
    assert validate(resource, obj, None) == []
    return obj


def test_every_recorded_pod_is_accepted_with_the_status_it_came_to():
    for name, recorded in truth("pods.json").items():
        manifest = recorded["manifest"]
        manifest["metadata"]["namespace"] = "default"
        made = stored("pods", manifest)
        assert validate("pods", {**made, "status": recorded["status"]}, made) == [], name
        for thing in recorded.get("objects", []):
            thing["metadata"]["namespace"] = "default"
            stored(f"{thing['kind'].lower()}s", thing)


def test_recorded_objects_have_no_unknown_field():
    assert unknown_fields("nodes", truth("node.json")) == []
    assert unknown_fields("pods", truth("shop.json")["pod"]) == []


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (pod(meta={"name": "Web_1"}), [f'metadata.name: Invalid value: "Web_1": {SUBDOMAIN}']),
        (pod(meta={"name": "w" * 254}), [f'metadata.name: Invalid value: "{"w" * 254}": must be no more than 253 bytes']),
        (pod(meta={"name": ""}), ["metadata.name: Required value: name or generateName is required"]),
        (pod(meta={"labels": {"a b": "c"}}), [
            'metadata.labels: Invalid value: "a b": name part must consist of alphanumeric characters, \'-\', '
            '\'_\' or \'.\', and must '
            "start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex "
            "used for validation is "
            "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"]),
        (pod(meta={"annotations": {"a": "x" * 262145}}), ["metadata.annotations: Too long: may not be more than 262144 bytes"]),
        ({**pod(), "spec": {}}, ["spec.containers: Required value"]),
        (pod(container(name="")), [f"{C}.name: Required value"]),
        (pod(container(name="a.b")), [f'{C}.name: Invalid value: "a.b": must not contain dots']),
        (pod(container(name="A")), [f'{C}.name: Invalid value: "A": {LABEL}']),
        (pod(container(image="")), [f"{C}.image: Required value"]),
        (pod(container(image=" a")), [f'{C}.image: Invalid value: " a": must not have leading or trailing whitespace']),
        (pod(container(), container()), ['spec.containers[1].name: Duplicate value: "app"']),
        (pod(container(imagePullPolicy="Sometimes")), [
            f'{C}.imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never"']),
        (pod(restartPolicy="Maybe"), [
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"']),
        (pod(dnsPolicy="x"), [
            'spec.dnsPolicy: Unsupported value: "x": supported values: "ClusterFirstWithHostNet", '
            '"ClusterFirst", "Default", "None"']),
        (pod(dnsPolicy="None"), ["spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None"]),
        (pod(activeDeadlineSeconds=0), ["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and "
            "2147483647, inclusive"]),
        (pod(hostname="a.b"), ['spec.hostname: Invalid value: "a.b": must not contain dots']),
        (pod(hostPID=True, shareProcessNamespace=True), [
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID "
            "cannot both be enabled"]),
        (pod(hostNetwork=True, hostUsers=False), ["spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false"]),
        (pod(hostAliases=[{"ip": "1.2.3"}]), [
            'spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']),
        (pod(nodeSelector={"a": "b c"}), [
            'spec.nodeSelector: Invalid value: "b c": a valid label must be an empty string or consist of '
            'alphanumeric characters, '
            "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or "
            "'my_value',  or '12345', "
            "regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"]),
        (pod(ephemeralContainers=[container(name="e")]), ["spec.ephemeralContainers: Forbidden: cannot be set on create"]),
        (pod(overhead={"cpu": "-1"}), ['spec.overhead[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
    ],
)
def test_a_pod_is_refused(manifest, words):
    assert said("pods", manifest) == words


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ports": [{"containerPort": 0}]}, ["ports[0].containerPort: Required value"]),
        ({"ports": [{"containerPort": 70000, "hostPort": -1}]}, [
            "ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "ports[0].hostPort: Invalid value: -1: must be between 1 and 65535, inclusive"]),
        ({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}, ['ports[1].name: '
            'Duplicate value: "a"']),
        ({"ports": [{"containerPort": 1, "name": "this-is-too-long"}]}, [
            'ports[0].name: Invalid value: "this-is-too-long": must be no more than 15 bytes']),
        ({"ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2, "hostPort": 9}]}, [
            'ports[1].hostPort: Duplicate value: "TCP//9"']),
        ({"ports": [{"containerPort": 1, "protocol": "tcp"}]}, [
            'ports[0].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"']),
        ({"env": [{"name": "a=b"}]}, [
            'env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of '
            'printable ASCII characters '
            "other than '='"]),
        ({"env": [{"name": ""}]}, ["env[0].name: Required value"]),
        ({"env": [{"name": "a", "value": "b", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}, [
            'env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty']),
        ({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "spec.containers"}}}]}, [
            'env[0].valueFrom.fieldRef.fieldPath: Invalid value: "spec.containers": error converting fieldPath: field label not '
            "supported: spec.containers"]),
        ({"env": [{"name": "a", "valueFrom": {"fieldRef": {"fieldPath": "status.phase"}}}]}, [
            'env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: "metadata.name", '
            '"metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", '
            '"status.hostIPs", '
            '"status.podIP", "status.podIPs"']),
        ({"env": [{"name": "a", "valueFrom": {"configMapKeyRef": {"name": "c"}}}]}, [
            "env[0].valueFrom.configMapKeyRef.key: Required value"]),
        ({"env": [{"name": "a", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]}, [
            'env[0].valueFrom.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: "limits.cpu", '
            '"limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"']),
        ({"envFrom": [{}]}, ['envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
        ({"volumeMounts": [{"name": "gone", "mountPath": "/x"}]}, ['volumeMounts[0].name: Not found: "gone"']),
        ({"resources": {"requests": {"cpu": 2}, "limits": {"cpu": 1}}}, [
            'resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1']),
        ({"resources": {"limits": {"memory": "-1Mi"}}}, [
            'resources.limits[memory]: Invalid value: "-1Mi": must be greater than or equal to 0',
            'resources.requests[memory]: Invalid value: "-1Mi": must be greater than or equal to 0']),
        ({"resources": {"requests": {"gpu": 1}}}, [
            'resources.requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified',
            'resources.requests[gpu]: Invalid value: "gpu": must be a standard resource for containers']),
        ({"resources": {"requests": {"example.com/gpu": 1}}}, [
            "resources.limits: Required value: Limit must be set for non overcommitable resources"]),
        ({"resources": {"limits": {"hugepages-2Mi": "2Mi"}}}, ["resources: Forbidden: HugePages require cpu or memory"]),
        ({"livenessProbe": {}}, ["livenessProbe: Required value: must specify a handler type"]),
        ({"livenessProbe": {"exec": {"command": ["a"]}, "tcpSocket": {"port": 1}}}, [
            "livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"]),
        ({"livenessProbe": {"exec": {"command": ["a"]}, "successThreshold": 2}}, [
            "livenessProbe.successThreshold: Invalid value: 2: must be 1"]),
        ({"readinessProbe": {"httpGet": {"port": 0}, "periodSeconds": -1}}, [
            "readinessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0"]),
        ({"readinessProbe": {"exec": {}, "terminationGracePeriodSeconds": 1}}, [
            "readinessProbe.exec.command: Required value",
            "readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes"]),
        ({"lifecycle": {"preStop": {"sleep": {"seconds": 31}}}}, [
            "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"]),
        ({"lifecycle": {"stopSignal": "SIGUSR1"}}, [
            "lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"]),
        ({"securityContext": {"runAsUser": -1}}, ["securityContext.runAsUser: Invalid value: -1: must be "
            "between 0 and 2147483647, inclusive"]),
        ({"securityContext": {"privileged": True, "allowPrivilegeEscalation": False}}, [
            'securityContext: Invalid value: {"privileged":true,"allowPrivilegeEscalation":false}: cannot set '
            "`allowPrivilegeEscalation` to false and `privileged` to true"]),
        ({"securityContext": {"seccompProfile": {"type": "Localhost"}}}, [
            "securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost"]),
        ({"securityContext": {"procMount": "Unmasked"}}, [
            'securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`']),
    ],
)
def test_a_container_is_refused(fields, words):
    assert said("pods", pod(container(**fields))) == [f"{C}.{words_}" for words_ in words]


@pytest.mark.parametrize(
    ("os", "signal", "taken"),
    [
        ("linux", "SIGUSR1", True),
        ("linux", "SIGRTMIN+3", True),
        ("linux", "SIGRTMAX-14", True),
        ("linux", "SIGRTMINPLUS3", False),
        ("linux", "RUNTIME_DEFAULT", False),
        ("linux", "USR1", False),
        ("linux", "", False),
        ("windows", "SIGKILL", True),
        ("windows", "SIGUSR1", False),
    ],
)
def test_a_stop_signal_is_one_of_the_pods_system(os, signal, taken):
    words = said("pods", pod(container(lifecycle={"stopSignal": signal}), os={"name": os}))
    supported = '"SIGKILL", "SIGTERM"' if os == "windows" else '"SIGABRT", "SIGALRM", '
    start = f'{C}.lifecycle.stopSignal: Unsupported value: "{signal}": supported values: {supported}'
    assert words == [] if taken else len(words) == 1 and words[0].startswith(start)


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}, ["hostPath: Forbidden: may not specify more "
            "than 1 volume type"]),
        ({"name": "", "emptyDir": {}}, ["name: Required value"]),
        ({"name": "v", "hostPath": {"path": ""}}, ["hostPath.path: Required value"]),
        ({"name": "v", "hostPath": {"path": "/a/../b"}}, ["hostPath.path: Invalid value: \"/a/../b\": must not contain '..'"]),
        ({"name": "v", "hostPath": {"path": "/a", "type": "Dir"}}, [
            'hostPath.type: Unsupported value: "Dir": supported values: "", "BlockDevice", "CharDevice", "Directory", '
            '"DirectoryOrCreate", "File", "FileOrCreate", "Socket"']),
        ({"name": "v", "configMap": {}}, ["configMap.name: Required value"]),
        ({"name": "v", "secret": {"secretName": "s", "defaultMode": 512}}, [
            "secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive"]),
        ({"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "../x"}]}}, [
            "configMap.items[0].path: Invalid value: \"../x\": must not contain '..'"]),
        ({"name": "v", "persistentVolumeClaim": {}}, ["persistentVolumeClaim.claimName: Required value"]),
        ({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}]}}, [
            "projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a "
            "duration less than 10 minutes",
            "projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"]),
    ],
)
def test_a_volume_is_refused(volume, words):
    assert said("pods", pod(volumes=[volume])) == [f"spec.volumes[0].{each}" for each in words]


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"mountPath": ""}, ["volumeMounts[0].mountPath: Required value"]),
        ({"mountPath": "/x", "subPath": "/abs"}, ['volumeMounts.subPath: Invalid value: "/abs": must be a relative path']),
        ({"mountPath": "/x", "subPath": "a/../b"}, ["volumeMounts.subPath: Invalid value: \"a/../b\": must not contain '..'"]),
        ({"mountPath": "/x", "mountPropagation": "Bidirectional"}, [
            "volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to "
            "privileged containers"]),
        ({"mountPath": "/x", "recursiveReadOnly": "Enabled"}, [
            "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"]),
    ],
)
def test_a_mount_is_refused(mount, words):
    made = pod(container(volumeMounts=[{"name": "v", **mount}]), volumes=[{"name": "v"}])
    assert said("pods", made) == [f"{C}.{each}" for each in words]


def test_a_volume_that_is_refused_cannot_be_mounted():
    made = pod(container(volumeMounts=[{"name": "v", "mountPath": "/x"}]), volumes=[{"name": "v", "hostPath": {"path": ""}}])
    assert said("pods", made) == ["spec.volumes[0].hostPath.path: Required value", f'{C}.volumeMounts[0].name: Not found: "v"']


def test_two_mounts_at_one_path():
    mounts = [{"name": "v", "mountPath": "/x"}] * 2
    assert said("pods", pod(container(volumeMounts=mounts), volumes=[{"name": "v"}])) == [
        f'{C}.volumeMounts[1].mountPath: Invalid value: "/x": must be unique'
    ]


def test_init_containers_have_probes_only_as_sidecars():
    probe = {"exec": {"command": ["a"]}}
    first = pod(initContainers=[container(name="i", livenessProbe=probe)])
    assert said("pods", first) == [
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
    ]
    assert said("pods", pod(initContainers=[container(name="i", livenessProbe=probe, restartPolicy="Always")])) == []


@pytest.mark.parametrize(
    ("toleration", "words"),
    [
        (
            {},
            'operator: Invalid value: "": operator must be Exists when `key` is empty, which means "match all '
            'values and all keys"',
        ),
        (
            {"key": "a", "operator": "Exists", "value": "b"},
            "operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
        ),
        ({"key": "a", "operator": "In"}, 'operator: Unsupported value: "In": supported values: "Equal", "Exists"'),
        (
            {"key": "a", "tolerationSeconds": 1},
            "effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
        (
            {"key": "a", "effect": "No"},
            'effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
        ),
    ],
)
def test_a_toleration_is_refused(toleration, words):
    assert said("pods", pod(tolerations=[toleration])) == [f"spec.tolerations[0].{words}"]


def test_affinity_is_looked_into():
    terms = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "In"}]}]
        }
    }
    assert said("pods", pod(affinity={"nodeAffinity": terms})) == [
        "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"
        ".values: "
        "Required value: must be specified when `operator` is 'In' or 'NotIn'"
    ]


def changed(old, change):
    new = copy.deepcopy(old)
    change(new["spec"])
    return [f"{cause.field}: {cause.message}" for cause in validate("pods", new, old)]


def test_of_a_pod_little_may_change():
    old = stored("pods", pod(activeDeadlineSeconds=10, tolerations=[{"key": "a", "operator": "Exists"}]))
    assert changed(old, lambda spec: spec["containers"][0].update(image="other")) == []
    assert changed(old, lambda spec: spec.update(activeDeadlineSeconds=5)) == []
    assert changed(old, lambda spec: spec["tolerations"].append({"key": "b", "operator": "Exists"})) == []
    assert changed(old, lambda spec: spec.update(activeDeadlineSeconds=11)) == [
        "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"
    ]
    assert changed(old, lambda spec: spec.update(tolerations=[])) == [
        "spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"
    ]
    assert changed(old, lambda spec: spec["containers"].append(container(name="b")))[-1:] == [
        "spec.containers: Forbidden: pod updates may not add or remove containers"
    ]
    (words,) = changed(old, lambda spec: spec["containers"][0].update(command=["x"]))
    first, *rest = words.splitlines()
    assert first == (
        "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    assert any("command" in line for line in rest)


def test_a_negative_grace_period_may_become_one():
    old = stored("pods", pod(terminationGracePeriodSeconds=-1))
    assert changed(old, lambda spec: spec.update(terminationGracePeriodSeconds=1)) == []
    assert changed(old, lambda spec: spec.update(terminationGracePeriodSeconds=2)) != []


def test_a_container_that_has_ended_for_good_does_not_come_back():
    made = stored("pods", pod(restartPolicy="Never"))
    ended = {"containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 1}}}]}
    runs = {"containerStatuses": [{"name": "app", "state": {"running": {}}}]}
    causes = validate("pods", {**made, "status": runs}, {**made, "status": ended})
    assert [(c.field, c.message) for c in causes] == [
        ("status.containerStatuses[0].state", "Forbidden: may not be transitioned to non-terminated state")
    ]
    assert validate("pods", {**made, "status": ended}, {**made, "status": runs}) == []


def test_the_metadata_that_names_an_object_stays():
    old = stored("configmaps", {"metadata": {"name": "a", "namespace": "n", "uid": "1"}})
    new = {**old, "metadata": {"name": "b", "namespace": "n", "uid": "2"}}
    assert [(c.field, c.message) for c in validate("configmaps", new, old)] == [
        ("metadata.name", 'Invalid value: "b": field is immutable'),
        ("metadata.uid", 'Invalid value: "2": field is immutable'),
    ]


META = {"name": "a", "namespace": "n"}


@pytest.mark.parametrize(
    ("resource", "obj", "words"),
    [
        ("namespaces", {"metadata": {"name": "a.b"}}, ['metadata.name: Invalid value: "a.b": must not contain dots']),
        ("configmaps", {"metadata": META, "data": {"a/b": ""}}, [
            "data[a/b]: Invalid value: \"a/b\": a valid config key must consist of alphanumeric characters, "
            "'-', '_' or '.' (e.g. "
            "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"]),
        ("configmaps", {"metadata": META, "data": {"..a": ""}}, ["data[..a]: Invalid value: \"..a\": must not start with '..'"]),
        ("configmaps", {"metadata": META, "data": {"a": "x" * 1048577}}, ["[]: Too long: may not be more than 1048576 bytes"]),
        ("secrets", {"metadata": META, "type": "kubernetes.io/tls"}, [
            "data[tls.crt]: Required value", "data[tls.key]: Required value"]),
        ("secrets", {"metadata": META, "type": "kubernetes.io/dockerconfigjson"}, ["data[.dockerconfigjson]: Required value"]),
        ("persistentvolumeclaims", {"metadata": META, "spec": {}}, [
            "spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"]),
        ("persistentvolumes", {"metadata": {"name": "a"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}}, [
            "spec: Required value: must specify a volume type"]),
        ("persistentvolumes", {"metadata": {"name": "a"}, "spec": {"capacity": {"storage": 0}, "hostPath": {"path": "/x"}}}, [
            "spec.accessModes: Required value", 'spec.capacity[storage]: Invalid value: "0": must be greater than zero']),
        ("nodes", {"metadata": {"name": "a"}, "spec": {"taints": [{"key": "k"}]}}, ["metadata.taints[0].effect: Required value"]),
        ("events", {"metadata": META, "involvedObject": {"namespace": "other"}}, [
            'involvedObject.namespace: Invalid value: "other": does not match event.namespace']),
        ("leases", {"metadata": META, "spec": {"leaseDurationSeconds": 0}}, [
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]),
        ("serviceaccounts", {"metadata": {"name": "a"}}, ["metadata.namespace: Required value"]),
    ],
)
def test_other_kinds_are_refused(resource, obj, words):
    assert said(resource, obj) == words


def test_immutable_means_it():
    old = stored("configmaps", {"metadata": META, "data": {"a": "1"}, "immutable": True})
    new = {**old, "data": {"a": "2"}, "immutable": False}
    assert said("configmaps", new, old) == [
        "immutable: Forbidden: field is immutable when `immutable` is set",
        "data: Forbidden: field is immutable when `immutable` is set",
    ]
    secret = stored("secrets", {"metadata": META})
    assert said("secrets", {**secret, "type": "x"}, secret) == ['type: Invalid value: "x": field is immutable']


def test_a_claim_stays_but_for_its_volume():
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    old = stored("persistentvolumeclaims", {"metadata": META, "spec": spec})
    bound = copy.deepcopy(old)
    bound["spec"]["volumeName"] = "pv"
    assert validate("persistentvolumeclaims", bound, old) == []
    bound["spec"]["accessModes"] = ["ReadOnlyMany"]
    (cause,) = validate("persistentvolumeclaims", bound, old)
    assert (cause.field, cause.message.splitlines()[0]) == (
        "spec", "Forbidden: spec is immutable after creation except resources.requests and "
        "volumeAttributesClassName for bound claims",
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"containers": "x"}, "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of "
            "type []v1.Container"),
        ({"containers": [{"ports": "80"}]},
         "json: cannot unmarshal string into Go struct field Container.spec.containers.ports of type []v1.ContainerPort"),
        ({"containers": [{"ports": [{"containerPort": "80"}]}]},
         "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
        ({"containers": [{"env": [{"name": "a", "value": True}]}]},
         "json: cannot unmarshal bool into Go struct field EnvVar.spec.containers.env.value of type string"),
        ({"containers": [{"command": ["a", 1]}]},
         "json: cannot unmarshal number into Go struct field Container.spec.containers.command of type string"),
        ({"activeDeadlineSeconds": 1.5},
         "json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64"),
        ({"priority": 2**31},
         "json: cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of type int32"),
        ({"nodeSelector": {"a": 1}},
         "json: cannot unmarshal number into Go struct field PodSpec.spec.nodeSelector of type string"),
        ({"restartPolicy": 1}, "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy "
            "of type v1.RestartPolicy"),
        ({"overhead": "x"}, "json: cannot unmarshal string into Go struct field PodSpec.spec.overhead of type v1.ResourceList"),
        ({"containers": [{"securityContext": {"capabilities": {"add": "ALL"}}}]},
         "json: cannot unmarshal string into Go struct field "
         "Capabilities.spec.containers.securityContext.capabilities.add of type "
         "[]v1.Capability"),
        ({"hostNetwork": "yes"}, "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"),
        ({"securityContext": []},
         "json: cannot unmarshal array into Go struct field PodSpec.spec.securityContext of type v1.PodSecurityContext"),
        ({"containers": [{"resources": {"limits": {"cpu": "lots"}}}]},
         "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        ({"containers": [{"resources": {"limits": {"cpu": "1ei"}}}]}, "unable to parse quantity's suffix"),
        ({"containers": [{"livenessProbe": {"tcpSocket": {"port": True}}}]},
         "json: cannot unmarshal bool into Go value of type int32"),
    ],
)
def test_a_wrong_type_is_told_as_go_tells_it(spec, words):
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    assert decoding_error("pods", manifest) == f'Pod in version "v1" cannot be handled as a Pod: {words}'
    assert [cause.message for cause in validate("pods", manifest, None)] == [decoding_error("pods", manifest)]


def test_unknown_fields_are_named_by_their_path():
    manifest = pod(
        container(imagee="x", ports=[{"containerPort": 1, "portt": 2}]), dnsConfig={"x": 1}, meta={"labels": {"any": "key"}}
    )
    manifest["specc"] = {}
    assert unknown_fields("pods", manifest) == [
        'unknown field "spec.containers[0].imagee"',
        'unknown field "spec.containers[0].ports[0].portt"',
        'unknown field "spec.dnsConfig.x"',
        'unknown field "specc"',
    ]


@pytest.mark.parametrize("resource", sorted(schema.KINDS))
@settings(max_examples=12, deadline=None, database=None)
@given(new=WILD)
def test_no_json_whatever_makes_it_fail(resource, new):
    decoding_error(resource, new)
    unknown_fields(resource, new)
    validate(resource, new, None)


@pytest.mark.parametrize("resource", sorted(schema.KINDS))
def test_whatever_has_the_kinds_shape_gets_an_answer(resource):
    @settings(max_examples=10, deadline=None, database=None)
    @given(new=shaped(schema.KINDS[resource]), old=shaped(schema.KINDS[resource]))
    def check(new, old):
        for obj in (new, old):
            object_defaults.fill(resource, obj)
        for cause in [*validate(resource, new, None), *validate(resource, new, old)]:
            json.dumps([cause.field, cause.reason, cause.message])
            assert cause.reason.startswith("FieldValue")

    check()


REFUSALS = json.loads((Path(__file__).parent / "data/refusals.json").read_text())
"""An object for every rule, made by chance and cut down to what the rule needs, with all that is refused of it, in order.
`texts`: long words, which stand there by name."""


def in_short(cause):
    text = f"{cause.reason.removeprefix('FieldValue')} {cause.field}: {cause.message}"
    for name, words in sorted(REFUSALS["texts"].items(), key=lambda item: -len(item[1])):
        text = text.replace(words, f"<{name}>")
    return text


@pytest.mark.parametrize("number", range(0, len(REFUSALS["refusals"]), 20))
def test_every_rule_refuses_in_its_words_and_its_turn(number):
    for row in REFUSALS["refusals"][number : number + 20]:
        new, old = copy.deepcopy(row["new"]), copy.deepcopy(row.get("old"))
        for obj in (new, old):
            if obj is not None:
                object_defaults.fill(row["resource"], obj)
        assert [in_short(cause) for cause in validate(row["resource"], new, old)] == row["refused"], row


UNREACHED = {"apiVersion", "path", "terminationGracePeriodSeconds"}
"""Fields that defaults fill in before a needed one could be found empty."""


def test_every_row_of_the_tables_is_reached_by_a_refusal(monkeypatch):
    rows = {id(row): row for row in gc.get_objects() if isinstance(row, rules.Rule)}
    causes, finds = rules.Rule.causes, set()

    def noted(self, at):
        for cause in causes(self, at):
            finds.add(id(self))
            yield cause

    monkeypatch.setattr(rules.Rule, "causes", noted)
    for number in range(0, len(REFUSALS["refusals"]), 20):
        test_every_rule_refuses_in_its_words_and_its_turn(number)
    assert said("configmaps", {"metadata": META, "data": {"a": "x" * 1048577}})
    assert said("secrets", {"metadata": META, "data": {"a": "eHh4" * 350000}}) == [
        "data: Too long: may not be more than 1048576 bytes"
    ]
    assert said("pods", pod(container(lifecycle={"stopSignal": "SIGUSR1"})))
    assert said("nodes", {"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.0.0.0/24"] * 2}})
    for finalizer, number in (("a b", 0), ("mine", 1)):
        new = {"metadata": {"name": "a"}, "spec": {"finalizers": ["a/b"] * number + [finalizer]}}
        (cause,) = {each.field for each in validate("namespaces", new, new, "finalize")}
        assert cause == f"spec.finalizers[{number}]"
    assert len(finds) > 400 and {rows[key].where for key in rows.keys() - finds} <= UNREACHED


def test_every_enumeration_of_the_schema_is_that_of_a_field():
    kinds = {name.rpartition(".")[2] for name in schema.definitions()}
    assert {name.partition(".")[0] for name in api_schema.ENUMS} <= kinds
    for name, values in api_schema.ENUMS.items():
        kind, _, field = name.partition(".")
        assert schema.field(kind, field).enum == tuple(values)
