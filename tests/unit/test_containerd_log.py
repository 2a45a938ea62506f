"""Calls from lines that containerd 1.6, 1.7 and 2.2 wrote on real machines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labkit.recording.calls.containerd_log import LoggedCalls, parse_line, same_call, subject
from labkit.recording.calls.log import CallRecord

SANDBOX = "ec192aca5e9011945745347a95cbfabadd43ba0e09c42e9a5570f3f89221a76c"
CONTAINER = "fd6e3b8e678931b41ced40f2715937a1214decb51b34de6499cf8b8513950ecb"
NOT_FOUND = 'an error occurred when try to find container \\"nope\\": not found'
V1_6 = f"""\
time="2026-11-24T12:02:53.787888968Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{{Name:web,Uid:468fbfe5-8ed9,Namespace:default,Attempt:0,}}"
time="2026-11-24T12:02:53.830227635Z" level=info msg="ImageCreate event &ImageCreate{{Name:registry.lab/pause:1,Labels:map[string]string{{io.cri-containerd.image: managed,}},XXX_unrecognized:[],}}"
time="2026-11-24T12:02:53.893053152Z" level=info msg="starting signal loop" namespace=k8s.io path=/run/x pid=31247 runtime=io.containerd.runc.v2
time="2026-11-24T12:02:53.987468246Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{{Name:web,Uid:468fbfe5-8ed9,Namespace:default,Attempt:0,}} returns sandbox id \\"{SANDBOX}\\""
time="2026-11-24T12:02:53.990886389Z" level=info msg="PullImage \\"registry.lab/busybox:1\\""
time="2026-11-24T12:02:54.071007612Z" level=info msg="PullImage \\"registry.lab/busybox:1\\" returns image reference \\"sha256:0fb4d52f\\""
time="2026-11-24T12:02:54.074256964Z" level=info msg="CreateContainer within sandbox \\"{SANDBOX}\\" for container &ContainerMetadata{{Name:main,Attempt:0,}}"
time="2026-11-24T12:02:54.093076250Z" level=info msg="CreateContainer within sandbox \\"{SANDBOX}\\" for &ContainerMetadata{{Name:main,Attempt:0,}} returns container id \\"{CONTAINER}\\""
time="2026-11-24T12:02:54.094389699Z" level=info msg="StartContainer for \\"{CONTAINER}\\""
time="2026-11-24T12:02:54.156525228Z" level=info msg="StartContainer for \\"{CONTAINER}\\" returns successfully"
time="2026-11-24T12:02:54.221452761Z" level=info msg="StartContainer for \\"nope\\""
time="2026-11-24T12:02:54.221512880Z" level=error msg="StartContainer for \\"nope\\" failed" error="rpc error: code = NotFound desc = {NOT_FOUND}"
time="2026-11-24T12:02:54.229637746Z" level=info msg="StopContainer for \\"{CONTAINER}\\" with timeout 0 (s)"
time="2026-11-24T12:02:54.230012593Z" level=info msg="Kill container \\"{CONTAINER}\\""
time="2026-11-24T12:02:54.280174639Z" level=warning msg="cleanup warnings time=\\"2026-11-24T12:02:54Z\\" level=info msg=\\"starting signal loop\\" namespace=k8s.io\\n"
time="2026-11-24T12:02:54.282434442Z" level=info msg="StopContainer for \\"{CONTAINER}\\" returns successfully"
time="2026-11-24T12:02:54.284390285Z" level=info msg="StopPodSandbox for \\"{SANDBOX}\\""
time="2026-11-24T12:02:54.284481099Z" level=info msg="Container to stop \\"{CONTAINER}\\" must be in running or unknown state, current state \\"CONTAINER_EXITED\\""
time="2026-11-24T12:02:54.349784253Z" level=info msg="TearDown network for sandbox \\"{SANDBOX}\\" successfully"
time="2026-11-24T12:02:54.349842880Z" level=info msg="StopPodSandbox for \\"{SANDBOX}\\" returns successfully"
time="2026-11-24T12:02:54.351688419Z" level=info msg="RemoveContainer for \\"{CONTAINER}\\""
time="2026-11-24T12:02:54.353557422Z" level=info msg="RemoveContainer for \\"{CONTAINER}\\" returns successfully"
time="2026-11-24T12:02:54.354529064Z" level=info msg="RemovePodSandbox for \\"{SANDBOX}\\""
time="2026-11-24T12:02:54.354589013Z" level=info msg="Forcibly stopping sandbox \\"{SANDBOX}\\""
time="2026-11-24T12:02:54.374787376Z" level=info msg="RemovePodSandbox \\"{SANDBOX}\\" returns successfully"
"""  # noqa: E501  # as they were
V2_2 = f"""\
time="2026-08-21T07:28:16.900956920+08:00" level=info msg="RunPodSandbox for name:\\"xwing\\"  uid:\\"efa146e2\\"  namespace:\\"default\\""
time="2026-08-21T07:28:17.100956920+08:00" level=info msg="RunPodSandbox for name:\\"xwing\\"  uid:\\"efa146e2\\"  namespace:\\"default\\" returns sandbox id \\"{SANDBOX}\\""
time="2026-08-21T07:28:17.200956920+08:00" level=info msg="CreateContainer within sandbox \\"{SANDBOX}\\" for container name:\\"main\\"  attempt:1"
time="2026-08-21T07:28:17.300956920+08:00" level=info msg="CreateContainer within sandbox \\"{SANDBOX}\\" for name:\\"main\\"  attempt:1 returns container id \\"{CONTAINER}\\""
time="2026-08-21T07:28:18.300956920+08:00" level=info msg="RunPodSandbox for name:\\"tie\\"  uid:\\"77\\"  namespace:\\"default\\""
time="2026-08-21T07:28:18.400956920+08:00" level=error msg="RunPodSandbox for name:\\"tie\\"  uid:\\"77\\"  namespace:\\"default\\" failed, error" error="failed to reserve sandbox name: already exists"
"""  # noqa: E501  # as they were


def calls(text: str, offset: int = 0) -> list[CallRecord]:
    found = {record.number: record for record in LoggedCalls().read(text.splitlines(), offset)}
    return list(found.values())


def test_a_pods_life_in_1_6() -> None:
    told = calls(V1_6)
    assert [(c.method, c.code) for c in told] == [
        ("RunPodSandbox", "OK"), ("PullImage", "OK"), ("CreateContainer", "OK"), ("StartContainer", "OK"),
        ("StartContainer", "NOT_FOUND"), ("StopContainer", "OK"), ("StopPodSandbox", "OK"), ("RemoveContainer", "OK"),
        ("RemovePodSandbox", "OK"),
    ]
    run, pull, create, start = told[:4]
    metadata = run.request.config.metadata
    assert (metadata.name, metadata.uid, metadata.namespace, metadata.attempt) == ("web", "468fbfe5-8ed9", "default", 0)
    assert run.response.pod_sandbox_id == create.request.pod_sandbox_id == SANDBOX
    assert (pull.service, pull.request.image.image, pull.response.image_ref) == (
        "ImageService", "registry.lab/busybox:1", "sha256:0fb4d52f",
    )
    assert (create.request.config.metadata.name, create.response.container_id) == ("main", CONTAINER)
    assert start.request.container_id == CONTAINER and {c.caller for c in told} == {"?"} and {c.source for c in told} == {"log"}
    assert run.to_ns - run.from_ns == 987468246 - 787888968


def test_the_wording_since_2_2_and_other_time_zones() -> None:
    run, create, failed = calls(V2_2, offset=5)
    assert (run.request.config.metadata.name, run.request.config.metadata.uid) == ("xwing", "efa146e2")
    assert run.from_ns == 1787268496900956920 + 5
    assert (create.request.config.metadata.name, create.request.config.metadata.attempt) == ("main", 1)
    assert create.response.container_id == CONTAINER
    assert (failed.code, failed.request.config.metadata.name, failed.response) == ("ALREADY_EXISTS", "tie", None)


def test_lines_of_a_containerd_whose_log_is_a_terminal() -> None:
    """As 1.7 writes to the console of a container that was started with --tty."""
    metadata = "&PodSandboxMetadata{Name:fine,Uid:6d7edba0,Namespace:default,Attempt:0,}"
    lines = (
        f"\x1b[36mINFO\x1b[0m[2026-11-24T13:08:17.761780801Z] RunPodSandbox for {metadata} \r",
        f'\x1b[36mINFO\x1b[0m[2026-11-24T13:08:17.861780801Z] RunPodSandbox for {metadata} returns sandbox id "{SANDBOX}" \r',
        '\x1b[36mINFO\x1b[0m[2026-11-24T13:08:21.759957355Z] PullImage "registry.lab/busyboxx:1"          \r',
        '\x1b[31mERRO\x1b[0m[2026-11-24T13:08:21.859957355Z] PullImage "registry.lab/busyboxx:1" failed    '
        '\x1b[31merror\x1b[0m="rpc error: code = NotFound desc = resolve \\"registry.lab/busyboxx:1\\": not found"\r',
        '\x1b[36mINFO\x1b[0m[2026-11-24T13:08:28.500896860Z] trying next host                              '
        '\x1b[36merror\x1b[0m="no basic auth credentials" \x1b[36mhost\x1b[0m="127.0.0.1:39195"\r',
    )
    made, pulled = (record for record in LoggedCalls().read(lines, 0) if record.to_ns)
    assert (made.method, made.request.config.metadata.uid, made.response.pod_sandbox_id) == ("RunPodSandbox", "6d7edba0", SANDBOX)
    assert made.to_ns is not None and made.to_ns - made.from_ns == 100_000_000
    assert (pulled.request.image.image, pulled.code) == ("registry.lab/busyboxx:1", "NOT_FOUND")
    other = parse_line(lines[-1])
    assert other is not None and (other.message, other.error) == ("trying next host", "no basic auth credentials")


def test_json_lines_and_what_is_no_line() -> None:
    line = parse_line('{"level":"info","msg":"StartContainer for \\"c\\"","time":"2026-11-24T12:02:54Z"}')
    assert line and line.message == 'StartContainer for "c"'
    for text in ("", "panic: x", "{", '{"a": 1}', 'time="yesterday" msg="StartContainer for \\"c\\""', "time= msg="):
        assert parse_line(text) is None


def test_a_log_that_is_cut_in_the_middle() -> None:
    lines = V1_6.splitlines()
    assert "RunPodSandbox" not in {c.method for c in calls("\n".join(lines[1:]))}
    started = calls("\n".join(lines[:2]))
    assert [(c.method, c.to_ns, c.code) for c in started] == [("RunPodSandbox", None, "")]
    parser = LoggedCalls()
    both = [each for line in lines[:4] for each in parser.read([line], 0)]
    assert [each.number for each in both] == [0, 0] and both[1].code == "OK"


@pytest.mark.parametrize(("shift_ns", "same"), [(0, True), (-500_000, True), (10**9, False)])
def test_a_call_that_its_caller_told_too(shift_ns: int, same: bool) -> None:
    logged = calls(V1_6)[3]
    told = replace(logged, from_ns=logged.from_ns + shift_ns, to_ns=logged.to_ns + shift_ns + 10**6, source="interceptor")
    assert subject(told) == subject(logged)
    assert (same_call(logged, [told]) is told) == same
    other = replace(told, request=type(told.request)(container_id="another"))
    assert same_call(logged, [other]) is None


def test_of_two_equal_calls_the_nearer_is_the_one_in_the_log() -> None:
    logged = calls(V1_6)[3]
    first, second = (
        replace(logged, from_ns=logged.from_ns + shift, to_ns=logged.to_ns + shift, source="interceptor")
        for shift in (-300_000_000, 10_000_000)
    )
    assert same_call(logged, [first, second]) is second and same_call(logged, [first]) is first
