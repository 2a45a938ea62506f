"""Clients for a Kubernetes API, which say in a sentence when they do not reach it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labkit.util.errors import NodeError
from labkit.util.proxies import proxy_for


def core_v1(kubeconfig: Path) -> Any:
    """`kubernetes.client.CoreV1Api` of the cluster that a kubeconfig names. Raises NodeError. `kubernetes` is slow to import."""
    from kubernetes import client, config

    try:
        return client.CoreV1Api(api_client(str(kubeconfig)))
    except (config.ConfigException, OSError) as error:
        raise NodeError(f"The node's Kubernetes API is not there ({error}).", "`labkit status` says how the node is.") from None


def api_client(kubeconfig: str | None, context: str | None = None) -> Any:
    """`kubernetes.client.ApiClient` for a context of a kubeconfig, with the proxy that kubectl would use: the kubeconfig's
    own, else `proxy_for`'s. Raises ConfigException or OSError."""
    from kubernetes import client, config

    configuration = client.Configuration()
    configuration.proxy = ""  # nothing from the environment: a kubeconfig's proxy-url is set over it
    config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=configuration)
    configuration.proxy = configuration.proxy or proxy_for(configuration.host)
    configuration.no_proxy = ""
    made = client.ApiClient(configuration)
    made.rest_client.request = explained(  # type: ignore[method-assign]  # of this one client only
        made.rest_client.request, configuration.host
    )
    return made


def explained(request: Callable[..., Any], host: str) -> Callable[..., Any]:
    """A request of the client's whose failure to reach the API is a NodeError. What the API itself refuses stays ApiException."""
    from urllib3.exceptions import HTTPError

    @functools.wraps(request)
    def asked(*arguments: Any, **more: Any) -> Any:
        try:
            return request(*arguments, **more)
        except HTTPError as error:
            why = getattr(error, "reason", None) or error
            words = str(getattr(why, "args", [why])[-1]).rpartition(": ")[2]
            happened = f"The Kubernetes API at {host} does not answer ({words})."
            raise NodeError(happened, "`labkit status` says how the node is.") from None

    return asked
