"""The STATUS of Pods, as `kubectl get pods` shows it: the API server prints it itself, as a column of a table."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.figures.pods.cluster_model import StatusChange
from labkit.node.pods.api_client import explained
from labkit.node.pods.kubectl import NAMESPACE
from labkit.util.errors import NodeError
from labkit.util.progress import wait

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api  # slow to import

AS_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
"""What kubectl asks for: the API server then prints the columns itself, STATUS among them."""
HEARD_WITHIN_S = 10.0
"""A watch tells a change so long after it at most."""
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


class PodStatuses:
    def __init__(self, kube: CoreV1Api) -> None:
        self.kube = kube

    def status(self, pod: str) -> str | None:
        """The STATUS of a Pod; None where there is no such Pod."""
        return dict(self._statuses(self._get(fieldSelector=f"metadata.name={pod}"))).get(pod)

    def all(self) -> dict[str, str]:
        """The STATUS of each Pod, by its name."""
        return dict(self._statuses(self._get()))

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[StatusChange]]:
        """Note each STATUS of each Pod while the block runs, as `kubectl get pods -w` tells it."""
        changes: list[StatusChange] = []
        failed: list[Exception] = []
        response = self._stream(watch="true")
        thread = threading.Thread(target=self._follow, args=(response, changes, failed), daemon=True)
        thread.start()
        try:
            yield changes
            with contextlib.suppress(NodeError):  # what was said just now is still on its way
                wait("the last change", lambda: bool(failed) or self._is_last(changes), HEARD_WITHIN_S)
        finally:
            early = list(failed)
            response.shutdown()  # closing would wait for the thread, which waits for the server
            thread.join()
            close(response)
        if early:
            raise NodeError(f"The Pods could not be watched to the end ({type(early[0]).__name__}: {early[0]}).", "Try again.")

    def _is_last(self, changes: Sequence[StatusChange]) -> bool:
        """Whether the last change of each Pod that is there is the STATUS that it has now."""
        last = {change.pod: change.status for change in changes}
        return all(last.get(name) == status for name, status in self._statuses(self._get()))

    def _follow(self, response: Any, changes: list[StatusChange], failed: list[Exception]) -> None:
        try:
            for line in lines_of(response):
                at, event = time.monotonic_ns(), json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                    changes += [StatusChange(at, name, status) for name, status in self._statuses(event["object"])]
        except Exception as error:  # of whatever kind the stream ends with when it is shut down: `watch` knows whether it was
            failed.append(error)

    def _statuses(self, table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        names = [c["name"] for c in table.get("columnDefinitions") or self._columns]
        self._columns = table.get("columnDefinitions") or self._columns
        for row in table.get("rows") or ():
            yield row["cells"][names.index("Name")], row["cells"][names.index("Status")]

    _columns: Sequence[Mapping[str, Any]] = ()
    """Of the first table of a watch: those that follow leave them out."""

    def _get(self, **query: str) -> dict[str, Any]:
        response = self._stream(**query)
        try:
            return dict(json.loads(response.read()))
        finally:
            close(response)

    def _stream(self, **query: str) -> Any:
        """A request of the client's own connection pool, since the client's methods know no tables."""
        configuration = self.kube.api_client.configuration
        headers = {"Accept": AS_TABLE}
        for setting in configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        request = explained(self.kube.api_client.rest_client.pool_manager.request, configuration.host)
        response = request("GET", configuration.host + PODS, fields=query, headers=headers, preload_content=False)
        if response.status != 200:
            raise NodeError(
                f"The API server answered {response.status} for {PODS}.", "`labkit status` says whether the node is up."
            )
        return response


def lines_of(response: Any) -> Iterator[bytes]:
    """The lines of a streamed answer as they come."""
    rest = b""
    for piece in response.stream(amt=None, decode_content=False):
        *whole_lines, rest = (rest + piece).split(b"\n")
        yield from whole_lines


def close(response: Any) -> None:
    """End an answer, whether all of it came or not, and the connection with it."""
    with contextlib.suppress(Exception):
        response.close()
    with contextlib.suppress(Exception):
        response.release_conn()
