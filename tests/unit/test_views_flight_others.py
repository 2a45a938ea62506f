"""The figures of notebook 01 and 03 beside the timeline: call chain, RPC catalogue, field map, history, image layers."""

from dataclasses import replace

import pytest

from labkit.cri import services
from labkit.cri.pods import PodProcess, PodSnapshot
from labkit.cri.text import to_dict
from labkit.figures.contract.field_map import field_map
from labkit.figures.contract.field_rules import RULES
from labkit.figures.contract.rpc_catalogue import rpc_catalogue
from labkit.figures.flight.call_chain import call_chain
from labkit.figures.flight.pod_lifecycle import pod_lifecycle
from labkit.figures.flight.timeline import flight_timeline
from labkit.figures.pods.cluster_model import StatusChange
from labkit.figures.runtime.history import MILESTONES, history
from labkit.figures.runtime.layers import Layer, layers
from labkit.kernel import Mount
from labkit.podspec import with_defaults
from labkit.podspec.messages import container_config, sandbox_config
from labkit.recording.flight import FlightProcess
from labkit.recording.recorder import Recording
from tests.unit import flights
from tests.unit.test_views_flight_timeline import Paper, clashes

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "namespace": "default", "labels": {"app": "shop"}},
    "spec": {
        "hostname": "web",
        "restartPolicy": "Always",
        "containers": [
            {"name": "sidecar", "image": "registry.lab/busybox:1"},
            {
                "name": "app",
                "image": "registry.lab/busybox:1",
                "command": ["httpd"],
                "args": ["-f", "-p", "80"],
                "env": [{"name": "COLOUR", "value": "green"}],
                "ports": [{"containerPort": 80, "hostPort": 8080}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "64Mi"}},
                "securityContext": {"runAsUser": 1000},
                "livenessProbe": {"httpGet": {"path": "/", "port": 80}},
            },
        ],
    },
}
OVERLAY = Mount(
    9, 1, "0:50", "/", "/", "overlay", "overlay", ("rw", "lowerdir=/s/2/fs:/s/1/fs", "upperdir=/s/3/fs", "workdir=/s/3/work")
)
STACK = [Layer("busybox", 1_200_000, ("/bin/busybox", "/bin/sh")), Layer("the pages", 812, ("/www/index.html",))]


def of_pod(**options):
    return field_map(POD, to_dict(sandbox_config(POD)), to_dict(container_config(POD, "app")), **options)


def catalogue(**options):
    answered = {rpc.rpc: rpc.rpc != "GetContainerEvents" for rpc in services()}
    return rpc_catalogue(services(), answered, {"Version", "RunPodSandbox"}, **options)


FIGURES = {
    "chain": lambda **o: call_chain(flights.pods(1), **o),
    "chain of forty": lambda **o: call_chain(flights.pods(40), **o),
    "chain of an end": lambda **o: call_chain(flights.teardown(), **o),
    "chain of nothing": lambda **o: call_chain(flights.exact(), **o),
    "catalogue": catalogue,
    "fields": of_pod,
    "history": history,
    "layers": lambda **o: layers("registry.lab/web:1", STACK, OVERLAY, written=["/tmp/x"], **o),
    "many layers": lambda **o: layers("registry.lab/web:1", STACK * 20, OVERLAY, **o),
}


@pytest.mark.parametrize("width", [600, 760, 1200])
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_meets_another_or_leaves_the_sheet(name, width):
    figure = FIGURES[name](width=width)
    assert figure.width == width
    assert clashes(Paper(figure)) == []


@pytest.mark.parametrize("name", FIGURES)
def test_each_can_be_written(name, tmp_path):
    for theme in ("light", "dark"):
        assert FIGURES[name]().save(tmp_path / f"{theme}.png", theme).stat().st_size > 1000


