"""The join of calls and events: roles from the tree and the programs, causes from ids."""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1

from labkit.cri import CriClient, CriError
from labkit.cri.v1 import api_pb2 as pb
from labkit.kernel.events.stream import Batch, Event, EventsError, EventStream
from labkit.node.observe.proxy import RecordingProxy
from labkit.recording.calls.log import CallLog, recorded
from labkit.recording.flight import Flight, FlightProcess
from labkit.recording.recorder import FlightRecorder, follow, names
from labkit.recording.recorder.causes import join
from labkit.recording.recorder.process_roles import Processes
from labkit.util.errors import NodeError
from tests.unit.flight_of_a_pod import (
    BEFORE,
    CONTAINERD,
    ELSEWHERE,
    SHIM,
    SOCKET,
    Machine,
    hexadecimal,
    process,
    start,
    starting,
    stop,
)
from tests.waits import wait_for


def flight(machine: Machine, before=BEFORE, listed=None, cni=None) -> Flight:
    followed = Processes(before, CONTAINERD, SOCKET)
    for event in machine.events:
        sandbox = (cni or {}).get(event.pid, "")
        followed.feed(replace(event, container_id=sandbox, cni_command="ADD") if sandbox and event.kind == "exec" else event)
    known = names.known(machine.calls, machine.now, listed)
    return Flight(tuple(noted.call for noted in known.calls), join(followed, known), "proc-connector")


def caused_by(flight: Flight, method: str, nth: int = 0) -> list[str]:
    index = [i for i, call in enumerate(flight.calls) if call.method == method][nth]
    return [f"{p.role}: {p.name}" for p in flight.processes if p.call == index]


def one(flight: Flight, name: str) -> FlightProcess:
    return next(p for p in flight.processes if p.name == name)


RUNC = ["runc: runc create", "runc: runc init", "runc: runc init"]


def test_a_pods_start() -> None:
    machine = Machine()
    pids = start(machine, "web", "main", "side")
    made = flight(machine)
    assert caused_by(made, "RunPodSandbox") == [
        "cni: loopback", "cni: bridge", "cni: host-local", "shim: shim start", "shim: shim",
        *RUNC, "pause: pause", "runc: runc start",
    ]
    assert caused_by(made, "PullImage") == caused_by(made, "CreateContainer") == []
    for nth, name in enumerate(("main", "side")):
        assert caused_by(made, "StartContainer", nth) == [
            "shim: shim start", *RUNC, "application: sleep 1000", "runc: runc start",
        ]
        process = next(p for p in made.processes if p.pid == pids[name])
        assert (process.pod, process.container, process.to_ns) == ("web", name, None)
    assert [(c.pod, c.container) for c in made.calls if c.method == "StartContainer"] == [("web", "main"), ("web", "side")]
    assert [p.name for p in made.processes if p.from_ns is None] == ["containerd"]
    assert {p.pod for p in made.processes if p.from_ns is not None} == {"web"}
    assert one(made, "shim").container is one(made, "pause").container is None


def test_a_pods_end() -> None:
    machine = Machine()
    stop(machine, start(machine, "web", "main"), "web", "main")
    made = flight(machine)
    assert caused_by(made, "StopPodSandbox") == [
        *["runc: runc kill", "runc: runc delete"] * 2, "cni: bridge", "cni: loopback",
    ]
    assert caused_by(made, "RemovePodSandbox") == ["shim: shim delete"]
    assert (one(made, "pause").signal, one(made, "pause").exit_code) == (9, None)
    assert one(made, "shim").to_ns is not None


def test_teardown_of_a_pod_that_was_there_before() -> None:
    machine = Machine()
    pids = start(machine, "web", "main")
    machine.events, machine.calls = [], []
    ids = {"pause": hexadecimal("web"), "main": hexadecimal("web/main")}
    before = (
        *BEFORE,
        process(pids["shim"], 1, "containerd-shim", SHIM, "-namespace", "k8s.io", "-id", ids["pause"], "-address", SOCKET),
        *(process(pids[name], pids["shim"], "sleep", "sleep", "1000", cgroup=f"/kubepods/{ids[name]}") for name in ids),
        process(77, 1, "containerd-shim", SHIM, "-namespace", "k8s.io", "-id", hexadecimal("other"), "-address", "/other.sock"),
        process(78, 77, "sleep", cgroup=f"/docker/{hexadecimal('other')}"),
        process(79, 1, "containerd-shim", SHIM, "-namespace", "k8s.io", "-id", hexadecimal("idle"), "-address", SOCKET),
    )
    stop(machine, pids, "web", "main")
    machine.exit(78)
    listed = {"sandboxes": {ids["pause"]: "web"}, "containers": {ids["main"]: (ids["pause"], "main")}}
    made = flight(machine, before, listed=listed)
    assert caused_by(made, "StopPodSandbox")[:2] == ["runc: runc kill", "runc: runc delete"]
    old = {(p.role, p.pod, p.container) for p in made.processes if p.from_ns is None}
    assert old == {("containerd", None, None), ("shim", "web", None), ("pause", "web", None), ("application", "web", "main")}


