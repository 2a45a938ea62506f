import yaml

from labkit.cri import to_yaml
from labkit.cri.v1 import api_pb2


def test_names_enums_and_maps_as_in_api_proto():
    config = api_pb2.PodSandboxConfig(
        metadata=api_pb2.PodSandboxMetadata(name="shop", attempt=2),
        labels={"b": "2", "a": "1"},
        linux=api_pb2.LinuxPodSandboxConfig(
            security_context=api_pb2.LinuxSandboxSecurityContext(namespace_options=api_pb2.NamespaceOption(pid=api_pb2.CONTAINER))
        ),
    )
    text = to_yaml(config)
    assert yaml.safe_load(text) == {
        "metadata": {"name": "shop", "attempt": 2},
        "labels": {"a": "1", "b": "2"},
        "linux": {"security_context": {"namespace_options": {"pid": "CONTAINER"}}},
    }
    assert text.index("metadata") < text.index("labels") < text.index("linux")
    assert text.index("a: ") < text.index("b: ")


def test_64_bit_numbers_stay_numbers_and_bytes_become_text():
    assert yaml.safe_load(to_yaml(api_pb2.LinuxContainerResources(memory_limit_in_bytes=2**40))) == {
        "memory_limit_in_bytes": 2**40
    }
    assert yaml.safe_load(to_yaml(api_pb2.ExecSyncResponse(stdout=b"hi", exit_code=3))) == {"stdout": "hi", "exit_code": 3}
