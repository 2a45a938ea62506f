"""Requests that no client sends by accident: heads without end, lengths that contradict each other, one hidden in another."""

from __future__ import annotations

import asyncio
import re
import resource
from pathlib import Path

import pytest

from tests.unit.test_kubeapi_streams import POD, Kubelet, directory, run  # noqa: F401

GET = f"GET {POD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n"
POST = GET.replace(f"GET {POD}", f"POST {POD.rpartition('/')[0]}") + "Content-Type: application/json\r\n"
HIDDEN = f"GET {POD}?hidden HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer token\r\n\r\n"
MIB = 1 << 20
HIDING = {
    "length and chunks": f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
    "chunks and length": f"{POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{HIDDEN}",
    "two lengths": f"{POST}Content-Length: 2\r\nContent-Length: {2 + len(HIDDEN)}\r\n\r\n{{}}{HIDDEN}",
    "two lengths in one": f"{POST}Content-Length: 2, {2 + len(HIDDEN)}\r\n\r\n{{}}{HIDDEN}",
    "a sign": f"{POST}Content-Length: +2\r\n\r\n{{}}{HIDDEN}",
    "a negative length": f"{POST}Content-Length: -1\r\n\r\n{{}}{HIDDEN}",
    "an underscore": f"{POST}Content-Length: 0_2\r\n\r\n{{}}{HIDDEN}",
    "other digits": f"{POST}Content-Length: \u00b2\r\n\r\n{{}}{HIDDEN}",
    "an unknown encoding": f"{POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{HIDDEN}",
    "twice chunked": f"{POST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{HIDDEN}",
    "a hexadecimal prefix": f"{POST}Transfer-Encoding: chunked\r\n\r\n0x2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}",
    "a negative chunk": f"{POST}Transfer-Encoding: chunked\r\n\r\n-2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}",
    "a chunk that goes on": f"{POST}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}{{}}\r\n0\r\n\r\n{HIDDEN}",
    "a space before the colon": f"{POST}Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n{HIDDEN}",
    "a folded encoding": f"{POST}Transfer-Encoding:\r\n chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n{HIDDEN}",
    "a bare carriage return": f"{POST}X: a\rTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n{HIDDEN}",
    "a zero byte": f"{GET}X: a\0b\r\n\r\n{HIDDEN}",
    "no name": f"{GET}: x\r\n\r\n{HIDDEN}",
    "a line without a colon": f"{GET}nothing\r\n\r\n{HIDDEN}",
    "two hosts": f"{GET}Host: y\r\n\r\n",
    "no version": f"GET {POD}\r\n\r\n{HIDDEN}",
    "another version": f"{GET}\r\n".replace("1.1", "9.9") + HIDDEN,
    "a line feed in the path": f"{GET}\r\n".replace(" HTTP", "\nX: HTTP", 1) + HIDDEN,
}
ENDLESS = {
    "a long line": GET + "X: " + "x" * MIB,
    "many headers": GET + "".join(f"X-{number}: x\r\n" for number in range(100_000)),
    "one header many times": GET + "X: x\r\n" * 200_000,
    "a long path": f"GET /{'x' * MIB} HTTP/1.1\r\n",
    "empty lines": "\r\n" * MIB,
    "folded lines": GET + "X: x\r\n" + " x\r\n" * 300_000,
    "a long name of a chunk": f"{POST}Transfer-Encoding: chunked\r\n\r\n1;{'x' * MIB}",
    "long trailers": f"{POST}Transfer-Encoding: chunked\r\n\r\n0\r\n" + "X: x\r\n" * 200_000,
}


async def answers(address: Path, text: str, expected: int = 0) -> list[int]:
    """The codes of all answers to what is sent, until the API hangs up or, after those `expected`, is silent for a while."""
    reader, writer = await asyncio.open_unix_connection(address)
    said = b""
    try:
        writer.write(text.encode("latin-1"))
        while data := await asyncio.wait_for(reader.read(65536), 0.3 if said.count(b"HTTP/1.1 ") >= expected else 60):
            said += data
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+) ", said)]


@pytest.mark.parametrize("harm", HIDING)
def test_a_request_hidden_in_another_is_not_answered(directory: Path, harm: str) -> None:  # noqa: F811
    async def attack(address: Path, kubelet: Kubelet) -> list[int]:
        found = await answers(address, HIDING[harm])
        assert await answers(address, f"{GET}\r\n{HIDDEN}", 2) == [200, 200]
        return found

    assert run(directory, attack) in ([], [400])


@pytest.mark.parametrize("harm", ENDLESS)
def test_a_head_without_end_takes_little_of_the_apis_memory(directory: Path, harm: str) -> None:  # noqa: F811
    """Only what has shown the token is served, and nobody has it before the head ends."""

    async def attack(address: Path, kubelet: Kubelet) -> list[int]:
        found = [code for each in await asyncio.gather(*(answers(address, ENDLESS[harm]) for _ in range(20))) for code in each]
        assert await answers(address, HIDDEN, 1) == [200]
        return found

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert set(run(directory, attack)) <= {400}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
