"""Whether an object belongs where it was sent: its kind, version, namespace and name against those of the path.

Knowledge: apiserver's pkg/endpoints/handlers (checkName, transformDecodeError) and pkg/registry/rest/meta.go.
"""

from __future__ import annotations

from labkit.apiserver import api_errors, api_resources
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.storage.store import Object

SCHEME = 'in scheme "pkg/api/legacyscheme/scheme.go:30"'


def metadata(resource: ApiResource, namespace: str, obj: Object, name: str | None = None) -> Object:
    """The object's metadata, checked and with its namespace. `name`: of the path, None where the path has none (a creation).
    Raises ApiError (400)."""
    _check_kind(resource, str(obj.get("kind") or ""), str(obj.get("apiVersion") or ""))
    meta = obj.setdefault("metadata", {})
    if not isinstance(meta, dict):
        raise api_errors.bad_request("metadata must be an object")
    if name is not None:
        check_name(meta, name)
    if not resource.namespaced:
        meta.pop("namespace", None)
        return meta
    if meta.get("namespace") not in (None, "", namespace):
        words = "the namespace of the provided object does not match the namespace sent on the request"
        if name is not None:
            given = f"({meta['namespace']}) does not match the namespace on the request ({namespace})"
            words = f"the namespace of the object {given}"
        raise api_errors.bad_request(words)
    meta["namespace"] = namespace
    return meta


def check_name(meta: Object, name: str) -> None:
    """Raises ApiError (400) if this is not the metadata of the object that the path names."""
    if not meta.get("name"):
        why = f"the name of the object ({name} based on URL) was undeterminable: name must be provided"
        raise api_errors.bad_request(why)
    if meta["name"] != name:
        raise api_errors.bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")


def _check_kind(resource: ApiResource, kind: str, api_version: str) -> None:
    kind, api_version = kind or resource.kind, api_version or resource.api_version
    if (kind, api_version) == (resource.kind, resource.api_version):
        return
    version = api_version.rpartition("/")[2]
    if not _is_known(kind, api_version):
        why = f'no kind "{kind}" is registered for version "{api_version}" {SCHEME}'
    elif kind != resource.kind:
        package = resource.group.partition(".")[0] or "core"
        why = f"converting ({version}.{kind}) to ({package}.{resource.kind}): unknown conversion"
    else:
        wanted = f"does not match the expected API version ({resource.api_version})"
        raise api_errors.bad_request(f"the API version in the data ({api_version}) {wanted}")
    raise api_errors.bad_request(f'{kind} in version "{version}" cannot be handled as a {resource.kind}: {why}')


def _is_known(kind: str, api_version: str) -> bool:
    """Whether Kubernetes has the kind; of the groups that are not served, any kind counts."""
    group, slash, _ = api_version.rpartition("/")
    if slash:
        return "." not in group or group.endswith(".k8s.io")
    return any((each.kind, each.api_version) == (kind, api_version) for each in api_resources.RESOURCES)
