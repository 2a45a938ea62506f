"""A hundred Pods through the lab's own Kubernetes until all run, against the same CRI calls made bare by eight workers.

Then, with the hundred there: what kubelet and API need while nothing happens, and how fast fifty watchers hear of changes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from cri_api.v1 import api_pb2_grpc

from labkit import connect
from labkit.cri.v1 import api_pb2
from labkit.kubelet.api import ApiClient
from labkit.node import Home
from labkit.node.state import status

PODS, WORKERS, ROUNDS = 100, 8, 2
GRACE_S = 2
"""The least that a kubelet gives (minimumGracePeriodInSeconds); `sleep` as process 1 does not end before."""
IDLE_S, QUIET_S = 30.0, 10.0
WATCHERS, CHANGES = 50, 40
PATH = "/api/v1/namespaces/default/pods"
IMAGE = "registry.lab/busybox:1"
SPEC = {"terminationGracePeriodSeconds": 1, "containers": [{"name": "main", "image": IMAGE, "command": ["sleep", "1000000"]}]}


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """{"name", "ratio", "goal", "seconds" (medians: bare, kube, and to delete), "idle": {"percent_of_a_core", "mb"} of kubelet
    and API together with 100 Pods (goals 1 % and 120 MB), "watchers"}. By turns, in a home of its own. Needs root."""
    with own_home():
        node = connect("containerd", lesson="bench")
        api = ApiClient(node.home.kubeconfig)
        node.remove_pod(node.start_pod({"metadata": {"name": "warm"}, "spec": SPEC}))
        seconds: dict[str, list[float]] = {"bare": [], "bare deletion": [], "kube": [], "kube deletion": []}
        for turn in range(rounds):
            bare(node, seconds)
            seconds["kube"].append(timed(lambda: through_the_api(api)))
            if turn == rounds - 1:
                idle, watchers = at_rest(node.home), watched(api)
            seconds["kube deletion"].append(timed(lambda: deleted(api)))
        node.close()
    median = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    deletion = round(median["kube deletion"] / median["bare deletion"], 3)
    return {
        "name": f"{PODS} Pods through the API / bare CRI calls",
        "ratio": round(median["kube"] / median["bare"], 3),
        "goal": 1.15,
        "more": [{"name": f"{PODS} Pods deleted / bare CRI calls", "ratio": deletion, "goal": 1.2}],
        "seconds": median,
        "idle": idle,
        "watchers": watchers,
    }


@contextlib.contextmanager
def own_home() -> Iterator[None]:
    """LABKIT_HOME is a new directory meanwhile, with the programs of the other one; the lab there is cleaned away."""
    cache, before = Home.find().cache, os.environ.get("LABKIT_HOME")
    base = Path(tempfile.mkdtemp(prefix="lk-", dir="/tmp"))
    (base / "cache").symlink_to(cache)
    os.environ["LABKIT_HOME"] = str(base)
    try:
        yield
    finally:
        subprocess.run([sys.executable, "-m", "labkit.cli", "clean"], check=True, capture_output=True)
        shutil.rmtree(base, ignore_errors=True)
        os.environ.pop("LABKIT_HOME")
        if before is not None:
            os.environ["LABKIT_HOME"] = before


def timed(what: Callable[[], object]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def bare(node: Any, seconds: dict[str, list[float]]) -> None:
    """The calls of a kubelet and nothing else, by bare stubs: sandbox, container, start, eight Pods at a time. Then all
    containers are stopped at once, with their grace period, and the sandboxes stopped and removed, eight at a time."""
    pods = [node.manifest({"metadata": {"name": f"bare-{n}"}, "spec": SPEC}) for n in range(PODS)]
    with grpc.insecure_channel(f"unix:{node.cri.path}") as channel, ThreadPoolExecutor(WORKERS) as pool:
        runtime = api_pb2_grpc.RuntimeServiceStub(channel)
        images = api_pb2_grpc.ImageServiceStub(channel)
        image = images.ImageStatus(api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=IMAGE))).image.id

        configs = [
            (node.sandbox_config(pod), node.container_config(pod, "main", image_ref=image, pod_ip="10.0.0.1")) for pod in pods
        ]

        def start(both: tuple[Any, Any]) -> str:
            config, container = both
            sandbox = runtime.RunPodSandbox(api_pb2.RunPodSandboxRequest(config=config)).pod_sandbox_id
            request = api_pb2.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
            made = runtime.CreateContainer(request)
            runtime.StartContainer(api_pb2.StartContainerRequest(container_id=made.container_id))
            return str(sandbox)

        def stop(sandbox: str) -> None:
            of_pod = api_pb2.ContainerFilter(pod_sandbox_id=sandbox)
            for container in runtime.ListContainers(api_pb2.ListContainersRequest(filter=of_pod)).containers:
                runtime.StopContainer(api_pb2.StopContainerRequest(container_id=container.id, timeout=GRACE_S))

        def remove(sandbox: str) -> None:
            runtime.StopPodSandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox))
            runtime.RemovePodSandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

        sandboxes: list[str] = []
        seconds["bare"].append(timed(lambda: sandboxes.extend(pool.map(start, configs))))
        with ThreadPoolExecutor(PODS) as all_at_once:
            stopping = timed(lambda: list(all_at_once.map(stop, sandboxes)))
        seconds["bare deletion"].append(stopping + timed(lambda: list(pool.map(remove, sandboxes))))
    for pod, sandbox in zip(pods, sandboxes, strict=True):
        metadata = api_pb2.PodSandboxMetadata(**{key: pod["metadata"][key] for key in ("name", "namespace", "uid")})
        node.own_pods.remove_files(api_pb2.PodSandbox(id=sandbox, metadata=metadata))


def through_the_api(api: ApiClient) -> None:
    """Create them one after another, as kubectl does with a file of many, and watch until the last one runs."""
    version = api.get(PATH)["metadata"]["resourceVersion"]
    waiting = {f"kube-{n}" for n in range(PODS)}

    def create() -> None:
        for name in sorted(waiting):
            api.post(PATH, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": SPEC})

    creator = threading.Thread(target=create)
    creator.start()
    running: set[str] = set()
    for event in api.watch(PATH, resourceVersion=version):
        if event["type"] != "BOOKMARK" and event["object"]["status"].get("phase") == "Running":
            running.add(event["object"]["metadata"]["name"])
        if len(running) == PODS:
            break
    creator.join()


def deleted(api: ApiClient) -> None:
    """Delete all at once, and watch until the last one is gone."""
    version, left = api.get(PATH)["metadata"]["resourceVersion"], PODS
    threading.Thread(target=lambda: api.delete(PATH)).start()
    for event in api.watch(PATH, resourceVersion=version):
        left -= event["type"] == "DELETED"
        if not left:
            return


def at_rest(home: Home) -> dict[str, float]:
    """What kubelet and API together use while nothing happens: percent of a core over 30 s, resident MB."""
    pids = [status.read(home)["processes"][name] for name in ("kubelet", "kubeapi")]
    time.sleep(QUIET_S)
    before, began = sum(map(cpu_s, pids)), time.monotonic()
    time.sleep(IDLE_S)
    used = (sum(map(cpu_s, pids)) - before) / (time.monotonic() - began)
    return {"percent_of_a_core": round(used * 100, 2), "mb": round(sum(map(resident_mb, pids)), 1)}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def watched(api: ApiClient) -> dict[str, float]:
    """Changes of one Pod after each other, and how long it took until each of fifty watchers had seen the last."""
    version = api.get(PATH)["metadata"]["resourceVersion"]
    seen: list[int] = []

    def watch() -> None:
        changes = 0
        for event in api.watch(PATH, resourceVersion=version):
            labels = event["object"]["metadata"].get("labels", {})
            changes += event["type"] == "MODIFIED" and "change" in labels
            if labels.get("change") == str(CHANGES - 1):
                seen.append(changes)
                return

    threads = [threading.Thread(target=watch) for _ in range(WATCHERS)]
    for thread in threads:
        thread.start()

    def change() -> None:
        for number in range(CHANGES):
            api.patch(f"{PATH}/kube-0", {"metadata": {"labels": {"change": str(number)}}})
        for thread in threads:
            thread.join()

    took = timed(change)
    return {"watchers": WATCHERS, "changes": CHANGES, "events_seen": sum(seen), "events_a_second": round(sum(seen) / took)}
