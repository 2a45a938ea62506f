"""What Kubernetes has and this API does not serve: each resource is named in the answer, with what to do in the lab instead.

Discovery lists these resources without a verb. A client then finds the kind, sends its request, and gets our words in a Status.
It would otherwise say of its own that the kind does not exist, or that CRDs have to be installed. `kubectl api-resources` leaves
out what has no verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labkit.kubeapi import paths, status

NO_CONTROLLERS = (
    "The lab runs a scheduler and a kubelet, but no controllers that make Pods. Make the Pod itself: kubectl run, or a manifest "
    "of kind: Pod."
)
NO_NETWORK = (
    "The lab runs no kube-proxy and no cluster DNS. Reach a Pod by its IP (kubectl get pod -o wide) or by kubectl port-forward."
)
NO_AUTHORIZATION = "Whoever has the lab's kubeconfig may do everything that is served."
NO_EXTENSIONS = "Nothing can be added to this API."
NO_POLICY = "Nothing here limits or extends a Pod but its own spec and its node."
NO_STORAGE = "The lab has PersistentVolumes that you make yourself (hostPath or local); nothing provisions them."


@dataclass(frozen=True)
class Absent:
    """A resource of Kubernetes that is not served. `empty`: a list of it is answered, as empty, because clients ask for one on
    their way to something else."""

    plural: str
    kind: str
    advice: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    short: tuple[str, ...] = ()
    empty: bool = False
    code: int = 404

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def __str__(self) -> str:
        return f"{self.plural}{self.group and '.'}{self.group} are not served by the lab's API. {self.advice}"

    def refusal(self) -> status.ApiError:
        """404 with the advice, or 405 where clients have words of their own for a 404."""
        reason = "NotFound" if self.code == 404 else "MethodNotAllowed"
        return status.ApiError(self.code, reason, str(self), {"group": self.group, "kind": self.plural})

    def empty_list(self) -> dict[str, object]:
        return {"kind": f"{self.kind}List", "apiVersion": self.api_version, "metadata": {"resourceVersion": "1"}, "items": []}


ABSENT = (
    Absent("services", "Service", NO_NETWORK, short=("svc",), empty=True),
    Absent("endpoints", "Endpoints", NO_NETWORK, short=("ep",)),
    Absent("replicationcontrollers", "ReplicationController", NO_CONTROLLERS, short=("rc",)),
    Absent("resourcequotas", "ResourceQuota", NO_POLICY, short=("quota",)),
    Absent("limitranges", "LimitRange", NO_POLICY, short=("limits",)),
    Absent("podtemplates", "PodTemplate", NO_CONTROLLERS),
    Absent("componentstatuses", "ComponentStatus", "`labkit status` shows the parts of the lab.", namespaced=False,
           short=("cs",)),
    Absent("deployments", "Deployment", NO_CONTROLLERS, "apps", short=("deploy",)),
    Absent("replicasets", "ReplicaSet", NO_CONTROLLERS, "apps", short=("rs",)),
    Absent("statefulsets", "StatefulSet", NO_CONTROLLERS, "apps", short=("sts",)),
    Absent("daemonsets", "DaemonSet", NO_CONTROLLERS, "apps", short=("ds",)),
    Absent("controllerrevisions", "ControllerRevision", NO_CONTROLLERS, "apps"),
    Absent("jobs", "Job", NO_CONTROLLERS + " With restartPolicy: Never or OnFailure it ends as a Job's does.", "batch"),
    Absent("cronjobs", "CronJob", NO_CONTROLLERS, "batch", short=("cj",)),
    Absent("horizontalpodautoscalers", "HorizontalPodAutoscaler", NO_CONTROLLERS, "autoscaling", "v2", short=("hpa",)),
    Absent("poddisruptionbudgets", "PodDisruptionBudget", "kubectl drain deletes the lab's Pods.", "policy", short=("pdb",)),
    Absent("ingresses", "Ingress", NO_NETWORK, "networking.k8s.io", short=("ing",)),
    Absent("ingressclasses", "IngressClass", NO_NETWORK, "networking.k8s.io", namespaced=False),
    Absent("networkpolicies", "NetworkPolicy", "Every Pod of the lab reaches every other.", "networking.k8s.io",
           short=("netpol",)),
    Absent("endpointslices", "EndpointSlice", NO_NETWORK, "discovery.k8s.io"),
    Absent("events", "Event", "Events are served in the core group: kubectl events, or kubectl get events.v1.", "events.k8s.io",
           short=("ev",)),
    Absent("roles", "Role", NO_AUTHORIZATION, "rbac.authorization.k8s.io"),
    Absent("rolebindings", "RoleBinding", NO_AUTHORIZATION, "rbac.authorization.k8s.io"),
    Absent("clusterroles", "ClusterRole", NO_AUTHORIZATION, "rbac.authorization.k8s.io", namespaced=False),
    Absent("clusterrolebindings", "ClusterRoleBinding", NO_AUTHORIZATION, "rbac.authorization.k8s.io", namespaced=False),
    Absent("selfsubjectaccessreviews", "SelfSubjectAccessReview", NO_AUTHORIZATION, "authorization.k8s.io", namespaced=False),
    Absent("selfsubjectrulesreviews", "SelfSubjectRulesReview", NO_AUTHORIZATION, "authorization.k8s.io", namespaced=False),
    Absent("subjectaccessreviews", "SubjectAccessReview", NO_AUTHORIZATION, "authorization.k8s.io", namespaced=False),
    Absent("localsubjectaccessreviews", "LocalSubjectAccessReview", NO_AUTHORIZATION, "authorization.k8s.io"),
    Absent("selfsubjectreviews", "SelfSubjectReview", NO_AUTHORIZATION, "authentication.k8s.io", namespaced=False, code=405),
    Absent("tokenreviews", "TokenReview", NO_AUTHORIZATION, "authentication.k8s.io", namespaced=False),
    Absent("certificatesigningrequests", "CertificateSigningRequest", NO_AUTHORIZATION, "certificates.k8s.io", namespaced=False,
           short=("csr",)),
    Absent("storageclasses", "StorageClass", NO_STORAGE, "storage.k8s.io", namespaced=False, short=("sc",)),
    Absent("csidrivers", "CSIDriver", NO_STORAGE, "storage.k8s.io", namespaced=False),
    Absent("csinodes", "CSINode", NO_STORAGE, "storage.k8s.io", namespaced=False),
    Absent("csistoragecapacities", "CSIStorageCapacity", NO_STORAGE, "storage.k8s.io"),
    Absent("volumeattachments", "VolumeAttachment", NO_STORAGE, "storage.k8s.io", namespaced=False),
    Absent("priorityclasses", "PriorityClass", "Only system-cluster-critical and system-node-critical are known.",
           "scheduling.k8s.io", namespaced=False, short=("pc",)),
    Absent("runtimeclasses", "RuntimeClass", "The node has one runtime, runc.", "node.k8s.io", namespaced=False),
    Absent("customresourcedefinitions", "CustomResourceDefinition", NO_EXTENSIONS, "apiextensions.k8s.io", namespaced=False,
           short=("crd", "crds"), empty=True),
    Absent("apiservices", "APIService", NO_EXTENSIONS, "apiregistration.k8s.io", namespaced=False),
    Absent("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", NO_EXTENSIONS, "admissionregistration.k8s.io",
           namespaced=False),
    Absent("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", NO_EXTENSIONS, "admissionregistration.k8s.io",
           namespaced=False),
    Absent("validatingadmissionpolicies", "ValidatingAdmissionPolicy", NO_EXTENSIONS, "admissionregistration.k8s.io",
           namespaced=False),
    Absent("flowschemas", "FlowSchema", NO_EXTENSIONS, "flowcontrol.apiserver.k8s.io", namespaced=False),
    Absent("resourceclaims", "ResourceClaim", "The node has no devices to give.", "resource.k8s.io"),
    Absent("deviceclasses", "DeviceClass", "The node has no devices to give.", "resource.k8s.io", namespaced=False),
)  # fmt: skip
"""In the order in which discovery lists them; not every resource of Kubernetes, but those that first tutorials use."""

SUBRESOURCES = {
    ("pods", "eviction"): "Delete the Pod instead: kubectl delete pod NAME.",
    ("pods", "ephemeralcontainers"): "The lab's kubelet starts no ephemeral containers. Use kubectl exec, or kubectl debug with "
                                     "--copy-to.",
    ("pods", "resize"): "The resources of a running Pod stay as they are. Delete the Pod and make it with others.",
    ("pods", "proxy"): "Use kubectl port-forward.",
    ("nodes", "proxy"): "The kubelet's own socket, kubelet.sock in the lab's directory, answers its owner.",
    ("serviceaccounts", "token"): "A Pod gets no token here, and no token is asked for but the kubeconfig's.",
}  # fmt: skip
"""What Kubernetes has below resources that are served."""


def find(path: str) -> Absent | None:
    """The absent resource that a request's path names."""
    parts = paths.split(path)
    if parts is None:
        return None
    group, version, steps = parts
    if steps[0] == "namespaces" and len(steps) > 2:
        steps = steps[2:]
    return next((each for each in ABSENT if (each.group, each.version, each.plural) == (group, version, steps[0])), None)


def subresource(plural: str, sub: str) -> status.ApiError:
    """The refusal of something below a resource that is served."""
    if (advice := SUBRESOURCES.get((plural, sub))) is None:
        return status.not_served()
    return status.ApiError(404, "NotFound", f"{plural}/{sub} is not served by the lab's API. {advice}", {})


def groups() -> Iterator[tuple[str, str]]:
    """Each group with its version."""
    yield from dict.fromkeys((each.group, each.version) for each in ABSENT if each.group)


def resources(group: str, version: str) -> Iterator[dict[str, object]]:
    """What discovery says of a group's absent resources."""
    for each in ABSENT:
        if (each.group, each.version) == (group, version):
            yield {"name": each.plural, "singularName": each.kind.lower(), "namespaced": each.namespaced, "kind": each.kind,
                   "verbs": []} | ({"shortNames": list(each.short)} if each.short else {})  # fmt: skip

