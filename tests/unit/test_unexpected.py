"""An unexpected exception is told, and keeps nothing else from being done: in the owner, the API's controllers, `status`."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.apiserver.api_errors import ApiError
from labkit.apiserver.controllers import claims, scheduler
from labkit.apiserver.controllers import controller as controller_module
from labkit.apiserver.controllers.controller import Controller
from labkit.node import Home, NodeError
from labkit.node.host import relay, relay_loop
from labkit.node.host.services import Service
from labkit.node.lab import garbage_collection, supervisor
from labkit.node.lab.runtime_controller import RuntimeController
from labkit.node.observe import external_calls
from labkit.node.observe.external_calls import LogFollower
from labkit.node.pods import pod_statuses
from labkit.node.pods.pod_statuses import PodStatuses
from labkit.node.state import status
from labkit.recording.calls.log import CallLog
from labkit.recording.recorder.recording import FAULT, FlightRecorder
from labkit.util.showable import LOG_FORMAT, OneLine
from tests.unit import test_controllers as controllers
from tests.unit.test_controllers import api, events, make_node, make_pod, pod, scheduled

__all__ = ["api"]


def fails_for(name: str, real: Any) -> Any:
    def maybe(thing: Any, *more: Any) -> Any:
        if thing["metadata"]["name"] == name:
            raise KeyError("odd")
        return real(thing, *more)

    return maybe


def test_a_pod_that_the_scheduler_cannot_judge_keeps_no_other_waiting(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "place", fails_for("bad", scheduler.place))
    make_node(api)
    make_pod(api, "bad")
    make_pod(api, "good")
    scheduler.Scheduler(api).reconcile(0)
    assert pod(api, "good")["spec"]["nodeName"] == "sim-worker"
    assert scheduled(api, "bad")["reason"] == "SchedulerError"
    assert events(api, "FailedScheduling")[0]["message"] == "running the scheduler: KeyError: 'odd'"


def test_a_claim_that_cannot_be_settled_keeps_no_other_waiting(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "best", fails_for("bad", claims.best))
    for name in ("bad", "good"):
        spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        api.create(controllers.CLAIMS, "default", {"metadata": {"name": name}, "spec": spec})
    claims.Binder(api).reconcile(0)
    assert {e["involvedObject"]["name"]: e["message"] for e in events(api, "FailedBinding")} == {
        "bad": "KeyError: 'odd'",
        "good": claims.NOTHING_SUITS,
    }


class Odd(Controller):
    """Fails as its test wants it to."""

    resources = ("nodes",)

    def __init__(self, api: Any, answers: list[Any]) -> None:
        super().__init__(api)
        self.answers, self.calls = answers, 0

    def reconcile(self, now: float) -> float:
        self.calls += 1
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return float(answer)


def waits_of(controller: Odd, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The seconds that a controller waits each time, until it has no more answers."""
    waits: list[float | None] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def wait_for(change: Any, seconds: float | None) -> None:
        change.close()
        waits.append(seconds)
        raise TimeoutError

    monkeypatch.setattr(controller_module.asyncio, "sleep", sleep)
    monkeypatch.setattr(controller_module.asyncio, "wait_for", wait_for)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(controller.run())
    return waits


