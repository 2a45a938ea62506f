"""CRI calls as containerd's own log tells of them, for callers that nobody stood between.

At its usual level (info) containerd writes a line when a call that changes something begins and one when it has ended, with the
ids that it returned (internal/cri/instrument/instrumented_service.go, in 1.6 and 1.7 pkg/cri/server). Version, Status…, List… and
ExecSync are not among them, and nobody's name is. Metadata has looked in two ways: `&PodSandboxMetadata{Name:web,Uid:…,}` until
containerd 2.1, `name:"web"  uid:"…"` since.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from labkit.cri.descriptors import services
from labkit.cri.v1 import api_pb2
from labkit.recording.calls.log import CallRecord

METHODS = (
    "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "CreateContainer", "StartContainer", "StopContainer",
    "RemoveContainer", "UpdateContainerResources", "ExecSync", "Exec", "Attach", "PullImage", "RemoveImage",
)
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')
_ON_TERMINAL = re.compile(r"\x1b\[\d+m[A-Z]+\x1b\[0m\[([^\]]+)\] ([^\x1b]*)(.*)")
_COLOURED_FIELD = re.compile(r'\x1b\[\d+m(\w+)\x1b\[0m=("(?:[^"\\]|\\.)*"|[^ \x1b]*)')
_TIME = re.compile(r"(.*T\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)")
_CALL = re.compile(
    rf'({"|".join(METHODS)}) (?:for |within sandbox |(?="))(.*?)'
    r'(?:( returns successfully)|(?: returns (?:sandbox id|container id|image reference|URL) "([^"]*)")|( failed(?:, error)?))?',
    re.DOTALL,
)
_METADATA = re.compile(
    r"&\w+Metadata\{Name:(?P<name>[^,}]*),(?:Uid:(?P<uid>[^,}]*),Namespace:(?P<namespace>[^,}]*),)?Attempt:(?P<attempt>\d+),"
    r'|\bname:"(?P<name_>[^"]*)"(?:\s+uid:"(?P<uid_>[^"]*)")?(?:\s+namespace:"(?P<namespace_>[^"]*)")?'
    r"(?:\s+attempt:(?P<attempt_>\d+))?"
)
_CODE = re.compile(r"code = (\w+)")
_WORDS = (
    (r"not found$", "NOT_FOUND"),
    (r"already exists$", "ALREADY_EXISTS"),
    (r"invalid argument$", "INVALID_ARGUMENT"),
    (r"failed precondition$", "FAILED_PRECONDITION"),
    (r"context deadline exceeded", "DEADLINE_EXCEEDED"),
    (r"context canceled", "CANCELLED"),
)
"""How an error ends that the gRPC code is made of (containerd's errdefs)."""
RESULTS = {"RunPodSandbox": "pod_sandbox_id", "CreateContainer": "container_id", "PullImage": "image_ref", "Exec": "url"}
SLACK_NS = 500_000_000
"""A client knows of a call this much before and after the runtime writes of it, at most: on a busy machine."""


@dataclass(frozen=True)
class LogLine:
    """One line of the log. at_ns: ns since 1970."""

    at_ns: int
    message: str
    error: str = ""


class LoggedCalls:
    """Pairs the lines of one log, as they come, to calls of source "log"."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._open: list[CallRecord] = []

    def read(self, lines: Iterable[str], mono_minus_wall_ns: int) -> Iterator[CallRecord]:
        """A record at a call's start, with `to_ns` None, and again, by the same number, at its end. Other lines are passed over.

        mono_minus_wall_ns: what makes CLOCK_MONOTONIC of the log's clock. Calls that began before the first line are left out.
        """
        for text in lines:
            line = parse_line(text)
            match = _CALL.fullmatch(line.message) if line else None
            if not line or not match:
                continue
            method, about, well, value, failed = match.groups()
            at_ns = line.at_ns + mono_minus_wall_ns
            request = _request(method, about)
            if not well and value is None and not failed:
                service = "ImageService" if method.endswith("Image") else "RuntimeService"
                began = CallRecord(next(self._numbers), service, method, at_ns, None, "?", "", request, source="log")
                self._open.append(began)
                yield began
            elif started := next((each for each in self._open if subject(each) == (method, *_words(request))), None):
                self._open.remove(started)
                good = bool(well) or value is not None
                code, response = ("OK", _response(method, value or "")) if good else (_code(line.error), None)
                yield replace(started, to_ns=at_ns, code=code, response=response, responses=int(good))


def subject(record: CallRecord) -> tuple[str, ...]:
    """What a call is about, in the caller's own words: the same for one call that was noted in two ways."""
    return (record.method, *_words(record.request))


def same_call(logged: CallRecord, others: Iterable[CallRecord]) -> CallRecord | None:
    """The record among `others`, noted by the caller's side, of the same call as `logged`."""

    def apart_ns(each: CallRecord) -> int:
        """By how much the log's time lies outside of the call."""
        return max(each.from_ns - logged.from_ns, logged.from_ns - (each.to_ns or logged.from_ns), 0)

    same = [each for each in others if each.source != "log" and subject(each) == subject(logged) and apart_ns(each) <= SLACK_NS]
    return min(same, key=apart_ns, default=None)


def parse_line(text: str) -> LogLine | None:
    """A line of logrus: in its text format, in the one for terminals, or in its JSON format; None for anything else."""
    if coloured := _ON_TERMINAL.fullmatch(text.rstrip()):
        time_, message, rest = coloured.groups()
        fields = {"time": time_, "msg": message.rstrip(), **{key: _unquoted(v) for key, v in _COLOURED_FIELD.findall(rest)}}
    elif text.startswith("{"):
        try:
            fields = {key: str(value) for key, value in json.loads(text).items()}
        except ValueError:
            return None
    else:
        fields = {key: _unquoted(value) for key, value in _FIELD.findall(text)}
    time = _TIME.fullmatch(fields.get("time", ""))
    if not time or "msg" not in fields:
        return None
    seconds = datetime.fromisoformat(time[1] + time[3].replace("Z", "+00:00")).timestamp()
    return LogLine(int(seconds) * 10**9 + int((time[2] or "0").ljust(9, "0")[:9]), fields["msg"], fields.get("error", ""))


def _request(method: str, about: str) -> Any:
    """The request's message, with as much of it as the log tells."""
    found = _METADATA.search(about)
    metadata = {key.rstrip("_"): value for key, value in (found.groupdict() if found else {}).items() if value is not None}
    quoted = re.findall(r'"([^"]*)"', _METADATA.sub("", about))
    first = quoted[0] if quoted else ""
    rpc = next(each for each in services() if each.rpc == method)
    request = rpc.request_class()()
    if method in ("RunPodSandbox", "CreateContainer"):
        for key, value in metadata.items():
            setattr(request.config.metadata, key, int(value) if key == "attempt" else value)
    if method.endswith("Image"):
        request.image.image = first
    elif "pod_sandbox_id" in rpc.fields:
        request.pod_sandbox_id = first
    elif "container_id" in rpc.fields:
        request.container_id = first
    return request


def _response(method: str, value: str) -> Any:
    response = next(each for each in services() if each.rpc == method).response_class()()
    if method in RESULTS:
        setattr(response, RESULTS[method], value)
    return response


def _words(request: Any) -> tuple[str, ...]:
    if isinstance(request, (api_pb2.RunPodSandboxRequest, api_pb2.CreateContainerRequest)):
        metadata = request.config.metadata
        within = getattr(request, "pod_sandbox_id", "")
        return (within, metadata.name, getattr(metadata, "uid", ""), str(metadata.attempt))
    for field in ("pod_sandbox_id", "container_id"):
        if field in request.DESCRIPTOR.fields_by_name:
            return (str(getattr(request, field)),)
    return (request.image.image,) if "image" in request.DESCRIPTOR.fields_by_name else ()


def _code(error: str) -> str:
    """ "NotFound" of gRPC's Go library is "NOT_FOUND" in Python's."""
    if found := _CODE.search(error):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", found[1]).upper().replace("CANCELED", "CANCELLED")
    return next((code for words, code in _WORDS if re.search(words, error)), "UNKNOWN")


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", lambda escape: {"n": "\n", "t": "\t"}.get(escape[1], escape[1]), value[1:-1], flags=re.DOTALL)
