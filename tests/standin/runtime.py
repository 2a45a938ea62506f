"""A runtime before runc, for a machine without CAP_SYS_RESOURCE: what `docker run --privileged` asks for and cannot have there is
taken out of the configuration, then runc is run. A script of its own, without any import of this course.

runc sets every capability that a process is to have, its limits and its oom_score_adj, and fails where the kernel refuses one.
The configuration is config.json in the bundle (OCI runtime spec, config.md) or, at `exec`, the file that --process names.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MISSING = "CAP_SYS_RESOURCE"


def main(arguments: Sequence[str]) -> None:
    if file := configuration(arguments):
        config = json.loads(file.read_text())
        without(config.get("process", config))  # what --process names is the process alone
        file.write_text(json.dumps(config))
    runc = shutil.which("runc")
    assert runc, "there is no runc on PATH"
    os.execv(runc, ["runc", *arguments])


def configuration(arguments: Sequence[str]) -> Path | None:
    """The file that runc is going to read; None for a command that reads none."""
    if "create" in arguments or "run" in arguments:
        return Path(option(arguments, "--bundle", "-b") or ".", "config.json")
    if "exec" in arguments and (file := option(arguments, "--process", "-p")):
        return Path(file)
    return None


def option(arguments: Sequence[str], *names: str) -> str:
    """The value of an option as Go's flag packages take it: `--name value` or `--name=value`; "" without it."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else arguments[position + 1]
    return ""


def without(process: dict[str, Any]) -> None:
    process.pop("rlimits", None)
    process.pop("oomScoreAdj", None)
    for names in process.get("capabilities", {}).values():
        if MISSING in names:
            names.remove(MISSING)


if __name__ == "__main__":
    main(sys.argv[1:])
