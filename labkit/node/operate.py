"""What the node's owner does to containerd when it is asked: kill, stop, start, restart, replace by another version."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from labkit.node import private, releases, status
from labkit.node.control import Request
from labkit.node.errors import NodeError
from labkit.node.home import Home
from labkit.node.programs import find_programs
from labkit.node.releases import Release
from labkit.node.services import Service
from labkit.node.sweep import Tidier

log = logging.getLogger("labkit")


class Operator:
    """Does what requests ask, one at a time. `wait_ready` waits until a service answers (raises NodeError)."""

    def __init__(self, home: Home, services: Sequence[Service], wait_ready: Callable[[Service], None]) -> None:
        self.home, self.wait_ready, self.services = home, wait_ready, services
        self.containerd = next(s for s in services if s.name == "containerd")
        self.argv = self.containerd.prepare()
        self.containerd.prepare = self.prepare
        self.tidier = Tidier(home)

    def answer(self, request: Request) -> None:
        """Do what a request asks and answer it; whatever goes wrong is an answer too."""
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
            request.done(**actions[name](request.said, **words))
        except NodeError as error:
            log.error("%s", error)
            request.refused(error.happened, error.todo)
        except OSError as error:
            log.exception("could not %s", name)
            request.refused(f"The node's owner could not {name} containerd: {error.strerror}.", "`labkit status` says how it is.")
        except BaseException:
            request.refused("The node is being stopped.", "Bring it up with `labkit up`.")
            raise

    def prepare(self) -> Sequence[str]:
        self.tidier.note()
        return self.argv

    def tidy(self) -> None:
        """Remove what belongs to no Pod any more, where containerd runs."""
        if self.containerd.process:
            self.tidier.look()

    def kill(self, say: Callable[[str], None]) -> dict[str, Any]:
        self.running()
        self.containerd.kill()
        return self.report("stopped")

    def stop(self, say: Callable[[str], None]) -> dict[str, Any]:
        self.running()
        self.containerd.stop()
        self.containerd.held = True
        return self.report("stopped")

    def start(self, say: Callable[[str], None]) -> dict[str, Any]:
        if self.containerd.process is None:
            status.write(self.home, state="restarting", restarting="containerd")
            self.begin()
        return self.report("ready")

    def restart(self, say: Callable[[str], None]) -> dict[str, Any]:
        status.write(self.home, state="restarting", restarting="containerd")
        self.containerd.stop()
        self.begin()
        return self.report("ready")

    def replace(self, say: Callable[[str], None], version: str) -> dict[str, Any]:
        """Another version on the same root and state directories. When it does not start, the old one is started again."""
        release = releases.find(self.home.cache, version)
        if release is None:
            raise NodeError(f"containerd {version} is not here.", f"Bring it with `labkit fetch containerd {version}`.")
        old = private.chosen(self.home)
        private.choose(self.home, release)
        status.write(self.home, state="restarting", restarting="containerd")
        say(f"stopping containerd {old.version}")
        away = time.monotonic()
        self.containerd.stop()
        say(f"starting containerd {release.version}")
        try:
            self.become(release)
        except NodeError as error:
            say(f"containerd {release.version} does not start; going back to {old.version}")
            self.containerd.stop()
            private.choose(self.home, old)
            self.become(old)
            self.report("ready")
            raise NodeError(
                f"containerd {release.version} did not start, so the node runs {old.version} again: {error.happened}", error.todo
            ) from error
        return {**self.report("ready"), "before": old.version, "away_s": round(time.monotonic() - away, 3)}

    def become(self, release: Release) -> None:
        self.argv, self.containerd.env = private.command(self.home, release.programs(find_programs(self.home.cache)))
        self.begin()

    def begin(self) -> None:
        self.containerd.start()
        self.wait_ready(self.containerd)
        self.tidy()

    def running(self) -> None:
        if self.containerd.held:
            raise NodeError("containerd does not run.", "Start it with node.daemon.start() or `labkit containerd start`.")

    def report(self, state: str) -> dict[str, Any]:
        processes = {s.name: s.process.pid for s in self.services if s.process}
        runtime = private.runtime_version(self.home) if state == "ready" else None
        status.write(self.home, state=state, restarting=None, processes=processes, **({"runtime": runtime} if runtime else {}))
        return {"state": state, "pid": processes.get("containerd"), "version": private.chosen(self.home).version}
