"""Pods at their creation. Knowledge: pkg/apis/core/validation (ValidatePodSpec and its like)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import between, enum, first, must, never, one_of, unique, wrong
from labkit.podspec.validation.container import EPHEMERAL, HOST_PORTS, INIT, NETWORK_OF_HOST, REGULAR, TRIMMED
from labkit.podspec.validation.field_errors import MAX_INT32, Causes, duplicate, each, forbidden, invalid, required
from labkit.podspec.validation.meta import labels, metadata
from labkit.podspec.validation.resources import POD_REQUIREMENTS, overhead
from labkit.podspec.validation.rules import At, Check, Table, always, check, every, filled, given, inside, needed, of_holder
from labkit.podspec.validation.scheduling import AFFINITY, SPREAD, TOLERATION
from labkit.podspec.validation.security import POD_SECURITY
from labkit.podspec.validation.volumes import volumes

Manifest = Mapping[str, Any]
MIRROR = "kubernetes.io/config.mirror"
OF_HOST = {"hostNetwork": "hostNetwork", "hostPID": "HostPID", "hostIPC": "HostIPC"}
"""Fields of the spec, and how messages name them."""
CLAIM_NAMES = ("resourceClaimName", "resourceClaimTemplateName")


def pod(new: Manifest) -> Causes:
    """What is wrong with a Pod at its creation, with its defaults filled in."""
    yield from check((*POD, *AT_CREATION), At(new, kind="Pod"))


def metadata_and_spec(new: Manifest) -> Causes:
    """What is wrong with any Pod, stored or about to be."""
    yield from check(POD, At(new, kind="Pod"))


def mirrored(annotations: Mapping[str, str], here: At) -> Causes:
    if MIRROR in annotations and not here.holder.holder["spec.nodeName"]:
        detail = "must set spec.nodeName if mirror pod annotation is set"
        yield invalid(f"{here.path}[{MIRROR}]", annotations[MIRROR], detail)


def claim_name(value: str, here: At) -> Iterator[Any]:
    """A name that is there already is not looked at further."""
    known = value and not first(here.holder.memory, "name", value)
    yield from [duplicate(here.path, value)] if known else field_errors.label(value)


def most(number: int, what: str) -> Check:
    return must(lambda values: len(values) <= number, f"must not have more than {number} {what}")


def search(value: str, here: At) -> Causes:
    """A final dot is no part of the name."""
    bare = value.removesuffix(".")
    yield from each(here.path, bare, field_errors.search_domain(bare)) if value != "." else ()


def without_account(spec: Manifest, here: At) -> Causes:
    for volume in here.below("volumes", spec.get("volumes")).items():
        for source in volume.below("projected", {}).below("sources", volume["projected.sources"]).items():
            if source["serviceAccountToken"] is not None:
                yield forbidden(f"{source.path}.serviceAccountToken", "must not be specified when serviceAccountName is not set")


def own_dns(at: At) -> bool:
    return bool(at["dnsPolicy"] == "None")


def no_servers(at: At) -> bool:
    return own_dns(at) and not at["dnsConfig.nameservers"]


DNS: Table = (
    filled("nameservers", most(3, "nameservers")),
    every("nameservers", field_errors.address),
    filled("searches", most(32, "search paths")),
    filled("searches", must(lambda values: len(" ".join(values)) <= 2048,
                            "must not have more than 2048 characters (including spaces) in the search list")),
    every("searches", search),
    inside("options", (needed("name", detail="must not be empty", path=of_holder),)),
)
SPEC: Table = (
    always("terminationGracePeriodSeconds", lambda value, here: [required(here.path)] if value is None else [], absent=None),
    filled("volumes", volumes),
    inside("resourceClaims", (
        needed("name", claim_name),
        given("", one_of(CLAIM_NAMES, wrong("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
                         wrong("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"))),
        *(given(name, field_errors.subdomain) for name in CLAIM_NAMES),
    )),
    needed("containers"),
    inside("containers", REGULAR),
    inside("containers", (HOST_PORTS,)),
    inside("initContainers", INIT),
    inside("ephemeralContainers", EPHEMERAL),
    inside("resources", POD_REQUIREMENTS),
    inside("containers", (NETWORK_OF_HOST,), when=lambda at: at["hostNetwork"]),
    needed("restartPolicy", enum),
    needed("dnsPolicy", enum),
    filled("nodeSelector", labels),
    inside("securityContext", POD_SECURITY, absent={}),
    inside("affinity", AFFINITY),
    needed("dnsConfig", detail="must provide `dnsConfig` when `dnsPolicy` is None",
           when=lambda at: own_dns(at) and at["dnsConfig"] is None),
    needed("dnsConfig.nameservers", detail="must provide at least one DNS nameserver when `dnsPolicy` is None",
           when=lambda at: no_servers(at) and at["dnsConfig"] is not None),
    inside("dnsConfig", DNS, when=lambda at: not no_servers(at)),
    inside("readinessGates", (always("conditionType", field_errors.qualified_name),)),
    inside("schedulingGates", (
        always("name", field_errors.qualified_name, path=of_holder), always("name", unique, path=of_holder),
    )),
    inside("topologySpreadConstraints", SPREAD),
    *(filled(name, lambda value, here: [forbidden(f"spec.{OF_HOST[here.name]}", "when `pod.Spec.HostUsers` is false")],
             when=lambda at: at["hostUsers"] is False) for name in OF_HOST),
    filled("serviceAccountName", field_errors.subdomain),
    filled("nodeName", field_errors.subdomain),
    filled("hostname", field_errors.label),
    filled("subdomain", field_errors.label),
    filled("priorityClassName", field_errors.subdomain),
    filled("runtimeClassName", field_errors.subdomain),
    given("activeDeadlineSeconds", between(1, MAX_INT32)),
    inside("tolerations", TOLERATION),
    inside("hostAliases", (always("ip", field_errors.address), every("hostnames", field_errors.subdomain))),
    filled("preemptionPolicy", enum),
    filled("overhead", overhead),
    inside("os", (needed("name", enum),)),
)
POD: Table = (
    metadata(field_errors.subdomain, namespaced=True),
    filled("metadata.annotations", mirrored),
    inside("spec", SPEC, absent={}),
    always("spec", without_account, absent={}, when=lambda at: not at["spec.serviceAccountName"]),
    inside("spec.containers", TRIMMED),
    inside("spec.initContainers", TRIMMED),
)
AT_CREATION: Table = (
    filled("spec.ephemeralContainers", never("cannot be set on create")),
    filled("spec.nodeName", never("cannot be set until all schedulingGates have been cleared"),
           when=lambda at: at["spec.schedulingGates"]),
)
