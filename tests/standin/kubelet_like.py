"""The bytes of two CRI calls, for a node that has no CRI client: what files/rootfs/usr/local/bin/kubelet sends with a pipe.

One gRPC call is a HEADERS and a DATA frame on an HTTP/2 connection (gRPC over HTTP/2; RFC 9113 sections 4.1 and 6). A sandbox's
id has 64 characters always, so all lengths are known before the id is.
"""

from __future__ import annotations

SERVICE = "/runtime.v1.RuntimeService/"
ID_BYTES = 64
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS = 1, 4


def calls() -> dict[str, bytes]:
    """File name → bytes: each wants the id after it, both go over one connection, "stop" first."""
    return {
        "stop": PREFACE + frame(SETTINGS, 0, 0, b"") + call(1, "StopPodSandbox"),
        "remove": call(3, "RemovePodSandbox"),
    }


def call(stream: int, method: str) -> bytes:
    """A call whose request has one field, number 1, a string: all but the string itself."""
    headers = {
        ":method": "POST", ":scheme": "http", ":path": SERVICE + method, ":authority": "localhost",
        "content-type": "application/grpc", "te": "trailers",
    }
    field = bytes([1 << 3 | 2, ID_BYTES])
    message = b"\0" + (len(field) + ID_BYTES).to_bytes(4, "big") + field
    block = b"".join(literal(name, value) for name, value in headers.items())
    return frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, message, later=ID_BYTES)


def frame(kind: int, flags: int, stream: int, payload: bytes, later: int = 0) -> bytes:
    """`later`: how many bytes of the payload follow from elsewhere."""
    return (len(payload) + later).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header field, neither indexed nor compressed (RFC 7541 section 6.2.2); both strings shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
