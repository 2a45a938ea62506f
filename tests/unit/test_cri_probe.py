"""Which RPCs a runtime answers: found out over real gRPC from a server that counts what is run."""

import time
from concurrent import futures

import grpc
import pytest
from cri_api.v1 import api_pb2_grpc as v1

from labkit.cri import CriClient, CriError, answered_rpcs, services
from labkit.cri.probe import NOBODY, harmless
from labkit.cri.v1 import api_pb2 as pb


class Images(v1.ImageServiceServicer):
    """Removes any image, and lists none."""

    def __init__(self, ran):
        self.ran = ran

    def RemoveImage(self, request, context):
        self.ran.append("RemoveImage")
        return pb.RemoveImageResponse()

    def ListImages(self, request, context):
        self.ran.append("ListImages")
        return pb.ListImagesResponse()


class Runtime(v1.RuntimeServiceServicer):
    """Serves a few RPCs; what the generated base class has says UNIMPLEMENTED itself, as some runtimes' methods do."""

    def __init__(self, ran):
        self.ran = ran

    def Version(self, request, context):
        return pb.VersionResponse(runtime_name="double", runtime_version="1", runtime_api_version="v1")

    def RunPodSandbox(self, request, context):
        self.ran.append("RunPodSandbox")
        return pb.RunPodSandboxResponse()

    def StopContainer(self, request, context):
        self.ran.append(f"StopContainer {request.container_id}")
        context.abort(grpc.StatusCode.NOT_FOUND, "no such container")

    def GetContainerEvents(self, request, context):
        while context.is_active():
            time.sleep(0.01)
        yield pb.ContainerEventResponse()


@pytest.fixture
def path(tmp_path_factory):
    return str(tmp_path_factory.mktemp("s") / "cri.sock")


@pytest.fixture
def ran(path):
    """What the server ran, in order."""
    done: list[str] = []
    server = grpc.server(futures.ThreadPoolExecutor(4))
    v1.add_RuntimeServiceServicer_to_server(Runtime(done), server)
    v1.add_ImageServiceServicer_to_server(Images(done), server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    yield done
    server.stop(0)


def test_it_tells_what_is_answered_and_runs_nothing_that_changes_anything(path, ran):
    with CriClient(path) as cri:
        answered = answered_rpcs(cri, timeout=60)
    assert list(answered) == [rpc.rpc for rpc in services()]
    assert {"Version", "StopContainer", "ListImages", "GetContainerEvents"} <= {rpc for rpc, there in answered.items() if there}
    assert not answered["ListContainers"] and not answered["CheckpointContainer"]
    assert ran == [f"StopContainer {NOBODY}", "ListImages"]


def test_a_service_that_is_not_there_is_answered_by_nobody(path):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    v1.add_RuntimeServiceServicer_to_server(Runtime([]), server)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    with CriClient(path) as cri:
        answered = answered_rpcs(cri, timeout=60)
    server.stop(0)
    assert answered["StopContainer"] and not any(answered[rpc.rpc] for rpc in services() if rpc.service == "ImageService")


def test_only_requests_that_can_do_no_harm_are_sent():
    sent = {rpc.rpc: harmless(rpc) for rpc in services()}
    for name in ("RunPodSandbox", "PullImage", "RemoveImage", "UpdateRuntimeConfig"):
        assert sent[name] is None
    assert sent["CreateContainer"].pod_sandbox_id == NOBODY and sent["RemoveContainer"].container_id == NOBODY
    assert sent["ListImages"] == pb.ListImagesRequest()


def test_nobody_there_is_an_error(path):
    with CriClient(path) as cri, pytest.raises(CriError, match="there is no socket"):
        answered_rpcs(cri)
