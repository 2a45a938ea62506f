"""Who may talk to the API, and how: a certificate of its own, a random token, the kubeconfig that holds both.

Everything secret is written with mode 0600, and each file appears whole or not at all.
"""

from __future__ import annotations

import hmac
import json
import secrets
import ssl
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labkit.util.outputs import PRIVATE, write_whole

VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
FILES = ("ca.crt", "server.crt", "server.key")
NAMES = ("localhost", "kubernetes.default.svc")
"""The second is what clients in a cluster know the API by."""


def tls(data: Path) -> ssl.SSLContext:
    """The serving side's TLS settings."""
    certificates(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(data / "server.crt", data / "server.key")
    return context


def certificates(data: Path) -> None:
    """FILES in `data`: made when there are none or they soon end."""
    if not _lasts(data):
        # A process of its own makes it: what signs certificates takes 20 MB that serving them does not need.
        command = [sys.executable, "-m", "labkit.apiserver.http.credentials", str(data)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def token(data: Path) -> str:
    """The bearer token of this lab, made at first use."""
    path = data / "token"
    if not path.exists() or not path.read_text().strip():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text().strip()


def allowed(header: str, expected: str) -> bool:
    """Whether an Authorization header carries the token, told apart in constant time."""
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected.encode())


def write_kubeconfig(path: Path, port: int, data: Path, bearer: str) -> None:
    """Write the file that KUBECONFIG names. It is JSON, which is YAML too."""
    authority = b64encode((data / "ca.crt").read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "labkit", "cluster": {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": authority}}
        ],
        "users": [{"name": "labkit", "user": {"token": bearer}}],
        "contexts": [{"name": "labkit", "context": {"cluster": "labkit", "user": "labkit", "namespace": "default"}}],
        "current-context": "labkit",
    }
    write_private(path, json.dumps(config, indent=1))


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 that is never seen half written."""
    write_whole(path, text.encode(), PRIVATE, durable=True)


def _lasts(data: Path) -> bool:
    if not all((data / name).exists() for name in FILES) or not (data / "valid-until").exists():
        return False
    try:
        until = datetime.fromisoformat((data / "valid-until").read_text().strip())
    except ValueError:
        return False
    return until - RENEW_BEFORE > datetime.now(UTC)


def make_certificates(data: Path) -> None:
    """A certificate authority that signs one certificate, for 127.0.0.1 and NAMES, and is thrown away."""
    from ipaddress import IPv4Address

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    start = datetime.now(UTC) - timedelta(hours=1)
    end = start + VALID

    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            subject_name=named(subject), issuer_name=named("labkit-ca"), public_key=key.public_key(),
            serial_number=x509.random_serial_number(), not_valid_before=start, not_valid_after=end,
        )

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    ca = (
        certificate("labkit-ca", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(ca_usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), *map(x509.DNSName, NAMES)])
    serving = (
        certificate("labkit-kubeapi", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(data / "ca.crt", ca.public_bytes(pem).decode())
    write_private(data / "server.crt", serving.public_bytes(pem).decode())
    write_private(data / "server.key", private.decode())
    write_private(data / "valid-until", end.isoformat())


if __name__ == "__main__":
    make_certificates(Path(sys.argv[1]))
