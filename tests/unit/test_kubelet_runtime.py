"""What the kubelet makes of a container's status in the runtime."""

from __future__ import annotations

import pytest
from cri_api.v1 import api_pb2 as pb

from labkit.kubelet.runtime import CREATED, EXITED, container

CREATE = "failed to create containerd task: "
START = 'failed to start containerd task "app": '


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (CREATE + "failed to start shim: start failed: : signal: killed: unknown", CREATED),
        (CREATE + "failed to create shim task: context canceled: unknown", CREATED),
        (START + "context canceled", EXITED),
        (CREATE + 'failed to create shim task: OCI runtime create failed: exec: "/absent": no such file: unknown', EXITED),
        (CREATE + "failed to create shim task: OCI runtime create failed: runc create failed: signal: killed", EXITED),
        ("", EXITED),
    ],
)
def test_a_start_that_broke_off_before_the_program_ran_is_no_end_of_it(message: str, state: str) -> None:
    status = pb.ContainerStatus(id="c", state=pb.CONTAINER_EXITED, reason="StartError", exit_code=128, message=message)
    assert container(status).state == state


def test_what_ran_has_ended_whatever_it_says() -> None:
    message = CREATE + "failed to create shim task: context canceled: unknown"
    assert container(pb.ContainerStatus(id="c", state=pb.CONTAINER_EXITED, started_at=1, message=message)).state == EXITED
