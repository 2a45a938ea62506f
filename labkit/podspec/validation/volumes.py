"""A Pod's volumes, and how its containers mount them. Knowledge: pkg/apis/core/validation (validateVolumeSource and below)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.podspec import schema
from labkit.podspec.quantity import exact
from labkit.podspec.validation import words
from labkit.podspec.validation.meta import label_selector
from labkit.podspec.validation.references import field_ref, resource_field_ref
from labkit.podspec.validation.words import (
    Cause,
    Causes,
    duplicate,
    each,
    forbidden,
    invalid,
    local_path,
    not_found,
    required,
    unsupported,
)

Manifest = Mapping[str, Any]
HOST_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")
PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
READ_ONLY_MODES = ("Disabled", "Enabled", "IfPossible")
FILE_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
MODE_WORDS = "must be a number between 0 and 0777 (octal), both inclusive"
ONE_TYPE = "may not specify more than 1 volume type"
NEEDED = {  # kinds of volumes that are only stored: what must be named in each
    "gcePersistentDisk": ("pdName",), "awsElasticBlockStore": ("volumeID",), "nfs": ("server", "path"),
    "iscsi": ("targetPortal", "iqn"), "glusterfs": ("endpoints", "path"), "rbd": ("monitors", "image"),
    "cephfs": ("monitors",), "cinder": ("volumeID",), "azureFile": ("secretName", "shareName"),
    "azureDisk": ("diskName", "diskURI"), "vsphereVolume": ("volumePath",), "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",), "quobyte": ("registry", "volume"), "scaleIO": ("gateway", "system", "volumeName"),
    "csi": ("driver",), "flexVolume": ("driver",), "gitRepo": ("repository",),
}  # fmt: skip


def volumes(spec: Manifest, pod_name: str) -> tuple[list[Cause], dict[str, Manifest]]:
    """Every volume has one type, a name of its own, and what its type needs. With the causes: the volumes that are in order, by
    name; containers may mount no others."""
    named: dict[str, Manifest] = {}
    wrong: list[Cause] = []
    claims = {f"{pod_name}-{volume.get('name')}" for volume in spec.get("volumes") or [] if volume.get("ephemeral") is not None}
    for number, volume in enumerate(spec.get("volumes") or []):
        path, name = f"spec.volumes[{number}]", volume.get("name") or ""
        causes = list(_volume(volume, path, pod_name))
        causes += [required(f"{path}.name")] if not name else each(f"{path}.name", name, words.label(name))
        if name in named:
            causes.append(duplicate(f"{path}.name", name))
        if not causes:
            named[name] = volume
        wrong += causes
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim in claims:
            said = "must not reference a PVC that gets created for an ephemeral volume"
            wrong.append(invalid(f"{path}.persistentVolumeClaim.claimName", claim, said))
    return wrong, named


def mounts(container: Manifest, path: str, sources: Mapping[str, Manifest]) -> Causes:
    """A container's mounts: each of a volume of the Pod (`sources`, by name), each at a path of its own."""
    devices = {device.get("name"): device.get("devicePath") for device in container.get("volumeDevices") or []}
    seen: set[str] = set()
    for number, mount in enumerate(container.get("volumeMounts") or []):
        at, name, where = f"{path}[{number}]", mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield required(f"{at}.name")
        if name not in sources:
            yield not_found(f"{at}.name", name)
        if not where:
            yield required(f"{at}.mountPath")
        if where in seen:
            yield invalid(f"{at}.mountPath", where, "must be unique")
        seen.add(where)
        if name in devices:
            yield invalid(f"{at}.name", name, "must not already exist in volumeDevices")
        if where in devices.values():
            yield invalid(f"{at}.mountPath", where, "must not already exist as a path in volumeDevices")
        yield from _sub_paths(mount, at, path)
        yield from _propagation(mount, container, path)


