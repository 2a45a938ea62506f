"""A small client of the Kubernetes API: JSON over HTTPS, one connection a thread, and a watch that comes back by itself.

Knowledge: kubernetes.io, API concepts (watch, bookmarks, 410 Gone) and client-go's reflector.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import yaml

log = logging.getLogger("kubelet")

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
TIMEOUT_S = 15.0
WATCH_S = 300
RETRY_S = (0.2, 0.5, 1.0, 2.0, 5.0)


class ApiClientError(Exception):
    """The API answered with a failure, or did not answer at all (`code` 0). `message` is the API's."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code, self.reason, self.message = code, reason, message
        super().__init__(message)


def segment(name: str) -> str:
    """A name as one segment of a URL's path. Raises ApiError, in client-go's words (rest/request.go, IsValidPathSegmentName)."""
    problems = [f"may not be '{name}'"] if name in (".", "..") else [f"may not contain '{c}'" for c in "/%" if c in name]
    if problems:
        raise ApiClientError(400, "BadRequest", f'invalid resource name "{name}": [{", ".join(problems)}]')
    return quote(name, safe="", errors="surrogatepass")


class ApiClient:
    """The API server that a kubeconfig file names. The file is read again when it changes: a server that comes back on another
    port is found again. Safe to use from several threads. Methods raise ApiError."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._local = threading.local()

    def get(self, path: str, **params: str) -> dict[str, Any]:
        return self.request("GET", path, params=params)

    def pod(self, namespace: str, name: str) -> dict[str, Any]:
        return self.get(f"/api/v1/namespaces/{segment(namespace)}/pods/{segment(name)}")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.request("POST", path, body)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self.request("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, Any], kind: str = STRATEGIC_PATCH) -> dict[str, Any]:
        return self.request("PATCH", path, body, kind)

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.request("DELETE", path, body)

    def request(
        self, method: str, path: str, body: Any = None, kind: str = JSON, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One call; the decoded answer. A connection that the server closed meanwhile is opened again, once."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        for attempt in (1, 2):
            fresh = getattr(self._local, "connection", None) is None
            try:
                response = self._send(method, path, data, kind, params)
                text = response.read()
                break
            except (OSError, http.client.HTTPException) as error:
                self._forget()
                if attempt == 2 or fresh:
                    raise ApiClientError(0, "Unreachable", f"the API cannot be reached: {error}") from None
        if response.status >= 300:
            raise failure(response.status, text)
        return dict(json.loads(text)) if text else {}

    def watch(self, path: str, **params: str) -> Iterator[dict[str, Any]]:
        """The events of one watch, as dicts {"type": …, "object": …}, until the server ends it. Raises ApiError."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S), **params}
        try:
            connection, headers = self._open(timeout=WATCH_S + TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request("GET", f"{path}?{urlencode(query)}", headers=headers)
                response = connection.getresponse()
                if response.status >= 300:
                    raise failure(response.status, response.read())
                for line in response:
                    if line.strip():
                        yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiClientError(0, "Unreachable", f"the watch broke: {error}") from None

    def _send(
        self, method: str, path: str, data: bytes | None, kind: str, params: Mapping[str, str] | None
    ) -> http.client.HTTPResponse:
        if getattr(self._local, "connection", None) is None:
            self._local.connection, self._local.headers = self._open(TIMEOUT_S)
        headers = self._local.headers if data is None else {**self._local.headers, "Content-Type": kind}
        self._local.connection.request(method, f"{path}?{urlencode(params)}" if params else path, data, headers)
        answer: http.client.HTTPResponse = self._local.connection.getresponse()
        return answer

    def _forget(self) -> None:
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def _open(self, timeout: float) -> tuple[http.client.HTTPConnection, dict[str, str]]:
        server, headers, context = read_kubeconfig(self.kubeconfig)
        parts = urlsplit(server)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout), headers
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=timeout, context=context), headers


def read_kubeconfig(path: Path) -> tuple[str, dict[str, str], ssl.SSLContext]:
    """The current context's server, the headers that log in, and what to trust. Raises OSError for a file that cannot be used."""
    try:
        config = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        current = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == current["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == current["user"])
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise OSError(f"{path} is no kubeconfig that can be used: {error}") from None
    context = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=base64.b64decode(cluster.get("certificate-authority-data", "")).decode() or None,
    )
    if user.get("client-certificate"):
        context.load_cert_chain(user["client-certificate"], user.get("client-key"))
    headers = {"Accept": JSON, "User-Agent": "labkit-kubelet"}
    if user.get("token"):
        headers["Authorization"] = f"Bearer {user['token']}"
    return cluster["server"], headers, context


def failure(code: int, text: bytes) -> ApiClientError:
    """The ApiError of an answer: its Status, or its plain words."""
    try:
        status = json.loads(text)
        return ApiClientError(code, status.get("reason", ""), status.get("message", ""))
    except (ValueError, AttributeError):
        return ApiClientError(code, "", text.decode(errors="replace")[:500])


class Informer(threading.Thread):
    """Lists a collection and watches it for ever: `on_list(objects)` after each list, `on_event(type, object)` for each change.

    A watch that ends goes on from its last resourceVersion; after 410 Gone everything is listed again.
    """

    def __init__(
        self,
        api: ApiClient,
        path: str,
        on_list: Callable[[list[dict[str, Any]]], None],
        on_event: Callable[[str, dict[str, Any]], None],
        **params: str,
    ) -> None:
        super().__init__(name=f"informer{path}", daemon=True)
        self.api, self.path, self.params, self.on_list, self.on_event = api, path, params, on_list, on_event

    def run(self) -> None:
        version, failures = "", 0
        while True:
            try:
                if not version:
                    listed = self.api.get(self.path, **self.params)
                    version = listed["metadata"]["resourceVersion"]
                    self.on_list(listed.get("items") or [])
                for event in self.api.watch(self.path, resourceVersion=version, **self.params):
                    failures = 0
                    if event["type"] == "ERROR":
                        version = ""
                        break
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        self.on_event(event["type"], event["object"])
            except ApiClientError as error:
                if error.code:
                    version = ""
                if failures in (0, len(RETRY_S)):
                    log.warning("watching %s: %s", self.path, error)
                time.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            except Exception:
                log.exception("watching %s failed; everything is listed again", self.path)
                version = ""
                time.sleep(RETRY_S[-1])
