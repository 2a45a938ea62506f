"""A Pod through labkit against the same CRI calls made with bare stubs on the same socket, taken in turns."""

from __future__ import annotations

import contextlib
import statistics
import time
import uuid
from typing import Any

import grpc
from cri_api.v1 import api_pb2_grpc

import labkit as lab
from labkit.cri.v1 import api_pb2
from labkit.node.pods import operations

ROUNDS = 15
WEB = {"name": "main", "image": "registry.lab/busybox:1", "command": ["sleep", "1000000"]}


def run(rounds: int = ROUNDS) -> dict[str, Any]:
    """Medians of `rounds` Pods each way: {"name", "ratio", "goal", "ms"}. Needs root. Starts a node if none is up."""
    node = lab.connect("containerd", lesson="bench")
    channel = grpc.insecure_channel(f"unix:{node.cri.path}")
    stubs = api_pb2_grpc.RuntimeServiceStub(channel), api_pb2_grpc.ImageServiceStub(channel)
    times: dict[str, list[float]] = {"labkit": [], "bare": []}
    with contextlib.closing(channel), contextlib.closing(node):
        node.remove_pod(node.start_pod(manifest()))
        for _ in range(rounds):
            for name, start in (("labkit", through_labkit), ("bare", bare)):
                pod = node.manifest(manifest())
                began = time.perf_counter()
                sandbox = start(node, stubs, pod)
                times[name].append(time.perf_counter() - began)
                operations.remove_sandbox(node.cri, sandbox)
                metadata = api_pb2.PodSandboxMetadata(**{k: pod["metadata"][k] for k in ("name", "namespace", "uid")})
                node.own_pods.remove_files(api_pb2.PodSandbox(id=sandbox, metadata=metadata))
    ms = {name: round(statistics.median(values) * 1e3, 1) for name, values in times.items()}
    return {"name": "sandbox + create + start / bare stubs", "ratio": round(ms["labkit"] / ms["bare"], 3), "goal": 1.05, "ms": ms}


def manifest() -> dict[str, Any]:
    return {"kind": "Pod", "metadata": {"name": f"bench-{uuid.uuid4().hex[:8]}"}, "spec": {"containers": [WEB]}}


def through_labkit(node: lab.Node, stubs: Any, pod: dict[str, Any]) -> str:
    config = node.sandbox_config(pod)
    sandbox = node.cri.run_pod_sandbox(config=config).pod_sandbox_id
    image = operations.pull_if_absent(node.cri, WEB["image"])
    container = node.container_config(pod, "main", image_ref=image, pod_ip="10.0.0.1")
    made = node.cri.create_container(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    node.cri.start_container(container_id=made.container_id)
    return str(sandbox)


def bare(node: lab.Node, stubs: Any, pod: dict[str, Any]) -> str:
    runtime, images = stubs
    config = node.sandbox_config(pod)
    container = node.container_config(pod, "main", image_ref=WEB["image"], pod_ip="10.0.0.1")
    sandbox = runtime.RunPodSandbox(api_pb2.RunPodSandboxRequest(config=config)).pod_sandbox_id
    container.image.image = images.ImageStatus(api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=WEB["image"]))).image.id
    request = api_pb2.CreateContainerRequest(pod_sandbox_id=sandbox, config=container, sandbox_config=config)
    made = runtime.CreateContainer(request)
    runtime.StartContainer(api_pb2.StartContainerRequest(container_id=made.container_id))
    return str(sandbox)