def test_a_controller_that_fails_starts_again_each_time_later(
    api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [*(ValueError("odd") for _ in range(8)), 5, ValueError("odd"), asyncio.CancelledError()]
    assert waits_of(Odd(api, answers), monkeypatch) == [1, 2, 4, 8, 16, 32, 60, 60, 5, 1]
    assert "Odd failed; it starts again in 4 s" in caplog.text and "ValueError: odd" in caplog.text
    assert not api.store.listeners["nodes"]


def test_a_controller_that_cannot_write_tries_again_and_one_that_waits_for_nothing_waits(
    api: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [ApiError(500, "InternalError", "database or disk is full"), math.inf, asyncio.CancelledError()]
    assert waits_of(Odd(api, answers), monkeypatch) == [1, None]
    assert "Odd could not write: database or disk is full" in caplog.text and "Traceback" not in caplog.text


def test_a_change_wakes_a_controller_once_and_one_that_does_not_matter_does_not(api: Any) -> None:
    async def changed() -> list[int]:
        controller, calls = Odd(api, [math.inf, math.inf, math.inf]), []
        running = asyncio.create_task(controller.run())
        await asyncio.sleep(0)
        for change in (lambda: None, lambda: (make_node(api), api.store.remove("nodes", "", "sim-worker"))):
            change()
            for _ in range(5):
                await asyncio.sleep(0)
            calls.append(controller.calls)
        controller.matters = lambda change: False  # type: ignore[method-assign]
        make_node(api)
        for _ in range(5):
            await asyncio.sleep(0)
        running.cancel()
        return [*calls, controller.calls]

    assert asyncio.run(changed()) == [1, 2, 2]


def test_an_action_that_fails_is_answered_and_the_owner_lives(tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    request = SimpleNamespace(words={"do": "restart", "odd": 1}, progress=None, done=None)
    request.refused = lambda *words: said.append(words)
    owner: Any = SimpleNamespace(**{name: lambda say: {} for name in ("kill", "stop", "start", "restart", "replace")})
    owner.home = SimpleNamespace(log_file=tmp_path / "labkit.log")
    RuntimeController.answer(owner, request)  # type: ignore[arg-type]
    assert "could not restart containerd: TypeError: " in said[0][0]


def test_a_program_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tries: list[int] = []

    def prepare() -> list[str]:
        tries.append(1)
        raise OSError("no space left on device")

    service = Service("odd", prepare, tmp_path / "log", lambda: None)
    rounds = iter(range(3))

    def check_stop() -> None:
        if next(rounds) == 2:
            raise supervisor.Stop

    asked: Any = SimpleNamespace(check_stop=check_stop)
    control: Any = SimpleNamespace(next=lambda seconds: None)
    controller: Any = SimpleNamespace(collect_garbage=lambda: None)
    with pytest.raises(supervisor.Stop):
        supervisor.watch(SimpleNamespace(log_file=tmp_path / "labkit.log"), [service], asked, control, controller)  # type: ignore[arg-type]
    assert len(tries) == 1 and service.not_before > 0


def test_a_search_for_orphans_that_fails_is_made_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(garbage_collection, "find_orphans", lambda home: {}["odd"])
    garbage_collection.GarbageCollector(SimpleNamespace()).collect()  # type: ignore[arg-type]
    assert "KeyError" in caplog.text


FORGED = """it failed
2026-01-02 03:04:05,678 ERROR MainThread forged
Traceback (most recent call last):
ValueError: \x1b[2Jforged
2026-99-99 99:99:99,999 ERROR MainThread no time
"""


def test_what_a_container_prints_forges_no_line_of_a_log(tmp_path: Path) -> None:
    """A failed probe's output is in the kubelet's log, and so are the words of an error."""
    with (tmp_path / "kubelet.log").open("w") as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(OneLine(LOG_FORMAT))
        logger = logging.Logger("kubelet")
        logger.addHandler(handler)
        logger.info("event Unhealthy default/p: %s", FORGED)
        assert status.unexpected(tmp_path, "2020-01-01T00:00:00+00:00") == []
        try:
            raise ValueError(FORGED)
        except ValueError:
            logger.exception("a probe failed")
    (words,) = status.unexpected(tmp_path, "2020-01-01T00:00:00+00:00")
    assert "1 unexpected, the last: a probe failed" in words and "\x1b" not in (tmp_path / "kubelet.log").read_text()


def test_a_line_that_only_looks_like_a_records_does_not_keep_status_from_being_told(tmp_path: Path) -> None:
    (tmp_path / "kubelet.log").write_text(FORGED)
    (words,) = status.unexpected(tmp_path, "2020-01-01T00:00:00+00:00")
    assert "1 unexpected" in words


def test_status_tells_of_exceptions_since_the_node_is_up(tmp_path: Path) -> None:
    logger = logging.getLogger("test_unexpected")
    handler = logging.FileHandler(tmp_path / "kubelet.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(threadName)s %(message)s"))
    logger.addHandler(handler)
    assert status.unexpected(tmp_path, "2020-01-01T00:00:00+00:00") == []
    logger.error("an error that was expected")
    for name in ("first", "second"):
        try:
            try:
                raise ValueError("inner")
            except ValueError as error:
                raise KeyError(name) from error
        except KeyError:
            logger.exception("tidying up failed")
    logger.error("another one")
    handler.close()
    logger.removeHandler(handler)
    (words,) = status.unexpected(tmp_path, "2020-01-01T00:00:00+00:00")
    assert words == f"{tmp_path}/kubelet.log: 2 unexpected, the last: MainThread tidying up failed: KeyError: 'second'"
    assert status.unexpected(tmp_path, "2100-01-01T00:00:00+00:00") == []


# Threads


def test_an_event_that_cannot_be_taken_in_is_told_and_keeps_no_other_from_the_recording() -> None:
    def feed(event: Any) -> Any:
        if event == "odd":
            raise KeyError("odd")
        return event

    seen: list[Any] = []
    recorder: Any = object.__new__(FlightRecorder)
    recorder.notes, recorder._lock = [], threading.Lock()
    recorder._events, recorder._seen = ["one", "odd", "odd", "two"], lambda event, process: seen.append(event)
    recorder.processes = SimpleNamespace(feed=feed)
    recorder._collect()
    assert seen == ["one", "two"] and recorder.notes == [f"{FAULT} (KeyError: 'odd'): processes may be missing or misnamed."]


def test_a_runtimes_log_that_cannot_be_understood_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> str:
        raise KeyError("odd")

    follower = LogFollower(read, CallLog())
    monkeypatch.setattr(external_calls, "POLL_S", 0.001)
    with follower.in_background():
        while not follower.notes:
            time.sleep(0.001)
    assert follower.notes == ["The runtime's log could not be understood (KeyError: 'odd'): calls are missing."]


def test_a_watch_that_fails_says_so_and_one_that_was_ended_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    over, asked = threading.Event(), threading.Event()

    def lines(response: Any) -> Any:
        yield from response.lines
        asked.set()
        over.wait(20)
        raise ValueError("read of closed file")  # as urllib3 does when it was shut down

    monkeypatch.setattr(pod_statuses, "lines_of", lines)
    monkeypatch.setattr(pod_statuses, "close", lambda response: None)
    monkeypatch.setattr(PodStatuses, "_stream", lambda self, *_, **__: SimpleNamespace(lines=self.lines, shutdown=over.set))
    monkeypatch.setattr(PodStatuses, "_is_last", lambda self, changes: asked.is_set() and not self.lines)
    made: Any = PodStatuses(None)
    made.lines = []
    with made.watch() as changes:
        asked.wait(20)
    assert changes == []
    made.lines = ["no JSON"]
    with pytest.raises(NodeError, match="could not be watched to the end"), made.watch():
        pass


def test_a_relay_that_fails_says_why(tmp_path: Path) -> None:
    home = Home(tmp_path / "run", tmp_path / "data", tmp_path / "cache")
    home.make()
    program = f"""
import sys
sys.path.insert(0, {str(relay_loop.PROGRAM.parent)!r})
import relay_loop, relay_process
def turn(self): raise RuntimeError("odd")
relay_loop.Relay.turn = turn
sys.exit(relay_process.main(sys.argv[1:]))
"""
    argv = [sys.executable, "-c", program, str(home.run / "node.sock"), str(home.data / "log"), "cat"]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    while "RuntimeError" not in (relay.relay_error(home, "node") or ""):
        time.sleep(0.01)
    assert relay.relay_error(home, "node") == "The relay ended, since RuntimeError: odd."
    assert "Traceback" in (home.data / "log").read_text()
    relay.stop_relay(home, "node")


def test_a_thread_of_the_owner_that_dies_is_told_by_status(tmp_path: Path) -> None:
    log = tmp_path / "labkit.log"
    program = """
import logging, threading
from labkit.node.lab import owner_process
logging.basicConfig(filename="LOG", format="%(asctime)s %(levelname)s %(message)s")
threading.excepthook = owner_process.log_thread_failure
thread = threading.Thread(target=lambda: {}["odd"], name="pods")
thread.start()
thread.join()
"""
    subprocess.run([sys.executable, "-c", program.replace("LOG", str(log))], check=True)
    (told,) = status.unexpected(tmp_path, "2026-01-01T00:00:00+00:00")
    assert told.endswith("1 unexpected, the last: the thread pods failed: KeyError: 'odd'")


SECOND = """
import os, sys
from labkit.node.lab import supervisor
os.fork = lambda: sys.exit(3)
sys.exit(supervisor.main())
"""


def test_a_home_that_has_an_owner_gets_no_second_one(tmp_path: Path) -> None:
    """Whatever `labkit up` has seen before. In a process of its own, which would begin to own the node where it forks."""
    environ = {**os.environ, "LABKIT_HOME": str(tmp_path)}
    home = Home.find(environ)
    home.make()

    def second() -> int:
        return subprocess.run([sys.executable, "-c", SECOND], env=environ, cwd=Path(__file__).parents[2]).returncode

    assert second() == 3
    with (home.run / "owner.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert second() == 1
    assert "another process owns the node" in home.log_file.read_text()