def test_a_node_that_is_a_container_itself_has_an_id_in_each_cgroup() -> None:
    """On a hierarchy in which Pods have no cgroup of their own, the path ends with the id of the node's container."""
    node, web = f"/docker/{hexadecimal('node')}", hexadecimal("web")
    shim = process(70, 1, "containerd-shim", SHIM, "-namespace", "k8s.io", "-id", web, "-address", SOCKET)
    pause = replace(process(71, 70, "pause"), cgroups={"memory": f"{node}/kubepods/{web}", "": node})
    followed = Processes((*BEFORE, shim, pause), CONTAINERD, SOCKET)
    assert [each.id for each in followed.all if each.pid == 71] == [web]


def test_two_pods_at_once_are_told_apart_by_ids() -> None:
    machine = Machine()
    one_pod, other = starting(machine, "web", "main"), starting(machine, "db", "main")
    with contextlib.suppress(StopIteration):
        while True:
            next(one_pod)
            next(other)
    made = flight(machine)
    for pod in ("web", "db"):
        alone = made.pod(pod)
        # Which plugin works for which Pod only its environment tells, and here there is none.
        assert [p.name for p in alone.processes if p.call == 0 and p.from_ns] == [
            "shim start", "shim", "runc create", "runc init", "runc init", "pause", "runc start",
        ]
    assert {p.call for p in made.processes if p.role == "cni"} == {None}
    plugins = [e.pid for e in machine.events if e.kind == "exec" and e.argv[0].startswith("/usr/lib/cni")]
    told = flight(machine, cni={pid: hexadecimal("web" if pid in plugins[:3] else "db") for pid in plugins})
    assert [p.pod for p in told.processes if p.role == "cni"] == ["web"] * 3 + ["db"] * 3
    assert [told.calls[p.call].pod for p in told.processes if p.role == "cni"] == ["web"] * 3 + ["db"] * 3


def test_pids_of_a_node_below_the_machine() -> None:
    machine = Machine()
    start(machine, "web", "main")
    before = [replace(each, ns_pids=(each.pid, each.pid - 40) if each.pid != 1 else (1,)) for each in BEFORE]
    followed = Processes(before, CONTAINERD, SOCKET)
    forks = [event.pid for event in machine.events if event.kind == "fork"]
    execs = {event.pid for event in machine.events if event.kind == "exec"}
    for event in machine.events:
        told = (event.pid, event.pid - 3990) if event.kind == "exec" or (event.kind == "fork" and event.pid == forks[0]) else ()
        followed.feed(replace(event, ns_pids=told))
    known = names.known(machine.calls, machine.now)
    made, plain = (join(followed, known, depth=depth) for depth in (1, 0))
    assert made[0].pid == CONTAINERD - 40
    # A fork that never became a program, and had ended before it was looked at, has no number of the node's.
    assert [p.pid for p in made[1:]] == [p.pid - 3990 if p.pid in execs else -p.pid for p in plain[1:]]
    shapes = [Flight(tuple(n.call for n in known.calls), each).parents() for each in (made, plain)]
    assert shapes[0] == shapes[1]


