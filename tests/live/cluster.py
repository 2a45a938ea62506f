"""The lab's Kubernetes as tests use it: create Pods, ask for what became of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from labkit.cri import CriClient
from labkit.kubelet.api import ApiClient, ApiClientError
from labkit.node import Home
from labkit.podspec.messages.linux_resources import cgroup_parent


def wait_for(true: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """Poll until something is true; what it was. An AssertionError says what was waited for."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"waited {seconds:.0f} s for: {what}"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Cluster:
    """One lab's API, in one namespace."""

    home: Home
    api: ApiClient
    namespace: str = "default"
    uids: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, home: Home) -> Cluster:
        return cls(home, ApiClient(home.run / "kubeconfig"))

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}"

    def create(self, manifest: Mapping[str, Any], kind: str = "pods") -> dict[str, Any]:
        words = {"pods": "Pod", "configmaps": "ConfigMap", "secrets": "Secret"}
        made = self.api.post(f"{self.path}/{kind}", {"apiVersion": "v1", "kind": words[kind], **manifest})
        self.uids.add(made["metadata"]["uid"])
        return made

    def pod(self, name: str) -> dict[str, Any] | None:
        try:
            return self.api.get(f"{self.path}/pods/{name}")
        except ApiClientError as error:
            if error.code == 404:
                return None
            raise

    def status(self, name: str) -> dict[str, Any]:
        return (self.pod(name) or {}).get("status", {})

    def phase(self, name: str) -> str:
        return str(self.status(name).get("phase", ""))

    def container(self, name: str, index: int = 0) -> dict[str, Any]:
        """The status of a Pod's container; {} as long as there is none."""
        statuses = self.status(name).get("containerStatuses", [])
        return statuses[index] if len(statuses) > index else {}

    def reasons(self, name: str) -> set[str]:
        """Why a Pod's first container waits, or ended, or ended the time before."""
        shown = self.container(name)
        both = {**shown.get("state", {}), **{f"last {key}": value for key, value in shown.get("lastState", {}).items()}}
        return {more["reason"] for more in both.values() if "reason" in more}

    def messages(self, name: str, reason: str) -> list[str]:
        """The messages of one reason, of a Pod that this test made: earlier ones of its name had events, too."""
        events = [e for e in self.api.get(f"{self.path}/events")["items"] if e["involvedObject"].get("uid") in self.uids]
        return [e["message"] for e in events if e["involvedObject"]["name"] == name and e["reason"] == reason]

    def delete(self, name: str) -> None:
        self.api.delete(f"{self.path}/pods/{name}")

    def log(self, name: str, container: str = "app") -> str:
        """The whole log, as the file in the CRI format has it, without times."""
        pod = self.pod(name)
        assert pod is not None
        uid = pod["metadata"]["uid"]
        files = sorted((self.home.log_root / f"{self.namespace}_{name}_{uid}" / container).glob("*.log"))
        return "".join(line.split(" ", 3)[3] + "\n" for file in files for line in file.read_text().splitlines())

    def memory_limit(self, name: str) -> int:
        """Bytes, from the Pod's cgroup (v1 or v2)."""
        from pathlib import Path

        path = cgroup_parent(self.pod(name) or {}, self.home.cgroup_root).lstrip("/")
        one, two = Path("/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"), Path("/sys/fs/cgroup", path, "memory.max")
        return int((one if one.exists() else two).read_text())

    def node_ready(self) -> str:
        node = self.api.get("/api/v1/nodes/sim-worker")
        return next(c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready")

    def process(self, name: str) -> int:
        """The pid of one of the lab's own programs ("kubelet")."""
        return int(json.loads(self.home.status_file.read_text())["processes"].get(name, 0))

    def cri(self) -> CriClient:
        return CriClient(f"unix://{self.home.socket}")
