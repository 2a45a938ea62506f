"""What each resource does of its own when an object is made, changed or deleted.

Knowledge: kube-apiserver's pkg/registry/core/*/strategy.go, and the admission plugins that every cluster runs
(ServiceAccount, DefaultTolerationSeconds, Priority, NamespaceLifecycle).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from labkit.apiserver import api_errors, api_resources
from labkit.apiserver.admission import ignored
from labkit.apiserver.storage.store import Object, Store
from labkit.podspec.quantity import exact
from labkit.podspec.validation.field_errors import required, unsupported

PROTECTED_NAMESPACES = ("default", "kube-system", "kube-public")
SYSTEM_NAMESPACES = (*PROTECTED_NAMESPACES, "kube-node-lease")
"""Every cluster has them, and makes them again."""
EVICTED_AFTER_S = 300
PRIORITY_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""Those that every cluster has; others are not served here."""
KEEP_STATUS = ("nodes",)
"""Created by their owner, status and all."""

REMOVED = "the feature is removed"
DROPPED = {
    "leases": (("spec", "preferredHolder", ignored.ALPHA), ("spec", "strategy", ignored.ALPHA)),
    "nodes": (("spec", "configSource", REMOVED), ("status", "config", REMOVED)),
}
"""Fields that are not kept, and the words about them."""
NOT_EXPANDABLE = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)
IN_USE = {"persistentvolumeclaims": "kubernetes.io/pvc-protection", "persistentvolumes": "kubernetes.io/pv-protection"}
"""The finalizer by which each waits until it is not in use (admission plugin StorageObjectInUseProtection)."""
FIRST_STATUS: dict[str, dict[str, Any]] = {
    "pods": {"phase": "Pending"},
    "namespaces": {"phase": "Active"},
    "persistentvolumes": {"phase": "Pending"},
    "persistentvolumeclaims": {"phase": "Pending"},
}


def timestamp(at: datetime | None = None) -> str:
    """RFC 3339 in whole seconds, as metav1.Time is written."""
    return (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def before_create(store: Store, resource: api_resources.ApiResource, obj: Object) -> None:
    """Change the object as creation does, before defaults are filled in. Raises ApiError (403, 404)."""
    plural = resource.plural
    if resource.namespaced:
        _namespace_open(store, resource, obj)
    if plural not in KEEP_STATUS and resource.has_status:
        obj["status"] = dict(FIRST_STATUS.get(plural, {}))
    if plural == "namespaces":
        own = (obj.get("spec") or {}).get("finalizers") or []
        if "kubernetes" not in own:
            obj["spec"] = {**(obj.get("spec") or {}), "finalizers": [*own, "kubernetes"]}
    elif plural == "secrets":
        merge_string_data(obj)
    elif plural == "serviceaccounts":
        _only_names(obj)
    elif plural in IN_USE and isinstance(there := obj["metadata"].get("finalizers") or [], list) and IN_USE[plural] not in there:
        obj["metadata"]["finalizers"] = [*there, IN_USE[plural]]


def admit(store: Store, resource: api_resources.ApiResource, obj: Object) -> None:
    """What admission adds to an object that is being made, its defaults filled in. Raises ApiError (403)."""
    if resource.plural == "pods":
        _admit_pod(store, obj)


def drop(plural: str, new: Object, old: Object | None) -> Iterator[str]:
    """Take away the fields that are not kept, unless the old version has them; yields a warning for each."""
    for part, name, why in DROPPED.get(plural, ()):
        if name in (new.get(part) or {}) and name not in ((old or {}).get(part) or {}):
            del new[part][name]
            yield f"{part}.{name}: {why}"


def before_update(resource: api_resources.ApiResource, new: Object, old: Object, sub: str = "") -> None:
    """Change the new version as an update of the object itself (not of its status) does."""
    if resource.plural == "secrets":
        merge_string_data(new)
    elif resource.plural == "serviceaccounts":
        _only_names(new)
    elif resource.plural == "namespaces" and sub != "finalize":
        new["spec"] = old.get("spec", {})
    elif resource.plural == "pods" and new.get("spec"):
        for name in ("priority", "preemptionPolicy"):
            if name in old["spec"]:
                new["spec"].setdefault(name, old["spec"][name])
        _add_tolerations(new["spec"])


def check_growth(new: Object, old: Object) -> None:
    """A claim grows only where its class can expand volumes, and no class here can (the admission plugin
    PersistentVolumeClaimResize). Raises ApiError (403)."""
    size, was = (exact(((each["spec"].get("resources") or {}).get("requests") or {}).get("storage", 0)) for each in (new, old))
    if size > was:
        bound = (old.get("status") or {}).get("phase") == "Bound"
        why = NOT_EXPANDABLE if bound else "Only bound persistent volume claims can be expanded"
        raise api_errors.forbidden("persistentvolumeclaims", new["metadata"]["name"], why)


def grace_of_pod(store: Store, pod: Object, asked: int | None) -> int:
    """Seconds that a Pod gets to end: none where no kubelet would answer (not bound, node gone, already ended)."""
    spec, node = pod.get("spec") or {}, (pod.get("spec") or {}).get("nodeName")
    if not node or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or not store.get("nodes", "", node):
        return 0
    grace = asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30)
    return 1 if grace < 0 else grace


