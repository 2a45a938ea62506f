"""What clients send: JSON, YAML, protobuf, and what must not get in."""

from __future__ import annotations

import contextlib
import functools
import time

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.discovery import protobuf
from labkit.apiserver.requests import bodies, paths
from labkit.util.protowire import bytes_field


def test_yaml_says_what_json_can() -> None:
    text = b"a: 2020-01-01\nb: yes\n2: x\nc: [1, 2.5, null]\ntrue: y\n"
    assert bodies.decode(text, bodies.YAML) == {"a": "2020-01-01", "b": True, "2": "x", "c": [1, 2.5, None], "true": "y"}


def test_whole_floats_are_integers_and_lone_surrogates_replaced() -> None:
    assert bodies.decode(b'{"a": 2.0, "b": "\\ud800x", "c": "\\ud83d\\ude00"}', bodies.JSON) == {
        "a": 2,
        "b": "\ufffdx",
        "c": "😀",
    }


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", bodies.JSON),
        (b"{", bodies.JSON),
        (b'{"a": NaN}', bodies.JSON),
        (b'{"a": 1e999}', bodies.JSON),
        (b'{"a": ' + b"9" * 30 + b"}", bodies.JSON),
        (b"[" * 100_000, bodies.JSON),
        (b'{"a":' * 300 + b"1" + b"}" * 300, bodies.JSON),
        (b"\xff", bodies.JSON),
        (b"[" * 50_000, bodies.YAML),
        (b"a: &a [*a]", bodies.YAML),
        (b"? [a]\n: b", bodies.YAML),
        (b"a: !!binary YQ==", bodies.YAML),
        (b"a: .nan", bodies.YAML),
        (b"a: b: c", bodies.YAML),
        (BOMB.encode(), bodies.YAML),
    ],
)
def test_hostile_bodies_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(ApiError) as refused:
        bodies.decode(body, kind)
    assert refused.value.code == 400


def test_an_object_is_one_object() -> None:
    with pytest.raises(ApiError, match="one JSON object"):
        bodies.decode_object(b"[1]", bodies.JSON)


def message(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2, len(value)]) + value


def envelope(kind: str, raw: bytes) -> bytes:
    return protobuf.MAGIC + message(1, message(1, b"v1") + message(2, kind.encode())) + message(2, raw)


def test_a_secret_in_protobuf() -> None:
    meta = message(1, b"s") + message(11, message(1, b"app") + message(2, b"x"))
    raw = message(1, meta) + message(2, message(1, b"k") + message(2, b"\x00\xff")) + message(3, b"Opaque") + b"\x28\x01"
    assert protobuf.decode(envelope("Secret", raw)) == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {"app": "x"}}, "data": {"k": "AP8="},
        "type": "Opaque", "immutable": True,
    }


def test_delete_options_in_protobuf() -> None:
    raw = b"\x08\x00" + message(2, message(1, b"u")) + message(4, b"Background")
    assert protobuf.decode(envelope("DeleteOptions", raw)) == {
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": "u"},
        "propagationPolicy": "Background",
    }


def test_a_pod_in_protobuf() -> None:
    """Go writes each field that is not a pointer, empty or not: those nobody set; a pointer to 0 or to "" counts."""
    quantity = message(2, message(1, b"cpu") + message(2, message(1, b"250m")))
    probe = message(1, message(2, message(2, b"\x08\x00\x10\x50\x1a\x00"))) + b"\x10\x00"
    security = b"\x20\x00"  # runAsUser: 0
    container = message(1, b"c") + message(2, b"") + message(8, quantity) + message(11, probe) + message(15, security)
    volume = message(1, b"v") + message(2, message(2, b""))
    spec = message(1, volume) + message(2, container) + b"\x20\x00\x58\x00"
    meta = message(1, b"p") + message(8, b"")
    assert protobuf.decode(envelope("Pod", message(1, meta) + message(2, spec) + message(3, b""))) == {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "250m"}}, "readinessProbe": {"httpGet": {"port": 80}},
                            "securityContext": {"runAsUser": 0}}],
            "terminationGracePeriodSeconds": 0,
        },
    }


