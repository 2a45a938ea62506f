"""What Kubernetes has and this API does not serve: each resource is named in the answer, with what to do in the lab instead.

Discovery lists these resources without a verb. A client then finds the kind, sends its request, and gets our words in a Status.
It would otherwise say of its own that the kind does not exist, or that CRDs have to be installed. `kubectl api-resources` leaves
out what has no verb.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.api_resources import Named
from labkit.apiserver.requests import paths

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
class UnservedResource(Named):
    """A resource of Kubernetes that is not served. `empty`: a list of it is answered, as empty, because clients ask for one on
    their way to something else."""

    advice: str = ""
    empty: bool = False
    code: int = 404

    def __str__(self) -> str:
        return f"{self.plural}{self.group and '.'}{self.group} are not served by the lab's API. {self.advice}"

    def refusal(self) -> api_errors.ApiError:
        """404 with the advice, or 405 where clients have words of their own for a 404."""
        reason = "NotFound" if self.code == 404 else "MethodNotAllowed"
        return api_errors.ApiError(self.code, reason, str(self), {"group": self.group, "kind": self.plural})

    def empty_list(self) -> dict[str, object]:
        return {"kind": f"{self.kind}List", "apiVersion": self.api_version, "metadata": {"resourceVersion": "1"}, "items": []}


def _rows(group: str, advice: str, *names: str, **more: Any) -> Iterator[UnservedResource]:
    """Rows that differ in their names alone: "plural Kind short-name …"."""
    for plural, kind, *short in map(str.split, names):
        yield UnservedResource(plural, kind, group, short=tuple(short), advice=advice, **more)


ABSENT = (
    *_rows("", NO_NETWORK, "services Service svc", empty=True),
    *_rows("", NO_NETWORK, "endpoints Endpoints ep"),
    *_rows("", NO_CONTROLLERS, "replicationcontrollers ReplicationController rc"),
    *_rows("", NO_POLICY, "resourcequotas ResourceQuota quota", "limitranges LimitRange limits"),
    *_rows("", NO_CONTROLLERS, "podtemplates PodTemplate"),
    *_rows("", "`labkit status` shows the parts of the lab.", "componentstatuses ComponentStatus cs", namespaced=False),
    *_rows(
        "apps",
        NO_CONTROLLERS,
        "deployments Deployment deploy",
        "replicasets ReplicaSet rs",
        "statefulsets StatefulSet sts",
        "daemonsets DaemonSet ds",
        "controllerrevisions ControllerRevision",
    ),
    *_rows("batch", NO_CONTROLLERS + " With restartPolicy: Never or OnFailure it ends as a Job's does.", "jobs Job"),
    *_rows("batch", NO_CONTROLLERS, "cronjobs CronJob cj"),
    *_rows("autoscaling", NO_CONTROLLERS, "horizontalpodautoscalers HorizontalPodAutoscaler hpa", version="v2"),
    *_rows("policy", "kubectl drain deletes the lab's Pods.", "poddisruptionbudgets PodDisruptionBudget pdb"),
    *_rows("networking.k8s.io", NO_NETWORK, "ingresses Ingress ing"),
    *_rows("networking.k8s.io", NO_NETWORK, "ingressclasses IngressClass", namespaced=False),
    *_rows("networking.k8s.io", "Every Pod of the lab reaches every other.", "networkpolicies NetworkPolicy netpol"),
    *_rows("discovery.k8s.io", NO_NETWORK, "endpointslices EndpointSlice"),
    *_rows("events.k8s.io", "Events are served in the core group: kubectl events, or kubectl get events.v1.", "events Event ev"),
    *_rows("rbac.authorization.k8s.io", NO_AUTHORIZATION, "roles Role", "rolebindings RoleBinding"),
    *_rows(
        "rbac.authorization.k8s.io",
        NO_AUTHORIZATION,
        "clusterroles ClusterRole",
        "clusterrolebindings ClusterRoleBinding",
        namespaced=False,
    ),
    *_rows(
        "authorization.k8s.io",
        NO_AUTHORIZATION,
        "selfsubjectaccessreviews SelfSubjectAccessReview",
        "selfsubjectrulesreviews SelfSubjectRulesReview",
        "subjectaccessreviews SubjectAccessReview",
        namespaced=False,
    ),
    *_rows("authorization.k8s.io", NO_AUTHORIZATION, "localsubjectaccessreviews LocalSubjectAccessReview"),
    *_rows("authentication.k8s.io", NO_AUTHORIZATION, "selfsubjectreviews SelfSubjectReview", namespaced=False, code=405),
    *_rows("authentication.k8s.io", NO_AUTHORIZATION, "tokenreviews TokenReview", namespaced=False),
    *_rows("certificates.k8s.io", NO_AUTHORIZATION, "certificatesigningrequests CertificateSigningRequest csr", namespaced=False),
    *_rows(
        "storage.k8s.io",
        NO_STORAGE,
        "storageclasses StorageClass sc",
        "csidrivers CSIDriver",
        "csinodes CSINode",
        namespaced=False,
    ),
    *_rows("storage.k8s.io", NO_STORAGE, "csistoragecapacities CSIStorageCapacity"),
    *_rows("storage.k8s.io", NO_STORAGE, "volumeattachments VolumeAttachment", namespaced=False),
    *_rows(
        "scheduling.k8s.io",
        "Only system-cluster-critical and system-node-critical are known.",
        "priorityclasses PriorityClass pc",
        namespaced=False,
    ),
    *_rows("node.k8s.io", "The node has one runtime, runc.", "runtimeclasses RuntimeClass", namespaced=False),
    *_rows(
        "apiextensions.k8s.io",
        NO_EXTENSIONS,
        "customresourcedefinitions CustomResourceDefinition crd crds",
        namespaced=False,
        empty=True,
    ),
    *_rows("apiregistration.k8s.io", NO_EXTENSIONS, "apiservices APIService", namespaced=False),
    *_rows(
        "admissionregistration.k8s.io",
        NO_EXTENSIONS,
        "mutatingwebhookconfigurations MutatingWebhookConfiguration",
        "validatingwebhookconfigurations ValidatingWebhookConfiguration",
        "validatingadmissionpolicies ValidatingAdmissionPolicy",
        namespaced=False,
    ),
    *_rows("flowcontrol.apiserver.k8s.io", NO_EXTENSIONS, "flowschemas FlowSchema", namespaced=False),
    *_rows("resource.k8s.io", "The node has no devices to give.", "resourceclaims ResourceClaim"),
    *_rows("resource.k8s.io", "The node has no devices to give.", "deviceclasses DeviceClass", namespaced=False),
)
"""In the order in which discovery lists them; not every resource of Kubernetes, but those that first tutorials use."""

SUBRESOURCES = {
    ("pods", "eviction"): "Delete the Pod instead: kubectl delete pod NAME.",
    ("pods", "resize"): (
        "The resources of a running Pod cannot be changed here. "
        "Delete the Pod and create it again with the resources that it needs."
    ),
    ("pods", "scale"): "A Pod has no replicas: create more Pods, each with its own name.",
    ("pods", "proxy"): "Use kubectl port-forward.",
    ("nodes", "proxy"): "The kubelet's own socket, kubelet.sock in the lab's directory, answers its owner.",
    ("serviceaccounts", "token"): "The lab's API issues no tokens. It knows one, which is in the lab's kubeconfig.",
}
"""What Kubernetes has below resources that are served, or what is asked for there."""


def find(path: str) -> UnservedResource | None:
    """The absent resource that a request's path names."""
    parts = paths.split(path)
    if parts is None:
        return None
    group, version, steps = parts
    if steps[0] == "namespaces" and len(steps) > 2:
        steps = steps[2:]
    return next((each for each in ABSENT if each.is_at(group, version) and each.plural == steps[0]), None)


def subresource(plural: str, sub: str) -> api_errors.ApiError:
    """The refusal of something below a resource that is served."""
    if (advice := SUBRESOURCES.get((plural, sub))) is None:
        return api_errors.not_served()
    return api_errors.ApiError(404, "NotFound", f"{plural}/{sub} is not served by the lab's API. {advice}", {})