def test_the_chain_tells_only_what_was_recorded():
    text = repr(call_chain(flights.pods(1)))
    assert text.splitlines() == [
        "Call chain: Who calls whom: labkit → CRI → containerd → shim → runc → process.",
        "labkit: calls RunPodSandbox, PullImage, CreateContainer ×2 and StartContainer ×2.",
        "→ containerd: answers as RuntimeService and ImageService.",
        "→ shim: one for the Pod; lives on.",
        "→ runc: all end.",
        "→ pause: stays.",
        "process: web and sidecar; two of them stay.",
    ]
    drawn = " ".join(Paper(call_chain(flights.pods(1))).words())
    assert "CRI: gRPC on a Unix socket" in drawn and "shim start, which forks the lasting shim" in drawn
    assert "forks runc create ×3 and runc start ×3; lives on." in drawn
    assert "create, init and start; all end. What stays: pause -P, httpd -f -p 80 and sleep" in drawn
    without = replace(flights.pods(1), processes=())
    assert "shim" not in repr(call_chain(without)) and "runc" not in repr(call_chain(without))
    assert repr(call_chain(flights.exact())) == "Call chain: Nothing was recorded."


def test_what_a_poll_missed_of_a_living_pod_is_known_by_its_processes():
    shim = PodProcess(10, 1, "shim", "containerd-shim", None, {}, ("/usr/bin/containerd-shim-runc-v2", "-id", "x"))
    inside = [PodProcess(11, 10, "pause", "pause", None, {}), PodProcess(12, 10, "application", "httpd", "web", {})]
    pod = PodSnapshot("web", "default", "1", "2", "Ready", "", (shim, *inside))
    missed = replace(flights.pods(1), source="poll", precision="Looked at now and then.", processes=())
    lines = repr(call_chain(missed, pod)).splitlines()
    assert [line.partition(":")[0] for line in lines[3:]] == ["→ containerd", "→ shim", "→ runc", "→ pause", "process"]
    assert lines[1] == "Recorded by polling /proc: Looked at now and then." and lines[-1] == "process: web; stays."
    assert "None lived long enough to be seen" in " ".join(Paper(call_chain(missed, pod)).words())
    other = replace(pod, processes=(replace(shim, comm="conmon", cmdline=("/usr/bin/conmon",)), *inside))
    assert "runc" not in repr(call_chain(missed, other))


def test_a_pod_adds_nothing_to_an_exact_recording():
    flight = flights.pods(1)
    living = [p for p in flight.processes if p.to_ns is None and p.role in ("shim", "pause", "application")]
    seen = tuple(PodProcess(p.pid, p.ppid, p.role, "", p.container, {}) for p in living)
    pod = PodSnapshot("web", "default", "1", "2", "Ready", "", seen)
    assert Paper(call_chain(flight, pod)).words() == Paper(call_chain(flight)).words()


def test_what_a_block_recorded_into_is_drawn_as_its_flight():
    recording = Recording()
    flight = recording.flight = flights.pods(1)
    pod = PodSnapshot("web", "default", "1", "2", "Ready", "", ())
    created = StatusChange(0, flight.calls[0].pod, "Running")
    for draw in (flight_timeline, call_chain, lambda of: call_chain(of, pod), lambda of: pod_lifecycle([created], of)):
        assert repr(draw(recording)) == repr(draw(flight))
    assert repr(recording.plot()) == repr(flight.plot()) and recording.zoom("RunPodSandbox") == flight.zoom("RunPodSandbox")


def test_another_pod_on_the_node_is_not_in_the_chain_of_one():
    flight = flights.pods(1)
    old = FlightProcess(4000, 1, "shim", None, None, name="shim", pod="other")
    nameless = replace(old, pid=4001, pod=None)
    pod = PodSnapshot("web", "default", "1", "2", "Ready", "", ())
    both = replace(flight, processes=(old, nameless, *flight.processes))
    assert repr(call_chain(both, pod)) == repr(call_chain(flight))
    assert "shim: three for 2 Pods" in repr(call_chain(both))


