"""The machine's clock and this one's: process events of the one beside calls of the other, on one axis."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from labkit.kernel.events.stream import Batch, EventStream
from labkit.node.vm.enter import enter

ROUNDS = 12
RIGHT_S, TRIES = 0.02, 3
SCRIPT = "while read -r _; do { read -r _; read -r _; read -r _ _ now _; } </proc/timer_list; echo $now; done"
"""/proc/timer_list begins with the kernel's CLOCK_MONOTONIC, in ns."""

WALL = 'while read -r at; do [ -z "$at" ] || /bin/date -s @$at >/dev/null; echo $EPOCHREALTIME; done'
"""EPOCHREALTIME is the shell's own (busybox ash), so that no program has to start before it is told."""


@dataclass(frozen=True)
class Offset:
    """What to add to a time of the machine to have this one's CLOCK_MONOTONIC; true to ± error_ns."""

    ns: int
    error_ns: int


def offset(door: Path) -> Offset:
    """Ask the machine for its time again and again; the quickest answer says most. Raises OSError."""
    with enter(door, "stream", ["sh", "-c", SCRIPT]) as connection, connection.makefile("rb") as lines:
        connection.settimeout(20.0)
        found: list[Offset] = []
        for _ in range(ROUNDS):
            sent = time.monotonic_ns()
            connection.sendall(b"\n")
            words = lines.readline()
            received = time.monotonic_ns()
            if not words.strip().isdigit():
                raise ConnectionAbortedError("it did not report its time")
            found.append(Offset((sent + received) // 2 - int(words), (received - sent) // 2))
    return min(found, key=lambda each: each.error_ns)


def set_right(door: Path) -> float:
    """Set the machine's wall clock to this one's; by how much, s, it is still off. Raises OSError.

    How long date(1) takes to start there is not known beforehand: what the clock is off after one try is allowed for in the next.
    """
    latency = 0.0
    with wall(door) as exchange:
        wrong = ahead(exchange)
        for _ in range(TRIES):
            if abs(wrong) <= RIGHT_S:
                break
            exchange(f"{time.time() + latency:.6f}")
            wrong = ahead(exchange)
            latency -= wrong
    return wrong


def ahead_ns(door: Path) -> int:
    """By how much the machine's wall clock is ahead of this one's. Raises OSError."""
    with wall(door) as exchange:
        return round(ahead(exchange) * 1e9)


@contextlib.contextmanager
def wall(door: Path) -> Iterator[Callable[[str], float]]:
    """What sets the machine's clock to the given words of date(1), if any, and tells it then, in s since 1970."""
    with enter(door, "stream", ["/bin/ash", "-c", WALL]) as connection, connection.makefile("rb") as lines:
        connection.settimeout(20.0)

        def exchange(words: str) -> float:
            connection.sendall(f"{words}\n".encode())
            if not (answer := lines.readline().strip()):
                raise ConnectionAbortedError("it did not report its time")
            return float(answer)

        yield exchange


def ahead(exchange: Callable[[str], float]) -> float:
    """In s; the quickest answer of several says most."""
    looks = []
    for _ in range(ROUNDS):
        sent = time.time()
        there = exchange("")
        received = time.time()
        looks.append((received - sent, there - (sent + received) / 2))
    return min(looks)[1]


def shifted(stream: EventStream, by: Offset) -> EventStream:
    """The same events in this machine's time. Its precision says how true that is."""

    def batches() -> Iterator[Batch]:
        for event in stream:
            yield Batch((replace(event, at_ns=event.at_ns + by.ns),), stream.lost, stream.threads)
        yield Batch((), stream.lost, stream.threads)

    precision = f"{stream.precision} Beside calls, times are true to ± {by.error_ns / 1e6:.1f} ms: the machine has its own clock."
    return EventStream(stream.source, precision, batches(), lambda: stream.__exit__(None, None, None))
