"""The RPC methods of CriClient, one for each RPC of CRI v1, made from the service descriptors when this is imported.

Editors read `rpcs.pyi` beside this file instead. `python -m authoring.generate.cri_stub` writes it anew from the descriptors; a
unit test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from labkit.cri.descriptors import Rpc, docstring, services, signature


class Rpcs:
    """Base of CriClient: has a method for every RPC, each of which ends in `_invoke`."""

    def _invoke(self, rpc: Rpc, request: Any, fields: dict[str, Any]) -> Any:
        raise NotImplementedError


def _method(rpc: Rpc) -> Callable[..., Any]:
    def method(self: Rpcs, request: Any = None, /, **fields: Any) -> Any:
        return self._invoke(rpc, request, fields)

    method.__name__ = rpc.method
    method.__qualname__ = f"CriClient.{rpc.method}"
    method.__doc__ = docstring(rpc)
    method.__signature__ = signature(rpc)  # type: ignore[attr-defined]  # inspect honours it, typeshed does not know it
    return method


for _rpc in services():
    if hasattr(Rpcs, _rpc.method):
        raise ImportError(f"two RPCs of CRI v1 would be called {_rpc.method}")
    setattr(Rpcs, _rpc.method, _method(_rpc))
