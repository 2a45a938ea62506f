"""Who shares which namespace with whom: the facts behind the namespace matrix, without a picture.

Nothing here shows a pid or an inode number; they are only compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labkit.kernel import NAMESPACE_TYPES

if TYPE_CHECKING:
    from labkit.cri.pods import PodSnapshot


NODE_SIDE = frozenset({"host", "kubelet", "containerd", "shim", "runc", "cni"})
"""Roles of processes that work for a Pod but are not in it."""

WHOLE, EACH, OWN, HOST = "one for the whole Pod", "one each", "its own", "the host's"
PINNED, MIXED, NONE = "bind mount alone", "shared by some", ""
"""Patterns of one namespace type in one Pod; the words stand under the columns."""


@dataclass(frozen=True)
class MatrixRow:
    """Processes of one container (or the pause, or the shim) that are in the same namespaces."""

    name: str
    role: str
    namespaces: Mapping[str, int]
    pids: tuple[int, ...]
    tail: str = ""
    """The end of the name that tells this row from others of its container: " (ended)", " exec". It is never cut."""


@dataclass(frozen=True)
class Group:
    """One namespace of a Pod: the names of the rows in it, whether it is the host's, whether a bind mount holds it."""

    type: str
    inode: int
    members: tuple[str, ...]
    host: bool
    pinned: bool


def rows(pod: PodSnapshot) -> tuple[MatrixRow, ...]:
    """The Pod's rows, in the order of its processes; each has a name of its own."""
    found: dict[tuple[object, ...], list[int]] = {}
    names: dict[tuple[object, ...], tuple[str, str]] = {}
    parts: dict[str, tuple[str, Mapping[str, int]]] = {}
    for process in pod.processes:
        head = process.role if process.role in ("pause", "shim") else process.container or process.comm
        tail = " exec" if process.role == "exec" else ""
        tail += f" ({process.ended})" if process.ended else ""
        plain = head + tail
        key = (plain, process.role, tuple(sorted(process.namespaces.items())))
        if key not in names:
            name = plain if plain not in parts else f"{plain}: {process.comm}"
            number = 2
            while name in parts:
                name, number = f"{plain}: {process.comm} {number}", number + 1
            names[key] = (name, name.removeprefix(head))
            parts[name] = (process.role, process.namespaces)
        found.setdefault(key, []).append(process.pid)
    return tuple(MatrixRow(names[key][0], *parts[names[key][0]], tuple(pids), names[key][1]) for key, pids in found.items())


def host_of(pods: Iterable[PodSnapshot], host: Mapping[str, int] | None) -> Mapping[str, int]:
    """The host's namespaces: as given, else those of the first shim, which the runtime leaves in the host's; else none."""
    if host is not None:
        return host
    return next((p.namespaces for pod in pods for p in pod.processes if p.role == "shim"), {})


def told_apart(before: Iterable[PodSnapshot], after: Sequence[PodSnapshot], host: Mapping[str, int]) -> list[PodSnapshot]:
    """The later Pods, with another number for each namespace that only has the number of an earlier one.

    The kernel gives the number of a namespace that is gone to the next one, often at once. It is the same namespace only if
    something held it all the time: a process that is there both times, a bind mount that is there both times, or the host.
    """
    earlier = {holding for pod in before for holding in _holdings(pod)}
    kept = {(kind, inode) for pod in after for kind, inode, holder in _holdings(pod) if (kind, inode, holder) in earlier}
    kept |= set(host.items())
    used = {(kind, inode) for kind, inode, _ in earlier}

    def number(kind: str, inode: int) -> int:
        return -inode if (kind, inode) in used - kept else inode

    return [
        replace(
            pod,
            processes=tuple(
                replace(p, namespaces={kind: number(kind, inode) for kind, inode in p.namespaces.items()}) for p in pod.processes
            ),
            pinned=tuple(replace(pin, inode=number(pin.type, pin.inode)) for pin in pod.pinned),
        )
        for pod in after
    ]


def _holdings(pod: PodSnapshot) -> Iterable[tuple[str, int, int | str]]:
    """(type, inode, pid or path) of everything that holds a namespace of the Pod."""
    for process in pod.processes:
        yield from ((kind, inode, process.pid) for kind, inode in process.namespaces.items())
    yield from ((pin.type, pin.inode, pin.path) for pin in pod.pinned)


