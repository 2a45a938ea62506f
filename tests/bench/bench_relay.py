"""Time Version calls through the relay against the same calls on the socket behind it, in turns, on a real gRPC server.

The command is labkit's own (`relay.direct`) and, where the machine has it, socat as `relay.inside` runs it in a node. What
`docker exec` adds to that is measured, as root, on a node that runs, against its socket below /proc/PID/root:

    python tests/bench/bench_relay.py /run/containerd/containerd.sock docker exec -i NODE
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import grpc
from cri_api.v1 import api_pb2_grpc

from labkit.cri import CriClient
from labkit.cri.v1 import api_pb2
from labkit.node.host.relay import direct, inside, start_relay, stop_relay
from labkit.node.state.home import Home

CALLS = 2000
GOAL_MS = 1.0


def run(calls: int = CALLS, socket: str = "", exec_argv: Sequence[str] = ()) -> dict:
    """{"name", "ratio", "goal", …}: the ratio is what the relay adds to a call, in ms (medians), to its goal of 1 ms.

    "ms" are the medians of each way, "times" how many times the direct call's each takes, "first_ms" a connection's first call.
    """
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="lk-", dir="/tmp"))
        home = Home(Path(base, "run"), Path(base, "data"), Path(base, "cache"))
        if exec_argv:
            straight = root_of(exec_argv) + socket
            commands = {"exec": inside(exec_argv, socket)}
        else:
            straight = stack.enter_context(served(f"{base}/runtime.sock"))
            commands = {"labkit": direct(straight)} | ({"socat": inside(["env"], straight)} if shutil.which("socat") else {})
        paths = {"direct": straight}
        for name, argv in commands.items():
            paths[name] = str(start_relay(home, name, argv))
            stack.callback(stop_relay, home, name)
        firsts, medians = measure(paths, calls)
    added = {name: round(medians[name] - medians["direct"], 3) for name in commands}
    return {
        "name": "relay, ms added to a call",
        "ratio": round(max(added.values()) / GOAL_MS, 3),
        "goal": 1.0,
        "calls": calls,
        "added_ms": added,
        "times": {name: round(medians[name] / medians["direct"], 2) for name in commands},
        "ms": {name: round(value, 3) for name, value in medians.items()},
        "first_ms": {name: round(value, 1) for name, value in firsts.items()},
    }


def root_of(exec_argv: Sequence[str]) -> str:
    """`docker exec -i NODE` → /proc/PID/root."""
    inspect = [*exec_argv[: exec_argv.index("exec")], "inspect", "--format", "{{.State.Pid}}", exec_argv[-1]]
    return f"/proc/{subprocess.check_output(inspect, text=True).strip()}/root"


def measure(paths: Mapping[str, str], calls: int) -> tuple[dict[str, float], dict[str, float]]:
    """The first call on each path and the median of `calls` more, in ms; call by call in turns, to share the machine's load."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    firsts: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        clients = {name: stack.enter_context(CriClient(f"unix://{path}")) for name, path in paths.items()}
        for name, client in clients.items():
            firsts[name] = timed(client)
        for _ in range(calls):
            for name, client in clients.items():
                times[name].append(timed(client))
    return firsts, {name: statistics.median(values) for name, values in times.items()}


def timed(client: CriClient) -> float:
    start = time.perf_counter_ns()
    client.version()
    return (time.perf_counter_ns() - start) / 1e6


class Runtime(api_pb2_grpc.RuntimeServiceServicer):
    def Version(self, request: api_pb2.VersionRequest, context: grpc.ServicerContext) -> api_pb2.VersionResponse:
        return api_pb2.VersionResponse(version="0.1.0", runtime_name="bench", runtime_version="1", runtime_api_version="v1")


@contextlib.contextmanager
def served(path: str) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    api_pb2_grpc.add_RuntimeServiceServicer_to_server(Runtime(), server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    yield path
    server.stop(0).wait()


if __name__ == "__main__":
    print(json.dumps(run(socket=sys.argv[1], exec_argv=sys.argv[2:]) if sys.argv[1:] else run()))
