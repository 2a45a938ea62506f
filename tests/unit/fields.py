"""Pods that, together, set every field of the served schema (but what is refused), for tests/unit/test_fields.py."""

from __future__ import annotations

from typing import Any

from labkit.apiserver.admission import ignored
from tests.unit.kubeapi_objects import container, pod

HTTP = {
    "httpGet": {
        "path": "/p",
        "port": "web",
        "host": "127.0.0.1",
        "scheme": "HTTPS",
        "protocol": "HTTP/2",
        "httpHeaders": [{"name": "A", "value": "b"}],
    }
}
NUMBERS = {
    "initialDelaySeconds": 1,
    "timeoutSeconds": 2,
    "periodSeconds": 3,
    "failureThreshold": 4,
    "terminationGracePeriodSeconds": 5,
}
RULE = {"key": "zone", "operator": "In", "values": ["b"]}
SELECTOR = {"matchLabels": {"app": "x"}, "matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]}
TERM = {
    "topologyKey": "zone",
    "labelSelector": SELECTOR,
    "namespaces": ["default"],
    "matchLabelKeys": ["rev"],
    "mismatchLabelKeys": ["tenant"],
    "namespaceSelector": {"matchLabels": {"team": "y"}},
}
PROFILES = {
    "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
    "appArmorProfile": {"type": "Localhost", "localhostProfile": "p"},
    "seLinuxOptions": {"user": "u", "role": "r", "type": "t", "level": "s0"},
}
USER = {"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": True}
WINDOWS = {"windowsOptions": {"runAsUserName": "x"}}
ITEMS = {"items": [{"key": "k", "path": "a/b", "mode": 256, "user": 7}]}
DOWNWARD = {
    "items": [
        {"path": "f", "mode": 256, "user": 7, "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.uid"}},
        {"path": "r", "resourceFieldRef": {"containerName": "app", "resource": "limits.cpu", "divisor": "1m"}},
    ]
}
RESOURCES = {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}}

