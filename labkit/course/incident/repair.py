"""Whether the user's Pod is well again, is still hers, and stays well after a restart."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from labkit.course.incident.fault import NEXT, POD, Fault, Scene, as_made, is_ready
from labkit.podspec.defaults import fill_pod
from labkit.util import progress
from labkit.util.errors import NodeError
from labkit.util.progress import Progress
from labkit.util.showable import showable

FAILURES = 3
"""After so many warnings of it nobody waits any longer for a Pod."""
STARTS_WITHIN_S = 45.0
NOT_YET = "is not ready. After a repair the kubelet tries again by itself, with growing pauses: check again when it is ready."
NOT_SET = "not set"
LONGEST = 60
IMAGE = re.compile(r"(?P<repository>.+?)(?:@(?P<digest>.+)|:(?P<tag>[^/:]+))?")


def trouble(scene: Scene, chosen: Fault, *, cause_found: bool = False, show: Progress = progress.quiet) -> str:
    """What is still wrong, as a sentence; "" where the repair holds. When the cause was found, the sentence says what of the
    user's manifest a repair may change."""
    show(f"looking at the Pod {POD}")
    if sentence := of_pod(scene, POD, chosen.may_change, cause_found):
        return sentence
    pod = scene.pod()
    if sentence := (pod and chosen.look(scene, pod)) or after_restart(scene, chosen, show):
        return sentence
    found = (of_pod(scene, name, may_change, cause_found) for name, may_change in chosen.neighbours.items())
    return next(filter(None, found), "")


def allowed(may_change: tuple[str, ...]) -> str:
    if not may_change:
        return "What is wrong is not in this manifest, so a repair leaves all of it as it was."
    return f"Of this manifest a repair may change only {' and '.join(f'spec.{field}' for field in may_change)}."


def of_pod(scene: Scene, name: str, may_change: tuple[str, ...], cause_found: bool) -> str:
    """What is wrong with a Pod of the incident."""
    pod, manifest = scene.pod(name), scene.manifest(name)
    if pod is None:
        return gone(name)
    differs = difference(pod, manifest, may_change)
    if not is_ready(pod):
        if (name == POD and is_as_it_was_made(scene, pod, manifest)) or not starts(scene, name):
            return f"The Pod {name} {NOT_YET}"
        if (pod := scene.pod(name)) is None:
            return gone(name)
    if not differs:
        return ""
    whose = "the user's" if name == POD else "the other user's"
    rule = f" {allowed(may_change)}" if cause_found else ""
    return f"The Pod {name} is ready, and is no longer {whose}: {differs}.{rule}"


def gone(name: str) -> str:
    if name == POD:
        return f"There is no Pod {name}: the user needs it. incident.manifest() or `labkit incident manifest` has its manifest."
    manifest = f'incident.manifest("{name}") or `labkit incident manifest --pod {name}`'
    return f"There is no Pod {name}: it is another user's, and she needs it too. {manifest} has its manifest."


def is_as_it_was_made(scene: Scene, pod: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether it is still the Pod of the incident's beginning, of which nothing was changed."""
    uid = scene.kept.get("uids", {}).get(pod["metadata"]["name"])
    return uid == pod["metadata"]["uid"] and not difference(pod, manifest)


def starts(scene: Scene, name: str) -> bool:
    """Wait for a Pod that was made again or changed: whether it gets ready. While it starts its probe may fail."""

    def failures() -> int:
        return sum(event.count for event in scene.node.cluster.warnings(name) if event.reason != "Unhealthy")

    before = failures()
    return scene.wait_ready(name, unless=lambda: failures() - before >= FAILURES, within_s=STARTS_WITHIN_S)


def after_restart(scene: Scene, chosen: Fault, show: Progress) -> str:
    """Restart what the repair has to outlive, and look again."""
    node = scene.node
    if chosen.restarts_runtime:
        show("restarting the container runtime")
        try:
            node.daemon.restart()
        except NodeError as error:
            return f"The Pod {POD} was ready, but the runtime does not start again: {error.happened}"
    show(f"starting the Pod {POD} again")
    scene.start_again()
    scene.note_uid(POD)
    if not scene.wait_ready():
        return f"The Pod {POD} was ready, and is not ready after it was started again: the repair does not hold."
    if chosen.another_pod:
        show("starting one more Pod")

        def has_failed() -> bool:
            return sum(event.count for event in node.cluster.warnings(NEXT)) >= FAILURES

        if not scene.tried(scene.manifest(POD), unless=has_failed):
            return f"The Pod {POD} is ready, but the next Pod does not start: the cause is still there."
    return ""


# The user's Pod compared with her manifest


def difference(pod: Mapping[str, Any], manifest: Mapping[str, Any], may_change: Sequence[str] = ()) -> str:
    """The first field of a Pod's spec that is not as in the manifest, with both values; "" where all are the same. `may_change`:
    fields that are not compared, with all below them: "containers[web].readinessProbe"."""
    now, then = leaves(pod), leaves(manifest)
    for path in [*now, *(path for path in then if path not in now)]:
        if now.get(path) != then.get(path) and not any(is_below(path, field) for field in may_change):
            return f"spec.{path} is {value(now.get(path))}, and {value(then.get(path))} in the manifest"
    return ""


def is_below(path: str, field: str) -> bool:
    return path == field or path.startswith((f"{field}.", f"{field}["))


def leaves(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The values in a Pod's spec by their fields, as Kubernetes completes them; without what a cluster adds."""
    made = json.loads(json.dumps(as_made(pod)))
    fill_pod(made)
    return dict(walked("", made["spec"]))


def walked(path: str, found: Any) -> Iterator[tuple[str, Any]]:
    """What is empty is left out. Things that have a name are found by it, wherever they are in their list."""
    if isinstance(found, Mapping):
        for key, each in found.items():
            if key == "image" and isinstance(each, str) and (image := IMAGE.fullmatch(each)):
                yield from ((f"{path}.image ({part})", text) for part, text in image.groupdict().items() if text)
            else:
                yield from walked(f"{path}.{key}" if path else str(key), each)
    elif isinstance(found, list) and any(isinstance(each, Mapping) for each in found):
        for number, each in enumerate(found):
            name = each.get("mountPath") or each.get("name") or number
            yield from walked(f"{path}[{name}]", each)
    elif found not in (None, [], {}):
        yield path, found


def value(found: Any) -> str:
    return NOT_SET if found is None else showable(found if isinstance(found, str) else json.dumps(found), LONGEST)
