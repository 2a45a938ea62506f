"""The API as a process: TLS, tokens, real clients, kills; and, on a node, what it passes on to the kubelet."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from labkit.node.pods import kubectl as kubectl_of_node

IMAGE = "registry.lab/busybox:1"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def until(happened: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Poll for something that must become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


@dataclass
class Served:
    """One API of a test's own."""

    base: Path
    process: subprocess.Popen[bytes] | None = None
    pool: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    server: str = ""

    @property
    def kubeconfig(self) -> Path:
        return self.base / "run" / "kubeconfig"

    @property
    def port(self) -> int:
        return int(self.server.rpartition(":")[2])

    def start(self) -> None:
        self.kubeconfig.unlink(missing_ok=True)
        argv = [sys.executable, "-m", "labkit.apiserver", "--data", str(self.base / "data"), "--run", str(self.base / "run")]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)
        until(self.kubeconfig.exists, f"kubeconfig; the log has {(self.base / 'log').read_text()}")
        config = json.loads(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        (self.base / "ca.crt").write_bytes(b64decode(cluster["certificate-authority-data"]))
        self.server, self.headers = cluster["server"], {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        self.pool = urllib3.PoolManager(ca_certs=str(self.base / "ca.crt"), retries=False, maxsize=60)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """HTTP code and the JSON that came; header names with _ for -."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.pool.request(method, self.server + path, body=data, headers={**self.headers, **named})
        text = answer.data.decode()
        return answer.status, json.loads(text) if text.startswith("{") else text

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        own = ["--kubeconfig", str(self.kubeconfig), "--cache-dir", str(self.base / "cache")]
        argv = [kubectl_of_node.program(), *own, *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout + ("" if check else done.stderr)


def serve(base: Path) -> Iterator[Served]:
    api = Served(base)
    api.start()
    yield api
    assert api.process is not None
    if api.process.poll() is None:
        assert api.end() == 0
    assert "Traceback" not in (base / "log").read_text()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """An API that a test may do anything with."""
    yield from serve(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API for tests that leave nothing in it."""
    yield from serve(tmp_path_factory.mktemp("shared"))


def pod(name: str, **spec: Any) -> dict[str, Any]:
    containers = [{"name": "app", "image": IMAGE, "command": ["sleep", "1000"]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": containers, **spec}}


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


MAPS = "/api/v1/namespaces/default/configmaps"


def test_only_its_owner_gets_in(shared: Served) -> None:
    for path in (shared.kubeconfig, shared.base / "data" / "token", shared.base / "data" / "server.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for header in ("", "Bearer wrong", "Basic abc", "Bearer é"):
        code, said = shared.ask("GET", "/api/v1/pods", Authorization=header)
        assert (code, said["reason"], said["message"]) == (401, "Unauthorized", "Unauthorized")
    assert shared.ask("GET", "/readyz", Authorization="")[0] == 200
    with pytest.raises(urllib3.exceptions.SSLError):
        urllib3.PoolManager(retries=False).request("GET", shared.server)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.urlopen(f"http://127.0.0.1:{shared.port}/api/v1/pods")
    with socket.create_connection(("127.0.0.1", shared.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: plain.recv(4096), b""))
    assert answer.endswith(b"Client sent an HTTP request to an HTTPS server.\n")
    listening = subprocess.run(["ss", "-ltnH", f"sport = :{shared.port}"], capture_output=True, text=True).stdout.split()
    assert listening[3] == f"127.0.0.1:{shared.port}"


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "code"),
    [
        ("POST", MAPS, b"x" * (3 * 1024 * 1024 + 1), {}, 413),
        ("POST", MAPS, b"{", {}, 400),
        ("POST", MAPS, b"{}", {"Content_Type": "text/plain"}, 415),
        ("POST", MAPS, b"k8s\x00", {"Content_Type": "application/vnd.kubernetes.protobuf"}, 415),
        ("PATCH", MAPS + "/x", b"{}", {"Content_Type": "application/json"}, 415),
        ("PATCH", MAPS + "/x", b"{}", {"Content_Type": "application/apply-patch+yaml"}, 422),
        ("GET", MAPS, None, {"Accept": "application/cbor"}, 406),
        ("GET", "/apis/apps/v1/deployments", None, {}, 404),
        ("POST", "/api/v1/namespaces/default/pods/p/eviction", b"{}", {}, 404),
        ("PUT", MAPS, b"{}", {}, 405),
        ("OPTIONS", MAPS, None, {}, 405),
        ("GET", MAPS + "?watch=1&resourceVersion=99999", None, {}, 504),
        ("GET", MAPS + "?fieldSelector=data%3Dx", None, {}, 400),
        ("POST", MAPS + "?dryRun=Some", b"{}", {}, 422),
        ("GET", "/api/v1/namespaces/default/pods/p/log", None, {}, 404),
    ],
)
def test_refusals_are_statuses(
    shared: Served, method: str, path: str, body: bytes | None, headers: dict[str, str], code: int
) -> None:
    got, said = shared.ask(method, path, body, **headers)
    assert (got, said["kind"], said["code"]) == (code, "Status", code) and said["message"]


def test_kubectl_from_creation_to_deletion(served: Served) -> None:
    k = served.kubectl
    assert k("create", "configmap", "typed", "--from-literal=a=b") == "configmap/typed created\n"
    secret = ["create", "secret", "docker-registry", "login", "--docker-username=learner", "--docker-password=x"]
    k(*secret, "--docker-server=private.registry.lab")
    assert "kubernetes.io/dockerconfigjson" in k("get", "secret", "login")
    manifest = json.dumps(pod("web", terminationGracePeriodSeconds=1))
    assert k("apply", "-f", "-", stdin=manifest) == "pod/web created\n"
    assert k("apply", "-f", "-", stdin=manifest) == "pod/web unchanged\n"
    columns = k("get", "pods", "-o", "wide").splitlines()[0].split("  ")
    assert [column.strip() for column in columns if column.strip()] == [
        "NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE", "NOMINATED NODE", "READINESS GATES",
    ]
    assert k("label", "pod", "web", "tier=front") == "pod/web labeled\n"
    assert k("annotate", "pod", "web", "note=x") == "pod/web annotated\n"
    assert k("get", "pods", "-l", "tier in (front)", "-o", "name") == "pod/web\n"
    assert k("get", "pods", "--field-selector", "status.phase=Running", "-o", "name") == ""
    image = {"spec": {"containers": [{"name": "app", "image": "registry.lab/busybox:2"}]}}
    k("patch", "pod", "web", "-p", json.dumps(image))
    k("patch", "pod", "web", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/j","value":"1"}]')
    k("patch", "pod", "web", "--type=merge", "-p", '{"metadata":{"labels":{"tier":null}}}')
    assert json.loads(k("get", "pod", "web", "-o", "jsonpath={.metadata.labels}")) == {"j": "1"}
    assert "pod updates may not change fields" in k("patch", "pod", "web", "-p", '{"spec":{"hostNetwork":true}}', check=False)
    assert "Labels:" in k("describe", "pod", "web") and "no nodes available" in k("describe", "pod", "web")
    editor = served.base / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/j: \"1\"/j: \"2\"/' $1\n")
    editor.chmod(0o755)
    os.environ["KUBE_EDITOR"] = str(editor)
    try:
        assert k("edit", "pod", "web") == "pod/web edited\n"
    finally:
        del os.environ["KUBE_EDITOR"]
    assert k("run", "one", f"--image={IMAGE}", "--restart=Never") == "pod/one created\n"
    assert [line.split()[0] for line in k("get", "all").splitlines()] == ["NAME", "one", "web"]
    assert "OnFailure" in k("explain", "pod.spec.restartPolicy")
    assert "deleted" in k("delete", "pod", "one", "web")
    assert "deployments.apps are not served by the lab's API" in k("get", "deployments", check=False)
    k("create", "namespace", "short")
    k("-n", "short", "apply", "-f", "-", stdin=manifest)
    k("delete", "namespace", "short", "--timeout=20s")
    assert 'namespaces "short" not found' in k("get", "namespace", "short", check=False)


POD, NETWORK = "Make the Pod itself: kubectl run", "Reach a Pod by its IP"
OWNER = "Whoever has the lab's kubeconfig may do everything that is served."


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("create deployment d --image=x", POD),
        ("apply -f {deployment}", POD),
        ("apply --server-side -f {deployment}", POD),
        ("delete -f {deployment}", POD),
        ("get deployments", POD),
        ("get rs,sts,ds", POD),
        ("describe deployment d", POD),
        ("scale deployment/d --replicas=2", POD),
        ("rollout status deployment/d", POD),
        ("set image deployment/d c=x", POD),
        ("autoscale deployment d --max=2", POD),
        ("logs deploy/d", POD),
        ("create job j --image=x", "it ends as a Job's does"),
        ("apply -f {service}", NETWORK),
        ("create service clusterip s --tcp=80", NETWORK),
        ("expose pod web --port=80", NETWORK),
        ("port-forward svc/web 8080:80", NETWORK),
        ("get svc", f"{NETWORK} (kubectl get pod -o wide) or by kubectl port-forward.\nNo resources found in default namespace."),
        ("create ingress i --rule=a/b=c:80", NETWORK),
        ("cluster-info", "Kubernetes control plane is running at https://127.0.0.1:"),
        ("get crd", "Nothing can be added to this API."),
        ("auth can-i create pods", OWNER),
        ("auth whoami", OWNER),
        ("create role r --verb=get --resource=pods", OWNER),
        ("create token default", "The lab's API issues no tokens."),
        ("scale pod web --replicas=3", "A Pod has no replicas"),
        ("patch pod web --subresource resize -p {{}}", "Delete the Pod and create it again"),
        ("get pods --as bob", 'User "labkit" cannot impersonate resource "users"'),
        ("get pods -l a=b,,", "found ',', expected: identifier after ','"),
        ("apply --prune -l a=b -f {pod}", "pod/web configured"),
        ("create quota q --hard=pods=1", "Nothing here limits or extends a Pod"),
        ("get storageclasses", "nothing provisions them"),
        ("get componentstatuses", "`labkit status` shows the parts of the lab."),
        ("get --raw /metrics", "could not find the requested resource"),
    ],
)
def test_what_is_not_served_is_told_with_what_to_do(shared: Served, tmp_path: Path, command: str, said: str) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                  "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}}
    files = {"service": tmp_path / "service.json", "deployment": tmp_path / "deployment.json", "pod": tmp_path / "pod.json"}
    files["service"].write_text(json.dumps(service))
    files["deployment"].write_text(json.dumps(deployment))
    web = json.dumps(pod("web") | {"metadata": {"name": "web", "labels": {"a": "b"}}})
    files["pod"].write_text(web.replace('"a": "b"', '"a": "b", "c": "d"'))
    shared.kubectl("apply", "-f", "-", stdin=web)
    assert said in shared.kubectl(*command.format(**files).split(), check=False)


def test_clients_find_what_is_not_served_without_a_verb(shared: Served) -> None:
    resources = shared.kubectl("api-resources", "--no-headers", "-o", "name").split()
    assert "pods" in resources and not {"services", "deployments.apps"} & set(resources)
    assert "deployment" not in shared.kubectl("get", "all", check=False)


def test_kubectl_debug_copies_a_pod(shared: Served) -> None:
    limits = {"limits": {"cpu": "250m", "memory": "16Mi"}}
    probe = {"httpGet": {"port": 80, "path": "/x"}, "periodSeconds": 3}
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "s", "secret": {"secretName": "x", "defaultMode": 0}}]
    original = pod("original", volumes=volumes, terminationGracePeriodSeconds=0, nodeName="n", enableServiceLinks=False)
    original["spec"]["containers"][0] |= {"resources": limits, "livenessProbe": probe, "securityContext": {"runAsUser": 0}}
    shared.kubectl("apply", "-f", "-", stdin=json.dumps(original))
    shared.kubectl("debug", "original", "--copy-to=copy", "--container=app", "--image=y", "--attach=false", "--profile=legacy",
                   "--keep-liveness", "--same-node")
    specs = [shared.ask("GET", f"/api/v1/namespaces/default/pods/{name}")[1]["spec"] for name in ("original", "copy")]
    specs[0]["containers"][0]["image"] = "y"
    for spec in specs:
        spec["containers"][0].pop("imagePullPolicy")
    assert specs[0] == specs[1]
    shared.kubectl("delete", "pod", "original", "copy")


