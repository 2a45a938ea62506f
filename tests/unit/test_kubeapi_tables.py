"""What `kubectl get` prints, held against what it printed of a real cluster."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings

from labkit.apiserver.objects import object_defaults
from labkit.apiserver.printers.ages import age, human
from labkit.apiserver.printers.tables import PRINTERS, table
from labkit.apiserver.printers.tables_pod import pod_cells
from labkit.podspec import schema
from tests.truth import TRUTH, truth
from tests.unit.kubeapi_objects import shaped

NOW = datetime(2026, 11, 23, 21, 24, 9, tzinfo=UTC)


def status_of(conditions=(), **status):
    spec = {"containers": [{"name": "app"}], "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}]}
    return pod_cells({"metadata": {"name": "p"}, "spec": spec, "status": {"conditions": list(conditions), **status}}, NOW)


def printed(made, wide):
    """A table as kubectl lays it out."""
    columns = [number for number, column in enumerate(made["columnDefinitions"]) if wide or not column["priority"]]
    lines = [[made["columnDefinitions"][n]["name"].upper() for n in columns]]
    lines += [[str(row["cells"][n]) for n in columns] for row in made["rows"]]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    return "".join("   ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def test_get_pods_wide_is_what_kubectl_printed():
    made = table("pods", [truth("shop.json")["pod"]], NOW)
    expected = (TRUTH / "get_pods_wide.txt").read_text().splitlines()
    assert printed(made, wide=True).splitlines() == [line.rstrip() for line in expected]


def test_the_last_row_of_every_recorded_pod():
    for name, recorded in truth("pods.json").items():
        cells = pod_cells({"metadata": {"name": name}, "spec": recorded["manifest"]["spec"], "status": recorded["status"]}, NOW)
        last = recorded["status_column"][-1]
        assert (cells[1], cells[2], cells[3].split(" ")[0]) == (last["Ready"], last["Status"], last["Restarts"]), name


@pytest.mark.parametrize(
    ("status", "ready", "word"),
    [
        ({"phase": "Pending"}, "0/2", "Pending"),
        ({"phase": "Failed", "reason": "Evicted"}, "0/2", "Evicted"),
        ({"conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}], "phase": "Pending"}, "0/2", "SchedulingGated"),
        ({"initContainerStatuses": [{"name": "init", "state": {"waiting": {"reason": "PodInitializing"}}}]}, "0/2", "Init:0/2"),
        ({"initContainerStatuses": [{"name": "init", "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}, "0/2",
         "Init:ImagePullBackOff"),
        ({"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 3}}}]}, "0/2", "Init:ExitCode:3"),
        ({"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0, "signal": 9}}},
                                    {"name": "side", "state": {"running": {}}}]}, "0/2", "Init:1/2"),
        ({"initContainerStatuses": [{"name": "init", "state": {"terminated": {"exitCode": 0}}},
                                    {"name": "side", "started": True, "ready": True, "state": {"running": {}}}],
          "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}]}, "1/2", "PodInitializing"),
        ({"containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 1, "signal": 9}}}]}, "0/2", "Signal:9"),
        ({"containerStatuses": [{"name": "app", "ready": True, "state": {"running": {}}}], "phase": "Running"}, "1/2", "Running"),
    ],
)
def test_the_status_column(status, ready, word):
    assert status_of(**status)[1:3] == [ready, word]


def test_one_container_that_has_ended_beside_one_that_runs():
    spec = {"containers": [{"name": "a"}, {"name": "b"}]}
    statuses = [{"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
                {"name": "b", "ready": True, "state": {"running": {}}}]
    bare = {"spec": spec, "status": {"containerStatuses": statuses}}
    assert pod_cells(bare, NOW)[1:3] == ["1/2", "NotReady"]
    bare["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert pod_cells(bare, NOW)[1:3] == ["1/2", "Running"]


def test_restarts_say_when_the_last_one_was():
    ended = {"terminated": {"finishedAt": "2026-11-23T21:23:44Z"}}
    assert status_of(containerStatuses=[{"restartCount": 4, "lastState": ended}])[3] == "4 (25s ago)"
    assert status_of(containerStatuses=[{"restartCount": 0}])[3] == "0"


def test_a_pod_on_its_way_out():
    going = {"metadata": {"deletionTimestamp": "2026-11-23T21:24:00Z"}, "status": {"phase": "Running"}}
    assert pod_cells(going, NOW)[2] == "Terminating"
    assert pod_cells({**going, "status": {"phase": "Succeeded"}}, NOW)[2] == "Succeeded"
    assert pod_cells({**going, "status": {"phase": "Running", "reason": "NodeLost"}}, NOW)[2] == "Unknown"


def test_readiness_gates_are_counted():
    gated = {"spec": {"readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
             "status": {"conditions": [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]}}
    assert pod_cells(gated, NOW)[8] == "1/2"


def test_a_node():
    node = truth("node.json")
    assert table("nodes", [node], NOW)["rows"][0]["cells"] == [
        "sim-worker", "Ready", "<none>", "10m", "v1.36.2", "192.0.2.2", "<none>", "Debian GNU/Linux 12 (bookworm)",
        "6.18.44-fc-v669", "containerd://2.1.9+unknown",
    ]
    node["spec"]["unschedulable"] = True
    node["metadata"]["labels"] |= {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "agent"}
    assert table("nodes", [node], NOW)["rows"][0]["cells"][1:3] == ["Ready,SchedulingDisabled", "agent,worker"]
    assert table("nodes", [{}], NOW)["rows"][0]["cells"][1] == "Unknown"


def test_an_event_and_one_of_the_new_kind():
    event = {
        "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": "done\n", "count": 3,
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{app}"},
        "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-11-23T21:23:00Z", "lastTimestamp": "2026-11-23T21:24:00Z",
    }
    assert table("events", [event], NOW)["rows"][0]["cells"] == [
        "9s", "Normal", "Pulled", "pod/p", "spec.containers{app}", "kubelet, n", "done", "69s", 3, "e",
    ]
    new = {"eventTime": "2026-11-23T21:24:00.000000Z", "reportingComponent": "s", "involvedObject": {"kind": "Node"}}
    cells = table("events", [new], NOW)["rows"][0]["cells"]
    assert (cells[0], cells[3], cells[5], cells[7], cells[8]) == ("9s", "node", "s", "9s", 1)


def test_volumes_and_claims():
    volume = {"metadata": {"name": "v"}, "status": {"phase": "Bound"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s", "volumeMode": "Filesystem"}}
    assert table("persistentvolumes", [volume], NOW)["rows"][0]["cells"] == [
        "v", "1Gi", "RWO,RWX", "Retain", "Bound", "n/c", "s", "<unset>", "", "<unknown>", "Filesystem",
    ]
    claim = {"metadata": {"name": "c"}, "status": {"phase": "Pending", "capacity": {"storage": "1Gi"}}, "spec": {}}
    assert table("persistentvolumeclaims", [claim], NOW)["rows"][0]["cells"][1:5] == ["Pending", "", "", ""]


def test_what_a_row_carries():
    pod = {"metadata": {"name": "p"}, "status": {"phase": "Succeeded"}}
    rows = {what: table("pods", [pod], NOW, include_object=what)["rows"][0] for what in ("Metadata", "Object", "None")}
    assert rows["Metadata"]["object"] == {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"},
    }
    assert rows["Object"]["object"] == pod and "object" not in rows["None"]
    assert rows["None"]["conditions"][0]["reason"] == "Succeeded"
    assert table("pods", [], NOW, no_headers=True, list_meta={"resourceVersion": "7"})["metadata"] == {"resourceVersion": "7"}
    assert table("pods", [pod], NOW, no_headers=True)["columnDefinitions"] == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-2, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (252, "4m12s"), (600, "10m"), (10799, "179m"),
        (10800, "3h"), (11100, "3h5m"), (8 * 3600 + 60, "8h"), (47 * 3600, "47h"), (48 * 3600, "2d"), (50 * 3600, "2d2h"),
        (8 * 86400, "8d"), (729 * 86400, "729d"), (730 * 86400, "2y"), (731 * 86400, "2y1d"), (8 * 365 * 86400 + 86400, "8y"),
    ],
)
def test_a_duration_in_words(seconds, words):
    assert human(timedelta(seconds=seconds)) == words


def test_an_age_that_nobody_knows():
    assert age(None, NOW) == age("yesterday", NOW) == "<unknown>"


@pytest.mark.parametrize("resource", sorted(schema.KINDS))
def test_each_kind_has_a_table_with_a_cell_for_each_column(resource):
    columns = PRINTERS[resource].columns
    assert all(column.definition()["description"] for column in columns)

    @settings(max_examples=10, deadline=None, database=None)
    @given(obj=shaped(schema.KINDS[resource]))
    def check(obj):
        object_defaults.fill(resource, obj)
        assert len(table(resource, [obj], NOW)["rows"][0]["cells"]) == len(columns)

    check()
