"""The lab kubelet on a real containerd: Pods run, fail, come back and go; and what happens when the kubelet itself is killed."""

from __future__ import annotations

import base64
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labkit.cri import CriClient
from labkit.cri.v1 import api_pb2
from labkit.node import Home, Node
from labkit.node.pods.operations import remove_sandbox
from tests.live.cluster import Cluster, wait_for

IMAGE = "registry.lab/busybox:1"
FOREVER = ["sleep", "1000000"]


def app(*command: str, **fields: Any) -> dict[str, Any]:
    return {"name": "app", "image": IMAGE, "command": list(command) or FOREVER, **fields}


def shell(script: str, **fields: Any) -> dict[str, Any]:
    return app("sh", "-c", script, **fields)


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    spec = {"terminationGracePeriodSeconds": 2, "containers": list(containers) or [app()], **spec}
    return {"metadata": {"name": name}, "spec": spec}


@pytest.fixture
def cluster(lab: None) -> Iterator[Cluster]:
    """The session's lab; the Pods of one test are deleted after it, and gone."""
    here = Cluster.of(Home.find())
    yield here
    for kind in ("pods", "configmaps", "secrets"):
        for thing in here.api.get(f"{here.path}/{kind}")["items"]:
            here.api.delete(f"{here.path}/{kind}/{thing['metadata']['name']}")
    wait_for(lambda: not here.api.get(f"{here.path}/pods")["items"], "every Pod to be gone")


def runs(cluster: Cluster, name: str) -> dict[str, Any]:
    wait_for(lambda: cluster.phase(name) == "Running", f"{name} to run")
    return cluster.status(name)


def ends(cluster: Cluster, name: str) -> str:
    return str(wait_for(lambda: cluster.phase(name) in ("Succeeded", "Failed") and cluster.phase(name), f"{name} to end"))


def of_pod(cluster: Cluster, uid: str) -> list[Any]:
    """Containers of one Pod in the runtime, whatever their state."""
    with cluster.cri() as cri:
        return list(cri.list_containers(filter={"label_selector": {"io.kubernetes.pod.uid": uid}}).containers)


def traces(cluster: Cluster, uid: str) -> list[str]:
    """What the node still has of a Pod: sandboxes, directories, cgroups."""
    home = cluster.home
    with cluster.cri() as cri:
        found = [box.id for box in cri.list_pod_sandbox().items if box.metadata.uid == uid]
    found += [str(path) for path in (home.kubelet_root / "pods" / uid, *home.log_root.glob(f"*{uid}")) if path.exists()]
    roots = [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()]
    classes = [Path(home.cgroup_root.lstrip("/"), "kubepods", qos, f"pod{uid}") for qos in ("", "burstable", "besteffort")]
    return found + [str(root / path) for root in roots for path in classes if (root / path).exists()]


def test_a_deleted_pod_leaves_nothing(cluster: Cluster) -> None:
    volumes = [{"name": "tmp", "emptyDir": {"medium": "Memory"}}, {"name": "sub", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "sub", "mountPath": "/s", "subPath": "a/b"}]
    uid = cluster.create(pod("web", app(volumeMounts=mounts), volumes=volumes))["metadata"]["uid"]
    runs(cluster, "web")
    assert traces(cluster, uid)
    cluster.delete("web")
    wait_for(lambda: cluster.pod("web") is None, "the Pod to be gone")
    wait_for(lambda: not traces(cluster, uid), f"nothing to be left of it: {traces(cluster, uid)}")
    assert cluster.messages("web", "Killing") == ["Stopping container app"]


