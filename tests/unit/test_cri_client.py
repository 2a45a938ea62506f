"""CriClient over real gRPC: servers in this process that play runtimes which answer, refuse, hang, or are none."""

import contextlib
import inspect
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1
from cri_api.v1alpha2 import api_pb2 as alpha_pb
from cri_api.v1alpha2 import api_pb2_grpc as v1alpha2
from google.protobuf.descriptor import FieldDescriptor

from authoring.generate.cri_stub import STUB, stub
from labkit.cri import CriClient, CriError, services
from labkit.cri.client import MAX_MESSAGE_BYTES
from labkit.cri.v1 import api_pb2 as pb

ROOT = Path(__file__).parents[2]


class Runtime(v1.RuntimeServiceServicer):
    """Answers what a test wants to see arrive; `hold` keeps the event stream open."""

    def __init__(self):
        self.requests = []
        self.hold = threading.Event()

    def Version(self, request, context):
        self.requests.append(request)
        return pb.VersionResponse(version="0.1.0", runtime_name="double", runtime_version="1", runtime_api_version="v1")

    def RunPodSandbox(self, request, context):
        self.requests.append(request)
        return pb.RunPodSandboxResponse(pod_sandbox_id=request.config.metadata.name)

    def ListContainers(self, request, context):
        self.requests.append(request)
        return pb.ListContainersResponse(containers=[pb.Container(id="x" * int(request.filter.id or 1))])

    def StopContainer(self, request, context):
        self.requests.append((request, context.time_remaining()))
        return pb.StopContainerResponse()

    def ContainerStatus(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, f'error when try to find container "{request.container_id}": not found')

    def GetContainerEvents(self, request, context):
        yield pb.ContainerEventResponse(container_id="one")
        yield pb.ContainerEventResponse(container_id="two")
        self.hold.wait(10)
        if context.is_active():
            context.abort(grpc.StatusCode.INTERNAL, "the event stream broke")


class Images(v1.ImageServiceServicer):
    def PullImage(self, request, context):
        words = {"private": "401 Unauthorized", "gone": "not found", "down": "dial tcp 127.0.0.1:1: connect: connection refused"}
        context.abort(grpc.StatusCode.UNKNOWN, f"failed to pull and unpack image: {words[request.image.image]}")


class OldRuntime(v1alpha2.RuntimeServiceServicer):
    def Version(self, request, context):
        return alpha_pb.VersionResponse(version="0.1.0", runtime_name="old", runtime_version="1", runtime_api_version="v1alpha2")

    def RunPodSandbox(self, request, context):
        return alpha_pb.RunPodSandboxResponse(pod_sandbox_id=f"{request.config.metadata.name} {request.config.labels['a']}")


def serve(path, add=None):
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_send_message_length", -1)])
    if add:
        add(server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    return server


@pytest.fixture
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("s") / "cri.sock")


@pytest.fixture
def runtime(path):
    double = Runtime()

    def add(server):
        v1.add_RuntimeServiceServicer_to_server(double, server)
        v1.add_ImageServiceServicer_to_server(Images(), server)

    double.add = add
    double.server = serve(path, add)
    yield double
    double.hold.set()
    double.server.stop(0)


@pytest.fixture
def cri(path, runtime):
    with CriClient(f"unix://{path}") as client:
        yield client


