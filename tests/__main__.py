"""`./course test [ARGS]`: style, types and tests; or, where ARGS select tests (a path, a node id, -k, -m, --lf), those alone.

Style and types are checked while the tests run. What -k, -m and directories select runs on several workers (-n NUMBER), as
everything does; files and node ids run in one process, since a worker takes seconds to start. ARGS go to pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

WORKERS = 3
RUN = "TESTS_RUN"
"""The environment variable with the name of this run, which the homes of its labs have in theirs."""
TOOK = Path(__file__).parent / "out" / "seconds.json"
FAILED, NO_TESTS = 1, 5
"""pytest's exit statuses (its documentation, "Exit codes")."""


def main(arguments: Sequence[str]) -> int:
    began = time.monotonic()
    known = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    known.add_argument("-n", type=int, default=WORKERS)
    chosen, arguments = known.parse_known_args(arguments)
    workers = chosen.n
    known.add_argument("-k")
    known.add_argument("-m")
    known.add_argument("-x", "--exitfirst", action="store_true")
    known.add_argument("--lf", "--last-failed", action="store_true")
    known.add_argument("--co", "--collect-only", action="store_true")
    chosen, rest = known.parse_known_args(arguments)
    paths = [Path(place) for word in rest if (place := word.partition("::")[0]) and os.path.exists(place)]
    selected = bool(paths or chosen.k or chosen.m or chosen.lf)
    checks = [] if selected or chosen.co else [Check("ruff", "check", "--quiet", "."), Check("mypy", "--no-error-summary")]
    os.environ[RUN] = f"{os.getpid()}-"
    if workers == 0 or chosen.co or any(map(Path.is_file, paths)):
        status = pytest(*arguments)
    else:
        status = side_by_side(workers, arguments, stop=chosen.exitfirst)
    remove_homes(os.environ[RUN])
    passed = [check.passed() for check in checks]  # all of them, whichever fails
    if not selected and not chosen.co and status == 0:
        note("soak" if "--soak" in rest else "all" if "--all" in rest else "quick", time.monotonic() - began)
    return status or (0 if all(passed) else 1)


def side_by_side(workers: int, arguments: Sequence[str], *, stop: bool) -> int:
    """Run what can share the machine on workers, and then what cannot. Returns the worse of pytest's two exit statuses."""
    options = ("-n", str(workers), "--dist", "loadgroup", "--no-loadscope-reorder")  # the order is that of tests/tiers.py
    together = pytest(*options, "--alone", "not", *arguments)
    if together not in (0, NO_TESTS) and (stop or together != FAILED):
        return together
    alone = pytest("--alone", "only", *arguments)
    return max({together, alone} - {NO_TESTS}, default=NO_TESTS)


def note(tier: str, seconds: float) -> None:
    """Keep how long a whole tier took that passed, for `./course bench tests`."""
    TOOK.parent.mkdir(exist_ok=True)
    took = json.loads(TOOK.read_text()) if TOOK.exists() else {}
    TOOK.write_text(json.dumps({**took, tier: round(seconds)}))


def pytest(*arguments: str) -> int:
    # nbval is for notebooks, which run in a process of their own, and takes three seconds to import.
    return wait(subprocess.Popen([sys.executable, "-m", "pytest", "-p", "no:nbval", *arguments]))


def wait(process: subprocess.Popen[bytes]) -> int:
    """Its exit status, as a shell has it (128 and the signal that killed it). Ctrl-C reaches it without us, and it cleans up;
    SIGTERM, on which it would not, is handed on as that."""
    signal.signal(signal.SIGTERM, lambda *_: process.send_signal(signal.SIGINT))
    while True:
        try:
            status = process.wait()
            return status if status >= 0 else 128 - status
        except KeyboardInterrupt:
            continue


def remove_homes(run: str) -> None:
    """Remove the labs of tests that were killed before they could do so. Their homes have the run's name."""
    for base in Path("/tmp").glob(f"lk-{run}*"):
        print(f"course: removing the lab in {base}, which the tests left", file=sys.stderr)
        cleaned = subprocess.run([sys.executable, "-m", "labkit.cli", "clean"], env={**os.environ, "LABKIT_HOME": str(base)})
        if cleaned.returncode == 0:
            shutil.rmtree(base)


class Check:
    """A command that runs beside the tests, and whose words are shown when they have ended."""

    def __init__(self, *command: str) -> None:
        self.name = command[0]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def passed(self) -> bool:
        words, _ = self.process.communicate()
        passed = self.process.returncode == 0
        print(f"course: {self.name} {'is content' if passed else f'is not content:{chr(10)}{words}'}", file=sys.stderr)
        return passed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
