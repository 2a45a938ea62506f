"""One request and its answer: who asks, what the body says, in which form the answer goes out, and refusals as Status."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tornado.http1connection import HTTP1Connection
from tornado.iostream import IOStream
from tornado.web import RequestHandler

from labkit.apiserver import api_errors
from labkit.apiserver.discovery import protobuf
from labkit.apiserver.http import credentials
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.objects.write_options import Deletion, Options
from labkit.apiserver.printers import tables
from labkit.apiserver.requests import bodies, paths, query_options
from labkit.apiserver.requests.paths import Query, Target, flag, number, one
from labkit.apiserver.storage import listing, watch
from labkit.apiserver.storage.store import Object, Store, StoredObject
from labkit.podspec.validation.field_errors import invalid, unsupported

OPEN = ("/healthz", "/livez", "/readyz", "/version")
"""What anybody may ask without a token."""

DRAINED_AT_MOST = 64 * 1024 * 1024
"""A body too large is read so far, that the client gets to see why; beyond, the connection is cut."""

WARNING_MAX = 4096
"""As much as kube-apiserver says in all (pkg/endpoints/filters/warning.go)."""
NO_OTHERS = (
    'User "labkit" cannot impersonate resource "users" in API group "" at the cluster scope: '
    "the lab's API has one user, who may do everything"
)
POLICIES = ("Foreground", "Background", "Orphan")
INT32 = range(-(2**31), 2**31)


@dataclass
class Context:
    """What all requests share. `run` is the directory in which the kubelet's socket is."""

    api: Api
    run: Path
    token: str
    encoders: dict[str, watch.Encoder] = field(default_factory=dict)
    prove: Callable[[IOStream], None] = lambda stream: None
    """Called with the connection of each request that carries the token (`labkit.apiserver.http.connections`)."""

    @property
    def store(self) -> Store:
        return self.api.store


