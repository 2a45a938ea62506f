"""Kills, stops, starts, restarts and replaces containerd, as requested from the node's owner."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from labkit.cri import CriError
from labkit.node.host import containerd_setup
from labkit.node.host.services import Service
from labkit.node.lab.control import ControlRequest
from labkit.node.packages import releases
from labkit.node.packages.programs import find_programs
from labkit.node.packages.releases import Release
from labkit.node.state import status
from labkit.node.state.home import Home
from labkit.util.errors import NodeError

log = logging.getLogger("labkit")


class RuntimeController(ABC):
    """Carries out requests, one at a time. The base for every containerd that labkit owns."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def answer(self, request: ControlRequest) -> None:
        """Carry out a request and answer it; a failure is an answer, too."""
        actions: dict[str, Callable[..., dict[str, Any]]] = {
            "kill": self.kill,
            "stop": self.stop,
            "start": self.start,
            "restart": self.restart,
            "replace": self.replace,
        }
        words = dict(request.words)
        name = words.pop("do")
        if name not in actions:
            request.refused(
                f"The node's owner cannot {name}.", "It may be another labkit's: run `labkit down`, then `labkit up`."
            )
            return
        log.info("asked to %s", " ".join([name, *map(str, words.values())]))
        try:
            request.done(**actions[name](request.progress, **words))
        except NodeError as error:
            log.error("%s", error)
            request.refused(error.happened, error.todo)
        except OSError as error:
            log.exception("could not %s", name)
            request.refused(f"The node's owner could not {name} containerd: {error.strerror}.", "`labkit status` says how it is.")
        except (LookupError, TypeError, ValueError, RuntimeError, CriError) as error:
            log.exception("could not %s", name)
            happened = f"The node's owner could not {name} containerd: {type(error).__name__}: {error}."
            request.refused(happened, f"`labkit status` says how it is; {self.home.log_file} has more.")
        except BaseException:
            request.refused("The node is being stopped.", "Bring it up with `labkit up`.")
            raise

    def kill(self, say: Callable[[str], None], lesson: str = "") -> dict[str, Any]:
        self.end(by_kill=True)
        return self.report("stopped", stopped_by=lesson)

    def stop(self, say: Callable[[str], None], lesson: str = "") -> dict[str, Any]:
        self.end()
        return self.report("stopped", stopped_by=lesson)

    def start(self, say: Callable[[str], None]) -> dict[str, Any]:
        if not self.runs():
            status.write(self.home, state="restarting", restarting="containerd")
            self.begin()
        return self.report("ready")

    def restart(self, say: Callable[[str], None]) -> dict[str, Any]:
        status.write(self.home, state="restarting", restarting="containerd")
        self.end()
        self.begin()
        return self.report("ready")

    def replace(self, say: Callable[[str], None], version: str, lesson: str = "") -> dict[str, Any]:
        """Start another version on the same root and state directories. If it does not start, the old one is started again."""
        release = releases.pick(self.here(), version)
        if release is None:
            raise NodeError(f"containerd {version} is not here.", f"Fetch it with `labkit fetch containerd {version}`.")
        old, old_by = self.chosen(), containerd_setup.chosen_by(self.home)
        self.install(release, say)
        containerd_setup.choose(self.home, release, lesson)
        status.write(self.home, state="restarting", restarting="containerd")
        say(f"stopping containerd {old.version}")
        away = time.monotonic()
        self.end()
        say(f"starting containerd {release.version}")
        try:
            self.switch_to(release)
        except NodeError as error:
            say(f"containerd {release.version} does not start; going back to {old.version}")
            self.end()
            containerd_setup.choose(self.home, old, old_by)
            self.switch_to(old)
            self.report("ready")
            raise NodeError(
                f"containerd {release.version} did not start, so the node runs {old.version} again: {error.happened}", error.todo
            ) from error
        return {**self.report("ready"), "before": old.version, "away_s": round(time.monotonic() - away, 3)}

    def report(self, state: str, stopped_by: str = "") -> dict[str, Any]:
        runtime = {"runtime": self.runtime()} if state == "ready" else {}
        pids = self.processes()
        status.write(self.home, state=state, restarting=None, processes=pids, stopped_by=stopped_by or None, **runtime)
        return {"state": state, "pid": self.pid(), "version": self.chosen().version}

    def chosen(self) -> Release:
        return containerd_setup.chosen(self.home, self.here())

    @abstractmethod
    def here(self) -> Sequence[Release]:
        """The releases that this node can run."""

    @abstractmethod
    def held(self) -> bool:
        """Whether containerd is held: it does not run until `begin`."""

    @abstractmethod
    def runs(self) -> bool: ...

    @abstractmethod
    def pid(self) -> int | None:
        """containerd's pid on the node."""

    @abstractmethod
    def processes(self) -> dict[str, int]:
        """Name → pid of the programs that the owner runs, for `node.json`."""

    @abstractmethod
    def runtime(self) -> dict[str, str]:
        """containerd's name and version, as it reports them."""

    @abstractmethod
    def end(self, *, by_kill: bool = False) -> None:
        """End containerd by SIGKILL or SIGTERM, and hold it. Does nothing where it does not run."""

    @abstractmethod
    def begin(self) -> None:
        """Start containerd, and wait until it answers. Raises NodeError."""

    @abstractmethod
    def switch_to(self, release: Release) -> None:
        """Start another release."""

    @abstractmethod
    def install(self, release: Release, say: Callable[[str], None]) -> None:
        """Put a release where it can be run, while the old one still runs. Raises NodeError."""


class Collector(Protocol):
    """The part of the garbage collector (`labkit.node.lab.garbage_collection`) that is used here."""

    def before_start(self) -> None: ...
    def collect(self) -> None: ...


class PrivateRuntimeController(RuntimeController):
    """For a private node. `wait_ready` waits until a service answers, and raises NodeError."""

    def __init__(
        self, home: Home, services: Sequence[Service], wait_ready: Callable[[Service], None], collector: Collector
    ) -> None:
        super().__init__(home)
        self.wait_ready, self.services = wait_ready, services
        self.containerd = next(s for s in services if s.name == "containerd")
        self.argv = self.containerd.prepare()
        self.containerd.prepare = self.prepare
        self.collector = collector

    def prepare(self) -> Sequence[str]:
        self.collector.before_start()
        return self.argv

    def collect_garbage(self) -> None:
        """Remove what belongs to no Pod, while containerd runs."""
        if self.containerd.process:
            self.collector.collect()

    def here(self) -> Sequence[Release]:
        return releases.here(self.home.cache)

    def held(self) -> bool:
        return self.containerd.held

    def runs(self) -> bool:
        return self.containerd.process is not None

    def pid(self) -> int | None:
        return self.containerd.process.pid if self.containerd.process else None

    def processes(self) -> dict[str, int]:
        return {s.name: s.process.pid for s in self.services if s.process}

    def runtime(self) -> dict[str, str]:
        return containerd_setup.runtime_version(self.home.socket)

    def end(self, *, by_kill: bool = False) -> None:
        if by_kill:
            self.containerd.kill()
        else:
            self.containerd.stop()
            self.containerd.held = True

    def install(self, release: Release, say: Callable[[str], None]) -> None:
        """Nothing to do: it runs from the cache."""

    def switch_to(self, release: Release) -> None:
        self.argv, self.containerd.env = containerd_setup.command(self.home, release.programs(find_programs(self.home.cache)))
        self.begin()

    def begin(self) -> None:
        self.containerd.start()
        self.wait_ready(self.containerd)
        self.collect_garbage()