def groups(pod: PodSnapshot, host: Mapping[str, int]) -> dict[str, tuple[Group, ...]]:
    """Every namespace of the Pod's processes (not of its shim), by type, in the order of their first members.

    Those that only a bind mount holds come last, without members.
    """
    pinned = {(each.type, each.inode) for each in pod.pinned}
    inside = [row for row in rows(pod) if row.role not in NODE_SIDE]
    result: dict[str, tuple[Group, ...]] = {}
    for kind in NAMESPACE_TYPES:
        members: dict[int, list[str]] = {}
        for row in inside:
            if kind in row.namespaces:
                members.setdefault(row.namespaces[kind], []).append(row.name)
        for _, inode in sorted(each for each in pinned if each[0] == kind):
            members.setdefault(inode, [])
        result[kind] = tuple(
            Group(kind, inode, tuple(who), inode == host.get(kind), (kind, inode) in pinned) for inode, who in members.items()
        )
    return result


def pattern(found: Sequence[Group]) -> str:
    """What the groups of one type in one Pod amount to: WHOLE, EACH, OWN, HOST, PINNED, MIXED or NONE."""
    lived = [group for group in found if group.members]
    if not lived:
        return PINNED if found else NONE
    if all(group.host for group in lived):
        return HOST
    if len(lived) == 1:
        return WHOLE if len(lived[0].members) > 1 else OWN
    return EACH if all(len(group.members) == 1 and not group.host for group in lived) else MIXED


def patterns(pod: PodSnapshot, host: Mapping[str, int]) -> dict[str, str]:
    """The pattern of each type of namespace in one Pod."""
    return {kind: pattern(found) for kind, found in groups(pod, host).items()}


def describe(pod: PodSnapshot, host: Mapping[str, int]) -> str:
    """One Pod in words, without its name: "pause and web share net, ipc and uts; each has its own pid and mnt; …"."""
    found = groups(pod, host)
    clauses: list[tuple[int, str]] = []
    alike: dict[tuple[object, ...], list[str]] = {}
    for kind, all_of_kind in found.items():
        alike.setdefault(tuple((g.members, g.host) for g in all_of_kind if g.members), []).append(kind)
    shared = any(pattern(all_of_kind) == WHOLE for all_of_kind in found.values())
    for shape, types in alike.items():
        if not shape:
            continue
        sample = [group for group in found[types[0]] if group.members]
        kinds, kind = words(types), pattern(sample)
        everyone = [name for group in sample for name in group.members]
        if kind == WHOLE:
            clauses.append((0, f"{words(everyone)} share {kinds}"))
        elif kind == EACH:
            clauses.append((2, f"each has its own {kinds}" if shared else f"{words(everyone)} each have their own {kinds}"))
        elif kind == HOST:
            clauses.append((3, f"{kinds} {'is' if len(types) == 1 else 'are'} the host's"))
        else:
            clauses.append((1, ", ".join(_clause(group, kinds) for group in sample)))
    held = [kind for kind, all_of_kind in found.items() if any(group.pinned and group.members for group in all_of_kind)]
    alone = [kind for kind, all_of_kind in found.items() if any(group.pinned and not group.members for group in all_of_kind)]
    if not any(group.members for all_of_kind in found.values() for group in all_of_kind):
        clauses.append((0, "no process is left"))
    if held:
        clauses.append((4, f"a bind mount holds {words(held)} too"))
    if alone:
        clauses.append((5, f"a bind mount alone holds {'another ' if held else ''}{words(alone)}"))
    return "; ".join(clause for _, clause in sorted(clauses, key=lambda each: each[0]))


def words(items: Iterable[str], limit: int = 12) -> str:
    """A list in words: "a, b and c"; beyond `limit`, "a, b … and 7 more"."""
    names = list(items)
    if len(names) > limit:
        names = [*names[: limit - 1], f"{len(names) - limit + 1} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))


def _clause(group: Group, kinds: str) -> str:
    who = words(group.members)
    if group.host:
        return f"{who} {'uses' if len(group.members) == 1 else 'use'} the host's {kinds}"
    return f"{who} share {kinds}" if len(group.members) > 1 else f"{who} has its own {kinds}"
