"""A Pod's volumes, and how its containers mount them. Knowledge: pkg/apis/core/validation (validateVolumeSource and below)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from labkit.podspec import schema
from labkit.podspec.quantity import exact
from labkit.podspec.validation import field_errors
from labkit.podspec.validation.checks import enum, kinds_of, missing, must, never, once, one_kind, one_of, wrong
from labkit.podspec.validation.field_errors import Cause, Causes, duplicate, each, forbidden, invalid, not_found
from labkit.podspec.validation.meta import SELECTOR
from labkit.podspec.validation.references import FILE_FIELDS, RESOURCE_REF_OF_VOLUME, field_ref
from labkit.podspec.validation.rules import At, Check, Table, always, below_list, check, filled, given, inside, needed

Manifest = Mapping[str, Any]
REFS = ("fieldRef", "resourceFieldRef")
mode = must(lambda value: 0 <= value <= 0o777, "must be a number between 0 and 0777 (octal), both inclusive")
DEFAULT_MODE = given("defaultMode", mode)
FILE: Table = (needed("path"), filled("path", field_errors.file_path))
ITEMS = inside("items", (needed("key"), *FILE, given("mode", mode)))
DOWNWARD_FILE: Table = (
    *FILE,
    inside("fieldRef", field_ref(FILE_FIELDS)),
    inside("resourceFieldRef", RESOURCE_REF_OF_VOLUME, when=lambda at: at["fieldRef"] is None),
    given("", one_of(REFS, missing("one of fieldRef and resourceFieldRef is required"), wrong(
        "fieldRef and resourceFieldRef can not be specified simultaneously", "resource"))),
    given("mode", mode),
)


def downward_files(items: list[Manifest], here: At) -> Causes:
    """Their messages name the volume, not the item."""
    for item in here.items():
        item.path = here.holder.path
        yield from check(DOWNWARD_FILE, item)


def of_projected(here: At) -> str:
    """A path below the volume in place of one below its source."""
    return f"{here.path.rpartition('.sources')[0]}.{here.name}"


DOWNWARD = filled("items", downward_files)
PROJECTIONS: dict[str, Table] = {
    "clusterTrustBundle": (
        given("", one_of(("name", "signerName"), missing("either name or signerName must be specified"),
                         wrong("only one of name and signerName may be used"))),
        inside("labelSelector", SELECTOR),
        *FILE,
    ),
    "configMap": (needed("name"), ITEMS),
    "downwardAPI": (DOWNWARD,),
    "secret": (needed("name"), ITEMS),
    "serviceAccountToken": (
        always("expirationSeconds", must(lambda s: s >= 600, "may not specify a duration less than 10 minutes"), absent=0),
        filled("expirationSeconds", must(lambda s: s <= 2**32, "may not specify a duration larger than 2^32 seconds")),
        needed("path", path=of_projected),
        filled("path", field_errors.file_path, path=of_projected),
    ),
}


def projections(sources: list[Manifest], here: At) -> Causes:
    """Each is of one kind, and no two put a file at the same path."""
    taken: set[str] = set()
    for item in here.items():
        kinds = kinds_of(item.value, schema.fields("VolumeProjection"))
        for kind in kinds:
            source = item.value[kind]
            yield from check(PROJECTIONS.get(kind, ()), item.below(kind, source))
            files = [item["path"] for item in source.get("items") or [] if item.get("path")]
            for file in [source.get("path") or ""] if kind == "clusterTrustBundle" else files:
                if file in taken:
                    about = source.get("name") if kind in ("secret", "configMap") else file
                    yield invalid(here.holder.path, about, "conflicting duplicate paths")
                taken.add(file)
        if len(kinds) > 1:
            yield forbidden(item.path, "may not specify more than 1 volume type per source")


SOURCES: dict[str, Table] = {
    "hostPath": (needed("path"), filled("path", field_errors.no_backsteps), filled("type", enum, when=lambda at: at["path"])),
    "emptyDir": (filled("sizeLimit", never("SizeLimit field must be a valid resource quantity"),
                        when=lambda at: exact(at["sizeLimit"] or 0) < 0),),
    "configMap": (needed("name"), DEFAULT_MODE, ITEMS),
    "secret": (needed("secretName"), DEFAULT_MODE, ITEMS),
    "downwardAPI": (DEFAULT_MODE, DOWNWARD),
    "projected": (DEFAULT_MODE, filled("sources", projections)),
    "image": (needed("reference"), needed("pullPolicy", enum)),
    "local": (needed("path"), filled("path", field_errors.no_backsteps)),
} | {  # what must be named in the others, most of which are only stored
    kind: tuple(needed(name) for name in names.split())
    for kind, names in {
        "awsElasticBlockStore": "volumeID", "azureDisk": "diskName diskURI", "azureFile": "secretName shareName",
        "cephfs": "monitors", "cinder": "volumeID", "csi": "driver", "ephemeral": "volumeClaimTemplate", "flexVolume": "driver",
        "gcePersistentDisk": "pdName", "gitRepo": "repository", "glusterfs": "endpoints path", "iscsi": "targetPortal iqn",
        "nfs": "server path", "persistentVolumeClaim": "claimName", "photonPersistentDisk": "pdID", "portworxVolume": "volumeID",
        "quobyte": "registry volume", "rbd": "monitors image", "scaleIO": "gateway system volumeName",
        "vsphereVolume": "volumePath",
    }.items()
}
"""What each type of volume needs, of a Pod or of a PersistentVolume."""


NO_SOURCES = {
    "Volume": ("name",),
    "PersistentVolumeSpec": (
        "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity", "persistentVolumeReclaimPolicy",
        "storageClassName", "volumeAttributesClassName", "volumeMode",
    ),
}
"""Fields that are no types of volumes."""


@cache
def sources_of(kind: str) -> dict[str, Table]:
    """The types of volumes that a kind of object has."""
    return {name: SOURCES.get(name, ()) for name in schema.fields(kind) if name not in NO_SOURCES[kind]}


def one_source(kind: str, *, more_first: bool = False) -> Check:
    """It is of one type of volume."""
    texts = ("must specify a volume type", "may not specify more than 1 volume type")
    return lambda value, here: one_kind(sources_of(kind), *texts, more_first=more_first)(value, here)


def name_of_claim(volume: Manifest, here: At) -> Causes:
    """The claim that is made for an ephemeral volume is named after the Pod and the volume."""
    pod, name = here.spec.holder["metadata.name"], volume.get("name")
    if kinds_of(volume, sources_of("Volume"))[:1] == ["ephemeral"] and pod and name:
        claim = f"{pod}-{name}"
        wrong_names = (f"PVC name {field_errors.shown(claim)}: {message}" for message in field_errors.subdomain(claim))
        yield from each(f"{here.path}.name", name, wrong_names)


VOLUME: Table = (
    given("", one_source("Volume", more_first=True)),
    given("", name_of_claim),
    needed("name", field_errors.label),
)


def volumes(values: list[Manifest], here: At) -> Causes:
    """Containers may mount those that are in order: the spec's memory keeps them by name."""
    known = here.spec.memory.setdefault("volumes", {})
    pod = here.spec.holder["metadata.name"] or ""
    claims = {f"{pod}-{volume.get('name')}" for volume in values if volume.get("ephemeral") is not None}
    for item in here.items():
        name, causes = item["name"] or "", list(check(VOLUME, item))
        causes += [duplicate(f"{item.path}.name", name)] if name in known else []
        yield from causes
        if not causes:
            known[name] = item.value
        if (claim := item["persistentVolumeClaim.claimName"]) in claims:
            detail = "must not reference a PVC that gets created for an ephemeral volume"
            yield invalid(f"{item.path}.persistentVolumeClaim.claimName", claim, detail)


