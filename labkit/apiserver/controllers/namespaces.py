"""Namespaces get their service account, and are emptied when they are deleted."""

from __future__ import annotations

import math

from labkit.apiserver import api_resources
from labkit.apiserver.controllers.controller import Controller
from labkit.apiserver.storage.store import WatchEvent


class NamespaceController(Controller):
    """Every namespace gets its service account; one that is being deleted is emptied, then removed."""

    resources = tuple(resource.plural for resource in api_resources.RESOURCES)

    def matters(self, change: WatchEvent) -> bool:
        return change.type == "DELETED" or change.resource == "namespaces"

    def reconcile(self, now: float) -> float:
        self.api.finish_namespaces()
        for _, entry in self.store.list("namespaces"):
            self.api.make_account(entry.obj)
        return math.inf
