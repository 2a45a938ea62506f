"""The relay in a process of its own, before real sockets and a real gRPC server; commands stand in for `docker exec … socat`."""

import contextlib
import functools
import os
import random
import resource
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.node.host import relay_loop
from labkit.node.host.relay import PYTHON, direct, inside, relay_error, start_relay, stop_relay
from labkit.node.host.relay_loop import CHUNK_BYTES, MAX_CONNECTIONS, OWN_FILES
from labkit.node.state.home import Home
from labkit.util.errors import NodeError
from tests.waits import wait_for

LARGE = 16 * 1024 * 1024
ECHO = ["cat"]


@pytest.fixture
def home(tmp_path_factory):
    """A home whose relay "node" is stopped after the test, which then has left no process and no file of it behind."""
    base = tmp_path_factory.mktemp("h")
    home = Home(base / "run", base / "data", base / "cache")
    yield home
    stop_relay(home, "node")
    wait_for(lambda: processes_naming(base) == [])
    assert not home.run.exists() or [p.name for p in home.run.iterdir() if p.name.startswith("node.sock")] == []


@pytest.fixture
def far(tmp_path_factory):
    """The path of the socket inside the node."""
    return str(tmp_path_factory.mktemp("n") / "far.sock")


def piped(path):
    """As `docker exec` does it: pipes between the relay's command and what reaches the socket."""
    return ["sh", "-c", f"cat | {shlex.join(direct(path))} | cat"]


def failing(words, code=1):
    return ["sh", "-c", f"printf '%s\\n' {shlex.quote(words)} >&2; exit {code}"]


def processes_naming(path):
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid() and str(path).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def relay_pid(home):
    return int((home.run / "node.sock.lock").read_text())


def children(pid):
    """Zombies, too: a child that was not reaped counts."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def open_files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def client_of(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(path))
    return client


def read_all(connection):
    return b"".join(iter(functools.partial(connection.recv, CHUNK_BYTES), b""))


def closes(client):
    with contextlib.suppress(ConnectionResetError):
        return client.recv(1) == b""
    return True


@contextlib.contextmanager
def answering(path, answer):
    """A server on `path`, each connection dealt with by `answer(connection)` in a thread."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def loop():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def say(word):
    def answer(connection):
        with connection, contextlib.suppress(BrokenPipeError):
            connection.sendall(word.encode())

    return answer


class Runtime(v1.RuntimeServiceServicer):
    """Each answer carries the token of its request: in a field, or in the metadata where the request has none."""

    def __init__(self):
        self.seen, self.ended = [], []

    def Version(self, request, context):
        self.seen.append(request.version)
        return pb.VersionResponse(version=request.version, runtime_name="double", runtime_api_version="v1")

    def ListContainers(self, request, context):
        self.seen.append(request.filter.id)
        return pb.ListContainersResponse(containers=[pb.Container(id=request.filter.id, image_ref="x" * 100_000)])

    def GetContainerEvents(self, request, context):
        token = dict(context.invocation_metadata())["token"]
        self.seen.append(token)
        gone = threading.Event()
        context.add_callback(lambda: (self.ended.append(token), gone.set()))
        for _ in range(5):
            yield pb.ContainerEventResponse(container_id=token)
        if token.startswith("cancel"):
            gone.wait(20)

    def ExecSync(self, request, context):
        return pb.ExecSyncResponse(stdout=request.cmd[0].encode())


