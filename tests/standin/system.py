"""What the fixture does to the machine with the machine's own commands: run one, wait for something, lend a user and a group."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

LOCK = Path("/tmp/.standin-accounts.lock")
ETC = Path("/etc")
ACCOUNTS = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")

Found = TypeVar("Found")


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    check: bool = True,
    timeout: float = 60,
) -> str:
    """What the command wrote to stdout, stripped; `env` is added to this process's. Raises AssertionError
    with its words if it fails and `check`; without `check` that is ""."""
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", **(env or {})}
    done = subprocess.run(argv, env=environment, input=input, capture_output=True, timeout=timeout)
    if done.returncode and check:
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise AssertionError(f"{' '.join(map(str, argv))} exited with {done.returncode}: {words}")
    return "" if done.returncode else done.stdout.decode(errors="replace").strip()


def wait_for(true: Callable[[], Found], what: str, seconds: float = 30) -> Found:
    """The first true answer. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return found


def kill_all(pids: Callable[[], Sequence[int]], what: str) -> None:
    """SIGKILL until `pids` finds nobody any more."""

    def nobody() -> bool:
        for pid in (left := pids()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    wait_for(nobody, f"{what} to end")


def add_user(name: str, home: Path, group: str) -> None:
    """An ordinary user, in `group` besides one of its own. A system account gets no ranges in /etc/subuid, which would stay."""
    with _accounts():
        run(["useradd", "--system", "--create-home", "--home-dir", home, "--groups", group, "--shell", "/bin/sh", name])


def remove_user(name: str) -> None:
    """End the user's processes and remove the account, but not its home."""
    uid = pwd.getpwnam(name).pw_uid
    kill_all(lambda: [int(p.name) for p in Path("/proc").glob("[0-9]*") if _owner(p) == uid], f"the processes of {name}")
    with _accounts():
        run(["userdel", name])


def add_group(wanted: str, otherwise: str) -> str:
    """A new group called `wanted` or, where the machine has one already, `otherwise`."""
    with _accounts():
        name = otherwise if run(["getent", "group", wanted], check=False) else wanted
        run(["groupadd", "--system", name])
    return name


def remove_group(name: str) -> None:
    with _accounts():
        run(["groupdel", name])


def _owner(process: Path) -> int | None:
    with contextlib.suppress(OSError):
        return process.stat().st_uid
    return None


@contextlib.contextmanager
def _accounts() -> Iterator[None]:
    """One change at a time, and no backup file left (passwd(5): "passwd-") where there was none."""
    backups = [ETC / f"{name}-" for name in ACCOUNTS]
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new = [backup for backup in backups if not backup.exists()]
        try:
            yield
        finally:
            for backup in new:
                backup.unlink(missing_ok=True)