def test_exec_sync_is_a_runc_exec() -> None:
    machine = Machine()
    pids = start(machine, "web", "main")
    container = hexadecimal("web/main")
    both = [
        machine.call("ContainerStatus", pb.ContainerStatusRequest(container_id=container)),
        machine.call("ExecSync", pb.ExecSyncRequest(container_id=container, cmd=["cat", "/etc/hostname"])),
        machine.call("StopContainer", pb.StopContainerRequest(container_id=container)),
    ]
    runc = machine.run(pids["shim"], "runc", "--root", "/run/runc", "exec", "--process", "/tmp/p", container)
    init = machine.run(runc, "runc", "init")
    cat = machine.fork(runc)
    machine.exit(init)
    machine.exec(cat, "cat", "/etc/hostname", cgroup=f"0::/kubepods/podabc/{container}")
    child = machine.run(cat, "runc", "list")  # a program that is called runc, in a container
    machine.exit(child, cat, runc)
    for call in both:
        machine.answer(call)
    made = flight(machine)
    assert caused_by(made, "ExecSync") == ["runc: runc exec", "runc: runc init", "exec: cat /etc/hostname", "exec: runc list"]
    assert one(made, "cat /etc/hostname").container == "main"
    assert caused_by(made, "StopContainer") == caused_by(made, "ContainerStatus") == []


def test_what_comes_after_its_call() -> None:
    machine = Machine()
    pids = start(machine, "web", "main")
    container = hexadecimal("web/main")
    machine.exit(pids["main"], code=1)
    machine.exit(machine.run(pids["shim"], "runc", "delete", container))  # the runtime's own, after a crash
    machine.answer(machine.call("Exec", pb.ExecRequest(container_id=container)), pb.ExecResponse(url="http://"))
    machine.exit(machine.run(pids["shim"], "runc", "exec", "--process", "/tmp/p", container))
    machine.answer(machine.call("StopContainer", pb.StopContainerRequest(container_id=container)))
    machine.exit(machine.run(pids["shim"], "runc", "delete", container))
    made = flight(machine)
    assert [(p.name, p.call and made.calls[p.call].method) for p in made.processes][-3:] == [
        ("runc delete", None), ("runc exec", "Exec"), ("runc delete", "StopContainer"),
    ]


def test_a_sandbox_that_fails_tells_no_id() -> None:
    machine = Machine()
    steps = starting(machine, "web")
    for _ in range(3):
        next(steps)
    machine.answer(0, code="UNKNOWN")
    made = flight(machine)
    assert {p.call for p in made.processes if p.from_ns is not None} == {0}
    assert made.calls[0].code == "UNKNOWN" and made.calls[0].pod == "web"


def test_what_is_outside_the_runtime_is_left_out() -> None:
    machine = Machine()
    machine.exit(machine.run(ELSEWHERE, "runc", "create", hexadecimal("x")), machine.run(ELSEWHERE, "containerd"))
    machine.exit(machine.run(CONTAINERD, "/usr/bin/unpigz", "-d", "-c"))
    assert [(p.role, p.name) for p in flight(machine).processes] == [
        ("containerd", "containerd"), ("other", "unpigz -d -c"),
    ]


def test_a_runtime_that_is_killed_and_comes_back() -> None:
    machine = Machine()
    machine.exit(CONTAINERD, code=None, signal=9)
    back = machine.run(ELSEWHERE, *BEFORE[2].cmdline)
    machine.exit(machine.run(back, "/usr/lib/cni/loopback"))
    made = flight(machine)
    assert [(p.role, p.signal) for p in made.processes] == [("containerd", 9), ("containerd", None), ("cni", None)]


def test_a_hook_is_no_application() -> None:
    machine = Machine()
    shim = start(machine)["shim"]
    create = machine.run(shim, "runc", "create", "--bundle", "/b", hexadecimal("y"))
    hook = machine.run(create, "/usr/bin/nvidia-hook", "prestart")
    machine.exit(hook, create)
    assert one(flight(machine), "nvidia-hook prestart").role == "other"


def test_crio_has_conmon_where_the_shim_is() -> None:
    machine = Machine()
    id = hexadecimal("main")
    call = machine.call("StartContainer", pb.StartContainerRequest(container_id=id))
    conmon = machine.run(CONTAINERD, "/usr/bin/conmon", "-b", "/run/b", "-c", id, "--exit-dir", "/run/e")
    lasting = machine.fork(conmon)
    machine.exit(conmon)
    create = machine.run(lasting, "/usr/bin/crun", "create", "--bundle", "/run/b", id)
    left = machine.fork(create)
    machine.exit(create)
    machine.exit(machine.run(CONTAINERD, "/usr/bin/crun", "start", id))
    machine.exec(left, "/bin/httpd", cgroup=f"0::/kubepods.slice/crio-{id}.scope")
    machine.answer(call)
    listed = {"sandboxes": {"s": "web"}, "containers": {id: ("s", "main")}}
    made = flight(machine, (*BEFORE[:2], process(CONTAINERD, 1, "crio")), listed=listed)
    assert caused_by(made, "StartContainer") == [
        "shim: conmon", "shim: conmon", "runc: crun create", "application: httpd", "runc: crun start",
    ]