def serve(path, runtime):
    server = grpc.server(futures.ThreadPoolExecutor(40), options=UNLIMITED)
    v1.add_RuntimeServiceServicer_to_server(runtime, server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def runtime(far):
    double = Runtime()
    server = serve(far, double)
    yield double
    server.stop(0).wait()


# Bytes


@pytest.mark.parametrize("command", [direct, piped])
def test_all_bytes_pass_and_the_answer_still_comes_when_the_client_has_shut_down_its_half(home, far, command):
    sent = random.Random(1).randbytes(LARGE)

    def answer(connection):
        with connection:
            connection.sendall(read_all(connection)[::-1])

    with answering(far, answer), client_of(start_relay(home, "node", command(far))) as client:
        threading.Thread(target=lambda: (client.sendall(sent), client.shutdown(socket.SHUT_WR))).start()
        assert read_all(client) == sent[::-1]


def test_all_bytes_pass_when_the_server_has_shut_down_its_half(home, far):
    sent, read = random.Random(1).randbytes(LARGE), []

    def answer(connection):
        with connection:
            connection.sendall(b"all there is")
            connection.shutdown(socket.SHUT_WR)
            read.append(read_all(connection))

    with answering(far, answer):
        with client_of(start_relay(home, "node", direct(far))) as client:
            assert read_all(client) == b"all there is"
            client.sendall(sent)
        wait_for(lambda: read == [sent])


def test_its_files_are_its_owners(home):
    path = start_relay(home, "node", ECHO)
    made = [path, *path.parent.glob("node.sock.*"), home.data / "node-relay.log"]
    assert len(made) == 4 and {stat.S_IMODE(each.stat().st_mode) for each in made} == {0o600}


def test_a_sender_waits_for_a_reader_that_does_not_read(home, far):
    go, read = threading.Event(), []

    def answer(connection):
        go.wait(20)
        read.append(len(read_all(connection)))

    with answering(far, answer), client_of(start_relay(home, "node", direct(far))) as client:
        client.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 2 * LARGE:
                sent += client.send(bytes(CHUNK_BYTES))
        assert 0 < sent < 4 * 1024 * 1024
        go.set()
        client.shutdown(socket.SHUT_WR)
        wait_for(lambda: read == [sent])


def test_a_socket_with_a_path_longer_than_a_socket_may_have_is_reached(home, tmp_path):
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    here = os.getcwd()
    os.chdir(deep)
    try:
        server = answering("far.sock", say("deep"))
        server.__enter__()
    finally:
        os.chdir(here)
    with client_of(start_relay(home, "node", direct(str(deep / "far.sock")))) as client:
        assert client.recv(10) == b"deep"
    server.__exit__(None, None, None)


# gRPC


def test_a_thousand_calls_from_16_threads_are_neither_lost_nor_crossed(home, far, runtime):
    path = start_relay(home, "node", direct(far))
    pid = relay_pid(home)
    files = open_files(pid)
    channels = [grpc.insecure_channel(f"unix:{path}", options=UNLIMITED) for _ in range(4)]
    stubs = [v1.RuntimeServiceStub(channel) for channel in channels]
    kinds = ["version"] * 5 + ["list"] * 2 + ["stream"] * 2 + ["cancel"]
    tokens = [f"{kinds[number % 10]}-{number}" for number in range(1000)]

    def call(token):
        stub = stubs[hash(token) % 4]
        if token.startswith("version"):
            return [stub.Version(pb.VersionRequest(version=token), timeout=30).version]
        if token.startswith("list"):
            listed = stub.ListContainers(pb.ListContainersRequest(filter=pb.ContainerFilter(id=token)), timeout=30)
            return [c.id for c in listed.containers]
        events = stub.GetContainerEvents(pb.GetEventsRequest(), metadata=[("token", token)], timeout=30)
        if token.startswith("stream"):
            return list(dict.fromkeys(event.container_id for event in events))
        got = [next(events).container_id]
        events.cancel()
        with pytest.raises(grpc.RpcError) as ended:
            while True:
                got.append(next(events).container_id)
        assert ended.value.code() is grpc.StatusCode.CANCELLED
        return list(dict.fromkeys(got))

    with futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(call, tokens))
    assert answers == [[token] for token in tokens]
    assert sorted(runtime.seen) == sorted(tokens)
    wait_for(lambda: sorted(runtime.ended) == sorted(t for t in tokens if t.startswith(("stream", "cancel"))))
    assert len(children(pid)) == 4
    for channel in channels:
        channel.close()
    wait_for(lambda: children(pid) == [])
    wait_for(lambda: open_files(pid) == files)
    assert relay_error(home, "node") is None