def devices(container: Manifest, path: str, sources: Mapping[str, Manifest]) -> Causes:
    """A container's raw block devices: each of a claim."""
    mounted = {mount.get("name"): mount.get("mountPath") for mount in container.get("volumeMounts") or []}
    names: set[str] = set()
    paths: set[str] = set()
    for number, device in enumerate(container.get("volumeDevices") or []):
        at, name, where = f"{path}[{number}]", device.get("name") or "", device.get("devicePath") or ""
        if not name:
            yield required(f"{at}.name")
        if name in names:
            yield invalid(f"{at}.name", name, "must be unique")
        if name not in sources:
            yield not_found(f"{at}.name", name)
        elif not {"persistentVolumeClaim", "ephemeral"} & set(sources[name]):
            said = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield invalid(f"{at}.name", name, said)
        if not where:
            yield required(f"{at}.devicePath")
        if where in paths:
            yield invalid(f"{at}.devicePath", where, "must be unique")
        if ".." in where.split("/"):
            yield invalid(f"{at}.devicePath", where, "can not contain backsteps ('..')")
        else:
            paths.add(where)
        if name in mounted:
            yield invalid(f"{at}.name", name, "must not already exist in volumeMounts")
        if where in mounted.values():
            yield invalid(f"{at}.devicePath", where, "must not already exist as a path in volumeMounts")
        names.add(name)


def source(kind: str, value: Manifest, path: str) -> Causes:
    """What one type of volume needs: of a Pod or of a PersistentVolume."""
    match kind:
        case "hostPath":
            yield from _host_path(value, path)
        case "emptyDir":
            if value.get("sizeLimit") is not None and exact(value["sizeLimit"]) < 0:
                yield forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")
        case "configMap" | "secret":
            name = "name" if kind == "configMap" else "secretName"
            if not value.get(name):
                yield required(f"{path}.{name}")
            yield from _mode(value.get("defaultMode"), f"{path}.defaultMode")
            yield from _items(value, path)
        case "downwardAPI":
            yield from _mode(value.get("defaultMode"), f"{path}.defaultMode")
            for item in value.get("items") or []:
                yield from _downward_file(item, path)
        case "projected":
            yield from _mode(value.get("defaultMode"), f"{path}.defaultMode")
            yield from _projected(value, path)
        case "persistentVolumeClaim":
            if not value.get("claimName"):
                yield required(f"{path}.claimName")
        case "ephemeral":
            if not value.get("volumeClaimTemplate"):
                yield required(f"{path}.volumeClaimTemplate")
        case "image":
            if not value.get("reference"):
                yield required(f"{path}.reference")
            yield from words.one_of(
                f"{path}.pullPolicy", value.get("pullPolicy"), ("Always", "IfNotPresent", "Never"), needed=True
            )
        case "local":
            if not value.get("path"):
                yield required(f"{path}.path")
            yield from words.no_backsteps(f"{path}.path", value.get("path") or "")
        case _:
            yield from (required(f"{path}.{field}") for field in NEEDED.get(kind, ()) if not value.get(field))


def _volume(volume: Manifest, path: str, pod_name: str) -> Causes:
    kinds = [kind for kind in schema.fields("Volume") if kind != "name" and volume.get(kind) is not None]
    for extra in kinds[1:]:
        yield forbidden(f"{path}.{extra}", ONE_TYPE)
    if not kinds:
        yield required(path, "must specify a volume type")
        return
    yield from source(kinds[0], volume[kinds[0]], f"{path}.{kinds[0]}")
    name = volume.get("name") or ""
    if kinds[0] == "ephemeral" and pod_name and name:
        claim = f"{pod_name}-{name}"
        yield from each(f"{path}.name", name, (f"PVC name {words.shown(claim)}: {said}" for said in words.subdomain(claim)))


def _host_path(value: Manifest, path: str) -> Causes:
    if not value.get("path"):
        yield required(f"{path}.path")
        return
    yield from words.no_backsteps(f"{path}.path", value["path"])
    if (value.get("type") or "") not in HOST_PATH_TYPES:
        yield unsupported(f"{path}.type", value["type"], HOST_PATH_TYPES)


def _mode(mode: int | None, path: str) -> Causes:
    if mode is not None and not 0 <= mode <= 0o777:
        yield invalid(path, mode, MODE_WORDS)


def _items(value: Manifest, path: str) -> Causes:
    for number, item in enumerate(value.get("items") or []):
        yield from _key_to_path(item, f"{path}.items[{number}]")


def _key_to_path(item: Manifest, path: str) -> Causes:
    if not item.get("key"):
        yield required(f"{path}.key")
    if not item.get("path"):
        yield required(f"{path}.path")
    yield from local_path(f"{path}.path", item.get("path") or "", reserved=True)
    yield from _mode(item.get("mode"), f"{path}.mode")


