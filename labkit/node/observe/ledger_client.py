"""A CRI client that notes what it makes, on a node that is not the home's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.cri import CriClient
from labkit.cri.descriptors import Rpc

if TYPE_CHECKING:
    from labkit.node.state.ledger import Ledger


class LedgerClient(CriClient):
    """Notes the id of each sandbox: when the runtime has forgotten one whose shim lives, nothing else tells whose it was."""

    def __init__(self, endpoint: str, ledger: Ledger) -> None:
        super().__init__(endpoint)
        self.ledger = ledger

    def _invoke(self, rpc: Rpc, request: Any, fields: dict[str, Any]) -> Any:
        answer = super()._invoke(rpc, request, fields)
        if rpc.rpc == "RunPodSandbox":
            self.ledger.note("sandbox", id=answer.pod_sandbox_id)
        return answer
