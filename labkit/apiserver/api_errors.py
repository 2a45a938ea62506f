"""Refusals as Kubernetes words them: an exception that is a `Status` of the API.

Wording and fields are those of apimachinery's api/errors package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labkit.podspec.validation.field_errors import Cause


class ApiError(Exception):
    """An answer other than success. `body()` is the Status object that the client gets with HTTP code `code`."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None, meta: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details, self.meta = code, reason, message, details, meta or {}

    def body(self) -> dict[str, Any]:
        status = {"kind": "Status", "apiVersion": "v1", "metadata": self.meta, "status": "Failure"}
        status["message"] = self.message
        details = {} if self.details is None else {"details": self.details}  # empty ones too: kubectl debug reads them unasked
        return status | {"reason": self.reason} | details | {"code": self.code}


def success(details: dict[str, Any] | None = None, code: int | None = None) -> dict[str, Any]:
    """The Status of a deletion or binding that was done."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return status | ({"details": details} if details else {}) | ({"code": code} if code else {})


def _about(plural: str, group: str, name: str) -> dict[str, Any]:
    return {"name": name} | ({"group": group} if group else {}) | {"kind": plural}


def _qualified(plural: str, group: str) -> str:
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, name: str, group: str = "") -> ApiError:
    return ApiError(404, "NotFound", f'{_qualified(plural, group)} "{name}" not found', _about(plural, group, name))


def not_served() -> ApiError:
    """The path leads nowhere: kubectl prints these words as they are."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def already_exists(plural: str, name: str, group: str = "", leaving: bool = False) -> ApiError:
    """`leaving`: the object that has the name is being deleted."""
    words = f'{_qualified(plural, group)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", "object is being deleted: " * leaving + words, _about(plural, group, name))


def name_not_generated(plural: str, name: str, group: str = "") -> ApiError:
    """The name that was made of generateName is taken, however often it was tried."""
    words = "already exists, the server was not able to generate a unique name for the object"
    details = {**_about(plural, group, name), "retryAfterSeconds": 1}
    return ApiError(409, "AlreadyExists", f'{_qualified(plural, group)} "{name}" {words}', details)


STALE = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(plural: str, name: str, why: str = STALE, group: str = "") -> ApiError:
    message = f'Operation cannot be fulfilled on {_qualified(plural, group)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _about(plural, group, name))


def apply_conflict(message: str, causes: Sequence[dict[str, str]]) -> ApiError:
    """Server-side apply met fields of other managers; `causes` name them."""
    return ApiError(409, "Conflict", message, {"causes": list(causes)})


def forbidden(plural: str, name: str, why: str, group: str = "", causes: Sequence[dict[str, str]] = ()) -> ApiError:
    details = _about(plural, group, name) | ({"causes": list(causes)} if causes else {})
    return ApiError(403, "Forbidden", f'{_qualified(plural, group)} "{name}" is forbidden: {why}', details)


def invalid(kind: str, name: str, causes: Sequence[Cause], group: str = "") -> ApiError:
    """The object breaks the rules of its kind; one cause is said plainly, several in brackets."""
    messages = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes]
    words = messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]"
    listed = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    qualified = f"{kind}.{group}" if group else kind
    return ApiError(422, "Invalid", f'{qualified} "{name}" is invalid: {words}', {**_about(kind, group, name), "causes": listed})


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unprocessable(message: str) -> ApiError:
    """A patch that is well formed and cannot be carried out on this object."""
    return ApiError(422, "Invalid", message, {})


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def too_large(limit: int) -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}", {})


def unsupported_media_type(given: str, accepted: Sequence[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message if given else "the request has no Content-Type", {})


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    message = f"only the following media types are accepted: {', '.join(accepted)}"
    return ApiError(406, "NotAcceptable", message, {})


def expired(message: str, meta: dict[str, Any] | None = None) -> ApiError:
    """What the client asks for has left the history: it has to list anew."""
    return ApiError(410, "Expired", message, None, meta)


def too_old(asked: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {asked} ({oldest})")


def from_the_future(asked: int, current: int) -> ApiError:
    causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
    details = {"causes": causes, "retryAfterSeconds": 1}
    return ApiError(504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}", details)


def unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message, {"retryAfterSeconds": 1})