def test_a_message_of_16_mib_passes_both_ways(home, far, runtime):
    path = start_relay(home, "node", direct(far))
    with grpc.insecure_channel(f"unix:{path}", options=UNLIMITED) as channel:
        word = random.Random(2).randbytes(LARGE // 2).hex()
        answer = v1.RuntimeServiceStub(channel).ExecSync(pb.ExecSyncRequest(cmd=[word]), timeout=30)
    assert answer.stdout.decode() == word


def test_after_kill_9_of_the_command_and_of_the_server_the_next_call_works(home, far):
    server = serve(far, Runtime())
    path = start_relay(home, "node", direct(far))
    with CriClient(f"unix://{path}") as cri:
        assert cri.version().runtime_name == "double"
        (command,) = children(relay_pid(home))
        os.kill(command, signal.SIGKILL)
        wait_for(lambda: children(relay_pid(home)) == [])
        assert relay_error(home, "node").endswith("was ended by SIGKILL.")
        assert cri.wait_until_ready(timeout=60).runtime_name == "double"  # gRPC may not know yet
        server.stop(0).wait()
        for _ in range(3):
            with pytest.raises(CriError):
                cri.version(timeout=60)
        assert relay_error(home, "node") == f"{far}: No such file or directory."
        server = serve(far, Runtime())
        assert cri.wait_until_ready(timeout=60).runtime_name == "double"
    server.stop(0).wait()


def test_after_kill_9_of_the_relay_its_commands_end_and_a_new_one_takes_over(home, far, runtime):
    path = start_relay(home, "node", direct(far))
    with CriClient(f"unix://{path}") as cri:
        cri.version()
        (command,) = children(relay_pid(home))
        os.kill(relay_pid(home), signal.SIGKILL)
        wait_for(lambda: not is_running(command))
        assert relay_error(home, "node") == "The relay of node was killed."
        with pytest.raises(CriError):
            cri.version()
        start_relay(home, "node", direct(far))
        assert cri.wait_until_ready(timeout=60).runtime_name == "double"
    assert relay_error(home, "node") is None


# Commands that fail, hang, talk, or go


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (
            failing("Error response from daemon: No such container: kind-control-plane"),
            "Error response from daemon: No such container: kind-control-plane",
        ),
        (
            failing("permission denied while trying to connect to the Docker daemon socket\n\nRun 'docker exec --help' for more"),
            "permission denied while trying to connect to the Docker daemon socket",
        ),
        (
            failing('OCI runtime exec failed: exec: "sh": executable file not found in $PATH', 126),
            'OCI runtime exec failed: exec: "sh": executable file not found in $PATH',
        ),
        (
            failing('2026/11/24 10:01:10 socat[260] E connect(, AF=1 "/s/cri.sock", 13): Connection refused'),
            'socat: connect(, AF=1 "/s/cri.sock", 13): Connection refused',
        ),
        (["sh", "-c", "exit 3"], "sh ended with exit code 3 and printed nothing."),
        (["sh", "-c", "kill -TERM $$"], "sh was ended by SIGTERM."),
        (["/no/docker", "exec"], "/no/docker cannot be run: No such file or directory."),
        (inside(["env", "PATH=/nowhere", "/bin/sh", "-c", 'exec "$@"', "sh"], "/run/far.sock"), None),
        (direct("/no/such/directory/far.sock"), "/no/such/directory/far.sock: No such file or directory."),
        (direct("/far.sock", ["echo", "0"]), "The node is not running."),
        (direct("/far.sock", failing("Error: No such object: node")), "Error: No such object: node"),
        (direct("/far.sock", ["/no/docker"]), "/no/docker cannot be run: No such file or directory."),
    ],
)
def test_the_connection_is_closed_and_the_reason_kept(home, command, why):
    path = start_relay(home, "node", command)
    files = open_files(relay_pid(home))
    with client_of(path) as client:
        assert closes(client)
        said = relay_error(home, "node")
    assert said == why if why else said.endswith("not found")
    wait_for(lambda: children(relay_pid(home)) == [])
    wait_for(lambda: open_files(relay_pid(home)) == files)


def test_the_reason_is_dropped_when_a_later_connection_works(home, tmp_path):
    there = tmp_path / "there"
    path = start_relay(home, "node", ["sh", "-c", f"test -e {there} || {{ echo not yet >&2; exit 1; }}; exec cat"])
    with client_of(path) as client:
        assert closes(client)
    assert relay_error(home, "node") == "not yet"
    there.touch()
    with client_of(path):
        wait_for(lambda: relay_error(home, "node") is None)


def test_a_command_that_ends_because_its_client_went_is_no_failure(home):
    path = start_relay(home, "node", ["sh", "-c", "cat; echo broken pipe >&2; exit 1"])
    with client_of(path) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    wait_for(lambda: children(relay_pid(home)) == [])
    assert relay_error(home, "node") is None


def test_a_command_that_does_not_end_with_its_client_is_killed_with_its_children(home):
    mark = str(home.run / "mark")
    path = start_relay(home, "node", ["sh", "-c", f"sh -c 'while sleep 1; do :; done' {mark}; : {mark}"])
    with client_of(path):
        wait_for(lambda: len(processes_naming(mark)) == 3)
    wait_for(lambda: processes_naming(mark) == [relay_pid(home)])
    wait_for(lambda: children(relay_pid(home)) == [])  # it collects what it has killed a moment later