def test_configuration_reaches_the_container(cluster: Cluster) -> None:
    cluster.create({"metadata": {"name": "settings"}, "data": {"colour": "blue"}}, "configmaps")
    secret = base64.b64encode(b"open sesame").decode()
    cluster.create({"metadata": {"name": "login"}, "data": {"password": secret}}, "secrets")
    script = "echo $COLOUR $PASSWORD $MY_IP $CPUS $1; cat /c/colour; echo; cat /s/pw; echo; cat /d/labels; echo"
    script += "; touch /c/x || echo no; touch /c/inside/x && echo yes; grep -c '^tmpfs /[sd] ' /proc/mounts"
    env = [
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
        {"name": "MY_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "CPUS", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
    ]
    volumes = [
        {"name": "c", "configMap": {"name": "settings"}},
        {"name": "s", "secret": {"secretName": "login", "items": [{"key": "password", "path": "pw"}]}},
        {"name": "d", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "c-inside", "emptyDir": {}},
    ]
    mounts = [{"name": v["name"], "mountPath": f"/{v['name'].replace('-', '/')}"} for v in volumes]
    container = app("sh", "-c", script, "sh", "is-$(COLOUR)", env=env, volumeMounts=mounts, resources={"limits": {"cpu": "1"}})
    manifest = pod("reader", container, volumes=volumes, restartPolicy="Never")
    manifest["metadata"]["labels"] = {"app": "reader"}
    cluster.create(manifest)
    assert ends(cluster, "reader") == "Succeeded"
    ip = cluster.status("reader")["podIP"]
    wanted = [f"blue open sesame {ip} 1 is-blue", "blue", "open sesame", 'app="reader"', "no", "yes", "2"]
    assert [line for line in cluster.log("reader").splitlines() if "touch:" not in line] == wanted


def test_a_variable_comes_from_a_file_that_an_init_container_wrote(cluster: Cluster) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    writes = {**shell("echo \"A='b c'\" > /shared/env", volumeMounts=mount), "name": "writes"}

    def variable(key: str, **more: Any) -> dict[str, Any]:
        return {"name": key, "valueFrom": {"fileKeyRef": {"volumeName": "shared", "path": "env", "key": key, **more}}}

    reads = shell('echo "$A, ${B-not set}"', env=[variable("A"), variable("B", optional=True)])
    volumes = [{"name": "shared", "emptyDir": {}}]
    cluster.create(pod("reads", reads, initContainers=[writes], volumes=volumes, restartPolicy="Never"))
    cluster.create(pod("misses", shell("true", env=[variable("C")]), initContainers=[writes], volumes=volumes))
    assert ends(cluster, "reads") == "Succeeded"
    assert cluster.log("reads") == "b c, not set\n"
    words = 'environment variable key "C" not found in file'
    wait_for(lambda: words in str(cluster.status("misses").get("containerStatuses")), "the container to say why it waits")


def test_init_containers_come_first_and_sidecars_stay(cluster: Cluster) -> None:
    share = [{"name": "v", "mountPath": "/v"}]
    init = [
        {"name": "log", "image": IMAGE, "command": FOREVER, "restartPolicy": "Always"},
        {"name": "write", "image": IMAGE, "command": ["sh", "-c", "echo ready > /v/state"], "volumeMounts": share},
    ]
    main = shell("cat /v/state", volumeMounts=share)
    cluster.create(pod("ordered", main, initContainers=init, volumes=[{"name": "v", "emptyDir": {}}], restartPolicy="Never"))
    assert ends(cluster, "ordered") == "Succeeded"
    assert cluster.log("ordered") == "ready\n"
    log, write = cluster.status("ordered")["initContainerStatuses"]
    assert write["state"]["terminated"]["exitCode"] == 0 and "terminated" in log["state"]


@pytest.mark.parametrize(
    ("fields", "reason", "message"),
    [
        (
            {"securityContext": {"runAsNonRoot": True}},
            "CreateContainerConfigError",
            "container has runAsNonRoot and image will run as root",
        ),
        ({"command": ["/no/such/binary"]}, "RunContainerError", "/no/such/binary"),
        ({"image": "registry.lab/Busybox:1"}, "InvalidImageName", "must be lowercase"),
        ({"image": "registry.lab/absent:1", "imagePullPolicy": "Never"}, "ErrImageNeverPull", "pull policy of Never"),
        (
            {"envFrom": [{"secretRef": {"name": "absent"}}]},
            "CreateContainerConfigError",
            'secret "absent" not found',
        ),
    ],
    ids=["root", "no program", "name", "never", "secret"],
)
def test_why_a_container_waits(cluster: Cluster, fields: dict[str, Any], reason: str, message: str) -> None:
    cluster.create(pod("waits", app(**{"command": FOREVER, **fields})))
    wait_for(lambda: reason in cluster.reasons("waits"), f"{reason}, not {cluster.reasons('waits')}")
    shown = cluster.container("waits")
    assert message in str({**shown["state"], **shown["lastState"]})


def test_the_lab_forbids_the_machine_s_own_files(cluster: Cluster, tmp_path: Path) -> None:
    mounts = [{"name": "h", "mountPath": "/h"}]
    cluster.create(pod("outside", app(volumeMounts=mounts), volumes=[{"name": "h", "hostPath": {"path": "/etc"}}]))
    wait_for(lambda: cluster.messages("outside", "FailedMount"), "the event")
    assert "this lab forbids hostPath /etc" in cluster.messages("outside", "FailedMount")[0]
    allowed = cluster.home.data / "hostpath" / "shared"
    volume = {"name": "h", "hostPath": {"path": str(allowed), "type": "DirectoryOrCreate"}}
    cluster.create(pod("inside", shell("echo hello > /h/file", volumeMounts=mounts), volumes=[volume], restartPolicy="Never"))
    assert ends(cluster, "inside") == "Succeeded"
    assert (allowed / "file").read_text() == "hello\n"


def test_a_pod_that_the_node_rejects_fails_and_can_be_deleted(cluster: Cluster) -> None:
    manifest = pod("elsewhere", nodeName="sim-worker", nodeSelector={"disk": "ssd"})
    cluster.create(manifest)
    assert ends(cluster, "elsewhere") == "Failed"
    assert cluster.status("elsewhere")["reason"] == "NodeAffinity" and not cluster.container("elsewhere")
    assert cluster.messages("elsewhere", "NodeAffinity")
    cluster.delete("elsewhere")
    wait_for(lambda: cluster.pod("elsewhere") is None, "the Pod to be gone")


def test_a_grace_period_is_given_and_ends(cluster: Cluster) -> None:
    polite = "trap 'echo bye; exit 7' TERM; while :; do sleep 0.1; done"
    container = shell(polite, lifecycle={"preStop": {"exec": {"command": ["touch", "/v/stopped"]}}})
    container["volumeMounts"] = [{"name": "h", "mountPath": "/v"}]
    allowed = cluster.home.data / "hostpath" / "grace"
    volume = {"name": "h", "hostPath": {"path": str(allowed), "type": "DirectoryOrCreate"}}
    cluster.create(pod("polite", container, volumes=[volume], terminationGracePeriodSeconds=30))
    runs(cluster, "polite")
    cluster.delete("polite")
    wait_for(lambda: cluster.pod("polite") is None, "the Pod to end by itself", 25)
    assert (allowed / "stopped").exists()


def test_the_deadline_of_a_pod(cluster: Cluster) -> None:
    cluster.create(pod("late", activeDeadlineSeconds=1))
    assert ends(cluster, "late") == "Failed"
    status = cluster.status("late")
    words = "Pod was active on the node longer than the specified deadline"
    assert (status["reason"], status["message"]) == ("DeadlineExceeded", words)
    assert cluster.messages("late", "DeadlineExceeded") == [words]


def test_last_words(cluster: Cluster) -> None:
    own = shell("echo because > /dev/termination-log; exit 3")
    fallback = {**shell("echo in the log; exit 4", terminationMessagePolicy="FallbackToLogsOnError"), "name": "other"}
    cluster.create(pod("ended", own, fallback, restartPolicy="Never"))
    assert ends(cluster, "ended") == "Failed"
    ended = [cluster.container("ended", n)["state"]["terminated"] for n in (0, 1)]
    said = [(e["exitCode"], e["reason"], e["message"]) for e in ended]
    assert said == [(3, "Error", "because\n"), (4, "Error", "in the log\n")]


def test_a_dead_sandbox_is_made_anew(cluster: Cluster) -> None:
    uid = cluster.create(pod("web"))["metadata"]["uid"]
    runs(cluster, "web")
    with cluster.cri() as cri:
        (box,) = [b for b in cri.list_pod_sandbox().items if b.metadata.uid == uid]
        cri.stop_pod_sandbox(pod_sandbox_id=box.id)
    wait_for(lambda: "running" in cluster.container("web")["state"] and cluster.container("web")["restartCount"], "another start")
    assert "Pod sandbox changed, it will be killed and re-created." in cluster.messages("web", "SandboxChanged")


def bare_sandbox(cri: CriClient, name: str, uid: str, cgroup_parent: str) -> str:
    """A sandbox as another client of CRI makes it: no label says what it is of."""
    options = api_pb2.NamespaceOption(network=api_pb2.NODE, pid=api_pb2.CONTAINER)
    metadata = {"name": name, "namespace": "default", "uid": uid}
    config = {"metadata": metadata, "linux": {"cgroup_parent": cgroup_parent, "security_context": {"namespace_options": options}}}
    return cri.run_pod_sandbox(config=config).pod_sandbox_id


def test_what_the_kubelet_did_not_make_it_leaves_alone(cluster: Cluster, node: Node, tmp_path: Path) -> None:
    """Sandboxes of bare CRI calls, whatever they say of themselves, live on; and no file goes on their word."""
    victim, data = tmp_path / "victim", {"name": "data", "emptyDir": {}}
    (victim / "file").mkdir(parents=True)
    uid = cluster.create(pod("web", app(volumeMounts=[{"name": "data", "mountPath": "/d"}]), volumes=[data]))["metadata"]["uid"]
    runs(cluster, "web")
    kept = cluster.home.kubelet_root / "pods" / uid / "volumes/kubernetes.io~empty-dir/data/file"
    kept.write_text("kept")
    by_hand = node.start_pod({"metadata": {"name": "by-hand"}, "spec": {"containers": [app()]}})
    orphan = str(uuid.uuid4())
    with cluster.cri() as cri:
        uids = [str(uuid.uuid4()), str(victim), "..", ".", "*", "x" * 200]
        boxes = [bare_sandbox(cri, f"bare{number}", each, cluster.home.cgroup_root) for number, each in enumerate(uids)]
        try:
            config = {"metadata": {"name": "app"}, "image": {"image": IMAGE}, "command": FOREVER}
            linux = {"cgroup_parent": cluster.home.cgroup_root}
            sandbox = {"metadata": {"name": "bare0", "namespace": "default", "uid": uids[0]}, "linux": linux}
            bare = cri.create_container(pod_sandbox_id=boxes[0], config=config, sandbox_config=sandbox).container_id
            cri.start_container(container_id=bare)
            boxes.append(bare_sandbox(cri, "orphan", orphan, cluster.home.cgroup_root))
            (cluster.home.kubelet_root / "own" / orphan).touch()  # this one a kubelet has made, so it goes
            wait_for(lambda: boxes[-1] not in {box.id for box in cri.list_pod_sandbox().items}, "the orphan to be removed")
            states = {box.id: box.state for box in cri.list_pod_sandbox().items}
            assert [states.get(box) for box in boxes[:-1]] == [api_pb2.SANDBOX_READY] * len(uids)
            assert cri.container_status(container_id=bare).status.state == api_pb2.CONTAINER_RUNNING
        finally:
            for box in boxes:
                remove_sandbox(cri, box)
    assert node.pod(by_hand).state == "Ready"
    assert (victim / "file").is_dir() and kept.read_text() == "kept" and cluster.phase("web") == "Running"


def test_a_secret_of_any_bytes_is_a_variable(cluster: Cluster) -> None:
    """The kubelet hands the bytes on. containerd keeps variables as JSON, where bytes that are no UTF-8 become U+FFFD."""
    value = b"\xfe\xf8a"
    cluster.create({"metadata": {"name": "binary"}, "data": {"key": base64.b64encode(value).decode()}}, "secrets")
    env = [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "binary", "key": "key"}}}]
    mounts = [{"name": "secret", "mountPath": "/s"}]
    script = "printf %s \"$KEY\" | od -An -tx1; od -An -tx1 /s/key"
    container = shell(script, env=env, volumeMounts=mounts)
    volumes = [{"name": "secret", "secret": {"secretName": "binary"}}]
    cluster.create(pod("reads", container, volumes=volumes, restartPolicy="Never"))
    cluster.create(pod("names", app("echo", "$(KEY)", env=env)))
    assert ends(cluster, "reads") == "Succeeded"
    replaced = value.decode(errors="replace").encode()
    assert cluster.log("reads").split("\n")[:2] == [" " + one.hex(" ") for one in (replaced, value)]
    wait_for(lambda: "CreateContainerConfigError" in cluster.reasons("names"), "the reason why it waits")
    assert "is not UTF-8 once its variables are filled in" in cluster.messages("names", "Failed")[0]