class Exchange(RequestHandler):
    """What is the same for every path. `path`, `query` and `size` (bytes of the body) are set before a verb is called."""

    context: Context

    def initialize(self, context: Context) -> None:
        self.context = context
        self.path, self.size, self.allowed = self.request.path, 0, False
        self.query: Query = {}
        self._chunks: list[bytes] = []
        self.twice: list[str] = []

    def prepare(self) -> None:
        self.query = {
            key: [value.decode("utf-8", "replace") for value in values] for key, values in self.request.query_arguments.items()
        }
        header = self.request.headers.get("Authorization", "")
        known = credentials.allowed(header, self.context.token)
        if known and isinstance(self.request.connection, HTTP1Connection):
            self.context.prove(self.request.connection.stream)
        self.allowed = known or self.path in OPEN
        length = self.request.headers.get("Content-Length", "0")
        if length.isdecimal() and int(length) > DRAINED_AT_MOST:
            self.cut_off()

    def data_received(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.allowed and self.size <= bodies.MAX_BYTES:
            self._chunks.append(chunk)
        elif self.size > DRAINED_AT_MOST:
            self.cut_off()

    def cut_off(self) -> None:
        """Refuse before the body has come; tornado then closes the connection, which the client has to know."""
        error = api_errors.too_large(bodies.MAX_BYTES) if self.allowed else api_errors.unauthorized()
        if not self._finished:
            self.set_header("Connection", "close")
            self.answer(error.body(), error.code)

    def check(self) -> None:
        """Whether this request may be served at all. Raises ApiError (401, 403, 413)."""
        if not self.allowed:
            raise api_errors.unauthorized()
        if other := self.request.headers.get("Impersonate-User"):
            raise api_errors.forbidden("users", other, NO_OTHERS)
        if self.size > bodies.MAX_BYTES:
            raise api_errors.too_large(bodies.MAX_BYTES)

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-cache, private")

    def compute_etag(self) -> None:
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tornado's own refusals, and what nobody expected."""
        if status_code == 405:
            self.refuse(api_errors.method_not_allowed())
        elif status_code < 500:
            self.refuse(api_errors.ApiError(status_code, "BadRequest", self._reason))
        else:
            self.refuse(api_errors.ApiError(500, "InternalError", "An unexpected error; the API's log, kubeapi.log, says more."))

    def refuse(self, error: api_errors.ApiError) -> None:
        """Answer with a Status, unless the answer has begun."""
        if not self._finished and not self._headers_written:
            self.clear()
            if error.code == 401:
                self.set_header("WWW-Authenticate", 'Bearer realm="labkit"')
            self.answer(error.body(), error.code)

    def answer(self, body: Any, code: int = 200, kind: str = bodies.JSON) -> None:
        """Send an object, or JSON text that is ready, as JSON or YAML."""
        text = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        if kind == bodies.YAML:
            from labkit.apiserver.requests import yaml_text

            text = yaml_text.written(json.loads(text))
        self.set_status(code)
        self.set_header("Content-Type", kind)
        self.finish(text)

    def answer_entry(self, target: Target, entry: StoredObject, options: Options | None = None, code: int = 200) -> None:
        """Send one object in the form that the client wants, with what there is to be said about the request."""
        form = self.form()
        self.warn(options.warnings if options else ())
        if form.shape == "Table":
            return self.answer(self.table(target, [entry.obj]), code, form.kind)
        if form.shape:
            return self.answer(listing.partial(entry.obj, form), code, form.kind)
        self.answer(watch.type_meta(target.resource) + entry.raw[1:], code, form.kind)

    def warn(self, warnings: Iterable[str]) -> None:
        """Say something about the request, which kubectl prints before its answer."""
        for warning in dict.fromkeys(warnings):
            text = "".join(c if c.isascii() and c.isprintable() else "?" for c in warning)[:WARNING_MAX]
            self.add_header("Warning", '299 - "' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')

    def answer_list(self, target: Target, found: listing.Listed) -> None:
        """Send a list in the form that the client wants."""
        form = self.form()
        if form.shape == "Table":
            table = self.table(target, [entry.obj for entry in found.entries])
            return self.answer({**table, "metadata": found.meta}, kind=form.kind)
        if form.shape:
            items = [listing.partial(entry.obj, form) for entry in found.entries]
            named = {"kind": "PartialObjectMetadataList", "apiVersion": form.api_version}
            return self.answer({**named, "metadata": found.meta, "items": items}, kind=form.kind)
        self.answer(listing.as_list(target.resource, found.meta, found.entries), kind=form.kind)

    def encoder(self, target: Target) -> watch.Encoder:
        """One encoder for all who want the same, so that each change is put into text once."""
        form, include = self.form(), self.included()
        shape, key = form.shape, f"{target.resource.plural} {form.shape} {form.version} {include}"
        if key not in self.context.encoders:

            def text(entry: StoredObject) -> bytes:
                obj = self.table(target, [entry.obj], include) if shape == "Table" else listing.partial(entry.obj, form)
                return json.dumps(obj, ensure_ascii=False).encode()

            self.context.encoders[key] = watch.Encoder(target.resource, text if shape else None)
        return self.context.encoders[key]

    def included(self) -> str:
        """What the client wants in a table's rows: None, Object or Metadata, which is the default."""
        include = one(self.query, "includeObject")
        return include if include in ("None", "Object") else "Metadata"

    def table(self, target: Target, objects: list[Object], include: str | None = None) -> dict[str, Any]:
        """A table; `include` says what its rows carry: the objects' metadata, the Object, or None."""
        include = self.included() if include is None else include
        form = self.form()
        table = tables.table(target.resource.plural, objects, datetime.now(UTC)) | {"apiVersion": form.api_version}
        for row, obj in zip(table["rows"], objects, strict=True):
            row.pop("object", None)
            if include == "Object":
                row["object"] = {"kind": target.resource.kind, "apiVersion": target.resource.api_version, **obj}
            elif include != "None":
                row["object"] = listing.partial(obj, form)
        return table

    def form(self) -> paths.Form:
        """How the client wants its answer. Raises ApiError (406)."""
        return paths.form(self.request.headers.get("Accept", ""))

    def content_type(self) -> str:
        return bodies.media_type(self.request.headers.get("Content-Type", ""))

    def body(self) -> bytes:
        """All of it; `check` has seen that it is not too large."""
        return b"".join(self._chunks)

    def object(self) -> Object:
        """The object in the body. Raises ApiError (400, 415)."""
        kind, body = self.content_type() or bodies.JSON, self.body()
        if kind == bodies.PROTOBUF:
            return protobuf.decode(body)
        if kind not in bodies.ACCEPTED:
            raise api_errors.unsupported_media_type(kind, bodies.ACCEPTED)
        return bodies.decode_object(body, kind, self.twice)

    def options_of_write(self, *, apply: bool = False) -> Options:
        """What the query says about a write; the body has been read. Raises ApiError (422)."""
        query_options.check(self.request.method or "", self.query, apply=apply)
        agent = self.request.headers.get("User-Agent", "").partition("/")[0][: query_options.MANAGER_MAX]
        manager = one(self.query, "fieldManager") or "".join(filter(str.isprintable, agent)) or "unknown"
        checked = one(self.query, "fieldValidation") or "Warn"
        twice = tuple(self.twice) if checked != "Ignore" else ()
        return Options(manager, bool(self.query.get("dryRun")), checked, flag(self.query, "force"), twice=twice)

    def options_of_deletion(self) -> tuple[Deletion, Options]:
        """How to delete, from the query and the body; the body's word counts. Raises ApiError (400, 422)."""
        options = self.object() if self.size else {}
        asked, grace = number(self.query, "gracePeriodSeconds"), options.get("gracePeriodSeconds")
        grace = asked if grace is None else grace
        wanted, dry = options.get("preconditions") or {}, options.get("dryRun") or []
        typed = isinstance(grace, int | None) and not isinstance(grace, bool)
        if not typed or not isinstance(wanted, dict) or not isinstance(dry, list):
            raise api_errors.bad_request("DeleteOptions: gracePeriodSeconds, preconditions or dryRun is not of its type")
        if grace is not None and grace not in INT32:
            raise api_errors.bad_request("DeleteOptions: gracePeriodSeconds is out of range")
        how = Deletion(grace, str(wanted.get("uid") or ""), str(wanted.get("resourceVersion") or ""), self._propagation(options))
        dry = [*self.query.get("dryRun", []), *map(str, dry)]
        query_options.refuse("DELETE", query_options.dry_run(dry))
        return how, Options(dry_run=bool(dry))

    def _propagation(self, options: Object) -> str:
        """What a deletion does with dependents. Raises ApiError (400, 422)."""
        policy, orphan = options.get("propagationPolicy", one(self.query, "propagationPolicy")), options.get("orphanDependents")
        if orphan is None and "orphanDependents" in self.query:
            orphan = paths.flag(self.query, "orphanDependents")
        if not isinstance(policy, str | None) or not isinstance(orphan, bool | None):
            raise api_errors.bad_request("DeleteOptions: propagationPolicy or orphanDependents is not of its type")
        causes = []
        if policy and orphan is not None:
            causes.append(invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"))
        if policy and policy not in POLICIES:
            causes.append(unsupported("propagationPolicy", policy, (*POLICIES, "nil")))
        if causes:
            raise api_errors.invalid("DeleteOptions", "", causes, "meta.k8s.io")
        return policy or {None: "", True: "Orphan", False: "Background"}[orphan]
