"""Hold a node's kubelet against recordings of a real one: same manifests, same statuses, events and final states.

usage: compare.py KUBECTL_PREFIX… -- RECORDING.json…

It takes some two minutes, and a namespace `truth` of its own. The recordings' images are mapped to the lab's (IMAGES), or as
TRUTH_IMAGES, a JSON object, says; TRUTH_LOGIN is name:password at the registry that asks for one. A Pod that runs before all
others brings the image, so that every other one finds it on the node, as every recorded one did. The Pods that differ run once
more, without the others: what differs then, too, is a difference.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Thing = dict[str, Any]

IMAGE, PRIVATE = "localhost:5000/labkit/bb:1", "localhost:5001/labkit/bb:1"
IMAGES = json.loads(os.environ.get("TRUTH_IMAGES", "null")) or {
    IMAGE: "registry.lab/busybox:1",
    "localhost:5000/labkit/nope": "registry.lab/nope",
    PRIVATE: "private.registry.lab/busybox:1",
}
LOGIN = os.environ.get("TRUTH_LOGIN", "learner:container")
NAMESPACE = "truth"
WATCHED_S = 110
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "never-bound"},
    "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}},
}
WARM_UP = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "warm-up"},
    "spec": {
        "containers": [{"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}],
        "terminationGracePeriodSeconds": 0,
    },
}
SKIP = {"broken-cni", "no-cni-config", "oom-killed"}
"""The first two need the node's CNI changed; the last the real kubelet itself shows in two ways."""
FLEETING = {"Pending", "ContainerCreating", "PodInitializing", "Running"}
"""May pass unseen, or be seen where the recording missed it."""
FAMILY = {
    "ErrImagePull": "image",
    "ImagePullBackOff": "image",
    "Init:Error": "init failed",
    "Init:CrashLoopBackOff": "init failed",
    **dict.fromkeys(("Error", "CrashLoopBackOff", "OOMKilled", "RunContainerError", "PostStartHookError"), "failed"),
}
"""Statuses that flip within a back-off."""


