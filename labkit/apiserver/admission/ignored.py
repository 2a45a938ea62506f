"""Fields of a Pod that this API accepts and on which nobody acts: the lab's words about them, for the Warning header.

tests/unit/test_fields.py holds this against the served schema: each field is acted upon, refused, or in this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec import schema

Manifest = Mapping[str, Any]

ALPHA = "Kubernetes has this field switched off unless its feature gate is set; it has no effect here."
NO_PLUGIN = "The lab's kubelet has no plugin for this type of volume, so the Pod waits in ContainerCreating."
NO_PREFERENCES = "The lab's scheduler acts on requirements alone; it weighs no preferences."
WINDOWS = "The node runs Linux, where these options have no effect."
NO_PREEMPTION = "No other Pod is removed to make room: the lab's scheduler and kubelet do not preempt."
IGNORED: dict[str, dict[str, str]] = {
    "PodSpec": {
        "automountServiceAccountToken": "The lab's API issues no tokens, so none is mounted.",
        "evictionResponders": ALPHA,
        "priorityClassName": NO_PREEMPTION,
        "resourceClaims": "The lab serves no ResourceClaims, so the Pod stays Pending.",
        "schedulerName": "No scheduler of this name runs in the lab: the Pod stays Pending until somebody binds it to a node.",
        "schedulingGroup": ALPHA,
    },
    "PodSecurityContext": {
        "seLinuxChangePolicy": "The lab's kubelet mounts volumes without SELinux labels.",
        "windowsOptions": WINDOWS,
    },
    "SecurityContext": {"windowsOptions": WINDOWS},
    "Container": {
        "resizePolicy": "The lab serves no pods/resize: the resources of a running Pod cannot be changed.",
        "volumeDevices": "The lab's kubelet gives containers no block devices: this one waits in CreateContainerConfigError.",
    },
    "ResourceRequirements": {"claims": "The lab serves no ResourceClaims, so the container gets no devices."},
    "HTTPGetAction": {"protocol": "The lab's kubelet probes by HTTP/1.1 alone."},
    "GRPCAction": {"mode": "The lab's kubelet probes without TLS alone."},
    "NodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": NO_PREFERENCES},
    "PodAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": NO_PREFERENCES},
    "PodAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": NO_PREFERENCES},
    "VolumeMount": {"bindMountOptions": ALPHA},
    "Volume": {
        **dict.fromkeys(
            (
                "awsElasticBlockStore",
                "azureDisk",
                "azureFile",
                "cephfs",
                "cinder",
                "csi",
                "fc",
                "flexVolume",
                "flocker",
                "gcePersistentDisk",
                "gitRepo",
                "glusterfs",
                "iscsi",
                "nfs",
                "photonPersistentDisk",
                "portworxVolume",
                "quobyte",
                "rbd",
                "scaleIO",
                "storageos",
                "vsphereVolume",
            ),
            NO_PLUGIN,
        ),
    },
    "EmptyDirVolumeSource": {"mode": ALPHA},
    "ConfigMapVolumeSource": {"defaultUser": ALPHA},
    "SecretVolumeSource": {"defaultUser": ALPHA},
    "DownwardAPIVolumeSource": {"defaultUser": ALPHA},
    "ProjectedVolumeSource": {"defaultUser": ALPHA},
    "KeyToPath": {"user": ALPHA},
    "DownwardAPIVolumeFile": {"user": ALPHA},
    "VolumeProjection": {
        "serviceAccountToken": "The lab's API issues no tokens, so the Pod waits in ContainerCreating.",
        "clusterTrustBundle": "The lab serves no ClusterTrustBundles, so the Pod waits in ContainerCreating.",
        "podCertificate": "The lab issues no certificates, so the Pod waits in ContainerCreating.",
    },
}
"""Kind → field → what becomes of it."""
UNLESS: dict[tuple[str, str], tuple[Any, ...]] = {
    ("PodSpec", "automountServiceAccountToken"): (False,),
    ("PodSpec", "priorityClassName"): ("",),
    ("PodSpec", "schedulerName"): ("default-scheduler", ""),
    ("HTTPGetAction", "protocol"): ("HTTP/1.1",),
    ("GRPCAction", "mode"): ("Plaintext", ""),
}
"""Values with which a field says what is so in any case."""


def of_pod(pod: Manifest) -> Iterator[tuple[str, str]]:
    """(path, words) for each field of a Pod's spec that has no effect."""
    for path, kind, name, value in schema.visit("PodSpec", pod.get("spec") or {}, "spec"):
        short = kind.rpartition(".")[2]
        if name in IGNORED.get(short, ()) and value not in (None, [], *UNLESS.get((short, name), ())):
            yield path, IGNORED[short][name]
