"""Every operation of the OpenAPI that kubeapi serves, with right and wrong parameters and bodies: always an answer, never a 500.

What schemathesis does, with hypothesis alone: paths, parameters and kinds come from the document that the server answers with.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from urllib.parse import quote, urlencode, urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.kubeapi_objects import NUMBERS, TEXTS, WILD, shaped

NAMES = st.one_of(st.sampled_from(["default", "a", "web", "kube-system"]), TEXTS.filter(lambda text: text.isprintable() and text))
JSON_PATCH = "application/json-patch+json"
ODD_TYPES = ("text/plain", "application/yaml", "application/vnd.kubernetes.protobuf", "")


class Server:
    """A kubeapi of the test's own, and how to ask it."""

    def __init__(self, home):
        self.kubeconfig = home / "run" / "kubeconfig"
        command = [sys.executable, "-m", "labkit.apiserver", "--data", str(home / "data"), "--run", str(home / "run")]
        self.log = (home / "log").open("w+")
        self.process = subprocess.Popen(command, stderr=self.log, stdout=self.log)
        latest = time.monotonic() + 60
        while not self.kubeconfig.exists():
            assert self.process.poll() is None and time.monotonic() < latest, "kubeapi did not start"
            time.sleep(0.05)
        config = yaml.safe_load(self.kubeconfig.read_text())
        self.address = urlsplit(config["clusters"][0]["cluster"]["server"]).netloc
        self.token = config["users"][0]["user"]["token"]
        self.context = ssl._create_unverified_context()
        self.connection = http.client.HTTPSConnection(self.address, timeout=20, context=self.context)

    def ask(self, method, path, query=None, body=None, kind="application/json", accept="application/json"):
        """(HTTP status, Content-Type, body). A connection that the server has closed is opened again."""
        where = path + (f"?{urlencode(query, doseq=True, errors='surrogatepass')}" if query else "")
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept} | ({"Content-Type": kind} if kind else {})
        content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.connection.request(method, where, content, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", ""), answer.read()
        except (http.client.HTTPException, OSError):
            assert self.process.poll() is None, "kubeapi has ended"
            self.connection.close()
            raise

    def stop(self):
        self.connection.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        self.log.seek(0)
        return self.log.read()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("kubeapi"))
    yield started
    log = started.stop()
    assert "Traceback" not in log, log[-4000:]


def operations(server):
    """(method, path, operation) of every document in the index."""
    index = json.loads(server.ask("GET", "/openapi/v3")[2])
    for found in index["paths"].values():
        status, _, content = server.ask("GET", found["serverRelativeURL"])
        assert status == 200
        for path, item in json.loads(content)["paths"].items():
            yield from ((verb.upper(), path, operation) for verb, operation in item.items() if verb != "parameters")


def kind_of(operation):
    for content in operation.get("requestBody", {}).get("content", {}).values():
        return content["schema"]["$ref"].rpartition("/")[2]
    return ""


@st.composite
def requests(draw, method, path, operation):
    """One request for an operation: each part right or wrong."""
    filled = path
    for name in [part[1:-1] for part in path.split("/") if part.startswith("{")]:
        filled = filled.replace(f"{{{name}}}", quote(draw(NAMES), safe="", errors="surrogatepass"))
    right = {"boolean": st.sampled_from(["true", "false"]), "integer": st.integers(0, 5).map(str), "string": TEXTS}
    query = {}
    for parameter in operation["parameters"]:
        if draw(st.integers(0, 5)) == 0:
            value = st.one_of(right[parameter["schema"]["type"]], TEXTS, NUMBERS.map(str))
            query[parameter["name"]] = draw(value)
    if "watch" in query or "follow" in query:
        query["timeoutSeconds"] = "1"
    types = list(operation.get("requestBody", {}).get("content", {}))
    kind = draw(st.sampled_from([*types, *types, *ODD_TYPES])) if types else ""
    body = draw(_body(kind_of(operation), operation, kind)) if types else None
    accept = draw(
        st.sampled_from(["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "*/*", "x/y"])
    )
    return method, filled, query, body, kind, accept


def _body(name, operation, media):
    named = operation["x-kubernetes-group-version-kind"]
    head = {"apiVersion": f"{named['group']}/{named['version']}".lstrip("/"), "kind": named["kind"]}
    if media == JSON_PATCH:
        paths = st.sampled_from(["/metadata/labels", "/spec", "/spec/containers/0/image", "/", "", "/metadata/name"])
        step = st.fixed_dictionaries(
            {"op": st.sampled_from(["add", "remove", "replace", "test", "x"]), "path": paths, "value": WILD}
        )
        return st.one_of(st.lists(step, max_size=3), WILD)
    shape = shaped(name if not name.endswith(".Patch") else named["kind"])
    whole = shape.map(lambda obj: {**obj, **head, "metadata": {**obj.get("metadata", {}), "name": "web"}})
    return st.one_of(whole, whole, shape, WILD, st.binary(max_size=30))


def check(server, request):
    status, kind, content = server.ask(*request)
    assert status < 500 or status in (503, 504), (request, content)
    if kind.startswith("application/json") and content and status >= 400:
        answer = json.loads(content)
        assert answer["kind"] == "Status" and answer["message"] and answer["code"] == status, (request, answer)


def test_no_request_gets_a_server_error(server, request):
    many = 40 if request.config.getoption("--soak") else 6
    found = list(operations(server))
    assert len(found) > 80
    for method, path, operation in found:

        @settings(max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(made=requests(method, path, operation))
        def one_operation(made):
            check(server, made)

        one_operation()
    assert server.ask("GET", "/readyz")[0] == 200


def test_what_is_not_json_at_all(server):
    for body in (b"", b"{", b"\xff\xfe", b"null", b"[" * 100_000, b'{"a":' * 50_000, b"a: &a [*a]", os.urandom(200)):
        for kind in ("application/json", "application/yaml", "application/apply-patch+yaml", "application/merge-patch+json"):
            for method, path in (
                ("POST", "/api/v1/namespaces/default/pods"),
                ("PATCH", "/api/v1/namespaces/default/configmaps/a"),
            ):
                check(server, (method, path, {"fieldManager": "test"}, body, kind))
    assert server.ask("GET", "/readyz")[0] == 200
