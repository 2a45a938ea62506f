"""Kernels that listen on Unix sockets of their user.

By default a kernel listens on TCP ports of 127.0.0.1. What it is told to do is signed with a key, but what it publishes is not
encrypted: every user of the machine can connect and read each cell and each output, the lab's password and token among them.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

from traitlets.config import Config

LONGEST_BYTES = 103
"""The longest path of a Unix socket (sun_path, man 7 unix; macOS has one of 104 bytes, with its NUL)."""
NAME = "kernel-00000000-0000-0000-0000-000000000000-ipc-10"
"""A socket's name as jupyter_client makes it: the kernel's id, and a number for each channel."""


def listen_privately(kernels: Any) -> None:
    """Have the kernels that a `jupyter_server` MappingKernelManager starts from now on listen on sockets beside their connection
    files, in a directory of this user's own if the path of that one is too long for sockets."""
    if len(os.fsencode(os.path.join(kernels.connection_dir, NAME))) > LONGEST_BYTES:
        kernels.connection_dir = tempfile.mkdtemp(prefix="labkit-")
        atexit.register(shutil.rmtree, kernels.connection_dir, ignore_errors=True)
    kernels.update_config(Config(KernelManager={"transport": "ipc"}))


def listening_in(directory: str) -> Config:
    """The configuration of a jupyter_client KernelManager whose only kernel listens on sockets in `directory`."""
    return Config(KernelManager={"transport": "ipc", "connection_file": os.path.join(directory, "kernel.json")})
