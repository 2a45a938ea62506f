"""Objects whose owners are gone are deleted: metadata.ownerReferences, and what a deletion says by propagationPolicy.

Knowledge: pkg/controller/garbagecollector (garbagecollector.go, graph_builder.go).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.apiserver import api_resources
from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.objects.write_options import FOREGROUND, ORPHAN, Deletion
from labkit.apiserver.storage.store import WatchEvent

log = logging.getLogger("kubeapi")
Manifest = Mapping[str, Any]
Item = tuple[ApiResource, Manifest]
COLLECTED = tuple(resource for resource in api_resources.RESOURCES if resource.plural != "events")
KINDS = {(resource.api_version, resource.kind): resource for resource in COLLECTED}


class DependentsCollector(Controller):
    """Looks at all objects that have owners, after each change that may concern them."""

    component = "garbage-collector-controller"
    resources = tuple(resource.plural for resource in COLLECTED)

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.owners: set[str] = set()
        self.reported: set[tuple[str, str]] = set()

    def matters(self, change: WatchEvent) -> bool:
        meta = change.entry.obj["metadata"]
        leaving = change.type == "DELETED" and meta["uid"] in self.owners
        return leaving or bool(meta.get("ownerReferences")) or bool({ORPHAN, FOREGROUND} & set(meta.get("finalizers") or ()))

    def reconcile(self, now: float) -> float:
        """Every object that has owners, then every one whose dependents its deletion waits for."""
        objects = [(resource, entry.obj) for resource in COLLECTED for _, entry in self.store.list(resource.plural)]
        by_uid = {obj["metadata"]["uid"]: (resource, obj) for resource, obj in objects}
        dependents: dict[str, list[Item]] = {}
        for item in objects:
            for owner in item[1]["metadata"].get("ownerReferences") or ():
                dependents.setdefault(owner["uid"], []).append(item)
        self.owners = set(dependents)
        for resource, obj in objects:
            meta = obj["metadata"]
            try:
                if "deletionTimestamp" in meta and ORPHAN in (meta.get("finalizers") or ()):
                    self.orphan(resource, obj, dependents.get(meta["uid"], ()))
                elif "deletionTimestamp" in meta and FOREGROUND in (meta.get("finalizers") or ()):
                    if not any(_blocks(dependent, meta["uid"]) for dependent in dependents.get(meta["uid"], ())):
                        self.without_finalizer(resource, obj, FOREGROUND)
                elif "deletionTimestamp" not in meta and meta.get("ownerReferences"):
                    self.collect(resource, obj, by_uid, bool(dependents.get(meta["uid"])))
            except ApiError as error:
                if error.code not in (404, 409):  # else it is gone, or has changed and is looked at again
                    raise
        return math.inf

    def collect(self, resource: ApiResource, obj: Manifest, by_uid: Mapping[str, Item], has_dependents: bool) -> None:
        """Delete an object that has no owner left; take away the references to those that are gone where it has another."""
        solid, gone, waiting = [], [], []
        for reference in obj["metadata"]["ownerReferences"]:
            kind = KINDS.get((reference["apiVersion"], reference["kind"]))
            if kind is None or (kind.namespaced and not resource.namespaced):
                return  # nobody can tell whether that owner is there
            owner = by_uid.get(reference["uid"])
            if owner is None or not _is(owner, kind, reference, obj):
                gone.append(reference)
                if owner is not None and owner[1]["metadata"].get("namespace") != obj["metadata"].get("namespace"):
                    self.report(resource, obj, reference)
            elif _waits(owner[1]):
                waiting.append(reference)
            else:
                solid.append(reference)
        if solid:
            if gone or waiting:
                self.change_metadata(resource, obj, {"ownerReferences": solid})
            return
        propagation = "Foreground" if waiting and has_dependents else ""
        how = Deletion(uid=obj["metadata"]["uid"], resource_version=obj["metadata"]["resourceVersion"], propagation=propagation)
        self.api.delete(resource, obj["metadata"].get("namespace") or "", obj["metadata"]["name"], how)

    def orphan(self, resource: ApiResource, obj: Manifest, dependents: Iterable[Item]) -> None:
        """The dependents forget their owner, which then may go."""
        for kind, dependent in dependents:
            others = [o for o in dependent["metadata"]["ownerReferences"] if o["uid"] != obj["metadata"]["uid"]]
            self.change_metadata(kind, dependent, {"ownerReferences": others})
        self.without_finalizer(resource, obj, ORPHAN)

    def report(self, resource: ApiResource, obj: Manifest, owner: Manifest) -> None:
        """An owner in another namespace counts as gone, once with an event."""
        meta = obj["metadata"]
        if (meta["uid"], owner["uid"]) not in self.reported:
            self.reported.add((meta["uid"], owner["uid"]))
            kind, name = f"{owner['apiVersion']}/{owner['kind']}", f"name: {owner['name']}, uid: {owner['uid']}"
            own = meta["namespace"]
            message = f'ownerRef [{kind}, namespace: {own}, {name}] does not exist in namespace "{own}"'
            self.recorder.event(obj, resource.kind, "Warning", "OwnerRefInvalidNamespace", message)


def _is(owner: Item, kind: ApiResource, reference: Manifest, dependent: Manifest) -> bool:
    """Whether this object is the one that a reference means: of that kind and name, and in the dependent's namespace."""
    meta = owner[1]["metadata"]
    near = not kind.namespaced or meta.get("namespace") == dependent["metadata"].get("namespace")
    return owner[0] is kind and meta["name"] == reference["name"] and near


def _waits(owner: Manifest) -> bool:
    """Whether the deletion of an owner waits for its dependents."""
    return "deletionTimestamp" in owner["metadata"] and FOREGROUND in (owner["metadata"].get("finalizers") or ())


def _blocks(dependent: Item, uid: str) -> bool:
    references = dependent[1]["metadata"]["ownerReferences"]
    return any(each["uid"] == uid and each.get("blockOwnerDeletion") for each in references)
