"""What the API says over HTTP where a beginner, or her client, asks for something that the lab does not have."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_unix_socket

from labkit.apiserver.api_resources import BY_PLURAL
from labkit.apiserver.http.exchange import Context
from labkit.apiserver.http.server import application
from labkit.apiserver.objects.rest import Api
from labkit.apiserver.storage.store import Store

POD = "/api/v1/namespaces/default/pods/p"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


def ask(directory: Path, method: str, path: str, sent: str = "", **headers: str) -> tuple[int, dict[str, Any], str]:
    """The code, the body and the first warning of one answer of a new API."""
    for old in directory.iterdir():
        old.unlink()

    async def served() -> bytes:
        made = Api(Store(directory / "objects.sqlite"))
        made.create(BY_PLURAL["nodes"], "", {"metadata": {"name": "n"}})
        spec = {"nodeName": "n", "containers": [{"name": "app", "image": "x"}]}
        made.create(BY_PLURAL["pods"], "default", {"metadata": {"name": "p"}, "spec": spec})
        server = HTTPServer(application(Context(made, directory, "token")))
        server.add_socket(bind_unix_socket("api"))
        try:
            reader, writer = await asyncio.open_unix_connection("api")
            known = {"Host": "x", "Authorization": "Bearer token", "Connection": "close", "Content-Length": str(len(sent))}
            known |= {name.replace("_", "-"): value for name, value in headers.items()}
            lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in known.items()), "", sent]
            writer.write("\r\n".join(lines).encode())
            answer = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return answer
        finally:
            server.stop()
            await server.close_all_connections()
            made.store.close()

    head, _, body = asyncio.run(served()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    warnings = [line.partition(": ")[2] for line in lines if line.startswith("Warning: ")]
    return int(lines[0].split()[1]), json.loads(body), warnings[0] if warnings else ""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short name for the test's directory: a Unix socket's path has a limit."""
    monkeypatch.chdir(tmp_path)
    return Path()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (f"{POD}/scale", "A Pod has no replicas: create more Pods, each with its own name."),
        (f"{POD}/resize", "Delete the Pod and create it again with the resources that it needs."),
        (f"{POD}/log", 'The kubelet of node "n" does not answer: no such file or directory. Is it running? See `labkit status`.'),
    ],
)
def test_what_lies_below_a_pod(directory: Path, path: str, words: str) -> None:
    code, body, _ = ask(directory, "GET", path)
    assert code in (404, 503) and body["message"].endswith(words)


def test_nobody_else_can_be_impersonated(directory: Path) -> None:
    code, body, _ = ask(directory, "GET", POD, Impersonate_User="bob")
    assert (code, body["reason"]) == (403, "Forbidden")
    assert body["message"] == (
        'users "bob" is forbidden: User "labkit" cannot impersonate resource "users" in API group "" at the cluster scope: '
        "the lab's API has one user, who may do everything"
    )


DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


@pytest.mark.parametrize(
    ("path", "accept", "code"),
    [
        (f"{DEPLOYMENTS}?labelSelector=app%3Dx", "application/json", 200),
        ("/api/v1/namespaces/default/endpoints?labelSelector=app%3Dx", "application/json", 200),
        (f"{DEPLOYMENTS}?labelSelector=app%3Dx", TABLE, 404),
        (f"{DEPLOYMENTS}?labelSelector=app%3Dx&watch=1", "application/json", 404),
        (f"{DEPLOYMENTS}/x?labelSelector=app%3Dx", "application/json", 404),
        (DEPLOYMENTS, "application/json", 404),
    ],
)
def test_a_client_that_prunes_finds_nothing_of_what_is_not_served(directory: Path, path: str, accept: str, code: int) -> None:
    """kubectl apply --prune lists, by their labels, the kinds that it may have made."""
    answered, body, _ = ask(directory, "GET", path, Accept=accept)
    assert answered == code
    assert body.get("items") == ([] if code == 200 else None)


NO_JSON = "application/merge-patch+json"


@pytest.mark.parametrize(
    ("method", "query", "words"),
    [
        ("PUT", "fieldManager=" + "x" * 129, "UpdateOptions: fieldManager: Too long: may not be more than 128 bytes"),
        ("PUT", "fieldManager=a%0Ab",
         'UpdateOptions: fieldManager: Invalid value: "a\\nb": invalid character U+000A (at position 1)'),
        ("PATCH", "dryRun=Some", 'PatchOptions: dryRun: Unsupported value: ["Some"]: supported values: "All"'),
        ("PATCH", "fieldValidation=strict",
         'PatchOptions: fieldValidation: Unsupported value: "strict": supported values: "", "Ignore", "Strict", "Warn"'),
        ("PATCH", "force=true", "PatchOptions: force: Forbidden: may not be specified for non-apply patch"),
        ("DELETE", "dryRun=Some", 'DeleteOptions: dryRun: Unsupported value: ["Some"]: supported values: "All"'),
        ("DELETE", "propagationPolicy=Odd",
         'DeleteOptions: propagationPolicy: Unsupported value: "Odd": supported values: "Foreground", "Background", '
         '"Orphan", "nil"'),
    ],
)
def test_options_that_make_no_sense(directory: Path, method: str, query: str, words: str) -> None:
    sent = '{"metadata":{"name":"p"}}' if method != "DELETE" else ""
    kind = NO_JSON if method == "PATCH" else "application/json"
    code, body, _ = ask(directory, method, f"{POD}?{query}", sent, Content_Type=kind)
    kind, _, why = words.partition(": ")
    assert (code, body["message"]) == (422, f'{kind}.meta.k8s.io "" is invalid: {why}')
    assert body["reason"] == "Invalid" and body["details"]["group"] == "meta.k8s.io"


def test_a_namespace_is_finalized_below_it(directory: Path) -> None:
    """What every page about a namespace that hangs tells to do: kubectl replace --raw …/finalize."""
    path = "/api/v1/namespaces/kube-public/finalize"
    sent = json.dumps({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "kube-public"}, "spec": {}})
    code, body, _ = ask(directory, "PUT", path, sent, Content_Type="application/json")
    assert code == 200 and not body["spec"].get("finalizers") and body["status"] == {"phase": "Active"}
    assert ask(directory, "GET", path)[0] == 405