def test_a_shim_of_another_runtime_whose_arguments_were_not_read() -> None:
    machine = Machine()
    shim = machine.run(ELSEWHERE, SHIM)
    machine.events[-1] = replace(machine.events[-1], argv=(), argv_missing=True)
    machine.exit(machine.run(shim, "runc", "start", hexadecimal("x")), shim)
    machine.exit(machine.run(ELSEWHERE, SHIM, "-id", hexadecimal("x"), "-address", "/other.sock", "start"))
    machine.exit(machine.run(77, "runc", "start", hexadecimal("x")))
    assert flight(machine, (*BEFORE, process(77, 1, "containerd-shim"))).processes == ()


def test_other_runtimes_of_the_machine_are_left_out() -> None:
    """podman's conmon, Docker on the node's own containerd, another kind node whose socket has the same path."""
    machine = Machine()
    here = {"pid": 1}
    x, y, z = (hexadecimal(name) for name in "xyz")

    def run(parent: int, *argv: str, pid_namespace: int = 1) -> int:
        pid = machine.run(parent, *argv)
        machine.events[-1] = replace(machine.events[-1], namespaces={"pid": pid_namespace})
        return pid

    podman = run(ELSEWHERE, "/usr/bin/podman", "run", "busybox")
    conmon = run(podman, "/usr/bin/conmon", "--api-version", "1", "-c", x, "--exit-command", "/usr/bin/podman")
    lasting = machine.fork(conmon)
    machine.exit(conmon)
    machine.exit(run(lasting, "/usr/bin/runc", "create", "--bundle", "/b", x), run(lasting, "/usr/bin/runc", "start", x), lasting)
    moby = run(CONTAINERD, SHIM, "-namespace", "moby", "-address", SOCKET, "-id", y, "start")
    shim = run(moby, SHIM, "-namespace", "moby", "-id", y, "-address", SOCKET)
    machine.exit(moby, run(shim, "runc", "create", "--bundle", "/b", y), run(shim, "runc", "start", y))
    other = run(ELSEWHERE, SHIM, "-namespace", "k8s.io", "-id", z, "-address", SOCKET, pid_namespace=2)
    machine.exit(run(other, "runc", "create", "--bundle", "/b", z, pid_namespace=2))
    run(ELSEWHERE, *BEFORE[2].cmdline, pid_namespace=2)
    before = (
        *BEFORE[:2],
        replace(BEFORE[2], namespaces=here),
        replace(process(60, 1, "conmon", "/usr/bin/conmon", "-c", x, "--exit-command", "podman"), namespaces=here),
        replace(process(61, 60, "sh", cgroup=f"/libpod-{x}.scope"), namespaces={"pid": 3}),
        replace(process(62, 1, "containerd-shim", SHIM, "-namespace", "moby", "-id", y, "-address", SOCKET), namespaces=here),
        replace(
            process(63, 1, "containerd-shim", SHIM, "-namespace", "k8s.io", "-id", z, "-address", SOCKET), namespaces={"pid": 2}
        ),
        replace(process(64, 1, "crio"), namespaces=here),
        process(65, 1, "conmon", "/usr/bin/conmon", "-c", z, "--socket-dir-path", "/var/run/crio"),
    )
    machine.exit(61, 60, 62, 63, 64, 65)
    assert flight(machine, before).processes == ()


def test_podman_beside_crio() -> None:
    machine = Machine()
    x, y = hexadecimal("x"), hexadecimal("y")
    before = (
        *BEFORE[:2],
        process(CONTAINERD, 1, "crio"),
        process(60, 1, "conmon", "/usr/bin/conmon", "-c", x, "--exit-command", "/usr/bin/podman"),
        process(61, 1, "conmon", "/usr/bin/conmon", "-c", y, "--socket-dir-path", "/var/run/crio"),
    )
    machine.exit(machine.run(60, "crun", "start", x), machine.run(61, "crun", "start", y), 60, 61)
    assert [(p.role, p.pid) for p in flight(machine, before).processes if p.from_ns is None] == [("shim", 61)]


