"""Pods beside the recorded ones, run all at once: each shows what the sources of Kubernetes 1.36 say that a kubelet shows.

data/other_pods.json has, for each Pod, its manifest, the rule's `source`, and what is expected: `phase` (and `reason`), `states`
that its containers must have been in ([container, kind, reason, exit code]), `conditions` once settled, and all `events` ([type,
reason, field path, message]). In messages UID, ADDRESS and HOST_PATHS stand for what differs from run to run; "…" at the end for
words of the runtime, which differ by its version. `refused` has Pods that the API does not take, with its words.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from labkit.kubelet.api import ApiClientError
from labkit.kubelet.node.events import COMBINED
from labkit.node import Home
from tests.conftest import labkit
from tests.live.cluster import Cluster, wait_for

DATA = Path(__file__).parent / "data" / "other_pods.json"
LONGEST_S = 300
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
ALWAYS = ("Scheduled", "Pulled", "Created", "Started")
"""Events that most Pods have, and that the recordings hold."""


class Seen:
    """What was seen of the Pods so far: their newest status, every state that a container was in, and their events."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.status: dict[str, dict[str, Any]] = {}
        self.states: dict[str, set[tuple[Any, ...]]] = {}
        self.events: dict[str, set[tuple[str, ...]]] = {}

    def look(self) -> None:
        for pod in self.cluster.api.get(f"{self.cluster.path}/pods")["items"]:
            name = pod["metadata"]["name"]
            self.status[name] = pod["status"]
            for status in (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())):
                for state in (status["state"], status["lastState"]):
                    kind: str = next(iter(state), "")
                    more = state.get(kind) or {}
                    self.states.setdefault(name, set()).add((status["name"], kind, more.get("reason"), more.get("exitCode")))
        for event in self.cluster.api.get(f"{self.cluster.path}/events")["items"]:
            about = event["involvedObject"]
            told = (event["type"], event["reason"], about.get("fieldPath", ""), self.plain(event["message"]))
            self.events.setdefault(about["name"], set()).add(told)

    def plain(self, message: str) -> str:
        known = message.removeprefix(COMBINED).replace(str(self.cluster.home.data / "hostpath"), "HOST_PATHS")
        return ADDRESS.sub("ADDRESS", UID.sub("UID", known)).strip()

    def conditions(self, name: str) -> dict[str, list[str]]:
        known = self.status[name].get("conditions", ())
        return {c["type"]: [c["status"], c.get("reason", "")] for c in known if c["type"] != "PodReadyToStartContainers"}

    def missing(self, name: str, wanted: dict[str, Any]) -> list[str]:
        """What is not as expected (yet), in words."""
        if name not in self.status:
            return ["it is not there"]
        status = self.status[name]
        differ = [key for key in ("phase", "reason") if status.get(key) != wanted.get(key)]
        wrong = [f"{key} {status.get(key)!r}, not {wanted.get(key)!r}" for key in differ]
        wrong += [f"was never {state}" for state in wanted["states"] if tuple(state) not in self.states.get(name, set())]
        if "conditions" in wanted and self.conditions(name) != wanted["conditions"]:
            wrong.append(f"conditions {self.conditions(name)}, not {wanted['conditions']}")
        told = self.events.get(name, set())
        return wrong + [f"no event {event}" for event in wanted["events"] if not any(is_like(one, event) for one in told)]

    def surplus(self, name: str, wanted: dict[str, Any]) -> list[str]:
        """Events that no rule asks for; but a probe may come before its server listens, a command may take longer than its second
        on a busy machine, a volume may be given up after 123 s, and a Pod may be looked at before its claim is made."""
        late = ("connection refused", "timed out after 1s", "failed to process volumes=[]: context deadline exceeded",
                "waiting for ephemeral volume controller")
        told = (one for one in self.events.get(name, set()) if one[1] not in ALWAYS and not any(word in one[3] for word in late))
        return [f"event {one}" for one in sorted(told) if not any(is_like(one, event) for event in wanted["events"])]


def is_like(told: tuple[str, ...], wanted: list[str]) -> bool:
    words = wanted[3]
    same = told[3].startswith(words[:-1]) if words.endswith("…") else told[3] == words
    return same and list(told[:3]) == wanted[:3]


@pytest.fixture
def cluster(own_home: Home) -> Cluster:
    labkit("up", "--node", "containerd")
    cluster = Cluster.of(own_home)
    cluster.create({"metadata": {"name": "first"}, "spec": {"containers": [{"name": "app", "image": "registry.lab/busybox:1"}]}})
    wait_for(lambda: cluster.container("first").get("imageID"), "the image to be there")
    return cluster


def create(cluster: Cluster, thing: dict[str, Any]) -> None:
    plural = f"{thing['kind'].lower()}s"
    cluster.api.post(f"/api/v1/{plural}" if thing["kind"] == "PersistentVolume" else f"{cluster.path}/{plural}", thing)


def test_other_pods_are_run_by_the_kubelets_rules(cluster: Cluster) -> None:
    recorded = json.loads(DATA.read_text().replace("HOST_PATHS", str(cluster.home.data / "hostpath")))
    expected = json.loads(DATA.read_text())["pods"]
    for thing in recorded["objects"]:
        create(cluster, thing)
    for one in recorded["refused"]:
        with pytest.raises(ApiClientError, match=re.escape(one["words"])):
            create(cluster, {"apiVersion": "v1", "kind": "Pod", **one["manifest"]})
    for one in recorded["pods"].values():
        create(cluster, {"apiVersion": "v1", "kind": "Pod", **one["manifest"]})
    seen, end = Seen(cluster), time.monotonic() + LONGEST_S
    wrong: dict[str, list[str]] = {"": ["nothing was looked at"]}
    while wrong and time.monotonic() < end:
        time.sleep(0.5)
        seen.look()
        wrong = {name: problems for name, wanted in expected.items() if (problems := seen.missing(name, wanted))}
    for name, wanted in expected.items():
        wrong.setdefault(name, []).extend(seen.surplus(name, wanted))
    found = [f"{name}: {problem} ({expected[name]['source']})" for name, problems in wrong.items() for problem in problems]
    assert not found, "\n".join(found)
