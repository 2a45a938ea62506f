"""Namespaces get their service account, and are emptied when they are deleted.

Knowledge: pkg/controller/namespace/deletion (namespaced_resources_deleter.go, status_condition_utils.go).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from labkit.apiserver import api_resources
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.controllers.event_recorder import with_condition
from labkit.apiserver.storage.store import StoredObject, WatchEvent

NAMESPACES = api_resources.BY_PLURAL["namespaces"]
OWN = "kubernetes"
"""The finalizer of this controller, in the spec."""
FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
    "NamespaceDeletionContentFailure": ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}
"""Conditions of a namespace that is being deleted, with reason and message where nothing is wrong."""


class NamespaceController(Controller):
    """Every namespace gets its service account; one that is being deleted is emptied, then removed."""

    resources = tuple(resource.plural for resource in api_resources.RESOURCES)

    def matters(self, change: WatchEvent) -> bool:
        return change.type == "DELETED" or change.resource == "namespaces"

    def reconcile(self, now: float) -> float:
        for (_, name), entry in self.store.list("namespaces"):
            if (entry.obj.get("status") or {}).get("phase") == "Terminating":
                self.finish(name, entry)
        self.api.make_what_every_cluster_has()
        return math.inf

    def finish(self, name: str, entry: StoredObject) -> None:
        """Empty a namespace. When nothing is left in it, it loses this controller's finalizer, and is gone with its last one."""
        remaining: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for resource in api_resources.RESOURCES:
            for (namespace, each), thing in self.store.list(resource.plural, name) if resource.namespaced else ():
                if "deletionTimestamp" not in thing.obj["metadata"]:
                    self.api.delete(resource, namespace, each)
                if left := self.store.get(resource.plural, namespace, each):
                    remaining[f"{resource.plural}.{resource.group}"] += 1
                    held.update(left.obj["metadata"].get("finalizers") or ())
        finalizers = (entry.obj.get("spec") or {}).get("finalizers") or []
        others = [each for each in finalizers if each != OWN]
        if remaining or others or entry.obj["metadata"].get("finalizers"):
            entry = self.explain(name, entry, remaining, held)
        if not remaining and not finalizers:
            self.api.delete(NAMESPACES, "", name)
        elif not remaining and OWN in finalizers:
            new = {**entry.obj, "metadata": dict(entry.obj["metadata"]), "spec": {"finalizers": others} if others else {}}
            self.api.update(NAMESPACES, "", name, new, self.options(), "finalize")

    def explain(self, name: str, entry: StoredObject, remaining: Counter[str], held: Counter[str]) -> StoredObject:
        """Say in its status what the namespace waits for."""
        new = dict(entry.obj)
        wrong = dict(self.problems(remaining, held))
        for kind, fine in FINE.items():
            new = with_condition(new, kind, "True" if kind in wrong else "False", *wrong.get(kind, fine))
        return self.api.update(NAMESPACES, "", name, {**new, "metadata": dict(new["metadata"])}, self.options(), "status")

    @staticmethod
    def problems(remaining: Counter[str], held: Counter[str]) -> Iterator[tuple[str, tuple[str, str]]]:
        if remaining:
            listed = ", ".join(f"{what} has {number} resource instances" for what, number in sorted(remaining.items()))
            yield "NamespaceContentRemaining", ("SomeResourcesRemain", f"Some resources are remaining: {listed}")
        if held:
            listed = ", ".join(f"{what} in {number} resource instances" for what, number in sorted(held.items()))
            why = f"Some content in the namespace has finalizers remaining: {listed}"
            yield "NamespaceFinalizersRemaining", ("SomeFinalizersRemain", why)