def test_kubectl_apply_on_the_server(served: Served) -> None:
    k = served.kubectl
    apply = ["apply", "--server-side", "-f", "-"]
    k(*apply, stdin=json.dumps(config_map("a", x="1", y="1")))
    said = k(*apply, "--field-manager=other", stdin=json.dumps(config_map("a", x="2")), check=False)
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .data.x' in said
    k(*apply, "--field-manager=other", "--force-conflicts", stdin=json.dumps(config_map("a", x="2")))
    k(*apply, stdin=json.dumps(config_map("a", z="1")))
    assert served.ask("GET", MAPS + "/a")[1]["data"] == {"x": "2", "z": "1"}
    changed = subprocess.run(
        [kubectl_of_node.program(), "--kubeconfig", str(served.kubeconfig), "diff", "--server-side", "-f", "-"],
        input=json.dumps(config_map("a", z="2")), capture_output=True, text=True,
    )
    assert changed.returncode == 1 and '+  z: "2"' in changed.stdout
    k("apply", "-f", "-", stdin=json.dumps(config_map("b", x="1")))
    k("apply", "-f", "-", stdin=json.dumps(config_map("b", y="1")))
    assert served.ask("GET", MAPS + "/b")[1]["data"] == {"y": "1"}
    k(*apply, stdin=json.dumps(config_map("b", y="1")))
    k(*apply, stdin=json.dumps(config_map("b", y="2")))
    assert served.ask("GET", MAPS + "/b")[1]["data"] == {"y": "2"}


