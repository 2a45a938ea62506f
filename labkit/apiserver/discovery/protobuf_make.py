"""Makes protobuf.json, the numbers of the fields in Kubernetes' protobuf: `python -m labkit.apiserver.discovery.protobuf_make
GO_SOURCES`.

GO_SOURCES is the directory that holds k8s.io/api and k8s.io/apimachinery, as Debian's packages golang-k8s-api-dev and
golang-k8s-apimachinery-dev have them (usr/share/gocode/src/k8s.io). The tags of Go's types say everything: the name in JSON, the
number, and whether an empty value is left out.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from labkit.apiserver.discovery.protobuf import KINDS

PATH = Path(__file__).with_name("protobuf.json")
SOURCES = ("apimachinery/pkg/apis/meta/v1", "api/core/v1", "api/coordination/v1", "api/policy/v1")

STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
ALIAS = re.compile(r"^type (\w+) ([\w.\[\]]+)$", re.MULTILINE)
FIELD = re.compile(r'^\s+(?:\w+ +)?(\*?[\w.\[\]*]+) +`json:"([\w-]*),?([\w,]*)".*?protobuf:"\w+,(\d+),', re.MULTILINE)
SCALARS = {"string": "text", "bool": "bool", "int32": "int", "int64": "int", "int": "int", "[]byte": "bytes"}
SPECIAL = ("Time", "MicroTime", "Quantity", "IntOrString", "FieldsV1")


def make(sources: Path) -> dict[str, dict[str, list[Any]]]:
    """{message: {number: [name in JSON, type, "" | "list" | "map", kept when empty]}}; a name of "" is a message whose fields
    stand in the one around it."""
    structs: dict[str, str] = {}
    aliases = {"UID": "string", "NodeName": "string", "IntOrString": "IntOrString"}
    for each in SOURCES:
        text = (sources / each / "types.go").read_text(encoding="utf-8")
        structs |= {name: body for name, body in STRUCT.findall(text) if name not in structs}
        aliases |= dict(ALIAS.findall(text))
    messages: dict[str, dict[str, list[Any]]] = {}
    wanted = list(KINDS)
    while wanted:
        name = wanted.pop()
        if name in messages:
            continue
        messages[name] = {}
        for go_type, json_name, options, number in FIELD.findall(structs[name]):
            kind, many = _resolved(go_type.removeprefix("*"), aliases)
            scalar = kind in SCALARS.values()
            kept = go_type.startswith("*") or (scalar and not many and "omitempty" not in options)
            messages[name][number] = [json_name, kind, many, kept]
            if not scalar and kind not in SPECIAL:
                wanted.append(kind)
    return dict(sorted(messages.items()))


def _resolved(go_type: str, aliases: dict[str, str]) -> tuple[str, str]:
    """(type, "" | "list" | "map") of a Go type."""
    if go_type in SCALARS:
        return SCALARS[go_type], ""
    if go_type.startswith("[]"):
        return _resolved(go_type[2:].removeprefix("*"), aliases)[0], "list"
    if go_type.startswith("map["):
        return _resolved(go_type.partition("]")[2], aliases)[0], "map"
    bare = go_type.rpartition(".")[2]
    if bare in aliases and bare not in SPECIAL:
        return _resolved(aliases[bare], aliases)
    return bare, ""


def text(messages: dict[str, dict[str, list[Any]]]) -> str:
    """JSON with one message a line."""
    return "{\n" + ",\n".join(f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in messages.items()) + "\n}\n"


if __name__ == "__main__":
    PATH.write_text(text(make(Path(sys.argv[1]))), encoding="utf-8")
    print(f"{PATH}: {PATH.stat().st_size} bytes", file=sys.stderr)