def test_missing_arguments_and_ends() -> None:
    machine = Machine()
    pid = machine.run(CONTAINERD, "/usr/lib/cni/loopback")
    machine.events[-1] = replace(machine.events[-1], argv=(), argv_missing=True)
    machine.events.append(Event("fork", machine.tick(), pid, CONTAINERD))  # the exit was lost, the number is used again
    made = flight(machine)
    assert [(p.role, p.name) for p in made.processes if p.from_ns] == [("cni", "loopback"), ("containerd", "containerd")]
    assert made.processes[1].execs[0].argv == () and made.processes[1].to_ns == made.processes[2].from_ns


# With real gRPC


class Runtime(v1.RuntimeServiceServicer):
    stopping = threading.Event()

    def Version(self, request, context):
        context.send_initial_metadata((("one", "1"),))
        context.set_trailing_metadata((("two", dict(context.invocation_metadata()).get("asked", "")),))
        return pb.VersionResponse(version="0.1.0", runtime_name="double", runtime_version="1", runtime_api_version="v1")

    def ListPodSandbox(self, request, context):
        return pb.ListPodSandboxResponse(items=[pb.PodSandbox(id="s1", metadata=pb.PodSandboxMetadata(name="old"))])

    def ListContainers(self, request, context):
        return pb.ListContainersResponse(containers=[])

    def RunPodSandbox(self, request, context):
        return pb.RunPodSandboxResponse(pod_sandbox_id=hexadecimal(request.config.metadata.name))

    def StopPodSandbox(self, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such sandbox: ü")

    def StopContainer(self, request, context):
        self.stopping.set()
        while context.is_active():
            time.sleep(0.05)
        return pb.StopContainerResponse()

    def GetContainerEvents(self, request, context):
        yield pb.ContainerEventResponse(container_id="one")
        yield pb.ContainerEventResponse(container_id="two")
        context.abort(grpc.StatusCode.INTERNAL, "broke")


class Images(v1.ImageServiceServicer):
    def PullImage(self, request, context):
        assert request.auth.password == "container"
        return pb.PullImageResponse(image_ref="sha256:1")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8))
    v1.add_RuntimeServiceServicer_to_server(Runtime(), server)
    v1.add_ImageServiceServicer_to_server(Images(), server)
    with tempfile.TemporaryDirectory() as directory:
        server.add_insecure_port(f"unix:{directory}/cri.sock")
        server.start()
        yield f"unix://{directory}/cri.sock"
        server.stop(None)


@pytest.fixture
def cri(endpoint: str) -> Iterator[CriClient]:
    with CriClient(endpoint) as client:
        yield client


SECRET = {"username": "learner", "password": "container"}


def test_calls_of_the_own_client(cri: CriClient) -> None:
    log, second = CallLog(), CallLog()
    cri.version()
    with recorded(cri, log):
        config = pb.PodSandboxConfig(metadata=pb.PodSandboxMetadata(name="web"))
        cri.run_pod_sandbox(config=config)
        config.metadata.name = "changed later"
        with recorded(cri, second):
            cri.pull_image(image={"image": "x"}, auth=SECRET)
        with pytest.raises(CriError, match="no such sandbox"):
            cri.stop_pod_sandbox(pod_sandbox_id="s1")
        with pytest.raises(CriError, match="broke"):
            list(cri.get_container_events())
        cri.timeout = 0.5
        with pytest.raises(CriError):
            cri.stop_container(container_id="c", timeout=0)
        cri.timeout = 60
    cri.version()
    calls = log.records()
    assert [(c.service, c.method, c.code, c.responses) for c in calls] == [
        ("RuntimeService", "RunPodSandbox", "OK", 1),
        ("ImageService", "PullImage", "OK", 1),
        ("RuntimeService", "StopPodSandbox", "NOT_FOUND", 0),
        ("RuntimeService", "GetContainerEvents", "INTERNAL", 2),
        ("RuntimeService", "StopContainer", "DEADLINE_EXCEEDED", 0),
    ]
    assert [c.method for c in second.records()] == ["PullImage"]
    assert all(c.to_ns is not None and c.from_ns < c.to_ns and c.caller == "labkit" for c in calls)
    assert calls[0].request.config.metadata.name == "web" and calls[0].response.pod_sandbox_id == hexadecimal("web")
    assert calls[1].request.auth.password == "(not recorded)" and calls[1].request.auth.username == "learner"


