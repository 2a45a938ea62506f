"""The API over HTTP: each path and method becomes a call of `rest.Api`, a watch, or a stream to the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from tornado.iostream import IOStream, StreamClosedError
from tornado.routing import Rule
from tornado.web import Application, RequestHandler, stream_request_body

from labkit.apiserver import api_errors, api_resources
from labkit.apiserver.discovery import absent, api_groups, openapi
from labkit.apiserver.http import kubelet_proxy, websockets
from labkit.apiserver.http.exchange import Context, Exchange
from labkit.apiserver.objects import patch
from labkit.apiserver.requests import bodies, paths
from labkit.apiserver.requests.paths import Target, flag, one
from labkit.apiserver.storage import listing, watch
from labkit.util.streams import CHUNK, relay

RETURNS_DELETED = ("pods", "persistentvolumes", "persistentvolumeclaims", "serviceaccounts", "namespaces")
"""What a deletion answers with the object itself; for all else it is a Status."""

OPENAPI_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
TOP = ("/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


def application(context: Context) -> Application:
    """What tornado serves."""
    shared = {"context": context}
    translated = Rule(websockets.Translated(), websockets.WebSocket, shared)
    return Application([translated, (r".*", Handler, shared)], log_function=_no_access_log)


@stream_request_body
class Handler(Exchange):
    """Every request."""

    task: asyncio.Task[Any] | None = None

    async def serve(self) -> None:
        """Answer the request, whatever it is."""
        try:
            self.check()
            await self.route()
        except api_errors.ApiError as error:
            self.refuse(error)
        except RecursionError:
            self.refuse(api_errors.bad_request("the object is nested too deeply"))
        except StreamClosedError:
            return

    get = head = post = put = patch = delete = serve

    def on_connection_close(self) -> None:
        if self.task:
            self.task.cancel()

    async def route(self) -> None:
        method = "GET" if self.request.method == "HEAD" else self.request.method or ""
        target = paths.target(self.path)
        if target is None:
            if self.path.startswith(f"/apis/{api_resources.METRICS[0].api_version}/") and method == "GET":
                return await self.metrics()
            if missing := absent.find(self.path):
                return self.not_here(method, missing)
            return self.about_itself(method)
        if target.sub:
            return await self.subresource(method, target)
        if target.name:
            return self.named(method, target)
        if method == "GET" and flag(self.query, "watch"):
            return await self.changes(target)
        self.collection(method, target)

    def collection(self, method: str, target: Target) -> None:
        """List, create, delete many."""
        api, resource, store = self.context.api, target.resource, self.context.store
        if method == "GET":
            return self.answer_list(target, listing.listed(store, target, self.query))
        if resource.namespaced and not target.namespace:
            raise api_errors.method_not_allowed()
        if method == "POST":
            new = self.object()
            options = self.options_of_write()
            return self.answer_entry(target, api.create(resource, target.namespace, new, options), options, 201)
        if method == "DELETE" and resource.plural != "namespaces":
            how, options = self.options_of_deletion()
            found = listing.selected(store, target, self.query)
            gone = [api.delete(resource, namespace, name, how, options) for (namespace, name), _ in found]
            return self.answer(listing.as_list(resource, store.rv, gone))
        raise api_errors.method_not_allowed()

    def named(self, method: str, target: Target) -> None:
        """Get, replace, patch, delete one object."""
        api, where = self.context.api, (target.resource, target.namespace, target.name)
        if method == "GET":
            listing.check_version(self.context.store, self.query)
            return self.answer_entry(target, api.get(*where))
        if method == "PUT":
            new = self.object()
            options = self.options_of_write()
            code = 200 if self.context.store.get(target.resource.plural, target.namespace, target.name) else 201
            return self.answer_entry(target, api.update(*where, new, options, target.sub), options, code)
        if method == "PATCH":
            return self.patched(target)
        if method == "DELETE" and not target.sub:
            entry = api.delete(*where, *self.options_of_deletion())
            if target.resource.plural in RETURNS_DELETED:
                return self.answer_entry(target, entry)
            about = {"name": target.name} | ({"group": target.resource.group} if target.resource.group else {})
            return self.answer(api_errors.success({**about, "kind": target.resource.plural, "uid": entry.obj["metadata"]["uid"]}))
        raise api_errors.method_not_allowed()

    def patched(self, target: Target) -> None:
        kind = self.content_type()
        if kind not in patch.KINDS:
            raise api_errors.unsupported_media_type(kind, patch.KINDS)
        body = bodies.YAML if kind == patch.APPLY else bodies.JSON
        change = bodies.decode(self.body(), body, self.twice)
        options = self.options_of_write(apply=kind == patch.APPLY)
        api, where = self.context.api, (target.resource, target.namespace, target.name)
        if kind == patch.APPLY:
            wanted = bodies.an_object(change)
            code = 200 if self.context.store.get(target.resource.plural, target.namespace, target.name) else 201
            return self.answer_entry(target, api.apply(*where, wanted, options, target.sub), options, code)
        self.answer_entry(target, api.patch(*where, change, kind, options, target.sub), options)

    async def subresource(self, method: str, target: Target) -> None:
        """Status, binding, and what the kubelet answers."""
        api, where = self.context.api, (target.resource, target.namespace, target.name)
        if target.sub not in target.resource.subresources:
            raise absent.subresource(target.resource.plural, target.sub)
        if target.sub in ("status", "ephemeralcontainers") or (target.sub == "finalize" and method == "PUT"):
            return self.named(method, target)
        if target.sub == "binding" and method == "POST":
            api.bind(target.namespace, target.name, self.object(), self.options_of_write())
            return self.answer(api_errors.success(code=201), 201)
        if target.sub == "log" and method == "GET":
            pod = api.get(*where).obj
            path = kubelet_proxy.log_path(pod, self.query)
            return await self.to_kubelet(pod["spec"]["nodeName"], path, upgrade=False)
        if target.sub in ("exec", "attach", "portforward") and method in ("GET", "POST"):
            pod = api.get(*where).obj
            path = kubelet_proxy.stream_path(pod, target.sub, self.query)
            kubelet_proxy.check_protocols(self.request.headers)
            return await self.to_kubelet(pod["spec"]["nodeName"], path, upgrade=True)
        raise api_errors.method_not_allowed()

    def not_here(self, method: str, missing: absent.UnservedResource) -> None:
        """Say that a resource of Kubernetes is not served. Raises ApiError (404)."""
        is_list = method == "GET" and self.path.rstrip("/").endswith(f"/{missing.plural}") and not flag(self.query, "watch")
        form = self.form()
        pruning = one(self.query, "labelSelector") and form.shape != "Table"  # kubectl apply --prune lists all kinds by label
        if not (is_list and (missing.empty or pruning)):
            raise missing.refusal()
        if form.shape == "Table":  # somebody reads it: other clients ask on their way to something else
            self.warn([str(missing)])
            columns = [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}]
            empty = {"kind": "Table", "apiVersion": form.api_version, "metadata": {}, "columnDefinitions": columns, "rows": []}
            return self.answer(empty, kind=form.kind)
        self.answer(missing.empty_list(), kind=form.kind)

    async def metrics(self) -> None:
        """The kubelet of the first node measures for all."""
        nodes = self.context.store.list("nodes")
        if not nodes:
            raise api_errors.unavailable("There is no node to measure.")
        await self.to_kubelet(nodes[0][0][1], self.request.uri or "", upgrade=False)

    async def to_kubelet(self, node: str, path: str, upgrade: bool) -> None:
        """Ask the kubelet, then take this connection out of HTTP's hands and pass on bytes until one side has done. A client that
        gets a log has nothing to say meanwhile."""
        head = kubelet_proxy.request_head(self.request.method or "GET", path, self.request.headers.get_all(), upgrade)
        store, run = self.context.store, self.context.run
        kubelet, first = await kubelet_proxy.ask(store, run, node, head, lambda stream: stream.read_bytes(CHUNK, partial=True))
        client: IOStream = self.detach()
        with contextlib.suppress(StreamClosedError):
            await client.write(first)
        await relay(client, kubelet, both_ways=upgrade)

    async def changes(self, target: Target) -> None:
        """A watch, until its time is over or the client leaves."""
        request = listing.watch_request(self.context.store, target, self.query)
        stream = watch.events(self.context.store, target.resource, request, self.encoder(target))
        self.set_header("Content-Type", self.form().kind)
        self.task = asyncio.current_task()
        try:
            async for lines in stream:
                self.write(lines)
                await self.flush()
            self.finish()
        except api_errors.ApiError as error:
            if error.code != 410:
                raise
            self.finish(watch.failure(error))
        except (StreamClosedError, asyncio.CancelledError):
            return
        finally:
            self.task = None
            await stream.aclose()

    def about_itself(self, method: str) -> None:
        """Discovery, documentation, health."""
        path = self.path.rstrip("/") or "/"
        if method != "GET":
            raise api_errors.not_served()
        if path in ("/healthz", "/livez", "/readyz"):
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish("ok")
            return
        accept = self.request.headers.get("Accept", "")
        if path == "/openapi/v2" and "protobuf" in accept.partition("application/json")[0]:
            self.set_header("Content-Type", OPENAPI_PROTOBUF)
            self.finish(openapi.v2_protobuf())
            return
        found = self.documents(path)
        if found is None:
            raise api_errors.not_served()
        self.answer(found)

    def documents(self, path: str) -> Any:
        """The document at a path, None where there is none."""
        known: dict[str, Callable[[], Any]] = {
            "/": lambda: {"paths": TOP},
            "/version": api_groups.version,
            "/api": lambda: api_groups.core(self.request.host),
            "/apis": api_groups.groups,
            "/openapi/v2": openapi.v2_json,
            "/openapi/v3": openapi.v3_index,
        }
        if path in known:
            return known[path]()
        if path.startswith("/openapi/v3/"):
            with contextlib.suppress(KeyError):
                return openapi.v3(path.removeprefix("/openapi/v3/"))
            return None
        match path.split("/")[1:]:
            case ["api", version]:
                return api_groups.resources("", version)
            case ["apis", group]:
                return api_groups.group(group)
            case ["apis", group, version]:
                return api_groups.resources(group, version)
        return None


def _no_access_log(handler: RequestHandler) -> None:
    """One line a request would drown what matters."""
