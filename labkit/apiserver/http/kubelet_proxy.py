"""Logs, exec, attach, port-forward and metrics: what only the kubelet can answer is passed on to it, byte for byte.

The kubelet speaks plain HTTP on a Unix socket of mode 0600, `kubelet.sock` in the run directory; where it runs on a machine of
its own, who owns that serves the way to it there. Nothing is sent to a port, which somebody else may have bound. The kubelet has
the real one's paths and parameters: /containerLogs/NAMESPACE/POD/CONTAINER, /exec/… and /attach/… (input, output, error, tty = 1,
command), /portForward/NAMESPACE/POD, and for `kubectl top` the metrics API's own paths.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import quote, urlencode

from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError

from labkit.apiserver import api_errors
from labkit.apiserver.requests.paths import Query, flag, number, one
from labkit.apiserver.storage.store import Object, Store
from labkit.podspec import container_names
from labkit.podspec.schema import decoding
from labkit.podspec.validation.field_errors import NOT_NEGATIVE, Causes, forbidden, invalid, unsupported

RUNTIME_SPEAKS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", "")
"""Websocket protocols that the runtimes' streaming servers know. Later ones are translated
(`labkit.apiserver.http.websockets`)."""

LOG_OPTIONS = ("sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream")
LOG_STREAMS = ("All", "Stderr", "Stdout")
LOG_FLAGS = ("follow", "previous", "timestamps")
STREAMS = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
Answered = tuple[IOStream, bytes]
NOT_FORWARDED = {"authorization", "host", "connection", "content-length", "transfer-encoding", "accept-encoding"}


def log_path(pod: Object, query: Query) -> str:
    """The kubelet's path for a Pod's log. Raises ApiError (400, 422)."""
    _check_bound(pod)
    container = _container(pod, query)
    options = {key: "true" for key in LOG_FLAGS if flag(query, key)}
    options |= {key: one(query, key) for key in LOG_OPTIONS if one(query, key)}
    if causes := list(_wrong_log_options(query)):
        raise api_errors.invalid("PodLogOptions", pod["metadata"]["name"], causes)
    return f"/containerLogs/{_of(pod)}/{quote(container)}" + (f"?{urlencode(options)}" if options else "")


def _wrong_log_options(query: Query) -> Causes:
    """What is wrong with the options of a log, taken together (ValidatePodLogOptions). Raises ApiError (400)."""
    since, tail, most = (number(query, key) for key in ("sinceSeconds", "tailLines", "limitBytes"))
    at, stream = one(query, "sinceTime"), one(query, "stream") or "All"
    try:
        decoding.read_time(at) if at else ""
    except decoding.Undecodable as error:
        raise api_errors.bad_request(str(error)) from None
    if tail is not None and tail < 0:
        yield invalid("tailLines", tail, NOT_NEGATIVE)
    if most is not None and most < 1:
        yield invalid("limitBytes", most, "must be greater than 0")
    if since is not None and at:
        yield forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified")
    elif since is not None and since < 1:
        yield invalid("sinceSeconds", since, "must be greater than 0")
    if stream not in LOG_STREAMS:
        yield unsupported("stream", stream, LOG_STREAMS)
    if stream != "All" and tail is not None:
        yield forbidden("[]", "`tailLines` and specific `stream` are mutually exclusive for now")


def stream_path(pod: Object, what: str, query: Query) -> str:
    """The kubelet's path for exec, attach or portforward. Raises ApiError (400)."""
    _check_bound(pod)
    if what == "portforward":
        ports = [("port", port) for given in query.get("ports", []) for port in given.split(",")]
        if bad := [port for _, port in ports if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536)]:
            raise api_errors.bad_request(f"ports: Invalid value: {bad[0][:20]!r}: must be between 1 and 65535")
        return f"/portForward/{_of(pod)}" + (f"?{urlencode(ports)}" if ports else "")
    phase = (pod.get("status") or {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        raise api_errors.bad_request(f"cannot {what} into a container in a completed pod; current phase is {phase}")
    container = _container(pod, query)
    options = [(theirs, "1") for ours, theirs in STREAMS.items() if flag(query, ours)]
    if not any(name in ("input", "output", "error") for name, _ in options):
        raise api_errors.bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if what == "exec":
        if not query.get("command"):
            raise api_errors.bad_request("you must specify at least one command for the container")
        options += [("command", word) for word in query["command"]]
    return f"/{what}/{_of(pod)}/{quote(container)}?{urlencode(options)}"


def check_protocols(headers: HTTPHeaders) -> None:
    """Refuse an upgrade that the runtime would not understand. Raises ApiError (400)."""
    upgrade = headers.get("Upgrade", "").lower()
    if not upgrade:
        raise api_errors.bad_request("Upgrade request required")
    if upgrade == "websocket":
        offered = [word.strip() for word in headers.get("Sec-WebSocket-Protocol", "").split(",")]
        if not any(word in RUNTIME_SPEAKS for word in offered):
            raise api_errors.bad_request(f"unable to upgrade: the runtime does not speak {', '.join(offered)}; use SPDY/3.1")


async def ask(store: Store, run: Path, node: str, request: bytes, read: Callable[[IOStream], Awaitable[bytes]]) -> Answered:
    """Send a request to a node's kubelet: the connection, and what `read` takes of the answer. Raises ApiError (404, 503)."""
    if store.get("nodes", "", node) is None:
        raise api_errors.not_found("nodes", node)
    stream = IOStream(socket.socket(socket.AF_UNIX))
    try:
        await stream.connect(str(run / "kubelet.sock"))
    except (OSError, StreamClosedError) as error:
        why = error.real_error if isinstance(error, StreamClosedError) else error
        said = (getattr(why, "strerror", None) or "the connection was closed").lower()
        words = f'The kubelet of node "{node}" does not answer: {said}. Is it running? See `labkit status`.'
        raise api_errors.unavailable(words) from error
    try:
        await stream.write(request)
        return stream, await read(stream)
    except StreamClosedError as error:
        stream.close()
        raise api_errors.unavailable(f'The kubelet of node "{node}" hung up; its log, kubelet.log, may say why.') from error


def request_head(method: str, path: str, headers: Iterable[tuple[str, str]], upgrade: bool) -> bytes:
    """The head of a request to the kubelet."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += ["Connection: Upgrade" if upgrade else "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers if name.lower() not in NOT_FORWARDED]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _check_bound(pod: Object) -> None:
    if not pod["spec"].get("nodeName"):
        raise api_errors.bad_request(f"pod {pod['metadata']['name']} does not have a host assigned")


def _of(pod: Object) -> str:
    return f"{quote(pod['metadata']['namespace'])}/{quote(pod['metadata']['name'])}"


def _container(pod: Object, query: Query) -> str:
    name, spec = pod["metadata"]["name"], pod["spec"]
    everyone = container_names(pod)
    asked = one(query, "container")
    if asked:
        if asked not in everyone:
            raise api_errors.bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(spec["containers"]) == 1 and len(everyone) == 1:
        return str(everyone[0])
    chosen, starting = (container_names(pod, (kind,)) for kind in ("containers", "initContainers"))
    words = f"a container name must be specified for pod {name}, choose one of: [{' '.join(chosen)}]"
    raise api_errors.bad_request(words + (f" or one of the init containers: [{' '.join(starting)}]" if starting else ""))
