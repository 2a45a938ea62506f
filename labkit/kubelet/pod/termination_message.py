"""What a container left as its last words: its termination log, the end of its log, or the runtime's own message.

Knowledge: kubelet's kuberuntime_container.go (getTerminationMessage, readLastStringFromContainerLogs).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
MESSAGE_BYTES = 4096
LOG_LINES, LOG_BYTES = 80, 2048


def last_words(status: Any) -> str:
    """What a container left in its termination log, or, where its policy says so and it failed, the end of its log; else
    the runtime's own message (getTerminationMessage)."""
    path = status.annotations.get(MESSAGE_PATH, "")
    text = ""
    for mount in status.mounts:
        if path and mount.container_path == path:
            text = tail(Path(mount.host_path), MESSAGE_BYTES)
    wants_log = status.annotations.get(MESSAGE_POLICY) == "FallbackToLogsOnError" and status.reason != "ContainerCannotRun"
    if not text and status.exit_code and wants_log:
        text = log_tail(Path(status.log_path))
    if status.message and text:
        return f"{status.message}: {text}"
    return text or str(status.message)


def tail(path: Path, size: int) -> str:
    """The last `size` bytes of a regular file; "" where there is none."""
    try:
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return ""
            file.seek(0, 2)
            file.seek(max(file.tell() - size, 0))
            return file.read(size).decode(errors="replace")
    except OSError:
        return ""


def log_tail(path: Path) -> str:
    """The end of a log in the CRI format ("TIME STREAM TAG TEXT"), without times: 80 lines and 2048 bytes at most."""
    lines = [line.split(" ", 3) for line in tail(path, LOG_BYTES * 8).removesuffix("\n").split("\n")[-LOG_LINES:]]
    return "".join(parts[3] + ("\n" if parts[2] == "F" else "") for parts in lines if len(parts) == 4)[-LOG_BYTES:]