def test_kubectl_watches(served: Served) -> None:
    served.kubectl("apply", "-f", "-", stdin=json.dumps(pod("a")))
    argv = [kubectl_of_node.program(), "--kubeconfig", str(served.kubeconfig), "get", "pods", "--watch", "--no-headers"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().split()[0] == "a"
        served.kubectl("apply", "-f", "-", stdin=json.dumps(pod("b")))
        assert watching.stdout.readline().split()[:3] == ["b", "0/1", "Pending"]
        watching.terminate()


def test_the_python_client(served: Served, tmp_path: Path) -> None:
    from kubernetes import client, config, utils, watch

    loaded = config.new_client_from_config(str(served.kubeconfig))
    core = client.CoreV1Api(loaded)
    found: list[tuple[str, str]] = []

    def listen() -> None:
        for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=30):
            found.append((event["type"], event["object"].metadata.name))
            if event["type"] == "DELETED":
                return

    listening = threading.Thread(target=listen)
    core.create_namespaced_config_map("default", client.V1ConfigMap(metadata=client.V1ObjectMeta(name="first")))
    listening.start()
    until(lambda: found, "what there was")
    core.patch_namespaced_config_map("first", "default", {"data": {"a": "b"}})
    core.delete_namespaced_config_map("first", "default")
    listening.join(20)
    assert found == [("ADDED", "first"), ("MODIFIED", "first"), ("DELETED", "first")]
    (tmp_path / "pod.yaml").write_text(json.dumps(pod("made")))
    utils.create_from_yaml(loaded, str(tmp_path / "pod.yaml"))
    assert core.read_namespaced_pod("made", "default").status.phase == "Pending"
    assert [item.metadata.name for item in core.list_namespaced_pod("default", limit=1).items] == ["made"]
    with pytest.raises(client.ApiException) as missing:
        core.read_namespaced_pod("none", "default")
    assert json.loads(missing.value.body)["message"] == 'pods "none" not found'
    assert client.VersionApi(loaded).get_code().git_version.endswith("-labkit")


