"""Container logs in the CRI format, and the kubelet's words where there is none."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labkit.cri import CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kubelet.server import containers
from labkit.kubelet.server.container_logs import LogOptions, LogReader, check_there, comparable, nine_digits
from labkit.kubelet.server.containers import NoContainer

LINES = (
    b"2026-11-23T21:00:00.000000001Z stdout F one\n"
    b"2026-11-23T21:00:01.5Z stderr F two\n"
    b"2026-11-23T21:00:02Z stdout P thr\n"
    b"2026-11-23T21:00:03Z stdout F ee\n"
    b"2026-11-23T21:00:04Z stdout F \n"
)


def read(path: Path, **options: Any) -> bytes:
    with LogReader(path, LogOptions(**options)) as reader:
        return b"".join(reader.read())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_bytes(LINES)
    return path


def test_lines_in_pieces_are_joined(log: Path) -> None:
    assert read(log) == b"one\ntwo\nthree\n\n"


def test_timestamps_stand_before_whole_lines_only(log: Path) -> None:
    assert read(log, timestamps=True).splitlines()[2] == b"2026-11-23T21:00:02.000000000Z three"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tail": 0}, b""), ({"tail": 1}, b"\n"), ({"tail": 3}, b"three\n\n"), ({"tail": 4}, b"two\nthree\n\n"),
        ({"tail": 99}, b"one\ntwo\nthree\n\n"), ({"limit": 5}, b"one\nt"), ({"limit": 0}, b""), ({"stream": "stderr"}, b"two\n"),
        ({"since": "2026-11-23T21:00:02Z"}, b"three\n\n"), ({"since": "2026-11-23T22:00:01.25+01:00"}, b"two\nthree\n\n"),
    ],
)
def test_options(log: Path, options: dict[str, Any], text: bytes) -> None:
    assert read(log, **options) == text


def test_the_tail_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_bytes(b"".join(b"2026-11-23T21:00:00Z stdout F line %d\n" % n for n in range(20_000)))
    assert read(log, tail=9_000).splitlines()[0] == b"line 11000"


def test_what_is_written_later_and_after_a_rotation_is_read_too(log: Path) -> None:
    with LogReader(log, LogOptions(tail=0)) as reader:
        assert b"".join(reader.read()) == b""
        with log.open("ab") as file:
            file.write(b"2026-11-23T21:00:05Z stdout F half")
        assert b"".join(reader.read()) == b""
        with log.open("ab") as file:
            file.write(b" whole\n")
        assert b"".join(reader.read()) == b"half whole\n"
        with log.open("ab") as file:
            file.write(b"2026-11-23T21:00:06Z stdout F last of the old\n")
        os.rename(log, f"{log}.20261123-210007")
        log.write_bytes(b"2026-11-23T21:00:07Z stdout F first of the new\n")
        assert b"".join(reader.read()) == b"last of the old\nfirst of the new\n"


def test_no_file_and_no_log_at_all(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == b""
    (tmp_path / "odd").write_bytes(b"not a log\n\n\xff\xfe\n")
    assert read(tmp_path / "odd") == b""


def test_times_compare_as_text() -> None:
    times = ["2026-11-23T21:00:00Z", "2026-11-23T21:00:00.1Z", "2026-11-23T21:00:00.10000001Z", "2026-11-23T21:00:01Z"]
    assert sorted(map(comparable, times)) == list(map(comparable, times))
    with pytest.raises(ValueError, match="isoformat"):
        comparable("yesterday")


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    said = {"name": "app", "state": state, "lastState": last or {}, **more}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "app"}, {"name": "side"}]},
        "status": {"containerStatuses": [said]},
    }


class Runtime:
    """A CRI client with these containers."""

    def __init__(self, *there: Any) -> None:
        self.there = there

    def list_containers(self, **_: Any) -> Any:
        return SimpleNamespace(containers=self.there)

    def container_status(self, container_id: str) -> Any:
        return SimpleNamespace(status=SimpleNamespace(log_path=f"/log/{container_id}"))


def of_log(cri: Any, manifest: Any, container: str = "app", previous: bool = False) -> tuple[str, str]:
    return containers.of_log(cri, manifest, container, previous)


ENDED = {"terminated": {"exitCode": 1, "containerID": "containerd://old"}}


@pytest.mark.parametrize(
    ("manifest", "previous", "found"),
    [
        (pod({"running": {}}, containerID="containerd://new"), False, "new"),
        (pod({"running": {}}, ENDED, containerID="containerd://new"), True, "old"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, ENDED), False, "old"),
        (pod({"waiting": {"reason": "CrashLoopBackOff"}}, ENDED), True, "old"),
        (pod(ENDED), False, "old"),
    ],
)
def test_which_attempt_is_meant(manifest: Any, previous: bool, found: str) -> None:
    assert of_log(Runtime(), manifest, previous=previous) == (found, f"/log/{found}")


def test_a_container_that_runs_already_is_found_though_the_status_is_behind() -> None:
    new = pb.Container(id="new", state=pb.CONTAINER_RUNNING, created_at=2)
    old = pb.Container(id="old", state=pb.CONTAINER_EXITED, created_at=1)
    assert of_log(Runtime(old, new), pod({"waiting": {"reason": "ContainerCreating"}})) == ("new", "/log/new")


@pytest.mark.parametrize(
    ("manifest", "container", "previous", "code", "words"),
    [
        (pod({"waiting": {"reason": "ContainerCreating"}}), "app", False, 400,
         'container "app" in pod "web" is waiting to start: ContainerCreating'),
        (pod({"waiting": {"reason": "ErrImagePull"}}), "app", False, 400,
         """container "app" in pod "web" is waiting to start: image can't be pulled"""),
        (pod({"waiting": {"reason": "ImagePullBackOff"}}), "app", False, 400,
         'container "app" in pod "web" is waiting to start: trying and failing to pull image'),
        (pod({}), "app", False, 400, 'container "app" in pod "web" is waiting to start - no logs yet'),
        (pod({"running": {}}), "app", True, 400, 'previous terminated container "app" in pod "web" not found'),
        (pod({}), "side", False, 400, 'container "side" in pod "web" is not available'),
        (pod({}), "nope", False, 404, 'container "nope" not found in pod "web"'),
    ],
)
def test_words_for_no_log(manifest: Any, container: str, previous: bool, code: int, words: str) -> None:
    with pytest.raises(NoContainer) as error:
        of_log(Runtime(), manifest, container, previous)
    assert (error.value.code, error.value.message) == (code, words)


