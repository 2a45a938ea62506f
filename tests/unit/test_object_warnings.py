"""What the API says of objects other than Pods that it accepts, and refuses though they are valid, in Kubernetes' words."""

from __future__ import annotations

import datetime
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from labkit.apiserver.admission.object_warnings import OTHERS
from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.objects.rest import Api, Options
from labkit.apiserver.storage.store import Store

MERGE, STRATEGIC, JSON = (
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/json-patch+json",
)


@pytest.fixture
def api(tmp_path: Path) -> Api:
    return Api(Store(tmp_path / "objects.sqlite"))


def pem() -> tuple[str, str]:
    """A key, and a certificate of it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "lab")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(1)).sign(key, hashes.SHA256())
    written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return written, made.public_bytes(Encoding.PEM).decode()


TLS = {
    "KEY CERTIFICATE": "",
    "OTHER CERTIFICATE": "tls: private key does not match public key",
    "b a": "tls: failed to find any PEM data in certificate input",
    "b CERTIFICATE": "tls: failed to find any PEM data in key input",
    "CERTIFICATE CERTIFICATE": "tls: found a certificate rather than a key in the PEM for the private key",
    "CERTIFICATE KEY": "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM "
    "inputs may have been switched",
}


@pytest.mark.parametrize("pair", sorted(TLS))
def test_a_certificate_and_its_key(pair: str) -> None:
    (key, certificate), (other, _) = pem(), pem()
    texts = {"KEY": key, "CERTIFICATE": certificate, "OTHER": other}
    content = [b64encode(texts.get(word, word).encode()).decode() for word in pair.split()]
    secret = {"metadata": {}, "type": "kubernetes.io/tls", "data": dict(zip(("tls.key", "tls.crt"), content, strict=True))}
    assert list(OTHERS["secrets"](secret, None)) == ([TLS[pair]] if TLS[pair] else [])


BETA = "volume.beta.kubernetes.io/storage-class"
MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"


@pytest.mark.parametrize(
    ("plural", "fields", "words"),
    [
        ("secrets", {"type": "kubernetes.io/service-account-token"}, "type: The lab's API issues no tokens"),
        ("serviceaccounts", {"metadata": {"annotations": {MOUNTABLE: "true"}}},
         f"metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted "
         "secrets"),
        ("persistentvolumeclaims", {"metadata": {"annotations": {BETA: "x"}}},
         f'metadata.annotations[{BETA}]: deprecated since v1.8; use "storageClassName" attribute instead'),
        ("persistentvolumeclaims", {"spec": {"resources": {"requests": {"storage": "100m"}}}},
         'spec.resources.requests[storage]: fractional byte value "100m" is invalid, must be an integer'),
        ("persistentvolumeclaims", {"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "x"}}},
         "spec.dataSource: The lab provisions no volumes"),
        ("persistentvolumes", {"spec": {"persistentVolumeReclaimPolicy": "Recycle"}},
         "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to "
         "use dynamic provisioning."),
        ("persistentvolumes", {"spec": {"cephfs": {}}}, "spec.cephfs: deprecated in v1.28, non-functional in v1.31+"),
        ("persistentvolumes", {"spec": {"nfs": {}}}, "spec.nfs: The lab's kubelet has no plugin"),
        ("persistentvolumes", {"spec": {"hostPath": {}, "mountOptions": ["ro"]}}, "spec.mountOptions: The lab's kubelet mounts"),
    ],
)
def test_what_is_said_of_other_kinds(plural: str, fields: dict[str, Any], words: str) -> None:
    assert [each for each in OTHERS[plural]({"metadata": {}, **fields}, None) if each.startswith(words)]
    assert list(OTHERS[plural]({"metadata": {}}, None)) == []


def test_a_warning_comes_with_the_creation_and_an_annotation_that_was_there_is_not_said_again(api: Api) -> None:
    accounts, options = BY_PLURAL["serviceaccounts"], Options()
    api.create(accounts, "default", {"metadata": {"name": "a", "annotations": {MOUNTABLE: "true"}}}, options)
    assert len(options.warnings) == 1
    again = Options()
    api.patch(accounts, "default", "a", {"metadata": {"labels": {"a": "b"}}}, MERGE, again)
    assert again.warnings == []


def test_a_claim_does_not_grow(api: Api) -> None:
    claims = BY_PLURAL["persistentvolumeclaims"]
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    api.create(claims, "default", {"metadata": {"name": "c"}, "spec": spec})
    api.patch(claims, "default", "c", {"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}, MERGE, sub="status")
    with pytest.raises(ApiError) as refused:
        api.patch(claims, "default", "c", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}, MERGE)
    assert (refused.value.code, refused.value.message) == (
        403,
        'persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that '
        "provisions the pvc must support resize",
    )


def made_pod(api: Api) -> None:
    containers = [{"name": "app", "image": "registry.lab/busybox:1"}]
    api.create(BY_PLURAL["pods"], "default", {"metadata": {"name": "p"}, "spec": {"containers": containers}})


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (STRATEGIC, {"spec": {"activeDeadlineSeconds": "x"}},
         '"map[spec:map[activeDeadlineSeconds:x]]": unrecognized type: int64'),
        (STRATEGIC, {"spec": {"hostname": 5}}, '"map[spec:map[hostname:5]]": cannot convert int64 to string'),
        (STRATEGIC, {"metadata": {"labels": ["a", "b"]}}, '"map[metadata:map[labels:[a b]]]": cannot restore map from slice'),
        (STRATEGIC, {"spec": {"securityContext": "x"}}, '"map[spec:map[securityContext:x]]": cannot restore struct from: string'),
        (MERGE, {"spec": {"activeDeadlineSeconds": "x"}},
         ": json: cannot unmarshal string into Go struct field PodSpec.spec.activeDeadlineSeconds of type int64"),
    ],
)
def test_a_patch_of_the_wrong_type(api: Api, kind: str, change: Any, words: str) -> None:
    made_pod(api)
    with pytest.raises(ApiError) as refused:
        api.patch(BY_PLURAL["pods"], "default", "p", change, kind)
    assert refused.value.code == 422 and refused.value.message.startswith(' "" is invalid: patch: Invalid value: "')
    assert refused.value.message.endswith(words)


def test_an_unknown_field_in_a_patch(api: Api) -> None:
    made_pod(api)
    options = Options(validation="Strict")
    with pytest.raises(ApiError) as refused:
        api.patch(BY_PLURAL["pods"], "default", "p", {"spec": {"foo": 1}}, STRATEGIC, options)
    assert refused.value.message == (
        ' "" is invalid: patch: Invalid value: "map[spec:map[foo:1]]": strict decoding error: unknown field "spec.foo"'
    )


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ({"op": "test", "path": "/metadata/name", "value": "x"}, "testing value /metadata/name failed: test failed"),
        ({"op": "replace", "path": "/spec/nix", "value": 1},
         "replace operation does not apply: doc is missing key: /spec/nix: missing value"),
        ({"op": "replace", "path": "/nix/nix", "value": 1},
         "replace operation does not apply: doc is missing path: /nix/nix: missing value"),
        ({"op": "add", "path": "/metadata/labels/a", "value": "b"},
         'add operation does not apply: doc is missing path: "/metadata/labels/a": missing value'),
        ({"op": "remove", "path": "/spec/nix"},
         "error in remove for path: '/spec/nix': Unable to remove nonexistent key: nix: missing value"),
        ({"op": "remove", "path": "/spec/containers/7"},
         "error in remove for path: '/spec/containers/7': Unable to access invalid index: 7: invalid index referenced"),
        ({"op": "copy", "from": "/nix", "path": "/spec/x"},
         "copy operation does not apply: doc is missing from path: /nix: missing value"),
        ({"op": "jump", "path": "/spec"}, "Unexpected kind: jump"),
    ],
)
def test_an_operation_that_does_not_apply(api: Api, operation: Any, words: str) -> None:
    made_pod(api)
    with pytest.raises(ApiError) as refused:
        api.patch(BY_PLURAL["pods"], "default", "p", [operation], JSON)
    assert refused.value.message == f"the server rejected our request due to an error in our request: {words}"


def test_nobody_sets_the_time_of_a_deletion(api: Api) -> None:
    made_pod(api)
    with pytest.raises(ApiError) as refused:
        api.patch(BY_PLURAL["pods"], "default", "p", {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}}, MERGE)
    assert refused.value.message == (
        'Pod "p" is invalid: metadata.deletionTimestamp: Invalid value: "2026-01-02T03:04:05Z": field is immutable'
    )
    api.patch(BY_PLURAL["pods"], "default", "p", {"metadata": {"creationTimestamp": "2026-01-02T03:04:05Z"}}, MERGE)
    status = {"metadata": {"deletionTimestamp": "2026-01-02T03:04:05Z"}, "status": {"phase": "Running"}}
    api.patch(BY_PLURAL["pods"], "default", "p", status, MERGE, sub="status")
    assert "deletionTimestamp" not in api.get(BY_PLURAL["pods"], "default", "p").obj["metadata"]


def test_a_generated_name_that_is_taken_is_made_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["p-a"] * 10 + ["p-b"] * 6)  # eight for each creation
    monkeypatch.setattr("labkit.apiserver.objects.rest.generated", lambda prefix: next(names))
    for _ in range(2):
        api.create(BY_PLURAL["configmaps"], "default", {"metadata": {"generateName": "p-"}})
    assert [name for (_, name), _ in api.store.list("configmaps", "default")] == ["p-a", "p-b"]