def mountable(name: str, here: At) -> Causes:
    if name not in here.spec.memory.get("volumes", ()):
        yield not_found(here.path, name)


def of_block_type(name: str, here: At) -> Iterator[str | Cause]:
    if not {"persistentVolumeClaim", "ephemeral"} & set(here.spec.memory["volumes"][name]):
        yield "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"


def not_among(others: str, field: str) -> Check:
    """No item of the container's other list, of which the last of a name counts, has this value in its field."""
    detail = f"must not already exist {'' if field == 'name' else 'as a path '}in {others}"

    def among(value: str, here: At) -> list[str]:
        there = {item.get("name"): item.get(field) for item in here.holder.holder[others] or ()}
        return [detail] if value in there.values() else []

    return among


def is_recursive(at: At) -> bool:
    return at["recursiveReadOnly"] in ("Enabled", "IfPossible")


MOUNT: Table = (
    needed("name"),
    always("name", mountable),
    needed("mountPath"),
    always("mountPath", once),
    always("name", not_among("volumeDevices", "name")),
    always("mountPath", not_among("volumeDevices", "devicePath")),
    filled("subPath", field_errors.relative_path, path=below_list),
    filled("subPathExpr", wrong("subPathExpr and subPath are mutually exclusive"), when=lambda at: at["subPath"]),
    filled("subPathExpr", field_errors.relative_path, path=below_list),
    given("mountPropagation", enum, path=below_list),
    given("mountPropagation", never("Bidirectional mount propagation is available only to privileged containers"),
          path=below_list,
          when=lambda at: at["mountPropagation"] == "Bidirectional" and not at.holder["securityContext.privileged"]),
    given("recursiveReadOnly", enum, path=below_list),
    given("recursiveReadOnly", never("may only be specified when readOnly is true"), path=below_list,
          when=lambda at: is_recursive(at) and not at["readOnly"]),
    given("recursiveReadOnly", never("may only be specified when mountPropagation is None or not specified"), path=below_list,
          when=lambda at: is_recursive(at) and at["mountPropagation"] not in (None, "None")),
)
DEVICE: Table = (
    needed("name"),
    always("name", once),
    always("name", mountable, of_block_type),
    needed("devicePath"),
    always("devicePath", once, when=lambda at: ".." not in (at["devicePath"] or "").split("/")),
    always("devicePath", must(lambda value: ".." not in value.split("/"), "can not contain backsteps ('..')")),
    always("name", not_among("volumeMounts", "name")),
    always("devicePath", not_among("volumeMounts", "mountPath")),
)