@pytest.mark.parametrize(
    ("written", "shown"),
    [("2026-11-23T21:00:01.5Z", "2026-11-23T21:00:01.500000000Z"),
     ("2026-11-23T21:00:01+01:00", "2026-11-23T21:00:01.000000000+01:00"),
     ("2026-11-23T21:00:01.123456789-07:00", "2026-11-23T21:00:01.123456789-07:00"), ("x", "x")],
)
def test_a_time_has_nine_digits_of_a_second(written: str, shown: str) -> None:
    assert nine_digits(written.encode()) == shown.encode()


def test_words_that_a_reader_gets_in_place_of_a_log(tmp_path: Path) -> None:
    class Forgetful(Runtime):
        def container_status(self, container_id: str) -> Any:
            raise CriError("ContainerStatus", "NOT_FOUND", "no such container", "")

    with pytest.raises(containers.InsteadOfLog) as words:
        of_log(Forgetful(), pod({"terminated": {"containerID": "containerd://abc"}}))
    assert str(words.value).startswith("unable to retrieve container logs for ") and str(words.value).endswith("abc")
    missing = tmp_path / "0.log"
    with pytest.raises(FileNotFoundError) as words:
        check_there(missing)
    wanted = f'failed to try resolving symlinks in path "{missing}": lstat {missing}: no such file or directory'
    assert str(words.value) == wanted


def test_attach_has_the_terminal_that_the_manifest_gives() -> None:
    there = SimpleNamespace(id="c1", state=pb.CONTAINER_RUNNING, created_at=1)
    manifest = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"containers": [{"name": "app", "tty": True}]}}
    assert containers.attached(Runtime(there), manifest, "app") == ("c1", True)
    with pytest.raises(NoContainer) as refused:
        containers.attached(Runtime(), manifest, "app")
    assert refused.value.message == "container app not found in pod web_default"


def test_a_name_that_no_container_has_is_quoted_as_go_quotes_it():
    nobody = SimpleNamespace(list_containers=lambda **_: SimpleNamespace(containers=[]))
    with pytest.raises(NoContainer) as caught:
        containers.running(nobody, "default", "web", 'a"\n')
    assert caught.value.message == r'container not found ("a\"\n")'
