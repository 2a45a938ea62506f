"""CriClient: gRPC to a container runtime's Unix socket, protobuf messages in and out.

Deadlines and the message size are the kubelet's (its remote_runtime.go and remote_image.go); the RPC methods
themselves are in labkit.cri.rpcs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from operator import methodcaller
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from labkit.cri import cri_errors, lenient
from labkit.cri.cri_errors import CriError
from labkit.cri.descriptors import Rpc, own_timeout, services, unknown_field
from labkit.cri.rpcs import Rpcs
from labkit.cri.v1 import api_pb2
from labkit.util.progress import attempts

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
MAX_PATH_BYTES = 107
READY_POLL_SECONDS = 0.05
RECONNECT_WITHIN_SECONDS = 1.5
"""How long a call that was never sent waits for the socket to be connected again: a runtime was restarted, or a relay's node."""
API_VERSIONS = ("v1", "v1alpha2")
VERSION = next(rpc for rpc in services() if rpc.rpc == "Version")

UNLIMITED = float("inf")
AT_LEAST_SECONDS = {
    "RunPodSandbox": 240.0,
    "StopPodSandbox": 120.0,
    "RemovePodSandbox": 120.0,
    "CreateContainer": 120.0,
    "StartContainer": 120.0,
    "RemoveContainer": 120.0,
    "PullImage": UNLIMITED,
}
"""Calls that make the runtime work get at least the kubelet's deadline: giving up early leaves half-made things behind."""

Response = TypeVar("Response", bound=Message)


class CriStream(Iterator[Response], Generic[Response]):
    """The responses of a streaming RPC, as they come. Ends when the runtime ends it, or by `cancel()`.

    Also a context manager that cancels when left. Iteration raises CriError.
    """

    def __init__(self, rpc: str, call: Any, path: str) -> None:
        self._rpc, self._call, self._path = rpc, call, path
        self._cancelled = False

    def __next__(self) -> Response:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            if self._cancelled:
                raise StopIteration from None
            raise cri_errors.from_rpc_error(self._rpc, error, self._path) from None

    def cancel(self) -> None:
        """End the stream; a `next()` that waits in another thread returns by StopIteration."""
        self._cancelled = True
        self._call.cancel()

    def __enter__(self) -> CriStream[Response]:
        return self

    def __exit__(self, *exception: object) -> None:
        self.cancel()


