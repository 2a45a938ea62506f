"""What clients send, made safe: JSON or YAML of bounded size, depth and number, with nothing that JSON cannot say."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any

from labkit.apiserver import api_errors

MAX_BYTES = 3 * 1024 * 1024
"""kube-apiserver's limit for a request's body."""

MAX_DEPTH = 200
MAX_VALUES = 500_000
"""More than 3 MiB of JSON could hold in any object that is served; YAML's aliases can make more of less."""

STRUCTURE = (",", "[", "{")
"""Each of them begins a value, outside of strings."""
STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""One that does not end is one too: looking for its end once for each quote in it takes the square of the time."""
DEEP, MANY = "the document is nested too deeply", "the document has too many values"

JSON, YAML = "application/json", "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML)


def media_type(header: str) -> str:
    """A Content-Type without its parameters."""
    return header.partition(";")[0].strip().lower()


def decode(body: bytes, kind: str, twice: list[str] | None = None) -> Any:
    """The value that a body holds; `kind` is JSON or YAML. `twice` gets a sentence about each field that the body has twice, the
    last of which counts. Raises ApiError (400)."""
    try:
        text = body.decode()
        value = _read(text, kind)
        if twice is not None:
            twice.extend(f'duplicate field "{path}"' for path in _repeated(value))
        left = [MAX_VALUES]
        return _plain(value, MAX_DEPTH, left)
    except UnicodeDecodeError as error:
        raise api_errors.bad_request(f"the body is not UTF-8: {error}") from error
    except RecursionError as error:
        raise api_errors.bad_request("the body is nested too deeply") from error
    except ValueError as error:
        language = "yaml" if kind == YAML else "json"
        raise api_errors.bad_request(f"couldn't get version/kind; {language} parse error: {error}") from error


def decode_object(body: bytes, kind: str, twice: list[str] | None = None) -> dict[str, Any]:
    """The object that a body holds (see `decode`). Raises ApiError (400)."""
    return an_object(decode(body, kind, twice))


def an_object(value: Any) -> dict[str, Any]:
    """The value of a body, which has to be an object. Raises ApiError (400)."""
    if not isinstance(value, dict):
        raise api_errors.bad_request("couldn't get version/kind; json parse error: the body must be one JSON object")
    return value


def _read(text: str, kind: str) -> Any:
    if kind == YAML and text.startswith("{"):  # mostly JSON under YAML's name, which is read far quicker
        with contextlib.suppress(ValueError):
            return _read(text, JSON)
    if kind == YAML:
        from labkit.apiserver.requests import yaml_text

        return yaml_text.read(text, MAX_DEPTH, MAX_VALUES)
    if sum(map(text.count, STRUCTURE)) > MAX_VALUES:  # else there are not so many, whatever is in its strings
        bare = STRING.sub("", text)
        if sum(map(bare.count, STRUCTURE)) > MAX_VALUES:
            raise ValueError(MANY)
    return json.loads(text, parse_constant=_not_json, object_pairs_hook=_pairs)


class _Repeating(dict[str, Any]):
    """An object in which some keys came more than once."""

    twice: tuple[str, ...] = ()


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating, seen = _Repeating(found), set[str]()
    repeating.twice = tuple(dict.fromkeys(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return repeating


def _repeated(value: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields that came twice."""
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _repeated(item, f"{path}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            own = f"{path}.{key}" if path else key
            if isinstance(value, _Repeating) and key in value.twice:
                yield own
            yield from _repeated(item, own)


def _plain(value: Any, depth: int, left: list[int]) -> Any:
    """A copy with text as keys and nothing that JSON cannot say."""
    left[0] -= 1
    if depth < 0 or left[0] < 0:
        raise ValueError(DEEP if depth < 0 else MANY)
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if value.bit_length() > 64:
            raise ValueError("a number is out of range")
        return value
    if isinstance(value, dict):
        return {_key(key): _plain(each, depth - 1, left) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each, depth - 1, left) for each in value]
    if isinstance(value, float) and math.isfinite(value):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    raise ValueError(f"a {type(value).__name__} is no JSON value")


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str):
        return key if key.isascii() else key.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(key, int | float):
        return str(key)
    raise ValueError(f"a {type(key).__name__} cannot be a key")


def _not_json(word: str) -> Any:
    raise ValueError(f"invalid value {word}")