def raw_server(path, answer):
    """A Unix socket whose connections `answer(connection)` deals with; returns the listening socket."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def loop():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    return listener


# The methods


def test_every_rpc_of_both_services_has_its_own_method():
    listed = services()
    expected = {(s.name, m.name) for s in pb.DESCRIPTOR.services_by_name.values() for m in s.methods}
    assert {(rpc.service, rpc.rpc) for rpc in listed} == expected and len(listed) == 41
    assert len({rpc.method for rpc in listed}) == len(listed)
    assert all(callable(getattr(CriClient, rpc.method)) for rpc in listed)
    assert {rpc.method for rpc in listed} >= {"run_pod_sandbox", "list_container_stats", "get_container_events", "image_fs_info"}
    streams = {rpc.rpc for rpc in listed if rpc.streaming}
    assert streams == {"GetContainerEvents", *(rpc.rpc for rpc in listed if rpc.rpc.startswith("Stream"))}
    assert len(streams) == 7


def test_the_stub_for_editors_is_the_generated_one():
    assert STUB.read_text(encoding="utf-8") == stub(), "run: python -m authoring.generate.cri_stub"
    compile(stub(), "rpcs.pyi", "exec")


def test_signature_and_help_name_the_fields():
    signature = inspect.signature(CriClient.list_containers)
    assert list(signature.parameters) == ["self", "request", "filter", "timeout"]
    assert signature.parameters["filter"].annotation == "pb.ContainerFilter | Mapping[str, Any] | None"
    assert signature.return_annotation == "pb.ListContainersResponse"
    assert "pod_sandbox_id: str" in CriClient.stop_pod_sandbox.__doc__
    assert "label_selector" not in CriClient.version.__doc__


def test_jedi_completes_rpcs_and_their_keywords(cri):
    import jedi

    names = {c.name for c in jedi.Interpreter("cri.run_po", [{"cri": cri}]).complete()}
    assert "run_pod_sandbox" in names
    found = {c.name for c in jedi.Interpreter("cri.run_pod_sandbox(runtime_h", [{"cri": cri}]).complete()}
    assert "runtime_handler=" in found


# Requests


@pytest.mark.parametrize("prefix", ["unix://", "unix:", ""])
def test_an_endpoint_is_written_in_three_ways(prefix, path, runtime):
    with CriClient(prefix + path) as client:
        assert client.version().runtime_name == "double"
        assert client.endpoint == f"unix://{path}" and client.api_version == "v1"
    assert len(runtime.requests) == 1


def test_message_first_field_and_keywords_send_the_same_request(cri, runtime):
    config = pb.PodSandboxConfig(metadata={"name": "web"}, port_mappings=[{"protocol": "UDP", "container_port": 1}])
    as_dict = {"metadata": {"name": "web"}, "port_mappings": [{"protocol": "UDP", "container_port": 1}]}
    for call in (
        lambda: cri.run_pod_sandbox(pb.RunPodSandboxRequest(config=config)),
        lambda: cri.run_pod_sandbox(config),
        lambda: cri.run_pod_sandbox(config=config, runtime_handler=""),
        lambda: cri.run_pod_sandbox(config=as_dict, timeout=60),
    ):
        assert call().pod_sandbox_id == "web"
    sent = [request for request in runtime.requests if type(request).__name__ == "RunPodSandboxRequest"]
    assert len(sent) == 4 and all(request == sent[0] for request in sent)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda cri: cri.run_pod_sandbox(configuration={}),
            "no keyword 'configuration': RunPodSandbox takes config, runtime_handler, timeout",
        ),
        (lambda cri: cri.run_pod_sandbox(config=5), "run_pod_sandbox(): config must be PodSandboxConfig"),
        (lambda cri: cri.run_pod_sandbox(config={"metdata": {}}), 'no "metdata" field'),
        (lambda cri: cri.exec_sync(container_id="a", cmd="sh -c true"), "cmd must be a list of strings, not one string"),
        (lambda cri: cri.create_container(config={"args": "10"}), "config.args must be a list of strings"),
        (lambda cri: cri.stop_pod_sandbox(pod_sandbox_id=3), "pod_sandbox_id must be str"),
        (lambda cri: cri.get_container_events("x"), "get_container_events() takes a GetEventsRequest, not str"),
        (lambda cri: cri.version(pb.VersionRequest(), version="x"), "not both"),
        (lambda cri: cri.run_pod_sandbox(config={"linux": {"security_context": {"namespace_options": {"pid": "NOPE"}}}}), "NOPE"),
    ],
)
def test_a_wrong_request_is_a_type_error_in_words_and_nothing_is_sent(call, words, cri, runtime):
    with pytest.raises(TypeError) as caught:
        call(cri)
    assert words in str(caught.value) and not runtime.requests


def test_stop_containers_timeout_is_the_grace_period_and_extends_the_deadline(path, runtime):
    with CriClient(path, timeout=7) as client:
        client.stop_container(container_id="a", timeout=30)
    request, remaining = runtime.requests[-1]
    assert request.timeout == 30 and 30 < remaining < 60  # the client's 7 s alone would leave 7


def test_messages_up_to_cris_limit_arrive(cri):
    big = 6 * 1024 * 1024  # more than gRPC's own 4 MiB
    assert len(cri.list_containers(filter={"id": str(big)}).containers[0].id) == big
    with pytest.raises(CriError) as caught:
        cri.list_containers(filter={"id": str(MAX_MESSAGE_BYTES + 1)})
    assert caught.value.code == "RESOURCE_EXHAUSTED" and "16 MiB" in caught.value.hint


# Streams


def test_a_stream_yields_as_it_comes_and_ends_when_cancelled(cri):
    with cri.get_container_events() as events:
        assert [next(events).container_id, next(events).container_id] == ["one", "two"]
        threading.Timer(0.1, events.cancel).start()
        assert list(events) == []


def test_a_stream_that_breaks_raises_in_words(cri, runtime):
    events = cri.get_container_events()
    next(events), next(events)
    runtime.hold.set()
    with pytest.raises(CriError, match=r"GetContainerEvents failed \(INTERNAL\): the event stream broke"):
        next(events)


# v1alpha2


def test_a_runtime_with_v1alpha2_only_is_spoken_to_in_v1_messages(path):
    server = serve(path, lambda s: v1alpha2.add_RuntimeServiceServicer_to_server(OldRuntime(), s))
    with CriClient(path) as client:
        answer = client.run_pod_sandbox(config={"metadata": {"name": "web"}, "labels": {"a": "b"}})
        assert isinstance(answer, pb.RunPodSandboxResponse) and answer.pod_sandbox_id == "web b"
        assert client.api_version == "v1alpha2" and client.version().runtime_api_version == "v1alpha2"
        with pytest.raises(CriError) as caught:
            next(client.get_container_events())
        assert caught.value.code == "UNIMPLEMENTED"
    server.stop(0)


def test_every_message_of_v1alpha2_has_the_bytes_of_v1():
    """What lets one set of messages serve both: same numbers, same types (a string may be bytes), for all that v1alpha2 has."""
    string, read_as = FieldDescriptor.TYPE_STRING, {FieldDescriptor.TYPE_BYTES: FieldDescriptor.TYPE_STRING}
    compared = 0
    for name, old in alpha_pb.DESCRIPTOR.message_types_by_name.items():
        new = pb.DESCRIPTOR.message_types_by_name[name]
        for field in old.fields:
            twin = new.fields_by_number[field.number]
            kind = read_as.get(twin.type, twin.type) if field.type == string else twin.type
            assert (field.name, field.type, field.is_repeated) == (twin.name, kind, twin.is_repeated), f"{name}.{field.name}"
            compared += 1
    assert compared > 300


# Interceptors


def test_interceptors_see_every_call(path, runtime):
    seen = []

    class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            seen.append(details.method.rpartition("/")[2])
            return continuation(details, request)

        intercept_unary_stream = intercept_unary_unary

    with CriClient(path, interceptors=[Recorder()]) as client:
        client.list_containers()
        client.list_containers()
        next(client.get_container_events())
    assert seen == ["Version", "ListContainers", "ListContainers", "GetContainerEvents"]


# Errors


def error_of(call):
    with pytest.raises(CriError) as caught:
        call()
    assert str(caught.value).count("\n") == 1 and caught.value.hint.endswith(".")
    return caught.value


def test_an_error_says_rpc_code_the_runtimes_words_and_what_to_do(cri):
    error = error_of(lambda: cri.container_status(container_id="abc"))
    assert (error.rpc, error.code) == ("ContainerStatus", "NOT_FOUND") and 'find container "abc": not found' in error.message
    assert str(error) == f"ContainerStatus failed (NOT_FOUND): {error.message}.\n{error.hint}"
    assert error.hint == "List the containers that exist with cri.list_containers()."
    assert error._render_traceback_() == [f"CriError: {str(error).splitlines()[0]}", error.hint]


@pytest.mark.parametrize(
    ("image", "hint"), [("private", "credentials"), ("gone", "no such image"), ("down", "registry cannot be reached")]
)
def test_a_refused_pull_says_why(image, hint, cri):
    assert hint in error_of(lambda: cri.pull_image(image={"image": image})).hint


def test_an_rpc_that_is_not_served(cri):
    error = error_of(lambda: cri.status())
    assert error.code == "UNIMPLEMENTED" and "does not serve that RPC" in error.hint


def test_a_missing_socket(path):
    error = error_of(CriClient(path).version)
    assert error.code == "UNAVAILABLE" and error.message == f"there is no socket at {path}"
    assert "Start the container runtime" in error.hint


def test_a_stale_socket(path):
    socket.socket(socket.AF_UNIX).bind(path)
    error = error_of(CriClient(path).version)
    assert "stale socket" in error.message and "nobody listens" in error.message


def test_a_file_that_is_no_socket(path):
    Path(path).write_text("")
    assert "is not a socket" in error_of(CriClient(path).version).message


def test_a_socket_that_is_not_ours_to_use():
    """Permissions bind everyone but root, so root asks as nobody."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = f"{directory}/cri.sock"
        listener = raw_server(path, lambda connection: None)
        os.chmod(path, 0o000)
        os.chmod(directory, 0o755)
        user = os.geteuid()
        try:
            os.seteuid(65534 if user == 0 else user)
            error = error_of(CriClient(path).version)
        finally:
            os.seteuid(user)
            listener.close()
    assert error.code == "UNAVAILABLE" and f"permission denied on {path}" in error.message and "Run as root" in error.hint


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "does not speak gRPC"),
        (bytes(range(200)), "does not speak gRPC"),
        (b"", "closes each connection"),
    ],
)
def test_another_kind_of_server(answer, words, path):
    def reply(connection):
        with connection, contextlib.suppress(OSError):  # gRPC may be gone already
            if answer:
                connection.recv(100)
                connection.sendall(answer)

    listener = raw_server(path, reply)
    error = error_of(CriClient(path, timeout=60).version)
    assert words in error.message and "CRI socket" in error.hint
    listener.close()


