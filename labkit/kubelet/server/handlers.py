"""Answers of the kubelet's server in plain HTTP: logs, and what is used. A failure is answered with a Status, as the API does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado import web
from tornado.iostream import StreamClosedError

from labkit.cri import CriClient, CriError
from labkit.kubelet.api import ApiClientError
from labkit.kubelet.server import container_logs, containers
from labkit.kubelet.server.containers import NoContainer
from labkit.kubelet.server.stats import Stats, listed

log = logging.getLogger("kubelet")

FOLLOW_EVERY_S = 0.1
ALIVE_EVERY_S = 1.0

GetPod = Callable[[str, str], Mapping[str, Any]]
"""get_pod(namespace, name): the Pod as the API has it. May raise ApiError."""


@dataclass(frozen=True)
class Served:
    """What the handlers answer from."""

    cri: CriClient
    get_pod: GetPod
    stats: Stats


class KubeletHandler(web.RequestHandler):
    """Base of all handlers: a failure is answered with a Status."""

    def initialize(self, served: Served) -> None:
        self.served, self.cri = served, served.cri

    def write_error(self, status_code: int, **more: Any) -> None:
        error = more.get("exc_info", (None, None, None))[1]
        reason, message = "InternalError", str(error)
        if isinstance(error, NoContainer):
            status_code, reason = error.code, error.reason
        elif isinstance(error, ApiClientError):
            status_code, reason = error.code or 503, error.reason
        elif isinstance(error, CriError):
            message = error.message
        elif isinstance(error, (web.HTTPError, ValueError)):
            status_code = getattr(error, "status_code", 400)
            reason = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed"}.get(status_code, reason)
        self.set_status(status_code)
        failure = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        self.finish({**failure, "message": message, "reason": reason, "code": status_code})

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(error, (NoContainer, ApiClientError, CriError, web.HTTPError, ValueError)):
            log.error("%s %s failed", self.request.method, self.request.path, exc_info=(kind, error, trace))


class Elsewhere(KubeletHandler):
    def get(self) -> None:
        raise NoContainer(404, "NotFound", "404 page not found")

    post = put = delete = get


class Healthz(KubeletHandler):
    def get(self) -> None:
        self.finish("ok")


class ContainerLogs(KubeletHandler):
    """GET /containerLogs/NAMESPACE/POD/CONTAINER?follow&previous&tailLines&sinceSeconds&sinceTime&timestamps&limitBytes&stream"""

    async def get(self, namespace: str, pod: str, container: str) -> None:
        manifest = await asyncio.to_thread(self.served.get_pod, namespace, pod)
        self.set_header("Content-Type", "text/plain")
        try:
            found = await asyncio.to_thread(containers.of_log, self.cri, manifest, container, self.flag("previous"))
            container_logs.check_there(Path(found[1]))
        except (containers.InsteadOfLog, FileNotFoundError) as error:
            await self.finish(str(error))
            return
        with container_logs.LogReader(Path(found[1]), self.wanted()) as reader:
            try:
                await self.send(reader)
                if self.flag("follow"):
                    await self.follow(reader, found[0])
            except StreamClosedError:
                return
        await self.finish()

    def flag(self, name: str) -> bool:
        return self.get_query_argument(name, "false").lower() not in ("false", "0")

    def wanted(self) -> container_logs.LogOptions:
        numbers = {name: self.number(name) for name in ("tailLines", "sinceSeconds", "limitBytes")}
        since = self.get_query_argument("sinceTime", "")
        if numbers["sinceSeconds"] is not None:
            since = container_logs.seconds_ago(numbers["sinceSeconds"])
        stream = self.get_query_argument("stream", "All").lower()
        chosen = container_logs.LogOptions(
            numbers["tailLines"], since, self.flag("timestamps"), numbers["limitBytes"], "" if stream == "all" else stream
        )
        if since:
            container_logs.comparable(since)
        return chosen

    def number(self, name: str) -> int | None:
        text = self.get_query_argument(name, "")
        return int(text) if text else None

    async def send(self, reader: container_logs.LogReader) -> None:
        for block in reader.read():
            if block:
                self.write(block)
                await self.flush()

    async def follow(self, reader: container_logs.LogReader, container: str) -> None:
        """Until the container has ended and everything is read, or the reader goes away."""
        loop, alive, asked = asyncio.get_running_loop(), True, 0.0
        await self.flush()
        while alive and not reader.formatter.full and not self.request.connection.stream.closed():  # type: ignore[union-attr]
            if loop.time() - asked >= ALIVE_EVERY_S:
                alive, asked = await asyncio.to_thread(is_alive, self.cri, container), loop.time()
            await self.send(reader)
            if alive:
                await asyncio.sleep(FOLLOW_EVERY_S)


def is_alive(cri: CriClient, container: str) -> bool:
    """Whether a container runs. One that cannot be asked about, since the runtime is away, is thought to."""
    try:
        return cri.container_status(container_id=container).status.state < 2
    except CriError as error:
        return not error.gone


class Summary(KubeletHandler):
    async def get(self) -> None:
        self.finish(await asyncio.to_thread(self.served.stats.summary))


class ResourceMetrics(KubeletHandler):
    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4")
        self.finish(await asyncio.to_thread(self.served.stats.prometheus))


class NodeMetrics(KubeletHandler):
    """metrics.k8s.io of the one node, as a list or as itself."""

    async def get(self, name: str | None = None) -> None:
        stats = self.served.stats
        if name not in (None, stats.node):
            raise NoContainer(404, "NotFound", f'nodemetrics.metrics.k8s.io "{name}" not found')
        found = await asyncio.to_thread(stats.node_metrics)
        self.finish(found if name else listed("NodeMetricsList", [found]))


class PodMetrics(KubeletHandler):
    """metrics.k8s.io of all Pods, those of a namespace, or one."""

    async def get(self, namespace: str = "", name: str | None = None) -> None:
        found = await asyncio.to_thread(self.served.stats.pod_metrics, namespace)
        if not name:
            self.finish(listed("PodMetricsList", found))
            return
        one = next((p for p in found if p["metadata"]["name"] == name), None)
        if one is None:
            raise NoContainer(404, "NotFound", f'podmetrics.metrics.k8s.io "{namespace}/{name}" not found')
        self.finish(one)
