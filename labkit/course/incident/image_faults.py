"""Faults of the image that a Pod asks for: its tag, its password, its architecture."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labkit.course.incident.fault import NOT_UP, Fault, Scene, fault, has_event, start, user_pod
from labkit.course.incident.pod_faults import WHERE
from labkit.node.host import confined, containerd_setup
from labkit.node.packages.programs import find_programs
from labkit.node.registry import registry
from labkit.node.registry.course_images import busybox_image
from labkit.node.registry.oci import machine_architecture
from labkit.node.state.home import Home

LOGIN = "orders-login"


class ImageAbsent(Fault):
    """The registry has no such image for this node. `may_change`: the tag, but not whose image it is."""

    may_change = ("containers[web].image (tag)", "containers[web].image (digest)")

    def look(self, scene: Scene, pod: Mapping[str, Any]) -> str:
        """Remove the user's own image from the node, which had none when the incident began: the registry has to have it."""
        image = scene.manifest()["spec"]["containers"][0]["image"]
        if pod["spec"]["containers"][0]["image"] == image:
            scene.node.cri.remove_image(image={"image": image})
        return ""


@fault
class ImageTag(ImageAbsent):
    name = "image-tag"
    complaints = NOT_UP
    cause = "The registry does not have the image's tag."
    evidence = (r"busybox:2(?!\d)",)
    hints = (
        "Which step of a Pod's start has a STATUS of its own when it fails?",
        "The event's message ends with the answer of somebody who is no part of the node.",
    )
    taught = WHERE

    def make(self, scene: Scene) -> None:
        image = scene.node.images["busybox"].rpartition(":")[0] + ":2"
        start(scene, user_pod(scene, image=image), until=has_event(scene, "Failed", ":2"), what="the pull fails")


@fault
class ImageLogin(Fault):
    name = "image-login"
    complaints = NOT_UP
    cause = "The registry refuses the login."
    evidence = (r"\b401\b", "unauthorized", r"\bcontainer1\b")
    may_change = ("imagePullSecrets",)
    hints = (
        "Compare the words at the end of the event's message with those of notebook 05: is it the name, or who asks?",
        "Which object does the Pod name for it? `kubectl get secret … -o yaml` shows what is in it, in base64.",
    )
    taught = "notebook 05, “The image: a password”"
    objects = (("secret", LOGIN),)

    def make(self, scene: Scene) -> None:
        image = scene.node.images["private"]
        scene.apply(login(image.partition("/")[0], "container1"))
        scene.node.cri.remove_image(image={"image": image})  # else nobody asks the registry
        manifest = user_pod(scene, image=image, imagePullPolicy="Always", spec={"imagePullSecrets": [{"name": LOGIN}]})
        start(scene, manifest, until=has_event(scene, "Failed", "pull"), what="the pull fails")


def login(registry: str, password: str) -> dict[str, Any]:
    """The Secret with which the user's Pod asks for its image."""
    config = {"auths": {registry: {"username": "learner", "password": password}}}
    text = base64.b64encode(json.dumps(config).encode()).decode()
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": LOGIN}, "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": text}}


@fault
class ImagePlatform(ImageAbsent):
    name = "image-platform"
    complaints = NOT_UP
    cause = "The image is for another CPU architecture than the node's."
    evidence = ("no match for platform", "architecture", r"\b(arm|amd|aarch)64\b")
    hints = (
        "The event's message ends with what was looked for and not found. Compare it with that of a tag that there is not.",
        "A tag can lead to several manifests, each for other machines. What is this node's machine: `uname -m`?",
    )
    taught = WHERE
    kinds = ("containerd",)  # the storage of its registry is a directory of the lab's
    lasts = False

    def make(self, scene: Scene) -> None:
        image, storage, files = foreign(scene)
        registry.store(storage, files, confined.account(str(Home.find().data)))
        refused = has_event(scene, "Failed", "no match for platform")
        start(scene, user_pod(scene, image=image), until=refused, what="the pull fails")

    def undo(self, scene: Scene) -> None:
        _, storage, files = foreign(scene)
        for path in files:
            (storage / path).unlink(missing_ok=True)
            for parent in (storage / path).parents:
                with contextlib.suppress(OSError):  # what holds something else stays
                    if parent != storage and parent.is_relative_to(storage):
                        parent.rmdir()


def foreign(scene: Scene) -> tuple[str, Path, dict[str, bytes]]:
    """An image for another architecture, of the same layers as the course's; the storage of the lab's registry; what is in that
    for this image alone."""
    home, reference = Home.find(), scene.node.images["busybox"].rpartition(":")[0] + ":3"
    busybox = find_programs(home.cache).busybox
    other = "arm64" if machine_architecture() == "amd64" else "amd64"
    files = registry.stored_for(busybox_image(busybox, reference, other), [busybox_image(busybox)])
    return reference, containerd_setup.registries(home) / registry.OPEN_REGISTRY / registry.STORAGE, files
