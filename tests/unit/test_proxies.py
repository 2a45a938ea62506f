"""The proxy for a URL is what Go's programs use; the tables follow the tests of golang.org/x/net/http/httpproxy."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from labkit.node.pods.api_client import core_v1
from labkit.util.proxies import proxy_for

PROXY = "http://proxy.example:3128"
SET = {"HTTPS_PROXY": PROXY, "HTTP_PROXY": "http://plain.example:8080", "ALL_PROXY": "socks5://all.example:1080"}


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxy"),
    [
        ("https://api.example:6443", "", PROXY),
        ("http://api.example", "", "http://plain.example:8080"),
        ("ftp://api.example", "", None),
        ("https://127.0.0.1:6443", "", None),
        ("https://127.9.8.7", "", None),
        ("https://localhost:6443", "", None),
        ("https://[::1]:6443", "", None),
        ("https://localhost.example:6443", "", PROXY),
        ("https://api.example", "*", None),
        ("https://api.example", "example", None),
        ("https://example", "example", None),
        ("https://example", ".example", PROXY),
        ("https://example", "*.example", PROXY),
        ("https://api.example", "*.example", None),
        ("https://api.example", " other , .EXAMPLE ", None),
        ("https://apiexample", "example", PROXY),
        ("https://api.example:6443", "api.example:6443", None),
        ("https://api.example:6443", "api.example:443", PROXY),
        ("https://api.example", "api.example:443", None),
        ("https://10.1.2.3", "10.0.0.0/8", None),
        ("https://11.1.2.3", "10.0.0.0/8", PROXY),
        ("https://10.1.2.3", "10.1.2.3", None),
        ("https://10.1.2.3:6443", "10.1.2.3:443", PROXY),
        ("https://[fd00::1]:6443", "fd00::1", None),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", None),
        ("https://[fd00::1]:6443", "fd00::/8", None),
        ("https://api.example", "10.0.0.0/99,,:443,.", PROXY),
    ],
)
def test_the_proxy_is_the_one_that_kubectl_uses(url: str, no_proxy: str, proxy: str | None) -> None:
    assert proxy_for(url, {**SET, "NO_PROXY": no_proxy}) == proxy


def test_names_in_small_letters_and_a_proxy_without_a_scheme() -> None:
    assert proxy_for("https://api.example", {"https_proxy": "proxy:3128"}) == "http://proxy:3128"
    assert proxy_for("https://api.example", {"https_proxy": "proxy:3128", "no_proxy": "example"}) is None
    assert proxy_for("https://api.example", {"ALL_PROXY": "proxy:3128", "all_proxy": "proxy:3128"}) is None


@pytest.mark.parametrize(
    ("server", "more", "proxy"),
    [
        ("https://127.0.0.1:6443", {}, None),
        ("https://api.example:6443", {}, PROXY),
        ("https://127.0.0.1:6443", {"proxy-url": "http://named.example:1"}, "http://named.example:1"),
        ("https://api.lab:6443", {"proxy-url": "http://named.example:1"}, "http://named.example:1"),
    ],
)
def test_the_kubernetes_client_has_that_proxy(
    server: str, more: dict[str, str], proxy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kubeconfig's own proxy-url overrules the environment's, NO_PROXY too (client-go, rest.Config.Proxy)."""
    for name, value in {**SET, "NO_PROXY": "lab"}.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value)
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({
        "current-context": "a", "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": server, **more}}], "users": [{"name": "a", "user": {"token": "t"}}],
    }))
    manager = core_v1(kubeconfig).api_client.rest_client.pool_manager
    used = getattr(manager, "proxy", None)
    assert (used.url if used else None) == proxy