def test_a_stream_that_is_left(cri: CriClient) -> None:
    log = CallLog()
    cri.version()
    with recorded(cri, log), cri.get_container_events() as stream:
        assert next(stream).container_id == "one"
        assert log.records()[0].to_ns is None or log.records()[0].code
    wait_for(lambda: log.records()[0].to_ns is not None)
    assert log.records()[0].code in ("CANCELLED", "INTERNAL")


def test_the_proxy_passes_everything_on(endpoint: str) -> None:
    log = CallLog()
    with RecordingProxy(endpoint, log) as proxy, CriClient(proxy.endpoint) as client:
        assert os.stat(proxy.path).st_mode & 0o777 == 0o600
        assert client.run_pod_sandbox(config={"metadata": {"name": "web"}}).pod_sandbox_id == hexadecimal("web")
        client.pull_image(image={"image": "x"}, auth=SECRET)
        with pytest.raises(CriError) as caught:
            client.stop_pod_sandbox(pod_sandbox_id="s1")
        assert (caught.value.code, caught.value.message) == ("NOT_FOUND", "no such sandbox: ü")
        with client.get_container_events() as stream:
            assert [next(stream).container_id, next(stream).container_id] == ["one", "two"]
            with pytest.raises(CriError, match="broke"):
                next(stream)
        client.timeout = 1
        with pytest.raises(CriError) as late:
            client.stop_container(container_id="c", timeout=0)
        assert late.value.code == "DEADLINE_EXCEEDED"
        with grpc.insecure_channel(f"unix:{proxy.path}") as bare:
            _, call = v1.RuntimeServiceStub(bare).Version.with_call(pb.VersionRequest(), metadata=(("asked", "yes"),))
            assert dict(call.initial_metadata())["one"] == "1" and dict(call.trailing_metadata())["two"] == "yes"
            with pytest.raises(grpc.RpcError) as unknown:
                bare.unary_unary("/runtime.v9.RuntimeService/Fly")(b"\xff")
            assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
        # The proxy hears of a call that its client has given up after the client does.
        wait_for(lambda: all(call.to_ns is not None for call in log.records()))
    assert not proxy.path.exists()
    calls = log.records()
    assert [(c.method, c.code) for c in calls] == [
        ("Version", "OK"),
        ("RunPodSandbox", "OK"),
        ("PullImage", "OK"),
        ("StopPodSandbox", "NOT_FOUND"),
        ("GetContainerEvents", "INTERNAL"),
        ("StopContainer", "DEADLINE_EXCEEDED"),
        ("Version", "OK"),
        ("Fly", "UNIMPLEMENTED"),
    ]
    own = Path("/proc/self/comm").read_text().strip()
    assert {c.caller for c in calls} == {own} and {c.source for c in calls} == {"proxy"}
    assert calls[2].request.auth.password == "(not recorded)"
    assert calls[1].response.pod_sandbox_id == hexadecimal("web")


def test_many_calls_through_the_proxy_at_once(endpoint: str) -> None:
    log = CallLog()
    with RecordingProxy(endpoint, log) as proxy, ThreadPoolExecutor(16) as pool:
        clients = [CriClient(proxy.endpoint) for _ in range(4)]
        work = [pool.submit(clients[i % 4].run_pod_sandbox, config={"metadata": {"name": f"web{i}"}}) for i in range(200)]
        assert [w.result().pod_sandbox_id for w in work] == [hexadecimal(f"web{i}") for i in range(200)]
        for client in clients:
            client.close()
    assert [c.code for c in log.records() if c.method == "RunPodSandbox"] == ["OK"] * 200


def test_a_proxy_without_a_place_or_a_runtime(endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="No socket could be made at"):
        RecordingProxy(endpoint, CallLog(), tmp_path / "missing" / "cri.sock")
    log = CallLog()
    with RecordingProxy(f"unix://{tmp_path}/gone.sock", log) as proxy, CriClient(proxy.endpoint) as client:
        with pytest.raises(CriError) as caught:
            client.version()
        assert caught.value.code == "UNAVAILABLE"
    assert log.records()[0].code == "UNAVAILABLE"


# The recorder


class NoKernel:
    def snapshot(self, fds: bool = True) -> SimpleNamespace:
        return SimpleNamespace(processes={p.pid: p for p in BEFORE})


