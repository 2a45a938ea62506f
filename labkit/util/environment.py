"""Which settings of the learner's shell the processes that labkit starts get.

A daemon gets the variables of `daemon` and no others, and is started by `launched`: this file, run as a program, sets umask,
signals and limits as a service manager would (systemd.exec(5)), and becomes the daemon. So a Pod is the same whatever shell
brought its node up. Commands that are the learner's own (docker, kind, kubectl) keep her whole environment.

Only the standard library is used, since the program runs without site-packages.
"""

from __future__ import annotations

import contextlib
import locale
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence

KEPT = frozenset((
    "APT_CONFIG", "HOME", "LD_LIBRARY_PATH", "LOGNAME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "SSL_CERT_DIR",
    "SSL_CERT_FILE", "SUDO_UID", "TZ", "USER",
    "ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "https_proxy", "no_proxy",
))
"""SUDO_UID: whose files root may believe (`labkit.node.state.trust`). LD_LIBRARY_PATH: some Pythons start only with it. Proxies:
containerd pulls through them, and apt fetches; neither uses them to reach this machine."""
KEPT_PREFIXES = ("LABKIT_", "XDG_")
"""The lab's own, and those that say where the user's directories are."""
ENGINE = ("CONTAINER", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_", "NERDCTL_", "PODMAN_", "SSH_AUTH_SOCK")
"""How the names begin by which docker, podman and nerdctl find their engine."""
SET = {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where mount, ip and their like are, whatever a user's PATH is; last, so that it overrules nothing."""
UMASK = 0o022
STACK_BYTES = 8 << 20
RAISED = ("AS", "CPU", "DATA", "FSIZE", "MEMLOCK", "MSGQUEUE", "NOFILE", "NPROC", "RSS", "SIGPENDING")
"""Soft limits that are raised to the hard ones. Not CORE: Pods would write core dumps."""


def daemon(more: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a daemon: what is KEPT of this process's, a PATH that works, a UTF-8 locale, and `more`."""
    environ = os.environ if environ is None else environ
    kept = {name: value for name, value in environ.items() if name in KEPT or name.startswith(KEPT_PREFIXES)}
    if os.path.isabs(environ.get("TMPDIR", "")) and os.path.isdir(environ["TMPDIR"]):
        kept["TMPDIR"] = environ["TMPDIR"]
    given = environ.get("PYTHONPATH", "").split(os.pathsep)
    if modules := [place for place in given if os.path.isabs(place) and os.path.isdir(place)]:
        kept["PYTHONPATH"] = os.pathsep.join(modules)  # labkit itself may be importable only by it
    return {**kept, **SET, "PATH": search_path(environ), **(more or {})}


def engine(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a daemon gets besides that runs docker, podman or nerdctl for the learner."""
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name.startswith(ENGINE)}


def search_path(environ: Mapping[str, str] | None = None) -> str:
    """PATH with its absolute directories, then SYSTEM_PATH: the same whatever the current directory is."""
    given = (os.environ if environ is None else environ).get("PATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys([directory for directory in given if os.path.isabs(directory)] + list(SYSTEM_PATH)))


def launched(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The command that resets its process (see `settle`) and becomes `argv`, in the same process."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), *(os.fspath(word) for word in argv)]


def prepare_client() -> None:
    """Make this process able to run the system's programs and to learn how they ended. Called where labkit begins to work for
    somebody: in its command line, and in a notebook's kernel at `connect`."""
    os.environ["PATH"] = search_path()
    open_standard_files()
    os.umask(os.umask(0o077) | UMASK)  # no other user can write to what a command makes
    with contextlib.suppress(ValueError):  # signals are the main thread's
        if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
            # The kernel then reaps children by itself, and every command seems to have ended well (man 2 wait, ECHILD).
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def speak_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the locale has another encoding: the lab's files and what its
    programs print are UTF-8."""
    if not sys.flags.utf8_mode and locale.getpreferredencoding(False).lower().replace("-", "") != "utf8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def settle() -> None:
    """Reset what a process inherits from a shell besides variables: umask, closed standard files, ignored and blocked signals,
    soft limits, a high OOM score."""
    os.umask(UMASK)
    open_standard_files()
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError, ValueError):  # the C library keeps two for itself
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in RAISED:
        raise_limit(name)
    raise_limit("STACK", STACK_BYTES)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+") as score:
        if int(score.read()) > 0:
            score.seek(0)
            score.write("0")


def open_standard_files() -> None:
    """Open /dev/null for each of 0, 1 and 2 that is closed: a file opened later would get the number, and others' output."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which in this order is `fd`
            os.set_inheritable(opened, True)


def raise_limit(name: str, least: int | None = None) -> None:
    """Raise a soft limit to the hard one, or to `least`; elsewhere than on Linux some do not exist."""
    number = getattr(resource, f"RLIMIT_{name}", None)
    if number is None:
        return
    soft, hard = resource.getrlimit(number)
    infinity = resource.RLIM_INFINITY
    wanted = hard if least is None or (hard != infinity and hard < least) else least
    if soft != infinity and (wanted == infinity or soft < wanted):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(number, (wanted, hard))


def main(argv: list[str]) -> None:
    settle()
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.exit(f"{argv[0]} cannot be run: {error.strerror}.")


if __name__ == "__main__":
    main(sys.argv[1:])
