"""The words in which Kubernetes refuses a field, and what makes a name a name. The latter are checks of rows (`rules`), too.

Knowledge: apimachinery's util/validation/field (errors.go) and util/validation (validation.go).
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cause:
    """One thing wrong: the field's path, the reason of the API's StatusCause, and what is printed after "path: "."""

    field: str
    reason: str
    message: str


Causes = Iterator[Cause]
IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
MAX_INT32 = 2**31 - 1


def required(path: str, detail: str = "") -> Cause:
    return Cause(path, "FieldValueRequired", "Required value" + (f": {detail}" if detail else ""))


def invalid(path: str, value: Any, detail: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {shown(value)}: {detail}")


def unsupported(path: str, value: Any, supported: Iterable[str]) -> Cause:
    words = f"Unsupported value: {shown(value)}: supported values: {', '.join(map(shown, supported))}"
    return Cause(path, "FieldValueNotSupported", words)


def duplicate(path: str, value: Any, detail: str = "") -> Cause:
    return Cause(path, "FieldValueDuplicate", f"Duplicate value: {shown(value)}" + (f": {detail}" if detail else ""))


def forbidden(path: str, detail: str) -> Cause:
    return Cause(path, "FieldValueForbidden", f"Forbidden: {detail}")


def not_found(path: str, value: Any) -> Cause:
    return Cause(path, "FieldValueNotFound", f"Not found: {shown(value)}")


def too_long(path: str, most: int) -> Cause:
    return Cause(path, "FieldValueTooLong", f"Too long: may not be more than {most} bytes")


def shown(value: Any) -> str:
    """A value in a message: JSON, strings quoted."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def each(path: str, value: Any, messages: Iterable[str]) -> Causes:
    for message in messages:
        yield invalid(path, value, message)


def _regex_words(words: str, pattern: str, *examples: str) -> str:
    shown_examples = " or ".join(f"'{example}', " for example in examples)
    return f"{words} (e.g. {shown_examples}regex used for validation is '{pattern}')"


LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
UNDERSCORE = r"[a-z0-9_]([-_a-z0-9]*[a-z0-9_])?"
QUALIFIED = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
CONFIG_KEY = r"[-._a-zA-Z0-9]+"
HTTP_HEADER = r"[-A-Za-z0-9]+"
LABEL_WORDS = _regex_words(
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character", LABEL, "my-name", "123-abc")
SUBDOMAIN_WORDS = _regex_words(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with "
    "an alphanumeric character", SUBDOMAIN, "example.com")
QUALIFIED_WORDS = _regex_words(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    QUALIFIED, "MyName", "my.name", "123-abc")
LABEL_VALUE_WORDS = _regex_words(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    "an alphanumeric character", LABEL_VALUE, "MyValue", "my_value", "12345")
CONFIG_KEY_WORDS = _regex_words(
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'", CONFIG_KEY, "key.name", "KEY_NAME", "key-name"
)
HTTP_HEADER_WORDS = _regex_words(
    "a valid HTTP header must consist of alphanumeric characters or '-'", HTTP_HEADER, "X-Header-Name"
)
UNDERSCORE_WORDS = (
    "a valid subdomain must consist of lower case alphanumeric characters, '-', '_' or '.', and must start and end with "
    "alphanumeric characters or '_'"
)
VARIABLE_WORDS = "a valid environment variable name must consist only of printable ASCII characters other than '='"
ADDRESS_WORDS = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


def _full(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _longer(text: str, most: int) -> Iterator[str]:
    if len(text.encode(errors="surrogatepass")) > most:
        yield f"must be no more than {most} bytes"


def label(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being a DNS label (RFC 1123): nothing for a good one."""
    yield from _longer(text, 63)
    if not _full(LABEL, text):
        yield "must not contain dots" if _full(SUBDOMAIN, text) else LABEL_WORDS


def subdomain(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being a DNS subdomain (RFC 1123)."""
    yield from _longer(text, 253)
    if not _full(SUBDOMAIN, text):
        yield SUBDOMAIN_WORDS


def search_domain(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being searched by a resolver: underscores are allowed there."""
    yield from _longer(text, 253)
    if not _full(rf"{UNDERSCORE}(\.{UNDERSCORE})*", text):
        yield UNDERSCORE_WORDS


def qualified_name(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being a name with an optional prefix, as labels' keys are."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        yield f"a qualified name {QUALIFIED_WORDS} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return
    if slash:
        yield from (f"prefix part {words}" for words in (subdomain(prefix) if prefix else ("must be non-empty",)))
    if not name:
        yield "name part must be non-empty"
    yield from (f"name part {words}" for words in _longer(name, 63))
    if not _full(QUALIFIED, name):
        yield f"name part {QUALIFIED_WORDS}"


def label_value(text: str, here: Any = None) -> Iterator[str]:
    yield from _longer(text, 63)
    if not _full(LABEL_VALUE, text):
        yield LABEL_VALUE_WORDS


def port_name(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being an IANA_SVC_NAME (RFC 6335)."""
    yield from _longer(text, 15)
    if not _full(r"[-a-z0-9]+", text):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search(r"[a-z]", text):
        yield "must contain at least one letter (a-z)"
    if "--" in text:
        yield "must not contain consecutive hyphens"
    if text[:1] == "-" or text[-1:] == "-":
        yield "must not begin or end with a hyphen"


def variable_name(text: str, here: Any = None) -> Iterator[str]:
    if not text:
        yield "must be non-empty"
    elif not _full(r"[ -<>-~]+", text):
        yield VARIABLE_WORDS


def config_key(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from being a key of a ConfigMap or Secret, and so a file's name."""
    yield from _longer(text, 253)
    if not _full(CONFIG_KEY, text):
        yield CONFIG_KEY_WORDS
    if text in (".", ".."):
        yield f"must not be '{text}'"
    elif text.startswith(".."):
        yield "must not start with '..'"


def http_header(text: str, here: Any = None) -> Iterator[str]:
    if not _full(HTTP_HEADER, text):
        yield HTTP_HEADER_WORDS


def address(text: str, here: Any = None) -> Iterator[str]:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        yield ADDRESS_WORDS


def path_segment(text: str, here: Any = None) -> Iterator[str]:
    """What keeps `text` from standing in a URL's path by itself."""
    if text in (".", ".."):
        yield f"may not be '{text}'"
    yield from (f"may not contain '{character}'" for character in "/%" if character in text)


def relative_path(value: str, here: Any = None) -> Iterator[str]:
    """What keeps `value` from being a path below a volume."""
    if value.startswith("/"):
        yield "must be a relative path"
    yield from no_backsteps(value)


def file_path(value: str, here: Any = None) -> Iterator[str]:
    """The same of a file in a volume that Kubernetes writes: names that begin with ".." are its own."""
    yield from relative_path(value)
    if value.startswith("..") and not value.startswith("../"):
        yield "must not start with '..'"


def no_backsteps(value: str, here: Any = None) -> Iterator[str]:
    if ".." in value.split("/"):
        yield "must not contain '..'"
