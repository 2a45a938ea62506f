"""Time a snapshot against `lsns` as bench_snapshot does, with 2,000 more mounts in the node's and in every Pod's mount namespace.

Run as root: python -m tests.bench.bench_snapshot_mounts. The mounts are made in a mount namespace of the benchmark's own.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import bench_snapshot

MOUNTS, PODS, ROUNDS = 2000, 100, 9
_BIND = 4096  # MS_BIND (man 2 mount)


def run() -> dict[str, Any]:
    """{"name", "ratio", "goal", …}, as bench_snapshot; "mounts" is how many more there are."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", __spec__.name]
    root = Path(__file__).resolve().parents[2]
    return dict(json.loads(subprocess.run(command, cwd=root, stdout=subprocess.PIPE, check=True).stdout))


def inside() -> dict[str, Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp") as base:
        subprocess.run(["mount", "-t", "tmpfs", "none", base], check=True)
        try:
            for number in range(MOUNTS):
                place = Path(base, str(number))
                place.mkdir()
                if libc.mount(bytes(place), bytes(place), None, _BIND, None):
                    raise OSError(ctypes.get_errno(), f"no mount could be made at {place}")
            with bench_snapshot.processes_of_pods(PODS):
                told = bench_snapshot.compare(ROUNDS)
        finally:
            subprocess.run(["umount", "--lazy", base], check=True)
    return {"name": f"snapshot / lsns, {MOUNTS} more mounts", **told, "pods": PODS, "mounts": MOUNTS}


if __name__ == "__main__":
    print(json.dumps(inside()))