def kill_kubelet(cluster: Cluster) -> None:
    """SIGKILL, and wait for the one that its owner starts in its place."""
    before = cluster.process("kubelet")
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: cluster.process("kubelet") not in (0, before), "another kubelet")


def test_a_kubelet_that_was_killed_takes_up_its_pods(cluster: Cluster) -> None:
    cluster.create(pod("steady"))
    cluster.create(pod("crashing", shell("exit 1")))
    before = runs(cluster, "steady")["containerStatuses"][0]["containerID"]
    wait_for(lambda: cluster.container("crashing").get("restartCount", 0) >= 1, "a restart")
    kill_kubelet(cluster)
    wait_for(lambda: cluster.container("crashing")["restartCount"] >= 2, "the next restart")
    steady = cluster.container("steady")
    assert (steady["containerID"], steady["restartCount"]) == (before, 0)


def test_a_kubelet_killed_while_pods_start_loses_none_and_starts_none_twice(cluster: Cluster) -> None:
    uids = [cluster.create(pod(f"many-{n}"))["metadata"]["uid"] for n in range(16)]
    wait_for(lambda: any(cluster.phase(f"many-{n}") == "Running" for n in range(16)), "the first of them")
    kill_kubelet(cluster)
    wait_for(lambda: all(cluster.phase(f"many-{n}") == "Running" for n in range(16)), "all of them")
    for uid in uids:
        running = [c for c in of_pod(cluster, uid) if c.state == api_pb2.CONTAINER_RUNNING]
        assert len(running) == 1


