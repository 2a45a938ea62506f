"""The lab kubelet, its API or both killed at random moments while Pods start and stop: none is lost, none runs twice.

The moments come from a seed, which a failure tells: LABKIT_SEED=… makes the same again.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.kubelet.api import ApiClientError
from labkit.node import Home
from tests.conftest import labkit
from tests.live.cluster import Cluster, wait_for
from tests.live.remains import unowned, untrue

IMAGE = "registry.lab/busybox:1"
AT_ONCE = 10
"""Pods that there are at most at a time."""
CONVERGES_WITHIN_S = 90.0


@dataclass
class Churn:
    """Makes Pods and deletes them, one step after another, until the block ends. What the API acknowledged is kept: `made` (name,
    uid) are Pods that must be there, `ended` those that must go. What it did not acknowledge may have happened or not."""

    cluster: Cluster
    chance: random.Random
    made: dict[str, str] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    number: int = 0

    def __enter__(self) -> Churn:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()

    def run(self) -> None:
        while not self.stop.wait(self.chance.uniform(0.0, 0.15)):
            with contextlib.suppress(ApiClientError):
                self.step()

    def step(self) -> None:
        if self.made and (len(self.made) >= AT_ONCE or self.chance.random() < 0.4):
            name = self.chance.choice(sorted(self.made))
            uid, body = self.made.pop(name), {"gracePeriodSeconds": self.chance.choice([0, 1, 2])}
            self.cluster.api.delete(f"{self.cluster.path}/pods/{name}", body)
            self.ended.add(uid)
        else:
            self.number += 1
            name = f"churn-{self.number}"
            self.made[name] = self.cluster.create(manifest(name, self.number))["metadata"]["uid"]


def manifest(name: str, number: int) -> dict[str, Any]:
    """By turns: one container; two with a volume in memory and a sub-path; one that ends by itself; one behind an init container.

    Each says in its log that it has started.
    """
    app = {"name": "app", "image": IMAGE, "command": ["sh", "-c", "echo started; exec sleep 100000"]}
    spec: dict[str, Any] = {"terminationGracePeriodSeconds": 1, "containers": [app]}
    if number % 4 == 1:
        spec["volumes"] = [{"name": "m", "emptyDir": {"medium": "Memory"}}]
        app = {**app, "volumeMounts": [{"name": "m", "mountPath": "/m", "subPath": "a"}, {"name": "m", "mountPath": "/n"}]}
        spec["containers"] = [app, {**app, "name": "other"}]
    elif number % 4 == 2:
        spec |= {"restartPolicy": "Never", "containers": [{**app, "command": ["sh", "-c", "echo started; usleep 200000"]}]}
    elif number % 4 == 3:
        spec["initContainers"] = [{**app, "name": "init", "command": ["echo", "started"]}]
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="module")
def cluster(lab_of_its_own: Home) -> Iterator[Cluster]:
    labkit("up", "--node", "containerd")
    yield Cluster.of(lab_of_its_own)


@pytest.mark.parametrize(
    ("rounds", "kills"), [pytest.param(3, 4, id="12"), pytest.param(25, 8, id="200", marks=pytest.mark.soak)]
)
def test_killed_at_random_moments(cluster: Cluster, rounds: int, kills: int) -> None:
    seed = int(os.environ.get("LABKIT_SEED") or random.randrange(2**32))
    chance = random.Random(seed)
    told: list[str] = []
    took: list[float] = []
    churn = Churn(cluster, random.Random(seed + 1))
    try:
        for _ in range(rounds):
            with churn:
                for _ in range(kills):
                    time.sleep(chance.uniform(0.0, 1.0))
                    told.append(killed(cluster, chance.choice([("kubelet",), ("kubeapi",), ("kubelet", "kubeapi")])))
            began = time.monotonic()
            converged(cluster, churn)
            took.append(time.monotonic() - began)
    except AssertionError as error:
        raise AssertionError(f"{error}\nLABKIT_SEED={seed}; killed: {'; '.join(told)}") from error
    finally:
        for name in list(churn.made):
            with contextlib.suppress(ApiClientError):
                cluster.delete(name)
    wait_for(lambda: unowned(cluster.home, set()) == [], "nothing to be left of Pods", CONVERGES_WITHIN_S)
    print(f"seed {seed}: {len(told)} kills among {churn.number} Pods; converged after {max(took):.1f} s at the latest")


def killed(cluster: Cluster, names: tuple[str, ...]) -> str:
    """SIGKILL for these of the lab's programs, and wait until their owner has started others; what was done."""
    before = {name: cluster.process(name) for name in names}
    for pid in before.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(cluster.process(name) not in (0, pid) for name, pid in before.items()), f"another {' and '.join(names)}")
    return " and ".join(f"{name} {pid}" for name, pid in before.items())