def test_the_chain_names_each_caller():
    flight = flights.pods(1)
    both = replace(flight, calls=(replace(flight.calls[0], caller="kubelet"), *flight.calls[1:]))
    lines = repr(call_chain(both)).splitlines()
    assert lines[1] == "kubelet: calls RunPodSandbox." and lines[2].startswith("labkit: calls PullImage")


def test_who_only_asks_while_another_acts_is_not_in_the_chain():
    flight = flights.pods(1)
    asked = replace(flight.calls[0], caller="kubelet", method="ListContainers", pod=None)
    assert repr(call_chain(replace(flight, calls=(asked, *flight.calls)))) == repr(call_chain(flight))
    assert "kubelet: only asks." in repr(call_chain(replace(flight, calls=(asked,))))


def test_the_catalogue_has_every_rpc_once_and_counts_them():
    paper = Paper(catalogue())
    for rpc in services():
        assert sum(words.removesuffix(" (stream)") == rpc.rpc for words in paper.words()) == 1
    assert (
        paper.heading
        == f"CRI has 41 RPCs in two services (cri-api 0.36.4); this runtime answers {len(services()) - 1}, the recording used 2"
    )
    text = repr(catalogue())
    assert "Used in the recording: Version and RunPodSandbox." in text and "Not answered: GetContainerEvents." in text


def test_an_rpc_that_was_not_tried_is_not_called_answered():
    text = repr(rpc_catalogue(services(), {"Status": True}, ()))
    assert "this runtime answers 1, the recording used none" in text
    assert "Not answered" not in text and "Not tried: Version" in text


def test_where_no_rpc_was_tried_the_catalogue_tells_only_which_were_used():
    text = repr(rpc_catalogue(services(), {}, {"Version"}))
    assert "in two services (cri-api 0.36.4), the recording used 1." in text and "answers" not in text
    assert "Used in the recording: Version." in text and "Not used: RunPodSandbox" in text


def test_the_field_map_links_what_the_kubelet_makes_of_what():
    text = repr(of_pod())
    assert "container.image → ContainerConfig image.image" in text
    assert "container.ports → PodSandboxConfig port_mappings" in text.split("Translated")[1]
    assert "container.livenessProbe" in text.split("kept by the kubelet")[1] and "spec.restartPolicy" in text
    assert "container.name → ContainerConfig metadata.name" in text and "sidecar" not in text
    drawn = Paper(of_pod()).words()
    assert "2 in both messages" in drawn and "2 with the kubelet alone" in drawn and not any("102" in words for words in drawn)


def test_a_field_that_was_asked_for_is_lit_and_the_others_are_folded():
    drawn = Paper(of_pod(lit=["livenessProbe", "limits.memory"])).words()
    assert "livenessProbe:" in drawn and "stays with the kubelet" in drawn
    assert any(words.startswith("httpGet: {path: /, ") for words in drawn)
    assert drawn.count("linux.resources.memory_limit_in_bytes: 67108864") == 2, "both messages have it"
    assert "resources.limits.memory: 64Mi" in " ".join(drawn) and "1 other with the kubelet alone" in drawn
    assert not any("httpd" in words for words in drawn), "of the others only names are drawn"
    assert repr(of_pod(lit="image")) == repr(of_pod()), "the text tells of every field in any case"


def test_no_line_crosses_another():
    paper = Paper(of_pod(lit=["name", "image", "limits.memory", "env"]))
    levels = [points for points, *_ in paper.lines if len(points) == 4]
    assert len(levels) > 6 and all(end[1] >= start[1] for start, *_, end in levels)
    starts = [points[0][1] for points in levels]
    assert starts == sorted(starts), "each field's arrows are below those of the field above it"


def test_a_field_that_the_manifest_lacks_is_refused_in_words():
    with pytest.raises(ValueError, match=r"no field 'colour'\. It has .*container\.image"):
        of_pod(lit=["colour"])


