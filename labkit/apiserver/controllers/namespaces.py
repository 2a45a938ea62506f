"""Namespaces get their service account, and are emptied when they are deleted."""

from __future__ import annotations

import math

from labkit.apiserver import registry
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.storage.store import Change


class NamespaceController(Controller):
    """Every namespace gets its service account; one that is being deleted is emptied, then removed."""

    resources = tuple(resource.plural for resource in registry.RESOURCES)

    def matters(self, change: Change) -> bool:
        return change.type == "DELETED" or change.resource == "namespaces"

    def reconcile(self, now: float) -> float:
        self.api.finish_namespaces()
        for _, entry in self.store.list("namespaces"):
            self.api.make_account(entry.obj)
        return math.inf