def stream(events: list[Event], error: EventsError | None = None, lost: int = 0) -> EventStream:
    ended = threading.Event()

    def batches() -> Iterator[Batch]:
        yield Batch(events, lost)
        if error:
            raise error
        ended.wait(10)

    return EventStream("proc-connector", "exact", batches(), ended.set)


def test_a_recording_ends_in_a_flight(cri: CriClient) -> None:
    machine = Machine()
    machine.exit(machine.run(CONTAINERD, "/usr/lib/cni/loopback"))
    events = stream(machine.events)
    with FlightRecorder(cri, events, NoKernel(), runtime=CONTAINERD) as flight:
        before = flight.flight
        cri.run_pod_sandbox(config={"metadata": {"name": "web"}})
        assert before == flight.flight == Flight()
    assert before == Flight() != flight.flight, "what is frozen has changed"
    assert repr(flight) == repr(flight.flight) and copy.copy(flight).calls == flight.calls
    assert [c.method for c in flight.calls] == ["RunPodSandbox"]
    assert [p.name for p in flight.processes] == ["containerd", "loopback"]
    assert (flight.source, flight.lost, flight.precision, flight.notes) == ("proc-connector", 0, "exact", ())
    cri.version()
    assert len(flight.calls) == 1


def test_nothing_happened(cri: CriClient) -> None:
    with FlightRecorder(cri, stream([]), NoKernel()) as flight:
        pass
    assert repr(flight).startswith("An empty recording")
    assert repr(flight.steps()) == "No step was recorded.\nNo call was made to the runtime."
    assert repr(flight.tree()) == "No process was recorded."
    assert Flight.from_json(flight.to_json()).calls == ()


def test_what_was_recorded_is_kept(cri: CriClient) -> None:
    machine = Machine()
    machine.exit(machine.run(CONTAINERD, "/usr/lib/cni/loopback"))
    broken = stream(machine.events, EventsError("The reader was killed.", "Start again."), lost=3)
    with pytest.raises(ZeroDivisionError), FlightRecorder(cri, broken, NoKernel()) as flight:
        cri.version()
        raise ZeroDivisionError
    assert [p.name for p in flight.processes] == ["containerd", "loopback"] and len(flight.calls) == 1
    assert flight.lost == 3
    assert flight.notes == (
        "The reader was killed. Start again. What was recorded until then is kept.",
        "The kernel dropped 3 events: processes or their ends may be missing.",
    )


def test_without_events_there_are_calls(cri: CriClient) -> None:
    with FlightRecorder(cri, None, NoKernel()) as flight:
        cri.version()
    assert (flight.source, flight.processes, len(flight.calls)) == ("", (), 1)


def test_a_call_under_way_at_the_end(cri: CriClient) -> None:
    with FlightRecorder(cri, None, NoKernel()) as flight:
        Runtime.stopping.clear()
        late = threading.Thread(target=stop_late, args=(cri,))
        late.start()
        assert Runtime.stopping.wait(60)
    assert [(c.method, c.code) for c in flight.calls] == [("StopContainer", "")]
    assert "under way" in repr(flight.steps())
    cri.close()
    late.join()


def stop_late(cri: CriClient) -> None:
    with contextlib.suppress(CriError):
        cri.stop_container(container_id="c", timeout=0)


def test_follow_tells_one_pod_only(cri: CriClient) -> None:
    machine = Machine()
    for pod in ("web", "db"):
        start(machine, pod, "main")
    lines: list[tuple[str, str]] = []
    until = threading.Event()

    class Log(CallLog):
        def records(self):
            return tuple(machine.calls)

    log, events = Log(), stream(machine.events)

    def go_on() -> None:
        log.on_change(machine.calls[-1])
        try:
            wait_for(lambda: any(hexadecimal("web/main") in line for line, _ in lines))
        finally:
            until.set()

    begun = threading.Thread(target=go_on).start
    recorder = FlightRecorder(cri, events, NoKernel(), log=log)
    follow(recorder, lambda line, role: lines.append((line, role)), pod="web", until=until, begun=begun)
    assert {role for _, role in lines} == {"cni", "shim", "runc", "pause", "application"}
    assert sum("exec /usr/lib/cni/" in line for line, _ in lines) == 3  # of the other Pod there are as many
    assert any(hexadecimal("web/main") in line for line, _ in lines)
    assert not any(hexadecimal("db") in line or hexadecimal("db/main") in line for line, _ in lines)