def test_times_in_protobuf() -> None:
    renewed = message(2, message(4, b"\x08\x80\xa0\xc0\xa6\x06\x10\xe8\x07"))
    assert protobuf.decode(envelope("Lease", renewed))["spec"] == {"renewTime": "2023-08-06T21:26:24.000001Z"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{}", 400),
        (protobuf.MAGIC, 415),
        (protobuf.MAGIC + b"\x0a", 400),
        (protobuf.MAGIC + b"\x0a\x7f", 400),
        (protobuf.MAGIC + b"\xff" * 20, 400),
        (envelope("Deployment", b""), 415),
        (envelope("Container", b""), 415),
        (envelope("Pod", message(15, b"x")), 400),
        (envelope("Secret", b"\x10\x01"), 400),
        (envelope("Secret", b"\x08\x01"), 400),
        (envelope("Secret", message(1, message(8, b"\x08" + b"\xff" * 8 + b"\x3f"))), 400),
        (envelope("ConfigMap", message(2, message(1, b"\xff"))), 400),
    ],
)
def test_malformed_protobuf_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(ApiError) as refused:
        protobuf.decode(body)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/pods", ("pods", "", "", "")),
        ("/api/v1/namespaces", ("namespaces", "", "", "")),
        ("/api/v1/namespaces/a", ("namespaces", "", "a", "")),
        ("/api/v1/namespaces/a/status", ("namespaces", "", "a", "status")),
        ("/api/v1/namespaces/a/pods", ("pods", "a", "", "")),
        ("/api/v1/namespaces/a/pods/b", ("pods", "a", "b", "")),
        ("/api/v1/namespaces/a/pods/b%2Fc/log", ("pods", "a", "b/c", "log")),
        ("/api/v1/nodes/n/status", ("nodes", "", "n", "status")),
        ("/apis/coordination.k8s.io/v1/namespaces/a/leases/l", ("leases", "a", "l", "")),
    ],
)
def test_paths(path: str, expected: tuple[str, str, str, str]) -> None:
    target = paths.target(path)
    assert target is not None
    assert (target.resource.plural, target.namespace, target.name, target.sub) == expected


@pytest.mark.parametrize(
    "path",
    [
        "/", "/api", "/api/v1", "/api/v2/pods", "/apis/apps/v1/deployments", "/api/v1/pods/p", "/api/v1/namespaces//pods",
        "/api/v1/namespaces/a/nodes", "/api/v1/namespaces/a/pods/b/log/x", "/apis/v1/pods", "/api/v1/leases", "/api/v1/pods//log",
    ],
)
def test_paths_that_lead_nowhere(path: str) -> None:
    assert paths.target(path) is None


def test_where_a_list_goes_on() -> None:
    assert paths.read_token(paths.put_token(7, ("ns", "é"))) == (7, ("ns", "é"))
    for token in ("x", "e30", "WzFd", "é", "WzEsMiwzXQ"):
        with pytest.raises(ApiError, match="continue key is not valid"):
            paths.read_token(token)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", paths.Form()),
        ("*/*", paths.Form()),
        ("application/vnd.kubernetes.protobuf,application/json", paths.Form()),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", paths.Form("application/json", "Table")),
        ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", paths.Form("application/json", "Table", "v1beta1")),
        ("application/json;as=Table;v=v2;g=meta.k8s.io, application/json", paths.Form()),
        ("application/yaml", paths.Form("application/yaml")),
    ],
)
def test_forms_of_answers(accept: str, expected: paths.Form) -> None:
    assert paths.form(accept) == expected


def test_a_form_that_is_not_served() -> None:
    with pytest.raises(ApiError) as refused:
        paths.form("application/cbor")
    assert refused.value.code == 406