def test_a_dns_policy_becomes_name_servers():
    sandbox = to_dict(sandbox_config(POD, dns={"servers": ["192.0.2.53"]}))
    text = repr(field_map(with_defaults(POD), sandbox, to_dict(container_config(POD, "app"))))
    assert "spec.dnsPolicy → PodSandboxConfig dns_config" in text.split("Translated")[1]
    without = field_map(with_defaults(POD), to_dict(sandbox_config(POD)), to_dict(container_config(POD, "app")))
    assert "spec.dnsPolicy" in repr(without).split("kept by the kubelet")[1]


def test_the_field_map_tells_what_is_the_kubelets_own():
    pod = with_defaults(POD)
    text = repr(field_map(pod, to_dict(sandbox_config(pod)), to_dict(container_config(pod, "app"))))
    sandbox, container = (line for line in text.splitlines() if line.startswith("The kubelet's own"))
    assert "log_directory" in sandbox and "linux.cgroup_parent" in sandbox and "labels.io.kubernetes.pod.uid" in sandbox
    assert "log_path" in container and "annotations.io.kubernetes.container.restartCount" in container
    assert "hostname" not in sandbox and "terminationMessagePath" not in container


def test_a_value_that_became_another_is_translated():
    pulled = to_dict(container_config(POD, "app", image_ref="sha256:0fb4"))
    text = repr(field_map(POD, to_dict(sandbox_config(POD)), pulled))
    assert "container.image → ContainerConfig image.image" in text.split("Translated")[1]
    assert "container.image → ContainerConfig image.user_specified_image" in text.split("Translated")[0]


def test_a_field_that_the_manifest_does_not_have_gets_no_line():
    small = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": "x:1"}]}}
    text = repr(
        field_map(
            small, {"metadata": {"name": "web"}, "log_directory": "/x"}, {"metadata": {"name": "app"}, "image": {"image": "x:1"}}
        )
    )
    assert text.startswith("Field map: 3 fields") and "log_directory" in text.split("The kubelet's own")[1]


def test_every_rule_names_fields_that_the_messages_have():
    from labkit.cri.v1 import api_pb2

    for _, end, _ in RULES:
        key, _, path = end.partition(":")
        message = (api_pb2.PodSandboxConfig if key == "sandbox" else api_pb2.ContainerConfig).DESCRIPTOR
        for part in path.split("."):
            assert part in message.fields_by_name, end
            message = message.fields_by_name[part].message_type
            if message is not None and message.GetOptions().map_entry:
                break  # what follows is a key


def test_history_is_in_order_and_each_date_has_its_source():
    assert [each.at for each in MILESTONES] == sorted(each.at for each in MILESTONES)
    text = repr(history())
    for each in MILESTONES:
        assert f"{each.when}: {each.what} Source: {each.source}." in text
        assert each.when.split()[1] == str(int(each.at))


def test_layers_say_what_lies_where():
    figure = FIGURES["layers"]()
    assert repr(figure).splitlines() == [
        "Image layers: The container's / is 2 layers of registry.lab/web:1 below one of its own.",
        "Layer 1 (lowest): busybox, holds /bin/busybox and /bin/sh.",
        "Layer 2: the pages, holds /www/index.html.",
        "The overlay mount has 2 lowerdirs and an upperdir, which the container may write.",
        "The container wrote /tmp/x: in the upperdir, not in the image.",
    ]
    heights = {words: top for _, top, _, _, words in Paper(figure).texts}
    assert heights["upperdir: the container's own, writable"] < heights["layer 2: the pages · 812 bytes"]
    assert heights["layer 2: the pages · 812 bytes"] < heights["layer 1: busybox · 1.2 MB"]


def test_another_file_system_is_refused():
    with pytest.raises(ValueError, match="is ext4, no overlay"):
        layers("x", STACK, replace(OVERLAY, fs_type="ext4"))
