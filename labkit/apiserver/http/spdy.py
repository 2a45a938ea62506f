"""The client's side of SPDY/3.1, as far as Kubernetes' streams need it: streams that we open, data both ways, ping.

The runtimes' streaming servers (moby/spdystream) open no streams of their own and do no flow control. Headers that they send are
not read. Those that we send are compressed without SPDY's dictionary: zlib says in its first two bytes that none is needed.
Frames: the SPDY 3.1 draft, section 2; streams: apimachinery's pkg/util/httpstream/spdy.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator, Mapping

from tornado.iostream import IOStream, StreamClosedError

VERSION = 0x8003
SYN_STREAM, RST_STREAM, PING, GOAWAY = 1, 3, 6, 7
FIN = 1
LARGEST_FRAME = 1 << 16
"""Bytes of data that we put into one frame."""


class Session:
    """One connection, upgraded to SPDY/3.1."""

    def __init__(self, connection: IOStream) -> None:
        self.connection = connection
        self._compressor = zlib.compressobj()
        self._last = -1

    async def open(self, headers: Mapping[str, str]) -> int:
        """Open a stream and return its id. Raises StreamClosedError."""
        self._last += 2
        block = struct.pack(">I", len(headers))
        for name, value in headers.items():
            block += struct.pack(">I", len(name)) + name.lower().encode() + struct.pack(">I", len(value)) + value.encode()
        compressed = self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        await self._control(SYN_STREAM, struct.pack(">IIH", self._last, 0, 0) + compressed)
        return self._last

    async def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """Send data on a stream; `end` closes our side of it. Raises StreamClosedError."""
        for at in range(0, len(data) or 1, LARGEST_FRAME):
            piece = data[at : at + LARGEST_FRAME]
            flags = FIN if end and at + LARGEST_FRAME >= len(data) else 0
            await self.connection.write(struct.pack(">II", stream, flags << 24 | len(piece)) + piece)

    async def received(self) -> AsyncIterator[tuple[int, bytes, bool]]:
        """The id, the data and whether the stream ends, of each frame of data, until the connection ends."""
        try:
            while True:
                first, second = struct.unpack(">II", await self.connection.read_bytes(8))
                flags, length = second >> 24, second & 0xFFFFFF
                body = await self.connection.read_bytes(length) if length else b""
                if not first >> 31:
                    yield first, body, bool(flags & FIN)
                elif (kind := first & 0xFFFF) == RST_STREAM:
                    yield struct.unpack(">I", body[:4])[0], b"", True
                elif kind == PING:
                    await self._control(PING, body)
                elif kind == GOAWAY:
                    return
        except (StreamClosedError, struct.error):
            return

    async def _control(self, kind: int, body: bytes) -> None:
        await self.connection.write(struct.pack(">HHI", VERSION, kind, len(body)) + body)
