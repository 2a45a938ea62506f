"""What the calls of a recording are about: ids, and the names that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from labkit.cri.text import to_dict
from labkit.recording.calls.log import CallRecord, keeps_response
from labkit.recording.flight import Call

ID_FIELDS = ("pod_sandbox_id", "container_id")
SHORT = 13
"""So many digits of an id are shown, as crictl does."""


@dataclass(frozen=True)
class NotedCall:
    """A call and the sandboxes and containers that it is about."""

    call: Call
    ids: frozenset[str]

    def open(self, at: int) -> bool:
        """Whether it was under way."""
        return self.call.from_ns <= at <= self.call.to_ns


@dataclass(frozen=True)
class KnownCalls:
    """Sandbox id → Pod name; container id → (sandbox id, container name); the calls in the order of their start."""

    sandboxes: Mapping[str, str]
    containers: Mapping[str, tuple[str, str]]
    calls: tuple[NotedCall, ...]

    def __contains__(self, id: str) -> bool:
        return id in self.containers or id in self.sandboxes

    def names(self, id: str) -> tuple[str | None, str | None]:
        """(Pod, container) of an id; the short id stands for the name of a Pod that is not known."""
        if id in self.containers:
            sandbox, name = self.containers[id]
            return self.sandboxes.get(sandbox, sandbox[:SHORT]) or None, name
        return (self.sandboxes.get(id, id[:SHORT]) or None), None


def known(records: Iterable[CallRecord], now: int, listed: Mapping[str, Any] | None = None) -> KnownCalls:
    """From the calls' messages, and from what the runtime listed besides (`recording.listed`). now: ends what is open, ns."""
    records = sorted(records, key=lambda record: record.from_ns)
    sandboxes: dict[str, str] = dict((listed or {}).get("sandboxes", {}))
    containers: dict[str, tuple[str, str]] = dict((listed or {}).get("containers", {}))
    messages = [
        (to_dict(r.request) if r.request else {}, to_dict(r.response) if r.response and keeps_response(r.method) else {})
        for r in records
    ]
    for record, (request, response) in zip(records, messages, strict=True):
        name = request.get("config", {}).get("metadata", {}).get("name", "")
        if record.method == "RunPodSandbox" and response.get("pod_sandbox_id"):
            sandboxes[response["pod_sandbox_id"]] = name
        elif record.method == "CreateContainer":
            sandbox = _whole(request.get("pod_sandbox_id", ""), sandboxes)
            if pod := request.get("sandbox_config", {}).get("metadata", {}).get("name"):
                sandboxes.setdefault(sandbox, pod)
            if response.get("container_id"):
                containers[response["container_id"]] = (sandbox, name)
    everything = {**sandboxes, **containers}
    only_names = KnownCalls(sandboxes, containers, ())
    noted = []
    for record, (request, response) in zip(records, messages, strict=True):
        ids = {
            _whole(message[field], everything) for message in (request, response) for field in ID_FIELDS if message.get(field)
        }
        noted.append(NotedCall(_call(record, request, response, now, only_names), frozenset(ids)))
    return KnownCalls(sandboxes, containers, tuple(noted))


def _call(record: CallRecord, request: dict[str, Any], response: dict[str, Any], now: int, names: KnownCalls) -> Call:
    pod: str | None = None
    container: str | None = None
    for message in (request, response):
        for field in ID_FIELDS:
            if message.get(field):
                found = names.names(_whole(message[field], {**names.sandboxes, **names.containers}))
                pod, container = found[0] or pod, found[1] or container
    config, sandbox = request.get("config", {}), request.get("sandbox_config", {})
    own = config.get("metadata", {}).get("name")
    if record.method == "CreateContainer":
        container = own
    elif record.method == "RunPodSandbox":
        pod = own
    return Call(
        record.service,
        record.method,
        record.from_ns,
        now if record.to_ns is None else record.to_ns,
        record.caller,
        sandbox.get("metadata", {}).get("name") or pod,
        container,
        record.code,
        request,
        response or None,
        record.source,
    )


def _whole(id: str, known: Mapping[str, Any]) -> str:
    """The full id where a caller gave the beginning of one."""
    if id in known:
        return id
    found = [each for each in known if each.startswith(id)]
    return found[0] if len(found) == 1 else id