def test_fifty_watchers_see_each_change_once_and_in_order(served: Served) -> None:
    rv = served.ask("GET", MAPS)[1]["metadata"]["resourceVersion"]
    seen: list[list[str]] = [[] for _ in range(50)]
    begun = threading.Barrier(51)

    def listen(mine: list[str]) -> None:
        path = f"{MAPS}?watch=1&resourceVersion={rv}"
        answer = served.pool.request("GET", served.server + path, headers=served.headers, preload_content=False)
        begun.wait()
        for line in answer:
            mine.append(json.loads(line)["object"]["metadata"]["name"])
            if len(mine) == 100:
                return

    listening = [threading.Thread(target=listen, args=(mine,), daemon=True) for mine in seen]
    for thread in listening:
        thread.start()
    begun.wait()
    names = [f"c{number}" for number in range(100)]
    for name in names:
        assert served.ask("POST", MAPS, config_map(name))[0] == 201
    for thread in listening:
        thread.join(30)
    assert all(mine == names for mine in seen)


def test_many_who_write_at_once_get_versions_of_their_own(served: Served) -> None:
    made: list[int] = []

    def write(worker: int) -> None:
        for number in range(20):
            code, entry = served.ask("POST", MAPS, config_map(f"w{worker}-{number}"))
            assert code == 201
            made.append(int(entry["metadata"]["resourceVersion"]))

    writing = [threading.Thread(target=write, args=(worker,)) for worker in range(10)]
    for thread in writing:
        thread.start()
    for thread in writing:
        thread.join()
    assert len(set(made)) == len(made) == 200