SCHEDULED = pod(
    container(resources=RESOURCES),
    meta={"labels": {"app": "x", "rev": "1", "tenant": "t"}},
    affinity={
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [RULE]},
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x"]}]},
                ]
            },
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {"matchExpressions": [RULE]}}],
        },
        "podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [TERM],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": TERM}],
        },
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [TERM],
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": TERM}],
        },
    },
    nodeSelector={"zone": "b"},
    preemptionPolicy="Never",
    priority=0,
    tolerations=[{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 5}],
    topologySpreadConstraints=[
        {
            "maxSkew": 1,
            "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": SELECTOR,
            "minDomains": 2,
            "matchLabelKeys": ["rev"],
            "nodeAffinityPolicy": "Ignore",
            "nodeTaintsPolicy": "Honor",
        }
    ],
    terminationGracePeriodSeconds=7,
)
NAMED = pod(
    container(
        command=["sh"],
        args=["-c", "$(A)"],
        workingDir="/w",
        imagePullPolicy="Never",
        stdin=True,
        stdinOnce=True,
        tty=True,
        terminationMessagePath="/end",
        terminationMessagePolicy="FallbackToLogsOnError",
        env=[
            {"name": "A", "value": "1"},
            {"name": "B", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"containerName": "app", "resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "D", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
            {"name": "S", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "E", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        ],
        envFrom=[
            {"prefix": "P_", "configMapRef": {"name": "c", "optional": True}},
            {"secretRef": {"name": "s", "optional": True}},
        ],
        ports=[{"name": "web", "containerPort": 80, "hostPort": 81, "hostIP": "127.0.0.1", "protocol": "UDP"}],
        resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}],
        resources={"limits": {"cpu": "1", "ephemeral-storage": "1Ki"}, "requests": {"cpu": "100m"}},
        restartPolicy="Never",
        restartPolicyRules=[{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}],
        lifecycle={"stopSignal": "SIGUSR1", "preStop": {"exec": {"command": ["x"]}}, "postStart": HTTP},
        livenessProbe={**HTTP, **NUMBERS},
        readinessProbe={"tcpSocket": {"port": 1, "host": "127.0.0.1"}, "successThreshold": 2},
        startupProbe={"grpc": {"port": 1, "service": "x", "mode": "TLS"}},
    ),
    container(
        name="side",
        lifecycle={"preStop": {"sleep": {"seconds": 1}}, "postStart": {"tcpSocket": {"port": 1}}},
        livenessProbe={"exec": {"command": ["x"]}},
    ),
    activeDeadlineSeconds=60,
    automountServiceAccountToken=True,
    dnsPolicy="None",
    enableServiceLinks=False,
    dnsConfig={"nameservers": ["10.0.0.1"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}]},
    hostAliases=[{"ip": "10.0.0.9", "hostnames": ["db"]}],
    hostname="h",
    subdomain="s",
    setHostnameAsFQDN=True,
    imagePullSecrets=[{"name": "s"}],
    initContainers=[container(name="init")],
    nodeName="sim-worker",
    os={"name": "linux"},
    priorityClassName="system-node-critical",
    restartPolicy="OnFailure",
    serviceAccountName="default",
    serviceAccount="default",
    shareProcessNamespace=True,
)
SECURED = pod(
    container(
        securityContext={
            **USER,
            **PROFILES,
            **WINDOWS,
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": False,
            "procMount": "Unmasked",
            "readOnlyRootFilesystem": True,
        }
    ),
    container(name="other", securityContext={"privileged": True}),
    hostUsers=False,
    hostnameOverride="o.example",
    securityContext={
        **USER,
        **PROFILES,
        **WINDOWS,
        "fsGroup": 3,
        "fsGroupChangePolicy": "OnRootMismatch",
        "supplementalGroups": [4],
        "supplementalGroupsPolicy": "Strict",
        "seLinuxChangePolicy": "Recursive",
        "sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}],
    },
)
VOLUMES: dict[str, Any] = {
    "disk": {"emptyDir": {"sizeLimit": "1Mi", "mode": 448}},
    "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    "host": {"hostPath": {"path": "/nowhere", "type": "Directory"}},
    "map": {"configMap": {"name": "c", "optional": True, "defaultMode": 256, "defaultUser": 7, **ITEMS}},
    "secret": {"secret": {"secretName": "s", "optional": True, "defaultMode": 256, "defaultUser": 7, **ITEMS}},
    "fields": {"downwardAPI": {"defaultMode": 256, "defaultUser": 7, **DOWNWARD}},
    "all": {
        "projected": {
            "defaultMode": 256,
            "defaultUser": 7,
            "sources": [
                {"configMap": {"name": "c", "optional": True, **ITEMS}},
                {"secret": {"name": "s", "optional": True, "items": [{**ITEMS["items"][0], "path": "other"}]}},
                {"downwardAPI": {"items": [{**DOWNWARD["items"][0], "path": "own"}]}},
            ],
        }
    },
    "token": {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
    "certificates": {
        "projected": {
            "sources": [
                {"clusterTrustBundle": {"name": "b", "path": "b"}},
                {"podCertificate": {"signerName": "a.b/c", "keyType": "ED25519", "credentialBundlePath": "x"}},
            ]
        }
    },
    "claim": {"persistentVolumeClaim": {"claimName": "p", "readOnly": True}},
    "image": {"image": {"reference": "i:1", "pullPolicy": "Never"}},
}
MOUNTED = pod(
    container(
        volumeMounts=[
            {
                "name": "host",
                "mountPath": "/h",
                "readOnly": True,
                "recursiveReadOnly": "Enabled",
                "mountPropagation": "None",
                "bindMountOptions": ["noexec"],
            },
            {"name": "host", "mountPath": "/s", "subPath": "a", "mountPropagation": "HostToContainer"},
            {"name": "disk", "mountPath": "/e", "subPathExpr": "$(A)"},
            {"name": "image", "mountPath": "/i"},
        ],
        env=[{"name": "A", "value": "1"}],
    ),
    volumes=[{"name": name, **source} for name, source in VOLUMES.items()],
)
BLOCKS = pod(
    container(volumeDevices=[{"name": "claim", "devicePath": "/dev/x"}]), volumes=[{"name": "claim", **VOLUMES["claim"]}]
)
ODD = pod(
    container(resources={"claims": [{"name": "gpu", "request": "r"}]}),
    schedulerName="mine",
    resourceClaims=[{"name": "gpu", "resourceClaimName": "x"}, {"name": "b", "resourceClaimTemplateName": "y"}],
    schedulingGates=[{"name": "a/b"}],
    schedulingGroup={"podGroupName": "g"},
    evictionResponders=[{"name": "a.b/c", "priority": 1}],
)
ON_HOST = pod(container(), hostNetwork=True, hostPID=True, hostIPC=True, resources=RESOURCES)
FROM_FILE = pod(
    container(
        env=[{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "disk", "path": "f", "key": "K", "optional": True}}}]
    ),
    volumes=[{"name": "disk", **VOLUMES["disk"]}],
)

