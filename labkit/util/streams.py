"""Two connections joined: what upgraded requests need on their way through the API and the kubelet."""

from __future__ import annotations

import asyncio

from tornado.iostream import IOStream, StreamClosedError

CHUNK = 65536


async def relay(one: IOStream, other: IOStream, *, both_ways: bool = True) -> None:
    """Copy both ways until either side has ended; else from `other` only, and what `one` sends is dropped."""
    tasks = [asyncio.ensure_future(copy(one, other if both_ways else None)), asyncio.ensure_future(copy(other, one))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        one.close()
        other.close()


async def copy(source: IOStream, sink: IOStream | None) -> None:
    try:
        while True:
            data = await source.read_bytes(CHUNK, partial=True)
            if sink:
                await sink.write(data)
    except StreamClosedError:
        return
