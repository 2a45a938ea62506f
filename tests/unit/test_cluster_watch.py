"""A watch of STATUS ends when it has heard what the API says, however late that comes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

from labkit.node.pods.pod_statuses import PodStatuses


def table(name: str, status: str) -> dict[str, Any]:
    return {"columnDefinitions": [{"name": "Name"}, {"name": "Status"}], "rows": [{"cells": [name, status]}]}


class Answer:
    """Of an API: the whole table, or a change that comes only after somebody has asked for the table."""

    def __init__(self, asked: threading.Event) -> None:
        self.asked, self.ended = asked, threading.Event()

    def read(self) -> bytes:
        self.asked.set()
        return json.dumps(table("fine", "Running")).encode()

    def stream(self, **how: Any) -> Iterator[bytes]:
        for status in ("Pending", "Running"):
            yield json.dumps({"type": "MODIFIED", "object": table("fine", status)}).encode() + b"\n"
            self.asked.wait(10)
            if self.ended.is_set():
                return

    def shutdown(self) -> None:
        self.ended.set()
        self.asked.set()

    def close(self) -> None:
        pass

    release_conn = close


def test_the_last_change_is_not_missed() -> None:
    asked = threading.Event()
    statuses = PodStatuses(None)  # type: ignore[arg-type]
    statuses._stream = lambda **query: Answer(asked)  # type: ignore[method-assign]
    with statuses.watch() as changes:
        pass
    assert [change.status for change in changes] == ["Pending", "Running"]
