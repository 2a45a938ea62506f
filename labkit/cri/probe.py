"""Which RPCs of CRI a runtime answers, found out without making it do anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from labkit.cri import cri_errors
from labkit.cri.client import CriClient
from labkit.cri.descriptors import Rpc, services

UNREADABLE = b"\x0a"
"""A field that ends before its length: no message of any type, so the server refuses it before its own code sees it."""
NOBODY = "labkit-asks-whether-you-answer"
"""An id that no container and no sandbox has."""
SILENT_S = 0.5


def answered_rpcs(cri: CriClient, timeout: float = 10.0) -> dict[str, bool]:
    """RPC name in api.proto → whether the runtime answers it; False is the status UNIMPLEMENTED.

    Each RPC is called with bytes that are no message: a gRPC server looks for the method first (UNIMPLEMENTED), then reads
    the request (INTERNAL), so nothing is run. Some runtimes have a method that only says UNIMPLEMENTED itself; so those
    RPCs that can do no harm, because they only list or are about an id that nothing has, are then called once more, rightly.
    An empty message would not do in place of these: containerd 1.6, 1.7 and 2.1 take RemoveImage without a name for the only
    image that there is.

    timeout: seconds for one call. A stream that says nothing for half a second counts as answered. Raises CriError when the
    runtime cannot be reached or does not answer at all.
    """
    return {rpc.rpc: _answers(cri, rpc, timeout) for rpc in services()}


def _answers(cri: CriClient, rpc: Rpc, timeout: float) -> bool:
    if _code(cri, rpc, UNREADABLE, timeout, ("UNAVAILABLE", "DEADLINE_EXCEEDED")) == "UNIMPLEMENTED":
        return False
    request = harmless(rpc)
    if request is None:
        return True
    seconds = SILENT_S if rpc.streaming else timeout
    return _code(cri, rpc, request.SerializeToString(), seconds, ("UNAVAILABLE",)) != "UNIMPLEMENTED"


def harmless(rpc: Rpc) -> Any:
    """A request that changes nothing wherever it is sent; None where there is no telling."""
    first = next(iter(rpc.fields), "")
    if first in ("container_id", "pod_sandbox_id"):
        return rpc.request_class()(**{first: NOBODY})
    asks = rpc.rpc.startswith(("List", "Stream")) or rpc.rpc in ("Version", "Status", "RuntimeConfig", "GetContainerEvents")
    return rpc.request_class()() if asks else None


def _code(cri: CriClient, rpc: Rpc, request: bytes, timeout: float, failures: Sequence[str]) -> str:
    """The name of the status with which the call ends; "OK" where the first answer comes. Raises CriError for `failures`."""
    path = f"/runtime.{cri.api_version}.{rpc.service}/{rpc.rpc}"
    channel: Any = cri._raw_channel  # not the one that is recorded: a question about the contract is no call by it
    try:
        if rpc.streaming:
            stream = channel.unary_stream(path)(request, timeout=timeout)
            next(stream, None)
            stream.cancel()
        else:
            channel.unary_unary(path)(request, timeout=timeout)
    except grpc.RpcError as error:
        if error.code().name in failures:
            raise cri_errors.from_rpc_error(rpc.rpc, error, cri.path) from None
        return str(error.code().name)
    return "OK"
