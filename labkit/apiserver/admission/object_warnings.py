"""What is said about objects other than Pods that are accepted: Kubernetes' own words, then the lab's about what nobody acts on.

Knowledge: pkg/api/{persistentvolume,persistentvolumeclaim}/util.go, the strategies of Secrets and
service accounts, Go's crypto/tls.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from labkit.apiserver.admission import ignored, warnings
from labkit.podspec.matching import CLASS_ANNOTATION

Manifest = Mapping[str, Any]
BETA_OPTIONS = "volume.beta.kubernetes.io/mount-options"
OLD_CLASS = 'deprecated since v1.8; use "storageClassName" attribute instead'
OLD_OPTIONS = 'deprecated since v1.31; use "mountOptions" attribute instead'
RECYCLE = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
MOUNTABLE = "kubernetes.io/enforce-mountable-secrets"
OLD_MOUNTABLE = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
OLD_ID = "this field is deprecated, and is unused by Kubernetes"
NO_TOKEN = "The lab's API issues no tokens, so nobody fills this Secret."
NO_COPY = "The lab provisions no volumes, so nothing is copied into this claim's."
NO_OPTIONS = "The lab's kubelet mounts a volume of this type without options."
PEM = re.compile(r"-----BEGIN ([^\n-]+)-----")
NO_CERTIFICATE = "tls: failed to find certificate PEM data in certificate input"
NO_BLOCK = 'tls: failed to find "CERTIFICATE" PEM block in certificate input'


def of_secret(secret: Manifest, old: Manifest | None) -> Iterator[str]:
    data = secret.get("data") or {}
    if secret.get("type") == "kubernetes.io/tls" and (words := _pair(*(data.get(name) or "" for name in ("tls.crt", "tls.key")))):
        yield words
    if secret.get("type") == "kubernetes.io/service-account-token" and not data.get("token") and old is None:
        yield f"type: {NO_TOKEN}"


def _pair(certificate: str, key: str) -> str:
    """What is wrong with a certificate and its key, both in base64, in the words of Go's tls.X509KeyPair."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    for what, content, kind in (("certificate", certificate, "CERTIFICATE"), ("key", key, "PRIVATE KEY")):
        found = PEM.findall(base64.b64decode(content).decode(errors="replace"))
        if not found:
            return f"tls: failed to find any PEM data in {what} input"
        if not any(each == kind or (what == "key" and each.endswith(f" {kind}")) for each in found):
            if what == "key":
                return "tls: found a certificate rather than a key in the PEM for the private key"
            if len(found) == 1 and found[0].endswith("PRIVATE KEY"):
                return f"{NO_CERTIFICATE}, but did find a private key; PEM inputs may have been switched"
            return f"{NO_BLOCK} after skipping PEM blocks of the following types: [{' '.join(found)}]"
    try:
        own = load_pem_private_key(base64.b64decode(key), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return "tls: failed to parse private key"
    try:
        public = x509.load_pem_x509_certificate(base64.b64decode(certificate)).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"x509: malformed certificate: {error}"
    return "" if own.public_key() == public else "tls: private key does not match public key"


def of_account(account: Manifest, old: Manifest | None) -> Iterator[str]:
    if MOUNTABLE in _annotations(account) and MOUNTABLE not in _annotations(old or {}):
        yield f"metadata.annotations[{MOUNTABLE}]: {OLD_MOUNTABLE}"


def of_volume(volume: Manifest, old: Manifest | None) -> Iterator[str]:
    spec = volume.get("spec") or {}
    for key, words in ((CLASS_ANNOTATION, OLD_CLASS), (BETA_OPTIONS, OLD_OPTIONS)):
        if key in _annotations(volume):
            yield f"metadata.annotations[{key}]: {words}"
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        yield f"spec.persistentVolumeReclaimPolicy: {RECYCLE}"
    yield from (f"spec.{warnings.SHOWN.get(kind, kind)}: {words}" for kind, words in warnings.VOLUMES.items() if kind in spec)
    terms = ((spec.get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or []
    yield from warnings.expressions((f"spec.nodeAffinity.required.nodeSelectorTerms[{n}]", term) for n, term in enumerate(terms))
    if old is None:
        no_plugin = (kind for kind, words in ignored.IGNORED["Volume"].items() if words == ignored.NO_PLUGIN and kind in spec)
        yield from (f"spec.{warnings.SHOWN.get(kind, kind)}: {ignored.NO_PLUGIN}" for kind in no_plugin)
        if spec.get("mountOptions"):
            yield f"spec.mountOptions: {NO_OPTIONS}"


def of_claim(claim: Manifest, old: Manifest | None) -> Iterator[str]:
    spec = claim.get("spec") or {}
    if CLASS_ANNOTATION in _annotations(claim):
        yield f"metadata.annotations[{CLASS_ANNOTATION}]: {OLD_CLASS}"
    for kind in ("requests", "limits"):
        yield from warnings.fractions((spec.get("resources") or {}).get(kind), f"spec.resources.{kind}", ("storage",))
    if old is None and (spec.get("dataSource") or spec.get("dataSourceRef")):
        yield f"spec.dataSource{'' if spec.get('dataSource') else 'Ref'}: {NO_COPY}"


def of_node(node: Manifest, old: Manifest | None) -> Iterator[str]:
    if (node.get("spec") or {}).get("externalID"):
        yield f"spec.externalID: {OLD_ID}"


OTHERS: dict[str, Callable[[Manifest, Manifest | None], Iterator[str]]] = {
    "nodes": of_node,
    "persistentvolumeclaims": of_claim,
    "persistentvolumes": of_volume,
    "secrets": of_secret,
    "serviceaccounts": of_account,
}
"""The warnings about kinds other than Pods: of the object, and of what it replaces (None at its creation)."""


def _annotations(obj: Manifest) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("annotations") or {}