def _downward_file(item: Manifest, path: str) -> Causes:
    if not item.get("path"):
        yield required(f"{path}.path")
    yield from local_path(f"{path}.path", item.get("path") or "", reserved=True)
    if item.get("fieldRef") is not None:
        yield from field_ref(item["fieldRef"], f"{path}.fieldRef", FILE_FIELDS)
        if item.get("resourceFieldRef") is not None:
            yield invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif item.get("resourceFieldRef") is not None:
        yield from resource_field_ref(item["resourceFieldRef"], f"{path}.resourceFieldRef", of_volume=True)
    else:
        yield required(path, "one of fieldRef and resourceFieldRef is required")
    yield from _mode(item.get("mode"), f"{path}.mode")


def _projected(value: Manifest, path: str) -> Causes:
    taken: set[str] = set()
    for number, projection in enumerate(value.get("sources") or []):
        at = f"{path}.sources[{number}]"
        kinds = [kind for kind in schema.fields("VolumeProjection") if projection.get(kind) is not None]
        for kind in kinds:
            yield from _projection(kind, projection[kind], f"{at}.{kind}", path)
            name = projection[kind].get("name")
            for file in _files(kind, projection[kind]):
                if file in taken:
                    yield invalid(path, name if kind in ("secret", "configMap") else file, "conflicting duplicate paths")
                taken.add(file)
        if len(kinds) > 1:
            yield forbidden(at, "may not specify more than 1 volume type per source")


def _projection(kind: str, value: Manifest, path: str, volume: str) -> Causes:
    match kind:
        case "secret" | "configMap":
            if not value.get("name"):
                yield required(f"{path}.name")
            yield from _items(value, path)
        case "downwardAPI":
            for item in value.get("items") or []:
                yield from _downward_file(item, path)
        case "serviceAccountToken":
            seconds = value.get("expirationSeconds") or 0
            if seconds < 600:
                yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
            if seconds > 2**32:
                yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
            if not value.get("path"):
                yield required(f"{volume}.path")
            yield from local_path(f"{volume}.path", value.get("path") or "", reserved=True)
        case "clusterTrustBundle":
            if (value.get("name") is None) == (value.get("signerName") is None):
                both = value.get("name") is not None
                said = "only one of name and signerName may be used" if both else "either name or signerName must be specified"
                yield invalid(path, dict(value), said) if both else required(path, said)
            yield from label_selector(value.get("labelSelector") or {}, f"{path}.labelSelector")
            if not value.get("path"):
                yield required(f"{path}.path")
            yield from local_path(f"{path}.path", value.get("path") or "", reserved=True)


def _files(kind: str, value: Manifest) -> Iterator[str]:
    if kind in ("secret", "configMap", "downwardAPI"):
        yield from (item["path"] for item in value.get("items") or [] if item.get("path"))
    elif kind == "clusterTrustBundle":
        yield value.get("path") or ""


def _sub_paths(mount: Manifest, at: str, path: str) -> Causes:
    sub_path, expression = mount.get("subPath") or "", mount.get("subPathExpr") or ""
    if sub_path:
        yield from local_path(f"{path}.subPath", sub_path)
    if expression:
        if sub_path:
            yield invalid(f"{at}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        yield from local_path(f"{path}.subPathExpr", expression)


def _propagation(mount: Manifest, container: Manifest, path: str) -> Causes:
    propagation, read_only = mount.get("mountPropagation"), mount.get("recursiveReadOnly")
    if propagation is not None and propagation not in PROPAGATIONS:
        yield unsupported(f"{path}.mountPropagation", propagation, PROPAGATIONS)
    if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        yield forbidden(f"{path}.mountPropagation", "Bidirectional mount propagation is available only to privileged containers")
    if read_only is not None and read_only not in READ_ONLY_MODES:
        yield unsupported(f"{path}.recursiveReadOnly", read_only, READ_ONLY_MODES)
    if read_only in READ_ONLY_MODES[1:]:
        if not mount.get("readOnly"):
            yield forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
        if propagation not in (None, "None"):
            yield forbidden(f"{path}.recursiveReadOnly", "may only be specified when mountPropagation is None or not specified")