def bound(pod: Object, binding: Object) -> None:
    """Bind a Pod to the node that a Binding names. Raises ApiError (400, 409, 500)."""
    meta, own = pod["metadata"], binding.get("metadata") or {}
    name, target = meta["name"], binding.get("target") or {}
    if binding.get("target") == [] or not isinstance(target, dict) or not isinstance(target.get("name", ""), str):
        raise api_errors.bad_request("a binding needs target.name: the node that the Pod is bound to")
    node, kind = target.get("name", ""), target.get("kind") or "Node"
    causes = [] if kind == "Node" else [unsupported("target.kind", kind, ("Node", "<empty>"))]
    causes += [] if node else [required("target.name")]
    if causes:
        words = [f"{cause.field}: {cause.message}" for cause in causes]
        raise api_errors.ApiError(500, "", words[0] if len(words) == 1 else f"[{', '.join(words)}]")
    if own.get("name") not in (None, "", name):
        raise api_errors.bad_request("name in URL does not match name in Binding object")
    if own.get("uid") not in (None, "", meta["uid"]):
        why = f"Precondition failed: UID in precondition: {own['uid']}, UID in object meta: {meta['uid']}"
        raise api_errors.conflict("pods/binding", name, why)
    if pod["metadata"].get("deletionTimestamp"):
        raise api_errors.conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
    if pod["spec"].get("nodeName"):
        raise api_errors.conflict("pods/binding", name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"')
    if pod["spec"].get("schedulingGates"):
        raise api_errors.conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    pod["spec"]["nodeName"] = node
    if isinstance(extra := own.get("annotations"), dict):
        pod["metadata"]["annotations"] = (pod["metadata"].get("annotations") or {}) | extra
    state = pod.setdefault("status", {})
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": timestamp()}
    if generation := pod["metadata"].get("generation"):
        scheduled["observedGeneration"] = generation
    others = [condition for condition in state.get("conditions") or [] if condition.get("type") != "PodScheduled"]
    state["conditions"] = [*others, scheduled]


def merge_string_data(secret: Object) -> None:
    """stringData is written only: what it holds goes into data, in base64."""
    plain = secret.get("stringData")
    if isinstance(plain, dict) and all(isinstance(value, str) for value in plain.values()):
        data = secret.get("data")
        if data is None or isinstance(data, dict):
            secret["data"] = (data or {}) | {key: b64encode(value.encode()).decode() for key, value in plain.items()}
            del secret["stringData"]


def _only_names(account: Object) -> None:
    """A service account names Secrets of its own namespace."""
    if account.get("secrets"):
        account["secrets"] = [{"name": secret["name"]} if secret.get("name") else {} for secret in account["secrets"]]


def _namespace_open(store: Store, resource: api_resources.ApiResource, obj: Object) -> None:
    """Refuse what belongs into a namespace that is not there or on its way out."""
    namespace = obj["metadata"]["namespace"]
    entry = store.get("namespaces", "", namespace)
    if entry is None:
        raise api_errors.not_found("namespaces", namespace)
    if (entry.obj.get("status") or {}).get("phase") == "Terminating":
        why = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace} is being terminated"}
        causes = [{**cause, "field": "metadata.namespace"}]
        raise api_errors.forbidden(resource.plural, obj["metadata"].get("name", ""), why, resource.group, causes)


def _admit_pod(store: Store, pod: Object) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    namespace = pod["metadata"]["namespace"]
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    if isinstance(account, str):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
        entry = store.get("serviceaccounts", namespace, account)
        if entry is None:
            why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
            raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), why)
        if not spec.get("imagePullSecrets") and entry.obj.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(secret) for secret in entry.obj["imagePullSecrets"]]
    if name := spec.get("runtimeClassName"):
        why = f'pod rejected: RuntimeClass "{name}" not found'
        raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), why)
    if spec.get("overhead"):
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), why)
    _admit_priority(pod, spec)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    _add_tolerations(spec)


def _add_tolerations(spec: dict[str, Any]) -> None:
    """A Pod stays for a while on a node that is lost (admission plugin DefaultTolerationSeconds)."""
    tolerations = spec.get("tolerations") or []
    if isinstance(tolerations, list) and all(isinstance(toleration, dict) for toleration in tolerations):
        spec["tolerations"] = tolerations + [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": EVICTED_AFTER_S}
            for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
            if not any(_tolerates(toleration, key) for toleration in tolerations)
        ]


def _admit_priority(pod: Object, spec: dict[str, Any]) -> None:
    """spec.priority, from the PriorityClass that is named (plugin/pkg/admission/priority). Raises ApiError (403)."""
    name, given = spec.get("priorityClassName") or "", spec.get("priority")
    if not isinstance(name, str):
        return
    if name and name not in PRIORITY_CLASSES:
        raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), f"no PriorityClass with name {name} was found")
    computed = PRIORITY_CLASSES.get(name, 0)
    if isinstance(given, int) and given != computed:
        why = (f"the integer value of priority ({given}) must not be provided in pod spec; priority admission controller "
               f"computed {computed} from the given PriorityClass name")
        raise api_errors.forbidden("pods", pod["metadata"].get("name", ""), why)
    spec.setdefault("priority", computed)


def _tolerates(toleration: Object, key: str) -> bool:
    return toleration.get("key") in (key, None, "") and toleration.get("effect") in ("NoExecute", None, "")
