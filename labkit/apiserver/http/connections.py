"""Limits on connections whose client has not shown the token yet: their number, their time, and what happens without descriptors.

A client is proven by a request that carries the token. Until then it may take UNPROVEN_WITHIN_S for TLS' handshake and its first
request, and of such clients UNPROVEN_MOST are kept: the oldest one is closed. So another user of this machine can use up neither
the API's descriptors nor its memory. kube-apiserver has such limits too (http.Server's ReadHeaderTimeout, IdleTimeout).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Protocol

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, SSLIOStream
from tornado.netutil import ssl_wrap_socket

log = logging.getLogger("kubeapi")

UNPROVEN_WITHIN_S = 30.0
UNPROVEN_MOST = 128
ACCEPTED_AT_ONCE = 64
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""accept(2) cannot take a connection that waits: it goes on waiting, and the listening socket stays readable."""
NO_ROOM_S, COMPLAIN_EVERY_S = 0.5, 60.0
TLS_HANDSHAKE = b"\x16"
NOT_TLS = b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class Closable(Protocol):
    def close(self) -> None: ...


class Connections:
    """Accepts connections for a server: serves TLS, and answers anything else with an error."""

    def __init__(self, server: HTTPServer, context: ssl.SSLContext) -> None:
        self.server, self.context = server, context
        self.loop = asyncio.get_running_loop()
        self.unproven: dict[Closable, asyncio.TimerHandle] = {}
        self.complained = float("-inf")

    def accept_from(self, listening: socket.socket) -> Callable[[], None]:
        """Take every connection that comes on a listening socket; returns what ends that."""
        listening.setblocking(False)
        ended = False

        def end() -> None:
            nonlocal ended
            ended = True
            self.loop.remove_reader(listening)

        def resume() -> None:
            if not ended:
                self.loop.add_reader(listening, accept)

        def accept() -> None:
            for _ in range(ACCEPTED_AT_ONCE):
                try:
                    connection, address = listening.accept()
                except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                    return
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    self.loop.remove_reader(listening)
                    self.loop.call_later(NO_ROOM_S, resume)
                    self.make_room(error)
                    return
                self.take(connection, address)

        resume()
        return end

    def take(self, connection: socket.socket, address: Any) -> None:
        """Look at a client's first byte, then serve it or answer with an error."""
        connection.setblocking(False)
        with contextlib.suppress(OSError):  # handed over from elsewhere it may be no TCP connection
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        silent = Silent(self.loop, connection)
        self.loop.add_reader(connection, self.greet, silent, address)
        self.watch_over(silent)

    def greet(self, silent: Silent, address: Any) -> None:
        try:
            first = silent.connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            first = b""
        self.loop.remove_reader(silent.connection)
        self.prove(silent)
        if first == TLS_HANDSHAKE:
            wrapped = ssl_wrap_socket(silent.connection, self.context, server_side=True, do_handshake_on_connect=False)
            stream = SSLIOStream(wrapped)
            self.watch_over(stream)
            self.server.handle_stream(stream, address)
        elif first:
            plain = IOStream(silent.connection)
            self.watch_over(plain)
            task = self.loop.create_task(tell(plain))
            task.add_done_callback(lambda _: self.prove(plain))
        else:
            silent.connection.close()

    def watch_over(self, client: Closable) -> None:
        """Close a client when its time is over, unless it is proven by then; and the oldest ones where there are too many."""
        self.unproven[client] = self.loop.call_later(UNPROVEN_WITHIN_S, self.drop, client)
        if len(self.unproven) > UNPROVEN_MOST:
            for each in [each for each in self.unproven if isinstance(each, IOStream) and each.closed()]:
                self.drop(each)
        while len(self.unproven) > UNPROVEN_MOST:
            self.drop(next(iter(self.unproven)))

    def prove(self, client: Closable) -> None:
        """The client may stay: it has shown the token, or is on its way out."""
        if timer := self.unproven.pop(client, None):
            timer.cancel()

    def drop(self, client: Closable) -> None:
        self.prove(client)
        client.close()

    def make_room(self, error: OSError) -> None:
        """Close every client that is not proven, since no descriptor is left; log it once a minute at most."""
        clients = list(self.unproven)
        for client in clients:
            self.drop(client)
        if time.monotonic() - self.complained > COMPLAIN_EVERY_S:
            self.complained = time.monotonic()
            log.error("no connection can be taken: %s; closed %d clients that had not shown the token", error, len(clients))


class Silent:
    """A client that has not sent a byte."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: socket.socket) -> None:
        self.loop, self.connection = loop, connection

    def close(self) -> None:
        self.loop.remove_reader(self.connection)
        self.connection.close()


async def tell(stream: IOStream) -> None:
    """Answer a client that does not speak TLS."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(stream.read_bytes(65536, partial=True), 1)
        await stream.write(NOT_TLS)
    stream.close()