class CriClient(Rpcs):
    """A client of one CRI endpoint, with a method for every RPC: `cri.version()`, `cri.list_containers(filter={…})`.

    endpoint: "unix:///run/containerd/containerd.sock", or the path alone.
    timeout: seconds that a call may take unless its own `timeout=` says otherwise; calls that make the runtime work
        may take longer (AT_LEAST_SECONDS), streams as long as they last.
    interceptors: grpc client interceptors that see every call.

    Nothing is sent before the first call, which also finds out whether the runtime speaks v1 or only v1alpha2. Either
    way requests and responses are messages of `labkit.cri.v1.api_pb2`; requests of other stubs of CRI v1 are taken, too. Safe
    to use from several threads. Raises CriError.
    """

    def __init__(self, endpoint: str, *, timeout: float = 10.0, interceptors: Sequence[Any] = ()) -> None:
        self.path = socket_path(endpoint)
        self.endpoint = f"unix://{self.path}"
        self.timeout = timeout
        self.away: Callable[[], tuple[str, str] | None] = lambda: None
        """What is known of a runtime that nobody can reach: why, and what to do. A node knows that a lesson has stopped it."""
        self.exec_within: float | None = None
        """How long ExecSync may take, in seconds, where the request has no timeout; None for as long as it likes."""
        self._api_version: str | None = None
        self._closed = False
        self._callables: dict[tuple[str, str], Callable[..., Any]] = {}
        self._raw_channel = grpc.insecure_channel(f"unix:{self.path}", options=CHANNEL_OPTIONS)
        self._channel = grpc.intercept_channel(self._raw_channel, *interceptors) if interceptors else self._raw_channel

    @property
    def api_version(self) -> str:
        """ "v1" or "v1alpha2": what the runtime speaks. Asks it, the first time."""
        if self._api_version is None:
            self._negotiate()
        assert self._api_version is not None
        return self._api_version

    def wait_until_ready(self, timeout: float = 30.0) -> api_pb2.VersionResponse:
        """Ask for the version until the runtime answers; its answer. Raises the last CriError after `timeout` seconds."""
        for left in attempts(timeout, READY_POLL_SECONDS):
            try:
                return self.version(timeout=max(min(left, self.timeout), READY_POLL_SECONDS))
            except CriError as error:
                if self._closed or left <= READY_POLL_SECONDS:
                    raise error from None
        raise AssertionError  # the last look has raised

    def connects(self, within: float) -> bool:
        """Whether the runtime's socket is connected within so many seconds. gRPC tries again by itself, once a second at most."""
        try:
            grpc.channel_ready_future(self._raw_channel).result(within)
        except (grpc.FutureTimeoutError, ValueError):  # ValueError: it is closed
            return False
        return True

    def unrecorded(self) -> CriClient:
        """The same client, whose calls go past interceptors and recordings (`labkit.recording.calls.log`): for what labkit
        itself asks."""
        other = copy.copy(self)
        other._channel, other._callables = self._raw_channel, {}
        return other

    def close(self) -> None:
        """Close the connection; calls and streams under way are cancelled."""
        self._closed = True
        self._raw_channel.close()

    def __enter__(self) -> CriClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CriClient({self.endpoint!r})"

    def _invoke(self, rpc: Rpc, request: Any, fields: dict[str, Any]) -> Any:
        deadline = None if own_timeout(rpc) else fields.pop("timeout", None)
        message = build_request(rpc, request, fields)
        if rpc is VERSION and self._api_version is None:
            return self._negotiate(message, deadline)
        try:
            version = self.api_version
        except CriError as error:  # told as a failure of the call that was wanted, not of the question before it
            raise CriError(rpc.rpc, error.code, error.message, error.hint) from None
        if rpc.streaming:
            return CriStream(rpc.rpc, self._call(rpc, version)(message, timeout=deadline), self.path)
        return self._unary(rpc, version, message, self._seconds(rpc, message, deadline))

    def _negotiate(self, request: Message | None = None, seconds: float | None = None) -> Any:
        """Ask Version in v1, then in v1alpha2; keep the first that is served."""
        request = request or api_pb2.VersionRequest()
        refused = ""
        for version in API_VERSIONS:
            try:
                answer = self._unary(VERSION, version, request, self.timeout if seconds is None else seconds)
            except CriError as error:
                if error.code != "UNIMPLEMENTED":
                    raise error from None
                refused = refused or error.message
                continue
            self._api_version = version
            return answer
        raise cri_errors.not_cri(VERSION.rpc, self.path, refused)

    def _unary(self, rpc: Rpc, version: str, request: Message, seconds: float | None) -> Any:
        call = self._call(rpc, version)
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            if not self._missed_the_restart(error):
                raise self._error(rpc, error) from None
        with suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(self._raw_channel).result(RECONNECT_WITHIN_SECONDS)
        try:
            return call(request, timeout=seconds)
        except grpc.RpcError as error:
            raise self._error(rpc, error) from None

    def _error(self, rpc: Rpc, error: grpc.RpcError) -> CriError:
        found = cri_errors.from_rpc_error(rpc.rpc, error, self.path)
        if found.code == "UNAVAILABLE" and (known := self.away()):
            return CriError(rpc.rpc, found.code, *known)
        return found

    def _missed_the_restart(self, error: grpc.RpcError) -> bool:
        """Whether the call was never sent because the channel still backs off from a runtime that is back by now."""
        words = error.details() or ""
        unsent = words.startswith("failed to connect to all addresses")
        return error.code() is grpc.StatusCode.UNAVAILABLE and unsent and cri_errors.look_at(self.path) is None

    def _call(self, rpc: Rpc, version: str) -> Callable[..., Any]:
        if self._closed:
            raise CriError(rpc.rpc, "CANCELLED", "this CriClient is closed", f"Make a new one: CriClient({self.endpoint!r}).")
        key = (version, rpc.rpc)
        # A recorder may change the channel in the middle (labkit.recording.calls.log): these go with this channel or an older
        # one.
        callables = self._callables
        if key not in callables:
            make = self._channel.unary_stream if rpc.streaming else self._channel.unary_unary
            # v1alpha2 has the same bytes on the wire as v1: only the name of the service differs.
            callables[key] = make(
                f"/runtime.{version}.{rpc.service}/{rpc.rpc}",
                request_serializer=methodcaller("SerializeToString"),
                response_deserializer=partial(lenient.parse, rpc.response_class()),
            )
        return callables[key]

    def _seconds(self, rpc: Rpc, request: Any, seconds: float | None) -> float | None:
        if seconds is not None:
            return seconds
        if rpc.rpc == "ExecSync" and not request.timeout:
            return self.exec_within  # the request's 0 means that the runtime sets no limit
        longest = max(self.timeout, AT_LEAST_SECONDS.get(rpc.rpc, 0.0)) + (request.timeout if own_timeout(rpc) else 0)
        return None if longest == UNLIMITED else longest


