"""Variables from a file in a volume, as the kubelet reads them (pkg/kubelet/util/env)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.kubelet.containers import env_files
from labkit.kubelet.containers.configuration import Configuration
from labkit.kubelet.containers.images import NodeImage
from labkit.podspec import with_defaults
from labkit.podspec.messages import CreateContainerConfigError, MachineInfo

FILE = """# made by an init container
  HOST='db.internal'   # the database
EMPTY= 'not this'
MOTD='two
lines'\r

LAST='a "b" $C'
"""


@pytest.mark.parametrize(
    ("key", "value"),
    [("HOST", "db.internal"), ("EMPTY", ""), ("MOTD", "two\nlines"), ("LAST", 'a "b" $C'), ("NONE", "")],
)
def test_what_a_file_gives_a_name(key: str, value: str) -> None:
    assert env_files.value_of(FILE, key) == value


@pytest.mark.parametrize("line", ["A", "='x'", "A ='x'", "A=x", 'A="x"', "A='x", "A='x'y"])
def test_what_is_not_in_the_form_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"format|unclosed"):
        env_files.value_of(f"{line}\nB='c'\n", "B")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    opened = os.open(tmp_path / "pipe", os.O_PATH)
    try:
        with pytest.raises(ValueError, match="not a regular file"):
            env_files.read(opened)
    finally:
        os.close(opened)


def made(root: Path, **reference: Any) -> dict[str, str]:
    """The environment of a container with a fileKeyRef to the file `env` in a volume whose place is below `root`."""
    place = root / "volume"

    @contextlib.contextmanager
    def opened(pod: Any, volume: Any) -> Iterator[tuple[int, bool]]:
        found = os.open(place, os.O_PATH)
        try:
            yield found, False
        finally:
            os.close(found)

    volumes: Any = SimpleNamespace(opened=opened, place=lambda pod, volume: place)
    objects: Any = SimpleNamespace(of_environment=lambda pod, container: {"configmaps": {}, "secrets": {}})
    configuration = Configuration(root / "kubelet", root / "logs", "/lab", "10.0.0.1", MachineInfo.here(), objects, volumes)
    variable = {"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "env", "key": "A", **reference}}}
    container = {"name": "app", "image": "i", "env": [variable]}
    spec = {"containers": [container], "volumes": [{"name": "v", "emptyDir": {}}]}
    pod = with_defaults({"metadata": {"name": "p", "namespace": "default", "uid": "u1"}, "spec": spec})
    config = configuration.container(pod, pod["spec"]["containers"][0], 0, NodeImage("i", 0), ["10.0.0.5"])
    return {each.key: each.value.decode() for each in config.envs}


def test_a_container_gets_what_the_file_says_or_the_kubelets_words(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "outside").write_text("A='secret'\n")
    with pytest.raises(CreateContainerConfigError, match=r"^couldn't parse env file$"):
        made(tmp_path)
    (tmp_path / "volume" / "env").write_text("A='b c'\n")
    assert made(tmp_path)["A"] == "b c"
    with pytest.raises(CreateContainerConfigError, match=r'^environment variable key "B" not found in file$'):
        made(tmp_path, key="B")
    assert "A" not in made(tmp_path, key="B", optional=True)
    with pytest.raises(CreateContainerConfigError, match=r'^cannot find the volume "w" referenced by FileKeyRef$'):
        made(tmp_path, volumeName="w")
    (tmp_path / "volume" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(CreateContainerConfigError, match=r"^couldn't parse env file$"):
        made(tmp_path, path="link")
