"""Image references, credentials, pull policies and back-off, against a runtime that only keeps a list."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import pytest

from labkit.cri import CriError
from labkit.kubelet.backoff import Backoff
from labkit.kubelet.containers.image_names import registry_path, with_tag
from labkit.kubelet.containers.images import ImageManager, StartError
from labkit.kubelet.containers.pull_secrets import Login, Pulled, fits, read_logins

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("busybox", "busybox:latest"),
        ("registry.lab/busybox:1", "registry.lab/busybox:1"),
        ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
        (f"a@{DIGEST}", f"a@{DIGEST}"),
    ],
)
def test_a_name_without_tag_means_latest(name, whole):
    assert with_tag(name) == whole


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("registry.lab/Busybox:1", "invalid reference format: repository name (Busybox) must be lowercase"),
        ("Busybox", "invalid reference format: repository name (library/Busybox) must be lowercase"),
        ("LOCALHOST/Bad_Image::x", "invalid reference format: repository name (Bad_Image) must be lowercase"),
        ("Registry/a:B:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("", "invalid reference format"),
        ("../../etc/passwd", "invalid reference format"),
    ],
)
def test_what_is_no_name_is_told_so(name, words):
    with pytest.raises(ValueError) as caught:
        with_tag(name)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("where", "image", "fit"),
    [
        ("private.registry.lab", "private.registry.lab/busybox:1", True),
        ("https://private.registry.lab/v2/", "private.registry.lab/busybox:1", True),
        ("registry.lab", "private.registry.lab/busybox:1", False),
        ("*.registry.lab", "private.registry.lab/busybox:1", True),
        ("*.lab", "private.registry.lab/busybox:1", False),
        ("registry.lab/team", "registry.lab/team/app", True),
        ("registry.lab/team", "registry.lab/other/app", False),
        ("registry.lab:5000", "registry.lab/app", False),
        ("https://index.docker.io/v1/", "busybox", True),
    ],
)
def test_which_credentials_are_for_which_image(where, image, fit):
    assert fits(where, registry_path(image)) is fit


def test_both_kinds_of_registry_secret_are_read():
    auth = base64.b64encode(b"learner:container").decode()

    def secret(key, config):
        return {"data": {key: base64.b64encode(json.dumps(config).encode()).decode()}}

    wanted = [Login("r.lab", {"username": "learner", "password": "container"})]
    assert read_logins(secret(".dockerconfigjson", {"auths": {"r.lab": {"auth": auth}}})) == wanted
    assert read_logins(secret(".dockercfg", {"r.lab": {"username": "learner", "password": "container"}})) == wanted
    assert read_logins({"data": {".dockerconfigjson": "%%%"}}) == []
    assert read_logins(secret(".dockerconfigjson", {"auths": {"r.lab": {"auth": "%%%"}}})) == []


class Runtime:
    """Holds images; pulls those that `registry` has, where the login is right."""

    def __init__(self, *held, registry=(), password=None):
        self.held, self.registry, self.password, self.pulls = set(held), registry, password, []

    def image_status(self, image):
        there = image["image"] in self.held
        one = SimpleNamespace(id=f"id-{image['image']}" if there else "", username="", size=7, HasField=lambda _: False)
        return SimpleNamespace(image=one)

    def pull_image(self, image, sandbox_config, auth=None):
        self.pulls.append(auth)
        if self.password and (auth or {}).get("password") != self.password:
            raise CriError("PullImage", "UNKNOWN", "no basic auth credentials", "")
        if image["image"] not in self.registry:
            raise CriError("PullImage", "NOT_FOUND", "not found", "")
        self.held.add(image["image"])


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def make(tmp_path, monkeypatch):
    clock = Clock()
    monkeypatch.setattr("labkit.kubelet.containers.images.time.time", clock)

    def images(runtime):
        return ImageManager(runtime, Backoff(10, 300, clock), Pulled(tmp_path / "pulled.json"))

    images.clock = clock
    return images


def ensure(images, name="r.lab/a:1", policy="IfNotPresent", logins=()):
    told = []
    container = {"name": "app", "image": name, "imagePullPolicy": policy}
    try:
        result = images.ensure("u1", container, None, list(logins), lambda *event: told.append(event)).ref
    except StartError as error:
        result = error
    return result, told


def test_a_present_image_is_not_pulled(make):
    runtime = Runtime("r.lab/a:1")
    assert ensure(make(runtime)) == (
        "id-r.lab/a:1",
        [("Normal", "Pulled", 'Container image "r.lab/a:1" already present on machine and can be accessed by the pod')],
    )
    assert runtime.pulls == []


def test_policies_always_and_never(make):
    always = Runtime("r.lab/a:1", registry=("r.lab/a:1",))
    assert [event[1] for event in ensure(make(always), policy="Always")[1]] == ["Pulling", "Pulled"]
    error, told = ensure(make(Runtime()), policy="Never")
    assert (error.reason, error.message) == (
        "ErrImageNeverPull",
        'Container image "r.lab/a:1" is not present with pull policy of Never',
    )
    assert told == [("Warning", "ErrImageNeverPull", error.message)]


def test_a_failed_pull_backs_off_and_tells_why(make):
    images = make(Runtime())
    error, told = ensure(images)
    assert (error.reason, error.message) == ("ErrImagePull", "rpc error: code = NotFound desc = not found")
    assert told[1] == ("Warning", "Failed", f'Failed to pull image "r.lab/a:1": {error.message}')
    error, told = ensure(images)
    assert error.reason == "ImagePullBackOff"
    assert error.message == 'Back-off pulling image "r.lab/a:1": ErrImagePull: rpc error: code = NotFound desc = not found'
    assert told == [("Normal", "BackOff", 'Back-off pulling image "r.lab/a:1"')]
    make.clock.now += 10
    assert ensure(images)[0].reason == "ErrImagePull"
    make.clock.now += 10
    assert ensure(images)[0].reason == "ImagePullBackOff"


def test_a_code_that_says_nothing_is_left_out(make):
    error, _ = ensure(make(Runtime(registry=("r.lab/a:1",), password="x")))
    assert error.message == "no basic auth credentials"


def test_credentials_are_tried_and_kept_from_other_pods(make):
    runtime = Runtime(registry=("r.lab/a:1",), password="right")
    images = make(runtime)
    right, wrong = (Login("r.lab", {"password": word}) for word in ("right", "wrong"))
    assert ensure(images, logins=[wrong, right])[0] == "id-r.lab/a:1"
    assert ensure(images, logins=[right])[1][0][1] == "Pulled"
    assert ensure(images)[0].reason == "ErrImagePull"
    again = make(runtime)
    assert ensure(again, policy="Never")[0].reason == "ErrImageNeverPull"
    assert ensure(again, policy="Never", logins=[right])[0] == "id-r.lab/a:1"


def test_a_name_that_is_none_is_never_asked_for(make):
    error, told = ensure(make(Runtime()), "r.lab/A:1")
    assert error.reason == "InvalidImageName"
    assert told == [
        (
            "Warning",
            "InspectFailed",
            'Failed to apply default image tag "r.lab/A:1": couldn\'t parse image name "r.lab/A:1": '
            "invalid reference format: repository name (A) must be lowercase",
        )
    ]
