"""Where the containerd of a node looks for the addresses of registries: the directories of its `config_path`.

The verbose Status names it until containerd 1.7. From 2.0 on only the configuration has it, below another plugin, and its default
from 2.2 on is two directories joined by a colon. A containerd that pulls by its transfer service takes such a list for the name
of one directory (containerd issue 12808; tried with 2.1.9), so any of the three may be read; only a pull shows which.
Knowledge: containerd's docs/hosts.md, docs/cri/registry.md, docs/cri/config.md.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Iterable
from typing import Any

from labkit.cri import CriClient, verbose
from labkit.util.errors import NodeError

DEFAULT = "/etc/containerd/certs.d"

DUMP = r"""
IFS='
'
for process in /proc/[0-9]*; do
    read -r name <"$process/comm" && [ "$name" = containerd ] || continue
    [ "$(readlink "$process/ns/pid")" = "$(readlink /proc/self/ns/pid)" ] || continue # a Pod's, which may be any program
    set -f
    set -- $(tr '\0' '\n' <"$process/cmdline")
    set +f
    [ $# -gt 0 ] || continue # a zombie
    shift
    "$process/exe" "$@" config dump && printf '\0'
done 2>/dev/null
true
"""
"""Prints the configuration of each containerd of the node itself, by the file that it was started with; a NUL after each."""


def directories(cri: CriClient, run: Callable[..., bytes], socket: str) -> list[str]:
    """The directories that can be meant, none where the runtime says that it reads none. `socket` is the runtime's on the node.

    Raises CriError.
    """
    paths = dumped(run, socket)
    if (of_status := verbose.registry_path(cri)) is not None:
        paths.append(of_status)
    if not paths:
        return [DEFAULT]
    return list(dict.fromkeys(directory for path in paths for directory in expanded(path)))


def places(cri: CriClient, run: Callable[..., bytes], socket: str) -> list[str]:
    """Where a hosts.toml of labkit's may lie, whatever the configuration says by now. Raises CriError."""
    return list(dict.fromkeys([*directories(cri, run, socket), DEFAULT]))


def expanded(path: str) -> list[str]:
    """What a config_path can mean: each directory of a list, and the list as the name of one."""
    parts = [part for part in path.split(":") if part.startswith("/")]
    return parts if len(parts) < 2 else [*parts, path]


def dumped(run: Callable[..., bytes], socket: str) -> list[str]:
    """The config_path of the containerd that serves `socket`, [] where it cannot be asked."""
    try:
        texts = run(["sh", "-c", DUMP]).decode(errors="replace").split("\0")
    except NodeError:
        return []
    configurations = []
    for text in texts:
        with contextlib.suppress(tomllib.TOMLDecodeError):
            configurations.append(tomllib.loads(text))
    own = [c for c in configurations if plain(str(verbose.at(c, "grpc", "address"))) == plain(socket)]
    return [path for configuration in own or configurations for path in registry_paths(configuration)]


def registry_paths(configuration: dict[str, Any]) -> Iterable[str]:
    """config_path in a configuration of any version: the plugin that has it is cri, io.containerd.grpc.v1.cri or
    io.containerd.cri.v1.images."""
    for plugin in (configuration.get("plugins") or {}).values():
        path = verbose.at(plugin, "registry", "config_path")
        if isinstance(path, str):
            yield path


def plain(path: str) -> str:
    """A socket's path without the link /var/run, which leads to /run."""
    return path.replace("/var/run/", "/run/", 1)