def test_a_client_reads_the_end_even_where_a_child_of_the_command_lives_on(home):
    path = start_relay(home, "node", ["sh", "-c", "cat <&0 >/dev/null & exit 0"])
    with client_of(path) as client:
        assert closes(client)


def test_a_command_that_talks_a_lot_on_stderr_does_not_stand_still(home):
    path = start_relay(home, "node", ["sh", "-c", "head -c 3000000 /dev/zero >&2; exec cat"])
    with client_of(path) as client:
        client.sendall(b"through")
        assert client.recv(10) == b"through"


def test_connections_beyond_the_limit_wait_and_are_served_and_the_state_says_so(home):
    home.run.mkdir(parents=True)
    home.data.mkdir(parents=True)
    few = 20
    limited = ["sh", "-c", f'ulimit -n {2 * few + OWN_FILES}; exec "$@"', "sh"]
    argv = [*limited, *PYTHON, str(relay_loop.PROGRAM), str(home.run / "node.sock"), str(home.data / "log"), *ECHO]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    path = start_relay(home, "node", ECHO)  # finds it
    pid = relay_pid(home)
    files = open_files(pid)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(path)) for _ in range(few + 5)]
        for number, client in enumerate(clients):
            client.sendall(b"%d\n" % number)
        assert [int(client.recv(10)) for client in clients[:few]] == list(range(few))
        assert len(children(pid)) == few
        wait_for(lambda: f"serves {few} connections, as many as it can" in (relay_error(home, "node") or ""))
        for client in clients[:5]:
            client.close()
        assert [int(client.recv(10)) for client in clients[few:]] == list(range(few, few + 5))
    wait_for(lambda: children(pid) == [])
    wait_for(lambda: open_files(pid) == files)
    wait_for(lambda: relay_error(home, "node") is None)


@pytest.mark.parametrize("free", range(7))
def test_a_shortage_of_files_costs_nobody_the_connection_and_limits_nobody_afterwards(home, free):
    path = start_relay(home, "node", ECHO)
    pid = relay_pid(home)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client_of(path))]
        clients[0].sendall(b"first")
        assert clients[0].recv(10) == b"first"
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        lowest = sorted(set(range(200)) - {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")})
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest[free], hard))
        clients += [stack.enter_context(client_of(path)) for _ in range(4)]
        wait_for(lambda: "as many as it can" in (relay_error(home, "node") or ""))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        clients.pop(0).close()
        for client in clients:
            client.sendall(b"served")
            assert client.recv(10) == b"served"
    wait_for(lambda: children(pid) == [])
    wait_for(lambda: relay_error(home, "node") is None)


def test_idle_connections_keep_nobody_from_being_served(home):
    path = start_relay(home, "node", ECHO)
    assert MAX_CONNECTIONS >= 2000
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(client_of(path))
        last = stack.enter_context(client_of(path))
        last.settimeout(60)
        last.sendall(b"served")
        assert last.recv(10) == b"served"
        assert relay_error(home, "node") is None
    wait_for(lambda: children(relay_pid(home)) == [])


def test_clients_that_have_gone_get_no_command(home, tmp_path):
    path = start_relay(home, "node", ["sh", "-c", f"echo begun >>{tmp_path}/begun; exec cat"])
    os.kill(relay_pid(home), signal.SIGSTOP)
    for number in range(200):
        with client_of(path) as client:
            if number % 2:
                client.sendall(b"a question whose asker dies")
    with client_of(path) as alive:
        alive.sendall(b"alive")
        os.kill(relay_pid(home), signal.SIGCONT)
        assert alive.recv(10) == b"alive"
    assert (tmp_path / "begun").read_text() == "begun\n"


# Start and stop


def test_a_relay_that_runs_is_kept_and_one_with_another_command_replaced(home):
    path = start_relay(home, "node", ECHO)
    first = relay_pid(home)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_ISSOCK(path.stat().st_mode)
    assert start_relay(home, "node", ECHO) == path and relay_pid(home) == first
    start_relay(home, "node", ["sh", "-c", "echo other; cat"])
    assert relay_pid(home) != first and not is_running(first)
    with client_of(path) as client:
        assert client.recv(10) == b"other\n"