def test_a_kill_loses_nothing_and_the_address_stays(served: Served) -> None:
    before = served.server, served.headers
    acknowledged: list[str] = []

    def write() -> None:
        for number in range(10_000):
            try:
                code, _ = served.ask("POST", MAPS, config_map(f"k{number}"))
            except urllib3.exceptions.HTTPError:
                return
            if code == 201:
                acknowledged.append(f"k{number}")

    writing = threading.Thread(target=write)
    writing.start()
    until(lambda: len(acknowledged) > 50, "some writes")
    assert served.end(signal.SIGKILL) == -signal.SIGKILL
    writing.join()
    served.start()
    assert (served.server, served.headers) == before
    code, found = served.ask("GET", MAPS)
    names = {item["metadata"]["name"] for item in found["items"]}
    assert code == 200 and set(acknowledged) <= names and len(names) <= len(acknowledged) + 1
    highest = max(int(item["metadata"]["resourceVersion"]) for item in found["items"])
    assert int(found["metadata"]["resourceVersion"]) >= highest
    expired = served.pool.request("GET", f"{served.server}{MAPS}?watch=1&resourceVersion=1", headers=served.headers)
    assert json.loads(expired.data)["object"]["code"] == 410


def test_another_port_is_taken_when_the_last_is_not_free(served: Served) -> None:
    port = served.port
    assert served.end() == 0
    with socket.create_server(("127.0.0.1", port)):
        served.start()
    assert served.port != port and served.ask("GET", "/readyz") == (200, "ok")


def test_two_do_not_serve_one_directory(served: Served) -> None:
    argv = [sys.executable, "-m", "labkit.apiserver", "--data", str(served.base / "data"), "--run", str(served.base / "other")]
    second = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert second.returncode == 1 and "Another API serves" in second.stderr
    assert served.ask("GET", "/readyz") == (200, "ok")


def test_it_ends_on_sigterm_with_watches_open(served: Served) -> None:
    answer = served.pool.request("GET", f"{served.server}{MAPS}?watch=1", headers=served.headers, preload_content=False)
    assert served.end() == 0
    assert not served.kubeconfig.exists()
    answer.close()