def test_a_grpc_server_without_cri(path):
    server = serve(path)
    error = error_of(CriClient(path).list_containers)
    assert (error.rpc, error.code) == ("ListContainers", "UNIMPLEMENTED") and "speaks gRPC but not CRI" in error.message
    server.stop(0)


def test_a_server_that_never_answers_is_given_up_at_the_deadline(path):
    held = []
    listener = raw_server(path, held.append)
    error = error_of(lambda: CriClient(path, timeout=0.3).run_pod_sandbox(config={}))
    assert error.code == "DEADLINE_EXCEEDED" and "did not answer within the time-out" in error.message
    assert "timeout=" in error.hint
    listener.close()


def test_a_command_whose_output_stays_open_is_given_up_and_the_runtime_is_not_blamed(path):
    held = []
    listener = raw_server(path, held.append)
    client = CriClient(path)
    client.exec_within = 0.3
    client._api_version = "v1"
    error = error_of(lambda: client.exec_sync(container_id="a", cmd=["sh", "-c", "sleep 1000 &"]))
    assert error.code == "DEADLINE_EXCEEDED" and "keeps its standard output or error open" in error.message
    assert ">/dev/null 2>&1 &" in error.hint
    listener.close()


def test_whoever_knows_why_the_runtime_is_away_is_asked(path):
    client = CriClient(path)
    client.away = lambda: ("a lesson has stopped it", "Start it.")
    error = error_of(client.list_containers)
    assert (error.code, error.message, error.hint) == ("UNAVAILABLE", "a lesson has stopped it", "Start it.")


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:1", "run/cri.sock", "", "http://x", "/" + "x" * 120])
def test_an_endpoint_that_is_no_socket_address(endpoint):
    assert error_of(lambda: CriClient(endpoint)).code == "INVALID_ARGUMENT"