class Cluster:
    """The namespace, by a kubectl command."""

    def __init__(self, kubectl: list[str]) -> None:
        self.kubectl = kubectl

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [*self.kubectl, "-n", NAMESPACE, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180)

    def items(self, kind: str) -> list[Thing]:
        return list(json.loads(self.run("get", kind, "-o", "json").stdout)["items"])

    def apply(self, thing: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        return self.run("apply", "-f", "-", stdin=mapped(json.dumps(thing)))

    def warm_up(self) -> None:
        """Bring the image to the node. Exits where that cannot be done: nothing could be compared then."""
        self.apply(WARM_UP)
        waited = self.run("wait", "--for=condition=Ready", "pod/warm-up", "--timeout=120s")
        if waited.returncode:
            sys.exit(f"The first Pod does not run: {waited.stderr.strip()}")
        self.run("delete", "pod", "warm-up", "--wait=true")

    def watch(self) -> dict[str, list[str]]:
        """The STATUS column of each Pod, as it changes."""
        columns: dict[str, list[str]] = collections.defaultdict(list)
        command = [*self.kubectl, "-n", NAMESPACE, "get", "pods", "--no-headers", "-w"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            timer = threading.Timer(WATCHED_S, watch.terminate)
            timer.start()
            assert watch.stdout
            for line in watch.stdout:
                words = line.split()
                if len(words) >= 4 and columns[words[0]][-1:] != [words[2]]:
                    columns[words[0]].append(words[2])
            timer.cancel()
        return columns


def mapped(text: str) -> str:
    """`text` with the lab's names of images."""
    for recorded, own in IMAGES.items():
        text = text.replace(recorded, own)
    return text


def with_login(thing: Thing) -> Thing:
    """A registry secret names the recording's registry and login: put the lab's in their place."""
    if thing.get("data", {}).get(".dockerconfigjson"):
        login = base64.b64encode(LOGIN.encode()).decode()
        text = json.dumps({"auths": {IMAGES[PRIVATE].split("/")[0]: {"auth": login}}})
        thing["data"][".dockerconfigjson"] = base64.b64encode(text.encode()).decode()
    return thing


def plain(message: str) -> str:
    """A message without what differs from run to run."""
    for pattern, word in (
        (r"\(?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\)?", "UID"),
        (r"[0-9a-f]{64}", "ID"),
        (r"rpc error: code = \w+ desc = ", ""),  # whether the runtime's code is kept depends on its version
        (r"in [\d.]+m?s \([\d.]+m?s including waiting\). Image size: \d+ bytes", "in TIME"),
        (r"\b\d+\.\d+\.\d+\.\d+(:\d+)?\b", "ADDR"),
        (r"https?://[^ \"]*", "URL"),
        (r"127\.0\.0\.1:\d+|localhost:\d+|\[::1\]:\d+", "ADDR"),
        (r"failed to (do request|resolve (reference|image))[^:]*", "failed to resolve"),
    ):
        message = re.sub(pattern, word, mapped(message))
    return message.strip()


def words_of(events: Iterable[Thing]) -> set[tuple[str, ...]]:
    return {(e["type"], e["reason"], plain(e["message"])[:150], e.get("fieldPath") or "") for e in events}


def reasons_of(events: Iterable[Thing]) -> set[tuple[str, ...]]:
    return {(e["type"], e["reason"], e.get("fieldPath") or "") for e in events}


def families(column: Iterable[str]) -> list[str]:
    """Families of statuses in the order of their first appearance."""
    return list(dict.fromkeys(FAMILY.get(s, s) for s in column if s not in FLEETING and not re.fullmatch(r"Init:\d+/\d+", s)))


def brief(column: list[Thing]) -> set[str]:
    """Families that the recording saw for less than three seconds in all: another run may not show them."""
    seconds: dict[str, float] = collections.Counter()
    for now, then in zip(column, [*column[1:], {"at_s": WATCHED_S}], strict=True):
        seconds[FAMILY.get(now["Status"], now["Status"])] += then["at_s"] - now["at_s"]
    return {family for family, s in seconds.items() if s < 3}


def states(container: Thing) -> set[tuple[Any, ...]]:
    """The states that a container is known to have been in: kind, family of reasons, exit code."""
    found = set()
    for state in (container.get("state"), container.get("lastState")):
        for kind, more in (state or {}).items():
            reason = (more or {}).get("reason")
            found.add((kind, FAMILY.get(reason, reason), (more or {}).get("exitCode")))
    return found


def conditions(status: Thing) -> set[tuple[str, ...]]:
    listed = status.get("conditions", [])
    return {(c["type"], c["status"], c.get("reason", "")) for c in listed if c["type"] != "PodReadyToStartContainers"}


def settled(status: Thing) -> bool:
    """Conditions flip while a container restarts: they are compared only where nothing restarts."""
    everyone = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    return not any(c.get("restartCount") for c in everyone)


def differences(recorded: Thing, status: Thing, column: list[str], events: list[Thing]) -> Iterable[str]:
    """What differs between a recorded Pod and this run's."""
    want, got = families(s["Status"] for s in recorded["status_column"]), families(column)
    passing = brief(recorded["status_column"])
    if [f for f in got if f not in passing] != [f for f in want if f not in passing] or set(got) - set(want):
        yield f"statuses {got} not {want}"
    real = recorded["status"]
    if status.get("phase") != real.get("phase"):
        yield f"phase {status.get('phase')} not {real.get('phase')}"
    if settled(real) and (unlike := conditions(status) ^ conditions(real)):
        yield f"conditions {sorted(unlike)}"
    for key in ("initContainerStatuses", "containerStatuses"):
        ours, theirs = ({c["name"]: c for c in s.get(key) or []} for s in (status, real))
        if set(ours) != set(theirs):
            yield f"{key} {sorted(ours)}"
        for name in set(ours) & set(theirs):
            again = [c.get("restartCount", 0) > 0 for c in (ours[name], theirs[name])]
            if not states(ours[name]) & states(theirs[name]) or again[0] != again[1]:
                yield f"{name} {states(ours[name])} not {states(theirs[name])}; restarted: {again}"
    if unlike := reasons_of(events) ^ reasons_of(recorded["events"]):
        yield f"event reasons {sorted(unlike)}"
    elif unlike := words_of(events) ^ words_of(recorded["events"]):
        yield f"event words {sorted(unlike)[:2]}"


def counts(event: Thing, recorded: Thing, name: str) -> bool:
    """Whether an event is compared."""
    if event["reason"] == "Unhealthy" and "refused" in event["message"]:  # probed before the server listened
        return any("refused" in each["message"] for each in recorded["events"])
    return name != "pull-secret" or event["reason"] not in ("Pulling", "Pulled")  # only its first run pulls


def main(argv: list[str]) -> bool:
    split = argv.index("--")
    cluster = Cluster(argv[:split])
    recordings = {k: v for file in argv[split + 1 :] for k, v in json.loads(Path(file).read_text()).items() if k not in SKIP}
    cluster.run("create", "namespace", NAMESPACE)
    cluster.run("delete", "pods", "--all", "--wait=true")
    cluster.warm_up()
    cluster.apply(CLAIM)
    different = compared(cluster, recordings)
    if different:
        # All at once they take what a machine under load has not: a probe or a start comes too late. A fault shows again.
        print("Once more, those alone:")
        cluster.run("delete", "pods", "--all", "--wait=true")
        different = compared(cluster, {name: recordings[name] for name in different})
    cluster.run("delete", "namespace", NAMESPACE, "--wait=false")
    print(f"{len(recordings) - len(different)} of {len(recordings)} Pods as the real kubelet ran them")
    return not different


def compared(cluster: Cluster, recordings: Mapping[str, Thing]) -> list[str]:
    """Run the recorded Pods, and print what differs; the names of those that do."""
    for recorded in recordings.values():
        for thing in recorded.get("objects") or []:
            cluster.apply(with_login(thing))
    for name, recorded in recordings.items():
        if (done := cluster.apply(recorded["manifest"])).returncode:
            print(f"{name}: refused: {done.stderr.strip()[:160]}")
    columns = cluster.watch()
    pods = {p["metadata"]["name"]: p for p in cluster.items("pods")}
    events: dict[str, list[Thing]] = collections.defaultdict(list)
    for event in cluster.items("events"):
        about = event["involvedObject"]
        name = about["name"]
        if name not in recordings or name not in pods or about.get("uid") != pods[name]["metadata"]["uid"]:
            continue  # of an earlier Pod of that name
        if counts(event, recordings[name], name):
            keys = {"type": event["type"], "reason": event["reason"], "message": event.get("message", "")}
            events[name].append({**keys, "fieldPath": about.get("fieldPath")})
    different = []
    for name, recorded in sorted(recordings.items()):
        if name not in pods:
            print(f"{name}: no such Pod")
            different.append(name)
            continue
        wanted = {**recorded, "events": [e for e in recorded["events"] if name != "pull-secret" or counts(e, recorded, name)]}
        found = list(differences(wanted, pods[name]["status"], columns[name], events[name]))
        different += [name] if found else []
        for each in found[:3]:
            print(f"{name}: {each}"[:300])
    return different


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