def converged(cluster: Cluster, churn: Churn) -> None:
    """Wait until what the API acknowledged is so, and everything else is gone; then look that nothing ran twice."""
    wrong: list[str] = []

    def right() -> bool:
        try:
            wrong[:] = differences(cluster, churn)
        except (ApiClientError, CriError, OSError) as error:
            wrong[:] = [str(error)]
        return not wrong

    end = time.monotonic() + CONVERGES_WITHIN_S
    while not right():
        assert time.monotonic() < end, f"not converged: {wrong}"
        time.sleep(0.2)
    pods = cluster.api.get(f"{cluster.path}/pods")["items"]
    churn.made = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}
    for pod in pods:
        said = starts(cluster, pod)
        for shown in (pod["status"].get("initContainerStatuses") or []) + pod["status"]["containerStatuses"]:
            if not broke_off(shown):
                assert (shown["restartCount"], said[shown["name"]]) == (0, ["started"]), pod["metadata"]["name"]


def broke_off(shown: dict[str, Any]) -> bool:
    """Whether the kubelet died while the runtime let a program go: the runtime kills it then, and nobody can tell how far it
    had come. It counts as one start, as with every kubelet."""
    ends = [state["terminated"] for state in (shown["state"], shown["lastState"]) if "terminated" in state]
    return any(e["reason"] == "StartError" and "context canceled" in e.get("message", "") for e in ends)


def differences(cluster: Cluster, churn: Churn) -> list[str]:
    pods = cluster.api.get(f"{cluster.path}/pods")["items"]
    there = {pod["metadata"]["uid"]: pod for pod in pods}
    found = [f"{name} is lost" for name, uid in churn.made.items() if uid not in there]
    found += [f"{there[uid]['metadata']['name']} is still there" for uid in churn.ended & there.keys()]
    for pod in there.values():
        ends, statuses = pod["spec"]["restartPolicy"] == "Never", pod["status"].get("containerStatuses") or []
        phase, wanted = pod["status"].get("phase"), "Succeeded" if ends else "Running"
        if ends and any(map(broke_off, statuses)):
            wanted = "Failed"
        if phase != wanted or not (ends or (statuses and all(c["ready"] for c in statuses))):
            found.append(f"{pod['metadata']['name']} is {phase}: {[s['state'] for s in statuses]}")
    return found + unowned(cluster.home, set(there)) + untrue(pods, cluster.home)


def names_of(pod: dict[str, Any]) -> list[str]:
    return [c["name"] for kind in ("initContainers", "containers") for c in pod["spec"].get(kind, ())]


def starts(cluster: Cluster, pod: dict[str, Any]) -> dict[str, list[str]]:
    """What each container of a Pod has said, over all its attempts: "started" once, where none was started twice."""
    metadata = pod["metadata"]
    logs = cluster.home.log_root / f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
    return {
        name: [line.split(" ", 3)[3] for file in sorted((logs / name).glob("*.log*")) for line in file.read_text().splitlines()]
        for name in names_of(pod)
    }
