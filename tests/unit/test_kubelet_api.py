"""The kubelet's client while the API is away: every failure is an ApiError, which those who watch wait out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labkit.kubelet.api import ApiClient, ApiClientError, Informer


@pytest.mark.parametrize("text", [None, "", "kind: Config", "{"], ids=["none", "empty", "no context", "half written"])
def test_a_kubeconfig_that_cannot_be_used_yet_is_an_api_that_cannot_be_reached(tmp_path: Path, text: str | None) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    if text is not None:
        kubeconfig.write_text(text)
    api = ApiClient(kubeconfig)
    for ask in (lambda: api.get("/api/v1/pods"), lambda: next(api.watch("/api/v1/pods"))):
        with pytest.raises(ApiClientError) as refused:
            ask()
        assert refused.value.code == 0


def test_an_informer_that_cannot_do_with_an_object_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    heard: list[str] = []

    def on_event(kind: str, thing: dict[str, Any]) -> None:
        heard.append(thing["name"])
        if len(heard) == 3:
            raise SystemExit
        raise KeyError("no such field")

    def watch(self: ApiClient, path: str, **params: str) -> Any:
        yield {"type": "ADDED", "object": {"name": f"seen-{params['resourceVersion']}", "metadata": {"resourceVersion": "8"}}}

    monkeypatch.setattr(ApiClient, "get", lambda self, path, **params: {"metadata": {"resourceVersion": str(len(heard))}})
    monkeypatch.setattr(ApiClient, "watch", watch)
    monkeypatch.setattr("labkit.kubelet.api.RETRY_S", (0.0,))
    with pytest.raises(SystemExit):
        Informer(ApiClient(tmp_path), "/api/v1/pods", lambda things: None, on_event).run()
    assert heard == ["seen-0", "seen-1", "seen-2"]