def socket_path(endpoint: str) -> str:
    """The file of "unix:///path", "unix:/path" or "/path". Raises CriError for anything else."""
    text = os.fspath(endpoint)
    path = text.removeprefix("unix://") if text.startswith("unix://") else text.removeprefix("unix:")
    if not path.startswith("/"):
        advice = "Write unix:///run/containerd/containerd.sock, or the absolute path alone."
        raise CriError("", "INVALID_ARGUMENT", f"{text!r} is not the address of a Unix socket", advice)
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        advice = "Use a shorter path, for example one below /run."
        raise CriError("", "INVALID_ARGUMENT", f"{path} is longer than {MAX_PATH_BYTES} bytes, a socket's limit", advice)
    return path


def build_request(rpc: Rpc, request: Any, fields: dict[str, Any]) -> Message:
    """The request message, from a message, from its first field, or from keywords. Raises TypeError in words."""
    for name in fields:
        if name not in rpc.fields:
            raise TypeError(unknown_field(rpc, name))
    kind = rpc.request_class()
    if isinstance(request, Message):
        request = lenient.own(request)
    if isinstance(request, kind):
        if fields:
            raise TypeError(f"{rpc.method}() takes a {rpc.request} or its fields as keywords, not both.")
        return request
    if request is not None:
        first = next(iter(rpc.fields), "")
        if not first or first in fields:
            raise TypeError(f"{rpc.method}() takes a {rpc.request}, not {type(request).__name__}.")
        fields = {first: request} | fields
    if name := characters(kind.DESCRIPTOR, fields):
        raise TypeError(f"{rpc.method}(): {name} must be a list of strings, not one string: ['sleep', '10'], not 'sleep 10'.")
    try:
        by_name = kind.DESCRIPTOR.fields_by_name
        fields = {name: lenient.value(by_name[name], given) for name, given in fields.items() if given is not None}
        message: Message = kind(**fields)
        return message
    except (TypeError, ValueError) as error:
        raise TypeError(f"{rpc.method}(): {_wrong_field(rpc, kind, fields)}{error}") from None


def characters(kind: Descriptor, fields: Mapping[str, Any]) -> str:
    """The path of a field that takes a list of strings and has a string: protobuf would take its characters. "" for none."""
    for name, value in fields.items():
        if (field := kind.fields_by_name.get(name)) is None:
            continue
        if isinstance(value, str) and field.is_repeated:
            return name
        if field.message_type and isinstance(value, Mapping) and (found := characters(field.message_type, value)):
            return f"{name}.{found}"
    return ""


def _wrong_field(rpc: Rpc, kind: Any, fields: dict[str, Any]) -> str:
    for name, value in fields.items():
        try:
            kind(**{name: value})
        except (TypeError, ValueError):
            return f"{name} must be {rpc.fields[name].replace('pb.', '')}: "
    return ""


CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
    # A client of its own connection: another client's back-off must not delay this one.
    ("grpc.use_local_subchannel_pool", 1),
    # grpc.min_reconnect_backoff_ms stays as it is: despite its name it limits how long a connect may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
