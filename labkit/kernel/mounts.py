"""The mount table of the node, read again when it has changed; and whether those of other mount namespaces have."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import threading
import weakref
from collections.abc import Callable

from labkit.kernel.files import checked, libc, read_text
from labkit.kernel.model import Mount
from labkit.kernel.parse import parse_mountinfo
from labkit.kernel.processes import own_namespace

# The kernel's include/uapi/linux/fanotify.h.
_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_REPORT_MNT = 1, 2, 0x4000
_FAN_MARK_ADD, _FAN_MARK_MNTNS = 1, 0x110
_FAN_MNT_ATTACH, _FAN_MNT_DETACH = 0x1000000, 0x2000000
_READ_SIZE = 65536


def read_mountinfo(proc: str) -> str:
    """Of the reader's own mount namespace, or of process 1 where `proc` is another pid namespace's."""
    try:
        return read_text(f"{proc}/self/mountinfo")
    except FileNotFoundError:
        return read_text(f"{proc}/1/mountinfo")


class MountReader:
    """Reads the mount table again and again.

    poll(2) on an open /proc/self/mountinfo tells whether a mount came, went, moved or got other options since the poll before
    (man 5 proc). It does not tell that a directory above a mount point was renamed: that path stays as it was until the next one.
    Another mount namespace than the reader's own is read each time, since an open file of it would keep it alive.
    """

    def __init__(self, proc: str) -> None:
        self._proc = proc
        self._of: tuple[int, int] | None = None
        self._poll = select.poll()
        self._close: Callable[[], object] = lambda: None
        self._lock = threading.Lock()
        self._text = ""
        self._mounts: tuple[Mount, ...] = ()

    def read(self) -> tuple[Mount, ...]:
        """The same object as before while nothing has changed."""
        with self._lock:
            if self._changed() and (text := read_mountinfo(self._proc)) != self._text:
                self._text, self._mounts = text, parse_mountinfo(text)
            return self._mounts

    def _changed(self) -> bool:
        namespace = own_namespace(self._proc, "mnt")
        if namespace is None:
            return True
        of = os.getpid(), namespace  # a forked child shares the open file, and with it what a poll has told already
        if of == self._of:
            return bool(self._poll.poll(0))
        self._close()
        descriptor = os.open(f"{self._proc}/self/mountinfo", os.O_RDONLY)
        self._close = weakref.finalize(self, os.close, descriptor)
        self._poll, self._of = select.poll(), of
        self._poll.register(descriptor, select.POLLPRI)
        return True


class MountWatch:
    """Tells whether a mount came, moved or went in one of the mount namespaces that are watched, by fanotify(7) since Linux 6.15,
    for root. A namespace is not kept alive by it; that one ends is told, too: its mounts go."""

    def __init__(self) -> None:
        """Raises OSError where the kernel does not tell this user."""
        self._events = checked(libc.fanotify_init(_FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_REPORT_MNT, os.O_RDONLY))
        self._of = os.getpid()
        self.close = weakref.finalize(self, os.close, self._events)

    def add(self, namespace: int) -> None:
        """Watch one more mount namespace, of which a descriptor is given. Raises OSError."""
        mask = ctypes.c_uint64(_FAN_MNT_ATTACH | _FAN_MNT_DETACH)
        checked(libc.fanotify_mark(self._events, _FAN_MARK_ADD | _FAN_MARK_MNTNS, mask, namespace, None))

    def changed(self) -> bool:
        """Since this was asked before. Raises OSError in a forked child, which shares the events with its parent."""
        if self._of != os.getpid():
            raise OSError("the events are another process's")
        changed = False
        with contextlib.suppress(BlockingIOError):
            while os.read(self._events, _READ_SIZE):
                changed = True
        return changed
