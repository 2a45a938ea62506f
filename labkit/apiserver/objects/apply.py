"""Server-side apply: who manages which field, conflicts, and what an applier no longer wants.

Knowledge: apimachinery's pkg/util/managedfields and structured-merge-diff's merge.Updater.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from labkit.apiserver import api_errors
from labkit.apiserver.api_resources import ApiResource
from labkit.apiserver.objects import ownership, patch
from labkit.apiserver.objects.ownership import Fields, Path
from labkit.apiserver.objects.strategy import timestamp
from labkit.apiserver.storage.store import Object
from labkit.podspec.schema import Field

MAX_UPDATERS = 10
"""Beyond so many, the oldest are kept together under one name."""

ANCIENT = "ancient-changes"


@dataclass(frozen=True)
class Manager:
    """One entry of metadata.managedFields."""

    name: str
    operation: str
    api_version: str
    subresource: str
    fields: Fields
    time: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        return (self.name, self.operation, "" if self.operation == "Apply" else self.api_version, self.subresource)

    def __str__(self) -> str:
        words = f'"{self.name}"' + (f' with subresource "{self.subresource}"' if self.subresource else "")
        return words if self.operation == "Apply" else f"{words} using {self.api_version}"


def track(resource: ApiResource, old: Object | None, new: Object, manager: str, sub: str = "") -> None:
    """Write into `new` who manages what after an update (or creation) of it by `manager`."""
    managers = _read_back(old, new, sub)
    without = ("spec",) if sub == "status" else ("status",) if resource.has_status else ()
    before = ownership.bare(old or {}, without) if old else {key: {} for key in ("metadata", "spec")}
    changed, removed = ownership.difference(before, ownership.bare(new, without), ownership.root(resource.kind))
    changed -= {("f:metadata",), ("f:spec",), ("f:status",)}
    if changed or removed:
        mine = Manager(manager, "Update", resource.api_version, sub, changed, timestamp())
        gone = changed | removed
        others = [replace(other, fields=other.fields - gone) for other in managers if other.identity != mine.identity]
        earlier = next((other for other in managers if other.identity == mine.identity), None)
        if earlier:
            mine = replace(mine, fields=(earlier.fields - removed) | changed)
            if mine.fields == earlier.fields:
                mine = earlier
        managers = [*others, mine]
    _write(new, managers)


def applied(resource: ApiResource, live: Object | None, config: Object, manager: str, force: bool, sub: str = "") -> Object:
    """The object after `manager` has applied `config`, managedFields and all. Raises ApiError (409) for others' fields.

    `live` may be changed; None when there is no object yet.
    """
    place = ownership.root(resource.kind)
    without = ("spec",) if sub == "status" else ("status",) if resource.has_status else ()
    wanted = ownership.owned(ownership.bare(config, without), place)
    managers = _read_back(live, live or {}, "")
    mine = Manager(manager, "Apply", resource.api_version, sub, wanted, timestamp())
    earlier = next((other for other in managers if other.identity == mine.identity), None)
    others = [other for other in managers if other.identity != mine.identity]
    merged = _merged(live or {}, config, place)
    unwanted = (earlier.fields if earlier else set()) - wanted
    held = set(ownership.prefixes(wanted.union(*(other.fields for other in others))))
    _prune(merged, place, unwanted, held)
    changed, removed = ownership.difference(ownership.bare(live or {}, without), ownership.bare(merged, without), place)
    if live and not force and (conflicts := [(other, path) for other in others for path in sorted(other.fields & changed)]):
        raise _conflict(conflicts)
    gone = changed | removed
    others = [replace(other, fields=other.fields - gone) for other in others]
    if earlier and earlier.fields == wanted:
        mine = replace(mine, time=earlier.time)
    _write(merged, [mine, *others])
    return merged


def check(resource: ApiResource, config: Object) -> None:
    """Whether a configuration names each item of a list once. Raises ApiError (500, as the real API does)."""
    twice = list(ownership.duplicates(ownership.bare(config), ownership.root(resource.kind)))
    if twice:
        meta = config["metadata"]
        group, _, version = f"/{resource.api_version}".rpartition("/")
        about = f"{meta.get('namespace', '')}/{meta['name']}; {group.removeprefix('/')}/{version}, Kind={resource.kind}"
        words = [f"{ownership.spelled(path)}: duplicate entries for key {ownership.spelled((step,))}" for path, step in twice]
        listed = words[0] if len(words) == 1 else "errors:\n" + "\n".join(f"  {each}" for each in words)
        raise api_errors.ApiError(500, "", f"failed to create typed patch object ({about}): {listed}")


def _read_back(old: Object | None, new: Object, sub: str) -> list[Manager]:
    """The managers so far: as the client wrote them if it did, else as they were."""
    kept = (old or {}).get("metadata", {}).get("managedFields") or []
    given = new.get("metadata", {}).get("managedFields")
    if given == [{}]:
        return []
    entries = given if given and not sub and _in_form(given) else kept
    return [
        Manager(e["manager"], e["operation"], e.get("apiVersion", ""), e.get("subresource", ""),
                ownership.read(e["fieldsV1"]), e.get("time") or "")
        for e in entries
    ]


def _in_form(entries: Any) -> bool:
    return isinstance(entries, list) and all(
        isinstance(e, dict) and isinstance(e.get("fieldsV1"), dict) and e.get("operation") in ("Apply", "Update")
        and all(isinstance(e.get(key, ""), str) for key in ("manager", "apiVersion", "subresource")) and "manager" in e
        and isinstance(e.get("time") or "", str)
        for e in entries
    )


def _write(obj: Object, managers: list[Manager]) -> None:
    managers = [manager for manager in managers if manager.fields]
    updaters = [manager for manager in managers if manager.operation == "Update"]
    if len(updaters) > MAX_UPDATERS:
        old = sorted(updaters, key=lambda manager: manager.time)[: len(updaters) - MAX_UPDATERS + 1]
        together = replace(old[0], name=ANCIENT, subresource="", fields=set().union(*(manager.fields for manager in old)))
        managers = [manager for manager in managers if manager not in old] + [together]
    obj["metadata"].pop("managedFields", None)
    if managers:
        obj["metadata"]["managedFields"] = [
            {"manager": manager.name, "operation": manager.operation, "apiVersion": manager.api_version}
            | ({"time": manager.time} if manager.time else {})
            | {"fieldsType": "FieldsV1", "fieldsV1": ownership.written(manager.fields)}
            | ({"subresource": manager.subresource} if manager.subresource else {})
            for manager in managers
        ]


def _merged(live: Any, config: Any, place: Field | None) -> Any:
    """`live` with what `config` sets."""
    if config is None or place is None or place.atomic:
        return config
    if isinstance(live, dict) and isinstance(config, dict) and place.type in ("object", "map"):
        return live | {
            key: _merged(live[key], value, _field(place, key)) if key in live else value for key, value in config.items()
        }
    if isinstance(live, list) and isinstance(config, list) and place.type == "array" and place.list_type in ("map", "set"):
        there, wanted = ownership.children(live, place), ownership.children(config, place)
        if there is not None and wanted is not None:
            values = {step: value for step, value, _ in there}
            for step, value, field in wanted:
                values[step] = _merged(values[step], value, field) if step in values else value
            steps = patch.ordered(list(values), [step for step, _, _ in wanted])
            return [values[step] for step in steps]
    return config


def _field(place: Field, key: str) -> Field | None:
    found = ownership.children({key: ""}, place)
    return found[0][2] if found else None


def _prune(value: Any, place: Field | None, unwanted: Fields, held: set[Path], path: Path = ()) -> None:
    """Take away the fields that the applier set before and sets no more, unless somebody else holds them."""
    for step, child, below in ownership.children(value, place) or ():
        deeper = (*path, step)
        if deeper in unwanted and deeper not in held:
            if isinstance(value, dict):
                del value[step[2:]]
            else:
                value.remove(child)
            continue
        full = bool(child)
        _prune(child, below, unwanted, held, deeper)
        if full and not child and isinstance(child, dict | list) and deeper not in held and isinstance(value, dict):
            del value[step[2:]]


def _conflict(conflicts: list[tuple[Manager, Path]]) -> api_errors.ApiError:
    causes = [
        {"reason": "FieldManagerConflict", "message": f"conflict with {manager}", "field": ownership.spelled(path)}
        for manager, path in conflicts
    ]
    if len(conflicts) == 1:
        ((manager, path),) = conflicts
        conflict = f"conflict with {manager}: {ownership.spelled(path)}"
        return api_errors.apply_conflict(f"Apply failed with 1 conflict: {conflict}", causes)
    lines = []
    for name in sorted({str(manager) for manager, _ in conflicts}):
        lines.append(f"conflicts with {name}:")
        lines += [f"- {ownership.spelled(path)}" for manager, path in conflicts if str(manager) == name]
    return api_errors.apply_conflict(f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines), causes)
