"""The course's registry on this machine's loopback, for a runtime that the learner brings."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import Any

from labkit.node.host import confined
from labkit.node.packages.programs import Programs, ensure_programs
from labkit.node.registry import registry
from labkit.node.registry.course_images import course_images
from labkit.node.state import status, trust
from labkit.node.state.home import Home
from labkit.node.state.locks import machine_lock
from labkit.util import environment
from labkit.util.outputs import PRIVATE, read_note, write_whole
from labkit.util.progress import Progress

START_WITHIN_S = 8.0
"""Shorter than a lab waits for another one (`labkit.node.state.locks`)."""


class Loopback:
    """A docker-registry on loopback, for runtimes whose configuration labkit does not write. It runs until `stop`. It keeps its
    port, since a runtime's configuration may name it."""

    PORT = 15055

    def __init__(self, home: Home) -> None:
        self.home = home
        self.note = home.data / "loopback-registry.json"
        self.port_file = home.data / "loopback-registry.port"

    @property
    def port(self) -> int:
        """The port it has, or will have."""
        try:
            return int(self.port_file.read_text())
        except (OSError, ValueError):
            return self.PORT

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def choose_port(self, progress: Progress) -> int:
        """The port of the last time; a new one only where that is taken. It is kept for the next start."""
        port = self.port
        if not registry.is_free(port):
            port = registry.free_port()
            progress(f"port {self.port} is in use, so the course's registry has port {port} from now on")
        self.port_file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.port_file, str(port).encode(), PRIVATE)
        return port

    def ensure(self, progress: Progress) -> str:
        """Start it where it does not run. Returns "localhost:PORT". Raises NodeError, RegistryError and OSError."""
        if note := self.running():
            return str(note["host"])
        programs = ensure_programs(self.home.cache, progress)
        progress("starting the course's registry on loopback")
        with machine_lock("registry-port"):
            return self.start(programs, progress)

    def start(self, programs: Programs, progress: Progress) -> str:
        directory, account = self.home.data / "loopback", confined.account(str(self.home.data))
        images = course_images(catatonit=programs.catatonit, busybox=programs.busybox)
        made = registry.configure(
            programs.docker_registry, directory, "registry", images, self.choose_port(progress), group=account
        )
        with trust.append(self.home.data / "loopback-registry.log") as log:
            process = subprocess.Popen(
                made.argv, executable=made.executable, cwd=made.directory, env=environment.daemon(), umask=environment.UMASK,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **confined.popen(account),
            )
        registry.wait_ready(made.url, START_WITHIN_S, lambda: process.poll() is None)
        host = made.url.replace("http://127.0.0.1", "localhost")
        note = {"pid": process.pid, "started": status.start_time(process.pid), "host": host}
        write_whole(self.note, json.dumps(note).encode(), PRIVATE)
        return host

    def running(self) -> dict[str, Any] | None:
        note = read_note(self.note, dict)
        if not isinstance(note.get("pid"), int) or not isinstance(note.get("host"), str):
            return None
        started = status.start_time(note["pid"])
        return note if started and started == note.get("started") else None

    def stop(self) -> None:
        if note := self.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(note["pid"], 15)
        self.note.unlink(missing_ok=True)
