"""Long-running programs of a node: how they are started, watched, restarted and ended."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.node.state import trust
from labkit.util import environment
from labkit.util.errors import NodeError
from labkit.util.progress import attempts
from labkit.util.termination import end_child

log = logging.getLogger("labkit")

READY_WITHIN_S = 60.0
STABLE_S = 30.0
"""A program that ran this long is restarted at once; one that ends sooner waits longer each time."""
OUTPUT_MOST = 32_000_000
"""Bytes of a log file; there are at most two such files for each program."""
LONGEST_S, LONGEST_AFTER_ANSWER_S = 30.0, 1.0
"""The longest waiting time: of a program that never answered, and of one that did, which a lesson may be killing."""


@dataclass
class Service:
    """One program. `prepare` is called before each start and returns its argv. `ready` returns when the program answers and
    raises when it does not; `answered` is whether it has answered since its last start. Output goes to the file `output`. While
    it is `held` nobody starts it again. `popen`: more arguments of subprocess.Popen."""

    name: str
    prepare: Callable[[], Sequence[str]]
    output: Path
    ready: Callable[[], object]
    env: Mapping[str, str] = field(default_factory=dict)
    popen: Mapping[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    quick_deaths: int = 0
    not_before: float = 0.0
    answered: bool = False
    held: bool = False

    def start(self) -> None:
        """Start the program in a session of its own, so that a Ctrl-C for another program does not reach it.

        It gets the environment of `labkit.util.environment.daemon`: a REGISTRY_* variable, for example, would override
        docker-registry's file.
        """
        limit_size(self.output)
        with trust.append(self.output) as output:
            self.process = subprocess.Popen(
                self.prepare(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment.daemon(self.env),
                umask=environment.UMASK,
                start_new_session=True,
                **self.popen,
            )
        self.started = time.monotonic()
        self.held = self.answered = False
        log.info("%s started, pid %d", self.name, self.process.pid)

    def died(self) -> bool:
        """Whether it ran and has ended. The log says once how it ended and when it may start again."""
        if self.process is None or self.process.poll() is None:
            return False
        code = self.process.returncode
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        lived = time.monotonic() - self.started
        self.quick_deaths = 0 if lived > STABLE_S else self.quick_deaths + 1
        longest = LONGEST_AFTER_ANSWER_S if self.answered else LONGEST_S
        wait = 0.0 if self.quick_deaths <= 1 else min(0.5 * 2 ** (self.quick_deaths - 2), longest)
        self.not_before = time.monotonic() + wait
        log.warning(
            "%s (pid %d) ended %s after %.1f s; it is started again%s",
            self.name,
            self.process.pid,
            how,
            lived,
            f" in {wait:.1f} s" if wait else "",
        )
        self.process = None
        return True

    def due(self) -> bool:
        """Whether to start it again now: it has ended, nobody holds it, and its waiting time is over."""
        return not self.held and (self.died() or self.process is None) and time.monotonic() >= self.not_before

    def wait_ready(self, check_stop: Callable[[], None] = lambda: None) -> None:
        """Wait until it answers. Raises NodeError with its last words when it dies meanwhile, or takes too long. `check_stop` is
        called again and again, and may raise what ends the waiting."""
        for left in attempts(READY_WITHIN_S):
            check_stop()
            try:
                self.ready()
                self.answered = True
                return
            except Exception as error:
                if self.process is None or self.process.poll() is not None:
                    raise NodeError(
                        f"{self.name} ended while it started: {last_words(self.output)}", f"Its whole output is in {self.output}."
                    ) from error
                if not left:
                    raise NodeError(
                        f"{self.name} did not answer within {READY_WITHIN_S:.0f} s ({error}).", f"Its output is in {self.output}."
                    ) from error

    def kill(self) -> None:
        """End the program by SIGKILL and hold it: nobody starts it again until `start`."""
        self.held = True
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            log.info("%s (pid %d) killed, as asked", self.name, self.process.pid)
        self.process = None

    def stop(self, grace_s: float = 10.0) -> None:
        """End the program: SIGTERM, then SIGKILL when `grace_s` has passed."""
        if self.process is None:
            return
        if not end_child(self.process, grace_s):
            log.warning("%s did not end within %.0f s of SIGTERM and was ended by SIGKILL", self.name, grace_s)
        self.process = None


def limit_size(log_file: Path) -> None:
    """Keep a log file below OUTPUT_MOST bytes: its text becomes NAME.1, and the earlier NAME.1 is dropped.

    The file is emptied, not replaced: a running program has it open for appending and goes on at the new end.
    """
    with contextlib.suppress(FileNotFoundError):
        if log_file.stat().st_size > OUTPUT_MOST:
            older = log_file.with_name(f"{log_file.name}.1")
            trust.append(older).close()  # its owner's alone
            shutil.copyfile(log_file, older)
            os.truncate(log_file, 0)


def last_words(output: Path) -> str:
    """The last important line of a program's output file."""
    return weighty(output.read_text(errors="replace"))


def weighty(text: str) -> str:
    """The last important line of a program's output."""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines[-20:] if "level=fatal" in line or "level=error" in line or line.startswith("containerd:")]
    return (errors or lines or ["it printed nothing"])[-1][:400]
