"""What a shell hands on to daemons, and what it does not."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labkit.node.host.access import ThisMachine
from labkit.node.registry import oci
from labkit.util import environment

STATE = """
import json, os, resource, signal
before = os.umask(0)
with open("/proc/self/status") as status:
    words = dict(line.split(":", 1) for line in status)
print(json.dumps({
    "umask": before, "ignored": int(words["SigIgn"], 16), "blocked": int(words["SigBlk"], 16),
    "nofile": resource.getrlimit(resource.RLIMIT_NOFILE), "fsize": resource.getrlimit(resource.RLIMIT_FSIZE),
    "core": resource.getrlimit(resource.RLIMIT_CORE), "open": [os.path.realpath(f"/proc/self/fd/{fd}") for fd in range(3)],
    "environment": dict(os.environ), "pid": os.getpid(),
}))
"""
PYTHONS = sum(1 << (number - 1) for number in (signal.SIGPIPE, signal.SIGXFSZ, 32, 33))
"""What a Python ignores by itself, and the two signals of the C library's own, which its posix_spawn ignores for a child: Python
3.13 uses that, and no program can reset them."""


def state(before: str, argv: list[str], environ: Mapping[str, str] | None = None) -> dict:
    """What STATE sees when a shell runs it after `before`."""
    script = f'{before}\nexec "$@"'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *argv], capture_output=True, text=True, check=True, env=environ)
    return dict(json.loads(done.stdout))


BAD = "umask 077; ulimit -Sn 64; ulimit -Sf 1000; ulimit -Sc 0; trap '' HUP INT PIPE CHLD TERM USR1; exec <&- 2>&-"


def test_a_shell_hands_on_all_of_this() -> None:
    """Else the next test proves nothing."""
    seen = state(BAD, [sys.executable, "-c", STATE])
    assert seen["umask"] == 0o077 and seen["nofile"][0] == 64 and seen["ignored"] & ~PYTHONS


def test_a_daemon_is_launched_as_a_service_manager_would() -> None:
    seen = state(BAD, environment.launched([sys.executable, "-c", STATE]))
    hard = seen["nofile"][1]
    assert seen["umask"] == 0o022
    assert seen["ignored"] & ~PYTHONS == 0 and seen["blocked"] == 0
    assert seen["nofile"] == [hard, hard] and seen["fsize"][0] == seen["fsize"][1]
    assert seen["core"][0] == 0, "no core dumps that nobody asked for"
    assert seen["open"][0] == seen["open"][2] == "/dev/null"


def test_signals_that_were_blocked_are_not() -> None:
    blocked = "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [15, 17]); os.execv(sys.executable, sys.argv[1:])"
    argv = environment.launched([sys.executable, "-c", STATE])
    seen = state(":", [sys.executable, "-c", blocked, *argv])
    assert seen["blocked"] == 0
    assert state(":", [sys.executable, "-c", blocked, sys.executable, "-c", STATE])["blocked"]


def test_the_daemon_is_the_process_that_was_started_and_says_when_it_cannot_be() -> None:
    with subprocess.Popen(environment.launched([sys.executable, "-c", STATE]), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and json.loads(process.stdout.read())["pid"] == process.pid
    done = subprocess.run(environment.launched(["/nowhere/daemon"]), capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "/nowhere/daemon cannot be run: No such file or directory.\n"


HARMFUL = """
LD_PRELOAD PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONUTF8 PYTHONIOENCODING PYTHONINSPECT LC_ALL
LC_NUMERIC LANG LANGUAGE GREP_OPTIONS POSIXLY_CORRECT CDPATH IFS ENV BASH_ENV GRPC_VERBOSITY GRPC_TRACE grpc_proxy no_grpc_proxy
GODEBUG GOMAXPROCS REGISTRY_HTTP_ADDR KUBERNETES_SERVICE_HOST KUBECONFIG SOURCE_DATE_EPOCH TAR_OPTIONS NOTIFY_SOCKET LISTEN_FDS
LISTEN_PID MPLBACKEND TERM COLUMNS JUPYTER_TOKEN AWS_SECRET_ACCESS_KEY CNI_PATH NETNS SSLKEYLOGFILE OTEL_SERVICE_NAME
"""
NEEDED = """
HOME LABKIT_HOME LABKIT_TIME_SCALE LABKIT_SUBNET XDG_RUNTIME_DIR HTTPS_PROXY no_proxy SSL_CERT_FILE APT_CONFIG LD_LIBRARY_PATH
"""
ENGINES = "DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG CONTAINER_HOST CONTAINERS_CONF CONTAINERD_ADDRESS NERDCTL_TOML SSH_AUTH_SOCK"


def test_a_daemon_gets_what_it_needs_and_nothing_else() -> None:
    needed = dict.fromkeys(NEEDED.split(), "x")
    engines = dict.fromkeys(ENGINES.split(), "x")
    shell = {**dict.fromkeys(HARMFUL.split(), "x"), **engines, **needed, "PATH": "/opt/bin"}
    path = ":".join(["/opt/bin", *environment.SYSTEM_PATH])
    assert environment.daemon({"MORE": "1"}, shell) == {**needed, **environment.SET, "MORE": "1", "PATH": path}
    assert environment.engine(shell) == engines


def test_a_temporary_directory_is_handed_on_where_there_is_one(tmp_path: Path) -> None:
    given = {str(tmp_path): True, str(tmp_path / "gone"): False, "relative": False, "": False}
    assert {path: "TMPDIR" in environment.daemon(None, {"TMPDIR": path}) for path in given} == given


def test_modules_are_found_where_the_client_finds_them_wherever_the_daemon_runs(tmp_path: Path) -> None:
    given = os.pathsep.join(["relative", "", str(tmp_path), str(tmp_path / "gone")])
    assert environment.daemon(None, {"PYTHONPATH": given})["PYTHONPATH"] == str(tmp_path)
    assert "PYTHONPATH" not in environment.daemon(None, {"PYTHONPATH": "relative"})


@pytest.mark.parametrize(
    ("path", "first"),
    [("", []), (".", []), ("bin:", []), (":/opt/a::relative:/opt/b:/opt/a", ["/opt/a", "/opt/b"]), ("/bin", ["/bin"])],
)
def test_no_program_is_looked_for_in_the_current_directory(path: str, first: list[str]) -> None:
    others = [directory for directory in environment.SYSTEM_PATH if directory not in first]
    assert environment.search_path({"PATH": path}).split(os.pathsep) == [*first, *others]


def test_commands_are_known_to_have_failed_where_the_shell_ignores_their_ends() -> None:
    run = "import subprocess; from labkit.util import environment; {}; print(subprocess.run(['false']).returncode)"
    codes = []
    for line in ("0", "environment.prepare_client()"):
        argv = ["env", "--ignore-signal=CHLD", sys.executable, "-c", run.format(line)]
        codes.append(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())
    assert codes == ["0", "1"], "Python takes what the kernel has reaped for a success"


@pytest.fixture
def tight() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_files_of_a_pod_made_by_hand_are_readable_whatever_the_umask(tight: None, tmp_path: Path) -> None:
    ThisMachine().write_file(str(tmp_path / "pod" / "etc-hosts"), "x")
    ThisMachine().make_directory(str(tmp_path / "room"), 0o777)
    assert (tmp_path / "pod" / "etc-hosts").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "room").stat().st_mode & 0o777 == 0o777


def test_the_images_are_the_same_to_the_byte_whatever_the_umask(tight: None) -> None:
    entries = [oci.Entry("c", b"x"), oci.Entry("etc/hosts", b"x", mode=0o644), oci.Entry("bin/sh", target="c")]
    layer = oci.layer(entries)
    os.umask(0o022)
    assert layer == oci.layer(entries)
    with tarfile.open(fileobj=io.BytesIO(layer.data)) as archive:
        modes = {member.name: member.mode for member in archive}
    assert modes == {"bin": 0o755, "bin/sh": 0o777, "c": 0o755, "etc": 0o755, "etc/hosts": 0o644}


SPEAK = """
import sys
from labkit.util import environment
environment.speak_utf8()
print(open(sys.argv[1]).read(), sys.argv[2])
"""


@pytest.mark.parametrize(
    "shell",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "nonsense"}, {"LC_ALL": "C.UTF-8"}],
    ids=["ascii", "nonsense", "utf-8"],
)
def test_files_are_read_as_utf8_whatever_the_locale(shell: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes("日".encode())
    argv = [sys.executable, "-c", SPEAK, str(tmp_path / "file"), "é"]
    done = subprocess.run(argv, capture_output=True, env={"PATH": os.environ["PATH"], **shell}, check=True)
    assert done.stdout.decode() == "日 é\n"