def test_clients_that_do_odd_things_do_not_end_it(shared: Served) -> None:
    context = ssl._create_unverified_context()
    for said in (b"", b"\x16", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x00" * 1000, b"GET"):
        with socket.create_connection(("127.0.0.1", shared.port)) as odd:
            odd.sendall(said)
    get, post = b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST /api HTTP/1.1\r\nContent-Length: 9\r\n\r\n"
    for said in (b"\r\n\r\n", b"GET\r\n\r\n", get, post):
        with socket.create_connection(("127.0.0.1", shared.port)) as plain, context.wrap_socket(plain) as odd:
            odd.sendall(said)
    assert shared.ask("GET", "/api/v1/pods", Accept=TABLE)[1]["kind"] == "Table"


def by_websocket(node: Any, query: str, stdin: bytes) -> tuple[bytes, bytes, dict[str, str]]:
    """What an exec in the Pod "streams" says when its input ends: output, error output, the cause of its status."""
    import websocket

    settings = node.kube.api_client.configuration
    url = f"{settings.host.replace('https', 'wss')}/api/v1/namespaces/default/pods/streams/exec?{query}"
    headers = [f"Authorization: {settings.auth_settings()['BearerToken']['value']}"]
    ssl = {"ca_certs": settings.ssl_ca_cert}
    connection = websocket.create_connection(url, header=headers, sslopt=ssl, subprotocols=["v5.channel.k8s.io"], timeout=30)
    if stdin:
        connection.send_binary(b"\0" + stdin)
        connection.send_binary(b"\xff\0")
    heard = {1: b"", 2: b"", 3: b""}
    while message := connection.recv():
        heard[message[0]] += message[1:]
    connection.close()
    causes = json.loads(heard[3]).get("details", {}).get("causes") or [{}]
    return heard[1], heard[2], causes[0]


def test_streams_reach_containers(node: Any, tmp_path: Path) -> None:
    from kubernetes.stream import portforward, stream

    program = "mkdir /w; echo hello > /w/index.html; httpd -p 80 -h /w; echo started; exec sleep 1000"
    manifest = pod("streams", terminationGracePeriodSeconds=1)
    manifest["spec"]["containers"][0]["command"] = ["sh", "-c", program]
    argv = [kubectl_of_node.program(), *node.api.kubectl_options()]

    def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **node.api.environment()}
        return subprocess.run([*argv, *arguments], input=stdin, capture_output=True, text=True, timeout=60, env=environment)

    assert kubectl("apply", "-f", "-", stdin=json.dumps(manifest)).returncode == 0
    try:
        assert kubectl("wait", "--for=condition=Ready", "pod/streams", "--timeout=60s").returncode == 0
        until(lambda: kubectl("logs", "streams").stdout == "started\n", "the log")
        done = kubectl("exec", "-i", "streams", "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="in")
        assert (done.returncode, done.stdout, "err\n" in done.stderr) == (7, "in", True)
        blob = os.urandom(3_000_000).hex()
        assert kubectl("exec", "-i", "streams", "--", "cat", stdin=blob).stdout == blob
        flags, script = "stdin=true&stdout=TRUE&stderr=yes", "command=sh&command=-c&command=cat;echo%20e>%262;exit%203"
        failed = {"reason": "ExitCode", "message": "3"}
        assert by_websocket(node, f"{flags}&{script}", b"in") == (b"in", b"e\n", failed)
        assert by_websocket(node, "stdout&tty=1&command=tty", b"")[:2] == (b"/dev/pts/0\r\n", b"")
        words = stream(node.kube.connect_get_namespaced_pod_exec, "streams", "default", command=["echo", "hi"], stdout=True,
                       stderr=True, stdin=False, tty=False)
        assert words == "hi\n"
        there = portforward(node.kube.connect_get_namespaced_pod_portforward, "streams", "default", ports="80").socket(80)
        there.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: there.recv(4096), b"")).endswith(b"hello\n")
        there.close()
        forwarding = [*argv, "port-forward", "pod/streams", ":80"]
        environment = {**os.environ, **node.api.environment()}
        with subprocess.Popen(forwarding, stdout=subprocess.PIPE, text=True, env=environment) as forward:
            assert forward.stdout is not None
            port = forward.stdout.readline().split(" -> ")[0].rpartition(":")[2]
            for _ in range(3):
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").read() == b"hello\n"
            forward.terminate()
        following = subprocess.Popen([*argv, "logs", "-f", "streams"], stdout=subprocess.PIPE, text=True, env=environment)
        assert following.stdout is not None and following.stdout.readline() == "started\n"
        assert kubectl("delete", "pod", "streams").returncode == 0
        assert following.wait(30) == 0
    finally:
        kubectl("delete", "pod", "streams", "--ignore-not-found")
