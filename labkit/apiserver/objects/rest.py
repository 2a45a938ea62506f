"""The verbs of the API on stored objects, without HTTP: the scheduler calls them as the server does.

Everything here runs on the event loop's thread and returns at once. Objects that come out are shared: never change them.
Knowledge: apiserver's pkg/registry/generic/registry (store.go) and pkg/endpoints/handlers.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from labkit.apiserver import api_errors, api_resources
from labkit.apiserver.admission import object_warnings, pod_security, warnings
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.objects import apply, destination, object_defaults, ownership, patch, pod_strategy, strategy, validation
from labkit.apiserver.objects.write_options import BY_ITS_OWN, DEFAULT, Deletion, Options
from labkit.apiserver.storage.store import Object, Store, StoredObject, encode
from labkit.podspec.defaults import generated
from labkit.podspec.schema import decoding

KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink")
"""Metadata that only the API itself writes."""
GENERATED_AT_MOST = 8
"""So often a name is made of generateName before one that is taken is refused."""
NO_VERSION = validation.Cause(
    "metadata.resourceVersion", "FieldValueInvalid", "Invalid value: 0: must be specified for an update"
)


class Api:
    """All that can be done to the objects of one store. Every method may raise `status.ApiError`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.make_what_every_cluster_has()

    def get(self, resource: ApiResource, namespace: str, name: str) -> StoredObject:
        entry = self.store.get(resource.plural, namespace, name)
        if entry is None:
            raise api_errors.not_found(resource.plural, name, resource.group)
        return entry

    def create(
        self, resource: ApiResource, namespace: str, obj: Object, options: Options = DEFAULT, owners: list[Any] | None = None
    ) -> StoredObject:
        """Make an object; `owners` are its managedFields where they are known. Raises ApiError: 400, 403, 404 (no such
        namespace), 409, 422."""
        meta = destination.metadata(resource, namespace, obj)
        if meta.get("resourceVersion"):
            raise api_errors.bad_request("resourceVersion should not be set on objects to be created")
        unnamed = not meta.get("name")
        if unnamed and isinstance(prefix := meta.get("generateName"), str) and prefix:
            names = [generated(prefix) for _ in range(GENERATED_AT_MOST)]
            meta["name"] = next((name for name in names if not self.store.get(resource.plural, namespace, name)), names[0])
        for name in (*KEPT, "resourceVersion"):
            meta.pop(name, None)
        self._check_form(resource, obj, options)
        options.warnings.extend(strategy.drop(resource.plural, obj, None))
        strategy.before_create(self.store, resource, obj)
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": strategy.timestamp()}
        if resource.counted:
            meta["generation"] = 1
        object_defaults.fill(resource.plural, obj)
        if owners is None:
            apply.track(resource, None, obj, options.manager)
        else:
            meta["managedFields"] = owners
        strategy.admit(self.store, resource, obj)  # what admission adds is nobody's
        self._check(resource, obj, None)
        if resource.plural == "pods":
            options.warnings.extend(pod_strategy.prepare(obj))
        options.warnings.extend(self._warned(resource, obj, None))
        options.warnings.extend(self._admit(resource, obj, None))
        if there := self.store.get(resource.plural, namespace, meta["name"]):
            if unnamed:
                raise api_errors.name_not_generated(resource.plural, meta["name"], resource.group)
            leaving = "deletionTimestamp" in there.obj["metadata"]
            raise api_errors.already_exists(resource.plural, meta["name"], resource.group, leaving)
        return self._keep(resource, obj, options)

    def update(
        self, resource: ApiResource, namespace: str, name: str, obj: Object, options: Options = DEFAULT, sub: str = ""
    ) -> StoredObject:
        """Replace an object, or with `sub` the part that this path is for (status, ephemeralcontainers, finalize); Events and
        Leases that are not there are made. Raises ApiError: 400, 404, 409, 422."""
        if resource.made_by_update and not sub and not self.store.get(resource.plural, namespace, name):
            return self._created_by_update(resource, namespace, name, obj, options)
        entry = self.get(resource, namespace, name)
        if not resource.unconditional and not (obj.get("metadata") or {}).get("resourceVersion"):
            raise api_errors.invalid(resource.plural, name, [NO_VERSION], resource.group)
        return self._replace(resource, entry, namespace, name, self._check_form(resource, obj, options, sub), options, sub)

    def _created_by_update(self, resource: ApiResource, namespace: str, name: str, obj: Object, options: Options) -> StoredObject:
        meta = destination.metadata(resource, namespace, obj, name)
        if uid := meta.get("uid"):
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: "
            raise api_errors.conflict(resource.plural, name, why, resource.group)
        meta.pop("resourceVersion", None)
        return self.create(resource, namespace, obj, options)

    def patch(
        self, resource: ApiResource, namespace: str, name: str, change: Any, kind: str, options: Options = DEFAULT, sub: str = ""
    ) -> StoredObject:
        """Change an object by a patch of that media type. Raises ApiError: 400, 404, 409, 415, 422."""
        entry = self.get(resource, namespace, name)
        new = patch.patched(resource, copied(entry), change, kind)
        try:
            read = self._decoded(resource, new, options, sub)
        except decoding.Undecodable as refused:
            raise patch.refusal(resource, refused, new, change, kind) from refused
        return self._replace(resource, entry, namespace, name, read, options, sub)

    def apply(
        self, resource: ApiResource, namespace: str, name: str, obj: Object, options: Options, sub: str = ""
    ) -> StoredObject:
        """Server-side apply. Raises ApiError: 400, 409 (fields of other managers), 422."""
        meta = destination.metadata(resource, namespace, obj, name)
        if meta.get("managedFields"):
            raise api_errors.bad_request("metadata.managedFields must be nil")
        self._check_form(resource, obj, options)
        apply.check(resource, obj)
        entry = self.store.get(resource.plural, namespace, name)
        if entry is None:
            if sub:
                raise api_errors.not_found(resource.plural, name, resource.group)
            if meta.get("uid"):
                why = f"uid mismatch: the provided object specified uid {meta['uid']}, and no existing object was found"
                raise api_errors.conflict(resource.plural, name, why, resource.group)
            new = apply.applied(resource, None, obj, options.manager, options.force)
            owners = new["metadata"].pop("managedFields", [])
            return self.create(resource, namespace, new, replace(options, validation="Ignore"), owners)
        new = apply.applied(resource, copied(entry), obj, options.manager, options.force, sub)
        return self._replace(resource, entry, namespace, name, new, options, sub, tracked=True)

    def delete(
        self, resource: ApiResource, namespace: str, name: str, how: Deletion = BY_ITS_OWN, options: Options = DEFAULT
    ) -> StoredObject:
        """Delete an object, or begin to: a Pod waits for its kubelet, a namespace for its contents, all for their finalizers.

        The answer is its last version, with a deletionTimestamp while it is still there. Raises ApiError: 404, 409.
        """
        entry = self.get(resource, namespace, name)
        meta = entry.obj["metadata"]
        for what, wanted, there in (
            ("UID", how.uid, meta["uid"]), ("ResourceVersion", how.resource_version, meta["resourceVersion"]),
        ):
            if wanted and wanted != there:
                why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {there}"
                raise api_errors.conflict(resource.plural, name, why, resource.group)
        if resource.plural == "namespaces":
            if name in strategy.PROTECTED_NAMESPACES:
                raise api_errors.forbidden("namespaces", name, "this namespace may not be deleted")
            return self._terminate_namespace(resource, entry, options)
        grace = strategy.grace_of_pod(self.store, entry.obj, how.grace) if resource.plural == "pods" else 0
        finalizers = how.finalizers(meta.get("finalizers") or [])
        if grace == 0 and not finalizers:
            return entry if options.dry_run else self.store.remove(resource.plural, namespace, name)
        sooner = "deletionTimestamp" not in meta or meta.get("deletionGracePeriodSeconds", 0) > grace
        if not sooner and finalizers == (meta.get("finalizers") or []):
            return entry
        new = copied(entry)
        if sooner:
            ends = datetime.now(UTC) + timedelta(seconds=grace)
            new["metadata"] |= {"deletionTimestamp": strategy.timestamp(ends), "deletionGracePeriodSeconds": grace}
        if finalizers or "finalizers" in meta:
            new["metadata"]["finalizers"] = finalizers
        if resource.counted and "deletionTimestamp" not in meta:
            new["metadata"]["generation"] = meta.get("generation", 0) + 1
        return self._keep(resource, new, options)

    def bind(self, namespace: str, name: str, binding: Object, options: Options = DEFAULT) -> StoredObject:
        """Bind a Pod to a node, as `POST …/pods/NAME/binding` does. Raises ApiError: 400, 404, 409, 500."""
        pods = api_resources.BY_PLURAL["pods"]
        new = copied(self.get(pods, namespace, name))
        strategy.bound(new, binding)
        return self._keep(pods, new, options)

    def make_what_every_cluster_has(self) -> None:
        """The namespaces of every cluster, and the service account of each namespace."""
        for name in strategy.SYSTEM_NAMESPACES:
            if not self.store.get("namespaces", "", name):
                self.create(api_resources.BY_PLURAL["namespaces"], "", {"metadata": {"name": name}})
        for _, entry in self.store.list("namespaces"):
            self.make_account(entry.obj)

    def make_account(self, namespace: Object) -> None:
        """The service account "default" that each namespace has."""
        name, phase = namespace["metadata"]["name"], (namespace.get("status") or {}).get("phase")
        if phase != "Terminating" and not self.store.get("serviceaccounts", name, "default"):
            self.create(api_resources.BY_PLURAL["serviceaccounts"], name, {"metadata": {"name": "default"}})

    def _terminate_namespace(self, resource: ApiResource, entry: StoredObject, options: Options) -> StoredObject:
        meta, spec = entry.obj["metadata"], entry.obj.get("spec") or {}
        if "deletionTimestamp" in meta:
            if spec.get("finalizers") or meta.get("finalizers") or options.dry_run:
                return entry
            return self.store.remove("namespaces", "", meta["name"])
        new = copied(entry)
        new["metadata"]["deletionTimestamp"] = strategy.timestamp()
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
        return self._keep(resource, new, options)

    def _replace(
        self, resource: ApiResource, entry: StoredObject, namespace: str, name: str, new: Object, options: Options, sub: str,
        tracked: bool = False,
    ) -> StoredObject:
        old, meta = entry.obj, destination.metadata(resource, namespace, new, name)
        if meta.get("uid") and meta["uid"] != old["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {old['metadata']['uid']}"
            raise api_errors.conflict(resource.plural, name, why, resource.group)
        if meta.get("resourceVersion") and meta["resourceVersion"] != old["metadata"]["resourceVersion"]:
            raise api_errors.conflict(resource.plural, name, group=resource.group)
        for key in KEPT:
            if key in old["metadata"] or sub or not key.startswith("deletion"):  # who sets those anew is refused by `validate`
                meta.pop(key, None)
        meta |= {key: old["metadata"][key] for key in KEPT if key in old["metadata"]}
        meta["resourceVersion"] = old["metadata"]["resourceVersion"]
        if sub == "status":
            new |= {key: value for key, value in old.items() if key not in ("metadata", "status")}
            options.warnings.extend(strategy.drop(resource.plural, new, old))
            if resource.plural == "pods":
                pod_strategy.keep_in_status(new, old)
            else:
                object_defaults.fill(resource.plural, new)
        elif sub == "ephemeralcontainers":
            given = (new.get("spec") or {}).get("ephemeralContainers") or []
            kept = {key: value for key, value in old["metadata"].items() if key != "managedFields"}
            meta = {**kept, **({"managedFields": meta["managedFields"]} if "managedFields" in meta else {})}
            new = {**copied(entry), "metadata": meta}
            new["spec"] |= {"ephemeralContainers": given} if given else {}
            object_defaults.fill(resource.plural, new)
        else:
            if resource.has_status:
                new.pop("status", None)
                if "status" in old:
                    new["status"] = old["status"]
            options.warnings.extend(strategy.drop(resource.plural, new, old))
            strategy.before_update(resource, new, old, sub)
            object_defaults.fill(resource.plural, new)
        self._check(resource, new, old, sub)
        if resource.counted and new.get("spec") != old.get("spec"):
            meta["generation"] = old["metadata"].get("generation", 0) + 1
        if not tracked:
            apply.track(resource, old, new, options.manager, sub)
        if ownership.unchanged(new, old):
            return entry
        if sub != "status":
            options.warnings.extend(self._warned(resource, new, old))
            options.warnings.extend(self._admit(resource, new, old))
        if (
            "deletionTimestamp" in meta
            and not meta.get("finalizers")
            and not meta.get("deletionGracePeriodSeconds")
            and not (resource.plural == "namespaces" and (new.get("spec") or {}).get("finalizers"))
        ):
            return entry if options.dry_run else self.store.remove(resource.plural, namespace, name)
        return self._keep(resource, new, options)

    def _warned(self, resource: ApiResource, new: Object, old: Object | None) -> list[str]:
        """Kubernetes says nothing about a Pod that is changed."""
        if resource.plural != "pods":
            about = object_warnings.OTHERS.get(resource.plural)
            return list(about(new, old)) if about else []
        return [] if old else list(warnings.of_pod(new, {name for (_, name), _ in self.store.list("nodes")}))

    def _admit(self, resource: ApiResource, new: Object, old: Object | None) -> list[str]:
        """What admission says of an object that may be stored. Raises ApiError (403)."""
        if resource.plural == "pods":
            return list(pod_security.admit(self.store, new, old))
        if resource.plural == "persistentvolumeclaims" and old is not None:
            strategy.check_growth(new, old)
        return list(pod_security.of_namespace(self.store, new, old)) if resource.plural == "namespaces" else []

    def _keep(self, resource: ApiResource, obj: Object, options: Options) -> StoredObject:
        if options.dry_run:
            bare = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
            return StoredObject(self.store.rv, encode(bare), bare)
        return self.store.put(resource.plural, obj)

    def _check_form(self, resource: ApiResource, obj: Object, options: Options, sub: str = "") -> Object:
        """`_decoded`, its refusal as one of the API: ApiError (400)."""
        try:
            return self._decoded(resource, obj, options, sub)
        except decoding.Undecodable as refused:
            raise api_errors.bad_request(str(refused)) from refused

    def _decoded(self, resource: ApiResource, obj: Object, options: Options, sub: str) -> Object:
        """The object as Kubernetes' decoder reads it: unknown fields are said and left out. Raises Undecodable for wrong types,
        and where validation is strict for unknown fields.

        Of what is sent to /status only metadata and status count.
        """
        if sub == "status":
            obj = {key: obj[key] for key in ("apiVersion", "kind", "metadata", "status") if key in obj}
        unknown = validation.unknown_fields(resource.plural, obj) if options.validation != "Ignore" else []
        unknown = [*options.twice, *unknown]
        read = decoding.decoded(resource.plural, obj, in_place=True)
        if unknown and options.validation == "Strict":
            about = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
            raise decoding.Undecodable(f"strict decoding error: {', '.join(unknown)}", about=about)
        options.warnings.extend(unknown if options.validation == "Warn" else ())
        return read

    def _check(self, resource: ApiResource, new: Object, old: Object | None, sub: str = "") -> None:
        if causes := validation.validate(resource.plural, new, old, sub):
            name = new["metadata"].get("name")
            raise api_errors.invalid(resource.kind, name if isinstance(name, str) else "", causes, resource.group)


def copied(entry: StoredObject) -> Object:
    """A version of the object that may be changed."""
    obj: Object = json.loads(entry.raw)
    return obj