def test_a_closed_client_says_so(cri):
    cri.close()
    assert "this CriClient is closed" in error_of(cri.version).message


# Restarts


def test_the_first_call_after_a_restart_succeeds(path, cri, runtime):
    assert cri.version().runtime_name == "double"
    runtime.server.stop(0).wait()
    for _ in range(5):  # long enough for the channel's back-off to grow
        assert error_of(cri.version).code == "UNAVAILABLE"
        time.sleep(0.1)
    runtime.server = serve(path, runtime.add)
    assert cri.version().runtime_name == "double"


FORKS = """
import subprocess, sys, threading
from labkit.cri import CriClient
over = threading.Event()
def call():
    with CriClient(sys.argv[1]) as client:
        while not over.is_set():
            client.version()
callers = [threading.Thread(target=call) for _ in range(6)]
for each in callers:
    each.start()
ends = {subprocess.run(["true"], preexec_fn=lambda: None).returncode for _ in range(100)}
over.set()
for each in callers:
    each.join()
sys.exit(f"ended with {ends}" if ends != {0} else 0)
"""


def test_a_program_that_is_started_while_calls_are_under_way_harms_neither(path, runtime):
    """gRPC's own handlers of fork(2) crash the child now and then, close the descriptors that the calls wait on, and write lines
    of their own to stderr."""
    environ = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", FORKS, path], env=environ, cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_waiting_until_ready_sees_the_runtime_come(path, runtime):
    runtime.server.stop(0).wait()
    with CriClient(path) as client:
        assert "no socket" in error_of(lambda: client.wait_until_ready(0.2)).message
        timer = threading.Timer(0.3, lambda: setattr(runtime, "server", serve(path, runtime.add)))
        timer.start()
        assert client.wait_until_ready(60).runtime_name == "double"
        timer.join()


def test_a_notebook_shows_the_sentences_without_a_traceback(path, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.user_ns["cri"] = CriClient(path)
    shell.run_cell("cri.version()")
    shown = capsys.readouterr().out.strip().splitlines()
    assert len(shown) == 2 and shown[0] == f"CriError: Version failed (UNAVAILABLE): there is no socket at {path}."