MEGABYTES = bodies.MAX_BYTES - 100
HARMLESS = b"kind: ConfigMap\ndata:\n" + b"".join(b"  key-%d: value of it\n" % n for n in range(20_000))
MANY = {
    "integers": b"[" + b"1," * (MEGABYTES // 2) + b"]",
    "integers in lines": b"- 1\n" * (MEGABYTES // 4),
    "empty maps": b"[" + b"{}," * (MEGABYTES // 3) + b"]",
    "keys": b"{" + b"? x," * (MEGABYTES // 4) + b"}",
    "merges": b"a: &a {b: 1}\nc:\n" + b"  <<: *a\n" * (MEGABYTES // 9),
    "documents": b"---\n" * (MEGABYTES // 4),
    "merged mappings merged": b"a0: &a0 {k: v}\n"
    + b"".join(b"a%d: &a%d {<<: [%s]}\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 8)),
    "base 60": b"a: 1" + b":1" * (MEGABYTES // 40),
}


def cost(body: bytes, kind: str) -> float:
    """Processor time for reading a body, refused or not."""
    began = time.process_time()
    with contextlib.suppress(ApiError):
        bodies.decode(body, kind)
    return time.process_time() - began


@functools.cache
def great_manifest() -> float:
    assert len(bodies.decode(HARMLESS, bodies.YAML)["data"]) == 20_000
    return cost(HARMLESS, bodies.YAML)


@pytest.mark.parametrize("name", MANY)
def test_a_document_of_many_values_costs_no_more_than_a_great_manifest(name: str) -> None:
    assert cost(MANY[name], bodies.YAML) < 10 * great_manifest()


@pytest.mark.parametrize(
    "body",
    [b"[" + (b"[" * 50 + b"]" * 50 + b",") * (MEGABYTES // 101), b'["' + b'\\"' * (MEGABYTES // 4) + b"[," * (MEGABYTES // 4)],
)
def test_json_of_many_values_is_refused_before_it_is_built(body: bytes) -> None:
    assert cost(body, bodies.JSON) < great_manifest()


def test_protobuf_of_many_fields_is_refused() -> None:
    with pytest.raises(ApiError, match="too many fields"):
        protobuf.decode(long_envelope(bytes_field(2, b"") * (MEGABYTES // 2)))


def long_envelope(raw: bytes) -> bytes:
    return protobuf.MAGIC + message(1, message(1, b"v1") + message(2, b"ConfigMap")) + bytes_field(2, raw)


def test_deep_json_within_protobuf_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        protobuf.decode(long_envelope(bytes_field(1, bytes_field(17, bytes_field(7, bytes_field(1, b"[" * 100_000))))))
    assert refused.value.code == 400


def test_numbers_of_base_60_are_text_and_merges_are_made() -> None:
    text = b"port: 22:22\nbase: &b {x: 1}\nuses: {<<: *b, y: 0x10}\noctal: 010\nfloat: 1.5e+3\n"
    assert bodies.decode(text, bodies.YAML) == {
        "port": "22:22", "base": {"x": 1}, "uses": {"x": 1, "y": 16}, "octal": 8, "float": 1500,
    }


@pytest.mark.parametrize("kind", [bodies.JSON, bodies.YAML])
def test_a_field_that_a_body_has_twice_is_named_and_the_last_counts(kind: str) -> None:
    twice: list[str] = []
    body = b'{"metadata":{"labels":{"a":"b","a":"c"}},"spec":{"containers":[{"name":"x","name":"y"}]},"data":1,"data":2,"data":3}'
    value = bodies.decode_object(body, kind, twice)
    assert (value["data"], value["metadata"]["labels"], value["spec"]["containers"]) == (3, {"a": "c"}, [{"name": "y"}])
    assert twice == [f'duplicate field "{path}"' for path in ("metadata.labels.a", "spec.containers[0].name", "data")]