def test_a_pod_has_the_full_name_of_its_subdomain_where_the_kernel_has_room_for_it(cluster: Cluster) -> None:
    cluster.create(pod("named", shell("hostname; cat /etc/hosts"), subdomain="db", setHostnameAsFQDN=True, restartPolicy="Never"))
    cluster.create(pod("long", subdomain="d" * 40, setHostnameAsFQDN=True))
    assert ends(cluster, "named") == "Succeeded"
    full, *hosts = cluster.log("named").splitlines()
    assert full == "named.db.default.svc.cluster.local" and hosts[-1].split("\t")[1:] == [full, "named"]
    wait_for(lambda: cluster.messages("long", "FailedCreatePodSandBox"), "the event about the full name")
    [words] = set(cluster.messages("long", "FailedCreatePodSandBox"))
    assert words.startswith("Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN")
    assert words.endswith("is too long (64 characters is the max, 71 characters requested)")


def test_a_stop_signal_reaches_the_runtime_or_an_event_says_why_not(cluster: Cluster) -> None:
    cluster.create(pod("stopped", app(lifecycle={"stopSignal": "SIGUSR1"}), os={"name": "linux"}))
    runs(cluster, "stopped")
    ignored = "the runtime does not take a stop signal from the Pod: SIGUSR1 is not sent, but the image's or SIGTERM"
    if "stopSignal" in cluster.container("stopped"):  # containerd from 2.2 on
        assert cluster.container("stopped")["stopSignal"] == "SIGUSR1"
    else:
        assert wait_for(lambda: cluster.messages("stopped", "StopSignalIgnored"), "the event") == [ignored]
