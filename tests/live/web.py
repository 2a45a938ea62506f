"""A web server for a Pod of busybox that keeps connections open, as busybox's own httpd does not."""

from __future__ import annotations

import contextlib
import socket
import time

SERVE = """\
printf '#!/bin/sh\\ncr=$(printf "\\\\r")\\nwhile read -r l; do [ "$l" != "$cr" ] || printf "%s"; done\\n' \
  'HTTP/1.1 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nok\\n' >/serve
chmod +x /serve
exec nc -ll -p 80 -e /serve
"""


def wait_until_it_listens(ip: str, seconds: float = 90.0) -> None:
    """Raises AssertionError when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((ip, 80), 1):
            return
        time.sleep(0.02)
    raise AssertionError(f"nobody listens at {ip}:80 after {seconds:.0f} s")