def test_several_that_start_it_at_once_get_one_relay(home):
    with futures.ThreadPoolExecutor(8) as threads:
        paths = set(threads.map(lambda _: start_relay(home, "node", ECHO), range(8)))
    assert len(paths) == 1
    assert [pid for pid in processes_naming(home.run) if is_running(pid)] == [relay_pid(home)]


def test_stop_closes_what_is_open_and_leaves_no_process_and_no_file(home):
    stop_relay(home, "node")
    path = start_relay(home, "node", ECHO)
    with client_of(path) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        stop_relay(home, "node")
        assert closes(client)
    assert processes_naming(home.run) == [] and list(home.run.iterdir()) == []
    assert "relay" in (home.data / "node-relay.log").read_text()
    stop_relay(home, "node")
    assert relay_error(home, "node") is None


def test_a_relay_whose_socket_was_removed_is_replaced(home):
    path = start_relay(home, "node", ECHO)
    path.unlink()
    start_relay(home, "node", ECHO)
    with client_of(path) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_what_stands_in_the_way_is_refused_and_left(home):
    home.run.mkdir(parents=True)
    path = home.run / "node.sock"
    path.write_text("a file")
    with pytest.raises(NodeError, match=r"is in the way: it is not a socket\. Move it"):
        start_relay(home, "node", ECHO)
    assert path.read_text() == "a file"
    path.unlink()
    with answering(str(path), say("mine")):
        with pytest.raises(NodeError, match=r"Another program already listens .* End it"):
            start_relay(home, "node", ECHO)
        with client_of(path) as client:
            assert client.recv(10) == b"mine"
    start_relay(home, "node", ECHO)  # now it is stale


def test_a_name_too_long_for_a_socket_is_said(home):
    with pytest.raises(NodeError, match="longer than a Unix socket's may be"):
        start_relay(home, "n" * 120, ECHO)


# Root's way in, and socat


@pytest.mark.live
@pytest.mark.skipif(os.geteuid() != 0, reason="another process's root is root's to enter")
def test_a_socket_under_another_root_is_found_again_under_the_next_pid(home, tmp_path):
    root = tmp_path / "root"
    (root / "run").mkdir(parents=True)
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")  # as Debian has it; followed from outside, it leads to this machine's /run
    program = (
        "import os, socket, sys\nos.chroot(sys.argv[1])\ns = socket.socket(socket.AF_UNIX)\ns.bind('/run/far.sock')\n"
        "s.listen()\nprint(flush=True)\nwhile True:\n c, _ = s.accept()\n c.sendall(sys.argv[2].encode())\n c.close()"
    )
    argv = direct("/var/run/far.sock", ["cat", str(tmp_path / "pid")])
    for life in ("first", "second"):
        node = subprocess.Popen([sys.executable, "-c", program, root, life], stdout=subprocess.PIPE)
        node.stdout.readline()
        (tmp_path / "pid").write_text(f"{node.pid}\n")
        with client_of(start_relay(home, "node", argv)) as client:
            assert read_all(client) == life.encode()
        node.kill()
        node.communicate()
        (root / "run/far.sock").unlink()


@pytest.mark.live
def test_socat_carries_calls_and_half_closed_connections_and_ends_with_its_client(home, far, runtime):
    from labkit.node.packages.unpack import fetch

    socat = fetch(["socat"], dest=Home.find().cache / "tests-socat")  # kept: a network that fails is no failure of the relay
    libraries = os.pathsep.join(map(str, socat.library_path))
    argv = inside(["env", f"PATH={socat.root}/usr/bin:{os.environ['PATH']}", f"LD_LIBRARY_PATH={libraries}"], far)
    path = start_relay(home, "node", argv)
    with CriClient(f"unix://{path}") as cri:
        assert cri.version().runtime_name == "double"
        (command,) = children(relay_pid(home))
        os.kill(command, signal.SIGKILL)
        wait_for(lambda: children(relay_pid(home)) == [])
        assert cri.wait_until_ready(timeout=60).runtime_name == "double"  # gRPC may not know yet
    wait_for(lambda: children(relay_pid(home)) == [])

    def answer(connection):
        with connection:
            asked = read_all(connection)
            time.sleep(1)  # socat by itself gives half a second
            connection.sendall(asked[::-1])

    other = f"{far}.2"
    with answering(other, answer), client_of(start_relay(home, "node", [*argv[:-1], other])) as client:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"noitseuq"


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