SOURCES: dict[str, dict[str, Any]] = {
    "awsElasticBlockStore": {"volumeID": "v"},
    "azureDisk": {"diskName": "d", "diskURI": "https://x.blob.core.windows.net/v/d.vhd"},
    "azureFile": {"secretName": "s", "shareName": "x"},
    "cephfs": {"monitors": ["m"]},
    "cinder": {"volumeID": "v"},
    "csi": {"driver": "d"},
    "fc": {"targetWWNs": ["w"], "lun": 1},
    "flexVolume": {"driver": "a/b"},
    "flocker": {"datasetName": "d"},
    "gcePersistentDisk": {"pdName": "p"},
    "gitRepo": {"repository": "r"},
    "glusterfs": {"endpoints": "e", "path": "p"},
    "iscsi": {"targetPortal": "1.2.3.4", "iqn": "iqn.2001-04.com.example:s", "lun": 0},
    "nfs": {"server": "s", "path": "/p"},
    "photonPersistentDisk": {"pdID": "p"},
    "portworxVolume": {"volumeID": "v"},
    "quobyte": {"registry": "r:1", "volume": "v"},
    "rbd": {"monitors": ["m"], "image": "i"},
    "scaleIO": {"gateway": "g", "system": "s", "secretRef": {"name": "s"}, "volumeName": "v"},
    "storageos": {"volumeName": "v"},
    "vsphereVolume": {"volumePath": "v"},
}
ELSEWHERE = pod(container(), volumes=[{"name": f"v{n}", name: source} for n, (name, source) in enumerate(SOURCES.items())])
TEMPLATE = {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}
EPHEMERAL = pod(container(), volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": TEMPLATE}}])
APART = pod(
    container(),
    meta={"labels": {"app": "x"}},
    affinity={
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": SELECTOR}
            ]
        }
    },
    readinessGates=[{"conditionType": "a/b"}],
    tolerations=[{"operator": "Exists"}],
)
GROUPED = pod(
    container(),
    securityContext={"fsGroup": 3, "fsGroupChangePolicy": "OnRootMismatch"},
    volumes=[{"name": "claim", **VOLUMES["claim"]}],
)
EXAMPLES = (SCHEDULED, APART, GROUPED, NAMED, SECURED, MOUNTED, BLOCKS, ODD, ON_HOST, FROM_FILE, ELSEWHERE, EPHEMERAL)

REFUSED: dict[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("PodSpec", "ephemeralContainers"): (
        {"ephemeralContainers": [{"name": "debug", "image": "i"}]},
        "ephemeralContainers: Forbidden: cannot be set on create",
    ),
    ("PodSpec", "overhead"): ({"overhead": {"cpu": "1"}}, "Pod Overhead set without corresponding RuntimeClass defined Overhead"),
    ("PodSpec", "runtimeClassName"): ({"runtimeClassName": "gvisor"}, 'RuntimeClass "gvisor" not found'),
}
"""Fields that are refused: a spec with such a field, and words of the answer."""
CHECKED: dict[tuple[str, str], tuple[dict[str, Any], str]] = {
    ("PodSpec", "serviceAccount"): ({"serviceAccount": "absent"}, 'serviceaccount "absent" not found'),
    ("TopologySpreadConstraint", "matchLabelKeys"): (
        {"topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "z", "whenUnsatisfiable": "DoNotSchedule", "matchLabelKeys": ["a"]}
        ]},
        "matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
    ),
    ("PodSchedulingGate", "name"): ({"schedulingGates": [{"name": "a"}, {"name": "a"}]}, 'Duplicate value: "a"'),
    ("ObjectFieldSelector", "apiVersion"): (
        {
            "containers": [
                container(env=[{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v2", "fieldPath": "metadata.uid"}}}])
            ]
        },
        "unsupported pod version: v2",
    ),
}
"""Fields on which the API alone acts: it refuses a wrong value."""
assert set(SOURCES) <= set(ignored.IGNORED["Volume"])
