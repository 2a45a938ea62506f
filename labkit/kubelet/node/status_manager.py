"""Writes Pods' statuses to the API, the newest of each, on a thread of its own; and deletes Pods that have ended.

Only differences are sent, as a strategic merge patch with the Pod's uid, so that conditions of others stay. Knowledge: kubelet's
status/status_manager.go.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from labkit.kubelet.api import ApiClient, ApiClientError

log = logging.getLogger("kubelet")

RETRY_S = 1.0
MERGED_BY = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}
"""Lists of a Pod's status that a strategic merge patch merges by a key; others are replaced (patchMergeKey in core/v1)."""

OWN_CONDITIONS = ("PodScheduled", "Ready", "Initialized", "ContainersReady", "PodReadyToStartContainers")
"""The kubelet's (types/pod_status.go); others may set others."""
OF_OTHERS = ("conditions", "ephemeralContainerStatuses", "nominatedNodeName", "resize")


class StatusManager:
    """`set` and `delete` never wait; what they want is written once the manager is started."""

    def __init__(self, api: ApiClient) -> None:
        self.api = api
        self._known: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self._wanted: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
        self._delete: set[str] = set()
        self._wake = threading.Condition()

    def start(self, gone: Callable[[str], None]) -> None:
        """Write from now on. `gone(uid)` is called when the API says that it has no such Pod (any more)."""
        self.gone = gone
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def seen(self, pod: Mapping[str, Any]) -> None:
        """What the API has now, from a watch or an answer. A watch may be behind the answers: what is older is no news, and
        differences to it would leave out what has been taken back since."""
        uid, version = pod["metadata"]["uid"], int(pod["metadata"]["resourceVersion"])
        with self._wake:
            if version >= self._known.get(uid, (0,))[0]:
                self._known[uid] = version, pod.get("status") or {}

    def set(self, pod: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Have the API know this status."""
        with self._wake:
            self._wanted[pod["metadata"]["uid"]] = (pod, status)
            self._wake.notify()

    def delete(self, pod: Mapping[str, Any]) -> None:
        """Delete the Pod with no grace, once its status is written: nothing of it is left on the node."""
        with self._wake:
            uid = pod["metadata"]["uid"]
            self._delete.add(uid)
            self._wanted.setdefault(uid, (pod, {}))
            self._wake.notify()

    @property
    def uids(self) -> frozenset[str]:
        """The Pods of which something is remembered."""
        with self._wake:
            return frozenset((*self._known, *self._wanted, *self._delete))

    def forget(self, uid: str) -> None:
        with self._wake:
            self._known.pop(uid, None)
            self._wanted.pop(uid, None)
            self._delete.discard(uid)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._wanted:
                    self._wake.wait()
                uid = next(iter(self._wanted))
                pod, status = self._wanted.pop(uid)
                delete = uid in self._delete
            try:
                self._write(uid, pod, status)
                if delete:
                    self._remove(pod)
                    with self._wake:
                        self._delete.discard(uid)
            except ApiClientError as error:
                self._failed(uid, pod, status, error)
            except Exception as error:
                log.exception("the status of %s could not be written", pod["metadata"]["name"])
                self._failed(uid, pod, status, ApiClientError(0, "", str(error)))

    def _failed(self, uid: str, pod: Mapping[str, Any], status: Mapping[str, Any], error: ApiClientError) -> None:
        if error.code in (404, 409):
            self.gone(uid)
            return
        if error.code:
            log.warning("the API refused the status of %s: %s", pod["metadata"]["name"], error)
            self._known.pop(uid, None)
            if error.code < 500 and error.code != 429:
                if uid not in self._delete:
                    return
                status = {}  # it can still be deleted
        with self._wake:
            self._wanted.setdefault(uid, (pod, status))
        time.sleep(RETRY_S)

    def _write(self, uid: str, pod: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        _, known = self._known.get(uid, (0, pod.get("status") or {}))
        changes = difference(known, status) if status else {}
        if not changes:
            return
        metadata = pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        self.seen(self.api.patch(path, {"metadata": {"uid": uid}, "status": changes}))

    def _remove(self, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": metadata["uid"]},
        }
        try:
            self.api.delete(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}", options)
        except ApiClientError as error:
            if error.code not in (404, 409):
                raise


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The strategic merge patch that makes `old` show what is in `new`; {} where it does already."""
    changes: dict[str, Any] = {}
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before == after or (key in OF_OTHERS and key not in new):
            continue
        if key in MERGED_BY and isinstance(after, list):
            merged = merged_list(before or [], after, MERGED_BY[key])
            if merged:
                changes[key] = merged
                changes[f"$setElementOrder/{key}"] = [{MERGED_BY[key]: item[MERGED_BY[key]]} for item in after]
        elif isinstance(before, dict) and isinstance(after, dict):
            inner = difference(before, after)
            if inner:
                changes[key] = inner
        elif after is None:
            changes[key] = None
        else:
            changes[key] = after
    return changes


def merged_list(old: list[dict[str, Any]], new: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The items that differ; what `new` lacks is removed, but for conditions that others may have set."""
    known = {item[key]: item for item in old}
    changed = [
        {**{field: None for field in known.get(item[key], {}) if field not in item}, **item}
        for item in new
        if known.get(item[key]) != item
    ]
    gone = [name for name in known if name not in {item[key] for item in new} and (key != "type" or name in OWN_CONDITIONS)]
    return [{"$patch": "delete", key: name} for name in gone] + changed
