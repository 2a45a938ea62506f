"""A node as its cluster knows it: Pods made, watched and explained through the Kubernetes API, never by CRI."""

from __future__ import annotations

import contextlib
import json
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labkit.figures.pods.cluster_model import EventLine, PodRequest, Resource, StatusChange
from labkit.node.pods import kubectl
from labkit.node.pods.kubectl import NAMESPACE
from labkit.node.pods.pod_statuses import PodStatuses
from labkit.node.state.ledger import HOME, INCIDENT, LESSON
from labkit.podspec.quantity import milli, whole
from labkit.podspec.requests import pod_requests
from labkit.util import progress
from labkit.util.errors import NodeError

if TYPE_CHECKING:
    from labkit.node.state.ledger import Ledger

UNDECIDED = ("Pending", "ContainerCreating", "PodInitializing", "Terminating")
"""STATUS before it says how a Pod fares."""
SETTLED_S = 1.0
GONE_WITHIN = "--timeout=120s"
"""So long kubectl waits for what it deletes. By itself it would wait for ever for a Pod that its node cannot stop."""
OTHER_PODS = "other Pods"
"""In place of a name, what the Pods that are not the lesson's request together."""
Manifest = Mapping[str, Any]


class Cluster:
    """What a learner does with kubectl, for cells.

    kube: the official client's CoreV1Api. node: the name of the node. lesson: objects made here carry the label labkit.lesson, by
    which `remove_leftovers` finds them. host_paths: the directory of the node in which hostPath volumes may lie.
    """

    def __init__(
        self,
        kube: Any,
        node: str,
        run_kubectl: Callable[[Sequence[str], str | None], str],
        lesson: str | None,
        host_paths: str,
        ledger: Ledger | None = None,
    ) -> None:
        self.kube, self.node, self.lesson, self.host_paths, self.ledger = kube, node, lesson, host_paths, ledger
        if ledger:
            ledger.note("cluster")
        self._run_kubectl = run_kubectl
        self._table = PodStatuses(kube)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl, e.g. `kubectl("describe", "pod", "shop")`; what it prints. Raises NodeError with its error message.

        On a cluster that is not the home's own, what `create`, `apply`, `run`, `expose` and `autoscale` make carries the home's
        mark.
        """
        verb, (own, rest) = kubectl.verb_of(arguments), kubectl.cut(arguments)
        if not self.ledger or kubectl.says_output(own) or any(word in kubectl.NO_MAKING for word in own):
            return self._run_kubectl(arguments, stdin)
        which, others = kubectl.split(own)
        if verb in kubectl.FROM_FILES and any(word.startswith(kubectl.WHICH[2:6]) for word in which):
            made = kubectl.documents(self._run_kubectl(["create", *which, "--dry-run=client", "-o", "json"], stdin))
            others.remove(verb)
            return self._send(verb, *made, lesson=False, options=others)
        if verb in kubectl.MAKING and stdin is None:
            made = kubectl.documents(self._run_kubectl([*own, "--dry-run=client", "-o", "json", *rest], None))
            return self._send("create", *made, lesson=False)
        return self._run_kubectl(arguments, stdin)

    def apply(self, *manifests: Manifest) -> str:
        """`kubectl apply` of manifests; kubectl's words, "pod/shop created". Raises NodeError."""
        return self._send("apply", *manifests).strip()

    def recreate(self, *manifests: Manifest) -> str:
        """`kubectl delete`, where such objects are there, and `kubectl apply`: a cell that is run again begins anew. Raises
        NodeError."""
        for manifest in reversed(manifests):  # a claim can only be deleted after the Pod that uses it
            self.delete(named(manifest)[1], kind=named(manifest)[0].lower())
        return self.apply(*manifests)

    def delete(self, *names: str, kind: str = "pod") -> str:
        """`kubectl delete`, and wait until they are gone; what is gone already is no error."""
        return self.kubectl("delete", kind, *names, "--ignore-not-found", "--wait=true", GONE_WITHIN).strip()

    def status(self, pod: str) -> str:
        """The STATUS of a Pod as `kubectl get pods` shows it. Raises NodeError when there is no such Pod."""
        if (status := self._table.status(pod)) is None:
            raise self.no_pod(pod)
        return status

    def wait_status(self, pod: str, *wanted: str, timeout: float = 60.0) -> str:
        """Wait until a Pod's STATUS is one of `wanted`; that one. Raises NodeError with the last one after `timeout` seconds."""
        last = ""

        def reached() -> bool:
            nonlocal last
            last = self.status(pod)
            return last in wanted

        if not progress.wait(f"the Pod {pod} is {' or '.join(wanted)}", reached, timeout):
            raise NodeError(
                f"The Pod {pod} is {last} after {timeout:.0f} s, not {' or '.join(wanted)}.", f"See `kubectl describe pod {pod}`."
            )
        return last

    def wait_outcome(self, pod: str, timeout: float = 60.0) -> str:
        """Wait until a Pod runs, has ended, or is warned of, and its STATUS has stayed the same for a second; that STATUS. Raises
        NodeError after `timeout` seconds, and at once where there is no such Pod."""
        seen, since = "", time.monotonic()

        def settled() -> bool:
            nonlocal seen, since
            if (now := self.status(pod)) != seen:
                seen, since = now, time.monotonic()
            known = seen not in UNDECIDED or bool(self.warnings(pod))
            return known and time.monotonic() - since > SETTLED_S

        if not progress.wait(f"news of the Pod {pod}", settled, timeout):
            raise NodeError(
                f"The Pod {pod} is {seen} after {timeout:.0f} s, and no event warns of it.", f"See `kubectl describe pod {pod}`."
            )
        return seen

    def wait_event(self, pod: str, reason: str, timeout: float = 60.0) -> EventLine:
        """Wait until a Pod has an event of that reason; the newest one. Raises NodeError with those it has after `timeout` s, and
        at once where there is no such Pod."""
        found: list[EventLine] = []

        def happened() -> bool:
            found[:] = [e for e in self.events(pod) if e.reason == reason]
            return bool(found)

        if not progress.wait(f"the event {reason} of the Pod {pod}", happened, timeout):
            others = ", ".join(dict.fromkeys(e.reason for e in self.events(pod))) or "none"
            raise NodeError(f"The Pod {pod} has no event {reason} after {timeout:.0f} s; it has {others}.", "")
        return found[-1]

    def wait_node(self, *, ready: bool, timeout: float = 120.0) -> None:
        """Wait until the node's condition Ready is True, or is not. Raises NodeError after `timeout` seconds."""

        def is_ready() -> bool:
            conditions = self.kube.read_node(self.node).status.conditions or []
            return any(c.type == "Ready" and c.status == "True" for c in conditions)

        wanted = "Ready" if ready else "NotReady"
        if not progress.wait(f"the node {self.node} is {wanted}", lambda: is_ready() == ready, timeout):
            raise NodeError(f"The node {self.node} is not {wanted} after {timeout:.0f} s.", "See `kubectl describe node`.")

    def host_path(self, name: str) -> str:
        """A path on the node for a hostPath volume."""
        return posixpath.join(self.host_paths, name)

    def describe(self, kind: str, name: str) -> dict[str, str]:
        """`kubectl describe`, cut into its blocks: title -> the block's lines, its title among them."""
        blocks: dict[str, str] = {}
        title = ""
        for line in self.kubectl("describe", kind, name).rstrip().split("\n"):
            if line[:1].strip():
                title = line.partition(":")[0]
            blocks[title] = f"{blocks[title]}\n{line}" if title in blocks else line
        return blocks

    def events(self, *pods: str) -> tuple[EventLine, ...]:
        """The events of Pods that are there now, oldest first; of all that this lesson made when none is named. Raises NodeError
        where one that is named is not there."""
        there = self.kube.list_namespaced_pod(NAMESPACE).items if pods else self._own_pods()
        objects = {p.metadata.uid: p.metadata.name for p in there if not pods or p.metadata.name in pods}
        for missing in set(pods).difference(objects.values()):
            raise self.no_pod(missing)
        listed = self.kube.list_namespaced_event(NAMESPACE).items
        own = [e for e in listed if e.involved_object.uid in objects]
        own.sort(key=lambda e: int(e.metadata.resource_version))  # what came first within a second
        return tuple(sorted(map(event_line, own), key=lambda e: e.at))

    def warnings(self, pod: str) -> tuple[EventLine, ...]:
        """A Pod's events of type Warning, oldest first. Raises NodeError where there is no such Pod."""
        return tuple(event for event in self.events(pod) if event.type == "Warning")

    def watch(self) -> contextlib.AbstractContextManager[list[StatusChange]]:
        """Note each STATUS of each Pod while the block runs, as `kubectl get pods -w` tells it."""
        return self._table.watch()

    def capacity(self, *, others: bool = False) -> tuple[Resource, ...]:
        """What the node has, what Pods may have of it, and what they request, by name: cpu in millicores, memory in bytes.

        In a lesson its own Pods are named, and what all other Pods request is one sum, unless `others` asks for each of them.
        """
        status = plain(self.kube, self.kube.read_node(self.node))["status"]
        pods = [plain(self.kube, p) for p in self.kube.list_pod_for_all_namespaces().items]
        alive = [p for p in pods if p["status"].get("phase") not in ("Succeeded", "Failed")]
        here = [p for p in alive if p["spec"].get("nodeName") == self.node]
        nowhere = [p for p in alive if not p["spec"].get("nodeName")]

        def named_ones(of: list[dict[str, Any]]) -> list[dict[str, Any]]:
            everyone = others or not self.lesson
            return [p for p in of if everyone or (p["metadata"].get("labels") or {}).get(LESSON) == self.lesson]

        def requests(of: list[dict[str, Any]], name: str) -> tuple[PodRequest, ...]:
            ordered = sorted(of, key=lambda p: p["metadata"]["name"])  # by age they cannot be told apart within a second
            return tuple(PodRequest(p["metadata"]["name"], asked) for p in ordered if (asked := pod_requests(p).get(name, 0)))

        def with_the_rest(name: str) -> tuple[PodRequest, ...]:
            own = requests(named_ones(here), name)
            rest = sum(r.amount for r in requests(here, name)) - sum(r.amount for r in own)
            return (*own, PodRequest(OTHER_PODS, rest)) if rest else own

        return tuple(
            Resource(
                name,
                in_unit(name, status["capacity"][name]),
                in_unit(name, status["allocatable"][name]),
                with_the_rest(name),
                requests(named_ones(nowhere), name),
            )
            for name in ("cpu", "memory")
        )

    def remove_leftovers(self) -> list[str]:
        """Delete what this lesson made by `apply`; the names. Waits until it is gone. What an open incident made stays."""
        if not self.lesson:
            return []
        kinds = "pods,persistentvolumeclaims,persistentvolumes,configmaps,secrets"
        own = f"{LESSON}={self.lesson}" + (f",{HOME}={self.ledger.mark}" if self.ledger else "")
        selector = f"{own},!{INCIDENT}"
        output = self.kubectl("delete", kinds, "-l", selector, "--wait=true", "--ignore-not-found", GONE_WITHIN)
        return [line.split('"')[1] for line in output.splitlines() if '"' in line]

    # How

    def _send(self, verb: str, *manifests: Manifest, lesson: bool = True, options: Sequence[str] = ()) -> str:
        """`kubectl VERB -f -` of manifests with the lab's labels, one namespace at a time: kubectl refuses a manifest that names
        another namespace than the option --namespace does."""
        groups: dict[str, list[Manifest]] = {}
        for manifest in manifests:
            groups.setdefault((manifest.get("metadata") or {}).get("namespace") or NAMESPACE, []).append(manifest)
        output = ""
        for namespace, items in groups.items():
            others = self._of_others(items, namespace) if verb == "apply" else set()
            labelled = [self._labelled(item, lesson=lesson, is_ours=named(item) not in others) for item in items]
            output += self._run_kubectl([verb, "-f", "-", "--namespace", namespace, *options], list_of(labelled))
        return output

    def _of_others(self, manifests: Sequence[Manifest], namespace: str) -> set[tuple[str, str]]:
        """Kind and name of those whose object is there already, and is not this home's: to change it does not make it so."""
        if not self.ledger:
            return set()
        options = ["get", "-f", "-", "--ignore-not-found", "-o", "json", "--namespace", namespace]
        there = kubectl.documents(self._run_kubectl(options, list_of(manifests)))
        return {named(each) for each in there if (each["metadata"].get("labels") or {}).get(HOME) != self.ledger.mark}

    def _labelled(self, manifest: Manifest, *, lesson: bool, is_ours: bool) -> dict[str, Any]:
        made = json.loads(json.dumps(manifest))
        labels = {LESSON: self.lesson} if self.lesson and lesson else {}
        if self.ledger and is_ours:
            labels[HOME] = self.ledger.mark
            if kind := made.get("kind"):
                self.ledger.note("cluster", kind=str(kind).lower())
        if labels:
            made.setdefault("metadata", {}).setdefault("labels", {}).update(labels)
        return dict(made)

    def no_pod(self, name: str) -> NodeError:
        there = [p.metadata.name for p in self.kube.list_namespaced_pod(NAMESPACE).items]
        return NodeError(f"There is no Pod {name} in the namespace {NAMESPACE}.", f"It has {', '.join(there) or 'none'}.")

    def _own_pods(self) -> list[Any]:
        selector = {"label_selector": f"{LESSON}={self.lesson}"} if self.lesson else {}
        return list(self.kube.list_namespaced_pod(NAMESPACE, **selector).items)


def named(manifest: Manifest) -> tuple[str, str]:
    return manifest.get("kind", ""), (manifest.get("metadata") or {}).get("name", "")


def list_of(manifests: Sequence[Manifest]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})


def event_line(event: Any) -> EventLine:
    """An EventLine from a CoreV1Event of the official client."""
    moment = event.last_timestamp or event.event_time or event.metadata.creation_timestamp or datetime.now(UTC)
    path = event.involved_object.field_path or ""
    return EventLine(
        at=float(int(moment.timestamp())),
        type=event.type or "Normal",
        reason=event.reason or "",
        source=(event.source.component if event.source else None) or event.reporting_component or "",
        message=(event.message or "").strip(),
        pod=event.involved_object.name,
        count=event.count or 1,
        container=path.partition("{")[2].rstrip("}") or None,
    )


def plain(kube: Any, thing: Any) -> dict[str, Any]:
    """An object of the official client as the API's own JSON."""
    return dict(kube.api_client.sanitize_for_serialization(thing))


def in_unit(resource: str, quantity: Any) -> int:
    """A quantity in the unit of `labkit.kube.Resource`."""
    return milli(quantity) if resource == "cpu" else whole(quantity)
