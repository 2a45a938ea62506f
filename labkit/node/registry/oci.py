"""OCI images as plain data, equal to the byte for equal input.

An image is a manifest that names one configuration and some layers by the SHA-256 of their bytes (OCI image-spec v1.0:
manifest.md, config.md, layer.md). Layers stay uncompressed tar archives, since what a compressor writes differs from one
zlib to the next, and with it the digest; a runtime takes either.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.util.outputs import write_whole

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

EPOCH = "1970-01-01T00:00:00Z"
"""When every image says that it was created: the true time would change its digest."""

ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Blob:
    """Bytes with their media type. Everything in an image is one, and is known by its digest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """ "sha256:" and 64 hexadecimal digits."""
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    @property
    def descriptor(self) -> dict[str, Any]:
        """The blob as another one names it: mediaType, digest, size in bytes."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data)}


@dataclass(frozen=True)
class Image:
    """One image for one architecture. `name` has the registry in front ("registry.lab/busybox"); `digest` is the manifest's."""

    name: str
    tag: str
    architecture: str
    layers: tuple[Blob, ...]
    config: Blob
    manifest: Blob

    @property
    def reference(self) -> str:
        """What PullImage takes: "registry.lab/busybox:1"."""
        return f"{self.name}:{self.tag}"

    @property
    def repository(self) -> str:
        """The name without the registry: what its HTTP API calls it."""
        return self.name.partition("/")[2]

    @property
    def digest(self) -> str:
        return self.manifest.digest


@dataclass(frozen=True)
class Entry:
    """One path of a layer, without a leading slash: a file has `data`, a symbolic link `target`, a directory neither."""

    path: str
    data: bytes | None = None
    target: str | None = None
    mode: int = 0o755


def layer(entries: Iterable[Entry]) -> Blob:
    """A layer of `entries`, sorted by path, owned by root, dated 1970; parent directories come by themselves."""
    by_path = {entry.path: entry for entry in entries}
    for path in list(by_path):
        for parent in Path(path).parents:
            if parent != Path("."):
                by_path.setdefault(str(parent), Entry(str(parent)))
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(by_path):
            _add(archive, by_path[path])
    return Blob(LAYER, output.getvalue())


def image(
    reference: str,
    layers: Sequence[Blob],
    config: Mapping[str, Any],
    architecture: str | None = None,
    history: Sequence[str] = (),
) -> Image:
    """An image of `layers`, the lowest first, with `config` (Entrypoint, Cmd, Env, … of config.md).

    `architecture`: this machine's, if None. `history`: what each layer is, for people.
    """
    name, _, tag = reference.rpartition(":")
    architecture = architecture or machine_architecture()
    configuration = Blob(CONFIG, canonical_json({
        "created": EPOCH, "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        "history": [{"created": EPOCH, "created_by": command} for command in history or ["labkit"] * len(layers)],
    }))
    manifest = Blob(MANIFEST, canonical_json({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": configuration.descriptor,
        "layers": [layer.descriptor for layer in layers],
    }))
    return Image(name, tag, architecture, tuple(layers), configuration, manifest)


def index(image: Image) -> Blob:
    """An index that lists one image with its platform (OCI image-index.md), as a tag names it for several architectures."""
    listed = {**image.manifest.descriptor, "platform": {"architecture": image.architecture, "os": "linux"}}
    return Blob(INDEX, canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}))


def machine_architecture() -> str:
    """This machine as GOARCH spells it: amd64, arm64."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine.lower(), machine)


def write_archive(path: Path, images: Sequence[Image]) -> None:
    """Write `images` as one OCI archive, for `ctr images import` (OCI image-layout.md), whole or not at all. Raises OSError."""
    blobs = {blob.digest: blob.data for image in images for blob in (*image.layers, image.config, image.manifest)}
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{
        **image.manifest.descriptor, "platform": {"architecture": image.architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": image.tag},
    } for image in images]}
    files = {"oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}), "index.json": canonical_json(index)}
    files |= {"blobs/" + digest.replace(":", "/"): data for digest, data in blobs.items()}
    write_whole(path, layer(Entry(name, data, mode=0o644) for name, data in files.items()).data, 0o644)


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces: one spelling for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _add(archive: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mode = entry.mode
    if entry.target is not None:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.target, 0o777
    elif entry.data is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(entry.data)
    archive.addfile(member, io.BytesIO(entry.data or b""))
