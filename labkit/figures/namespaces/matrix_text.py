"""What the namespace matrix says in words: its title, its alternative text, and what changed between two moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labkit.figures.namespaces import groups as ng
from labkit.figures.namespaces.groups import words
from labkit.kernel import NAMESPACE_TYPES

if TYPE_CHECKING:
    from labkit.cri.pods import PodSnapshot


@dataclass(frozen=True)
class PodChange:
    """What became of one Pod: types whose namespaces are all the same and all new, and of its processes by name.

    `renewed` maps a process that was there before to the types in which it now has another namespace.
    """

    pod: str
    same: tuple[str, ...]
    new: tuple[str, ...]
    same_processes: tuple[str, ...]
    new_processes: tuple[str, ...]
    added: tuple[str, ...]
    gone: tuple[str, ...]
    renewed: Mapping[str, tuple[str, ...]]
    same_address: bool | None
    """None where one of the two moments has no address."""


def pod_key(pod: PodSnapshot) -> tuple[str, str]:
    """What stays when a Pod's sandbox is made anew: namespace and name."""
    return pod.namespace, pod.name


def heading(pods: Sequence[PodSnapshot]) -> str:
    """The address of a Pod and its state, at one moment or from one to the next; not that it is ready all the time."""
    facts = [" → ".join(dict.fromkeys(filter(None, each))) for each in ([p.ip for p in pods], [p.state for p in pods])]
    return ", ".join(fact for fact in facts if fact not in ("", "Ready"))


def change(before: PodSnapshot, after: PodSnapshot, host: Mapping[str, int]) -> PodChange:
    """Compare one Pod at two moments; the shim is left out."""
    then, now = ({row.name: row for row in ng.rows(pod) if row.role not in ng.NODE_SIDE} for pod in (before, after))
    inodes = [
        {kind: {g.inode for g in found if not g.host} for kind, found in ng.groups(pod, host).items()} for pod in (before, after)
    ]
    both = [name for name in then if name in now]
    renewed = {
        name: tuple(t for t in NAMESPACE_TYPES if then[name].namespaces.get(t) != now[name].namespaces.get(t)) for name in both
    }
    return PodChange(
        pod=after.name,
        same=tuple(t for t in NAMESPACE_TYPES if inodes[0][t] and inodes[0][t] == inodes[1][t]),
        new=tuple(t for t in NAMESPACE_TYPES if inodes[0][t] and inodes[1][t] and not inodes[0][t] & inodes[1][t]),
        same_processes=tuple(name for name in both if then[name].pids == now[name].pids),
        new_processes=tuple(name for name in both if then[name].pids != now[name].pids),
        added=tuple(name for name in now if name not in then),
        gone=tuple(name for name in then if name not in now),
        renewed={name: types for name, types in renewed.items() if types},
        same_address=before.ip == after.ip if before.ip and after.ip else None,
    )


def changes(
    before: Sequence[PodSnapshot], after: Sequence[PodSnapshot], host: Mapping[str, int]
) -> tuple[list[PodChange], list[str], list[str]]:
    """(changes of the Pods that are in both, names of Pods gone, names of Pods added)."""
    earlier, later = ({pod_key(pod): pod for pod in pods} for pods in (before, after))
    stayed = [change(earlier[key], later[key], host) for key in earlier if key in later]
    return stayed, [p.name for k, p in earlier.items() if k not in later], [p.name for k, p in later.items() if k not in earlier]


def alternative_text(pods: Sequence[PodSnapshot], host: Mapping[str, int], after: Sequence[PodSnapshot] | None = None) -> str:
    """The whole matrix in words, a line a Pod; Pods of the same pattern share a line. With `after`, what changed comes first."""
    if after is None:
        return "\n".join(_lines(pods, host)) or "Namespaces: there is no Pod."
    stayed, gone, added = changes(pods, after, host)
    lines = [f"Pod {each.pod}, before and after: {_told(each)}." for each in stayed]
    lines += [f"Pod {name} is gone." for name in gone] + [f"Pod {name} is new." for name in added]
    then, now = _lines(pods, host), _lines(after, host)
    for when, these in (
        ("before and after", [line for line in then if line in now]),
        ("before", [line for line in then if line not in now]),
        ("after", [line for line in now if line not in then]),
    ):
        lines += [line.replace("Namespaces", f"Namespaces {when}", 1) for line in these]
    return "\n".join(lines) or "Namespaces: there is no Pod."


def title(pods: Sequence[PodSnapshot], host: Mapping[str, int], after: Sequence[PodSnapshot] | None = None) -> str:
    """What is to be seen, in one sentence without a full stop."""
    if after is not None:
        stayed, gone, added = changes(pods, after, host)
        moved = [each for each in stayed if each.new_processes or each.added or each.gone or each.new or each.renewed]
        parts = [f"Pod {each.pod}: {_told(each, brief=True)}" for each in moved]
        parts += [f"Pod {words(gone)} gone"] * bool(gone) + [f"Pod {words(added)} new"] * bool(added)
        if not parts:
            return "Nothing changed"
        return ". ".join(parts[:2]) + (f". {len(parts) - 2} more changed" if len(parts) > 2 else "")
    if not pods:
        return "There is no Pod"
    if len(pods) == 1:
        clauses = ng.describe(pods[0], host).split("; ")
        return f"Pod {pods[0].name}: {'; '.join(clauses if len(clauses) < 2 or 'no process' in clauses[0] else clauses[:1])}"
    return _title_of_many(pods, host)


def _title_of_many(pods: Sequence[PodSnapshot], host: Mapping[str, int]) -> str:
    found = [ng.patterns(pod, host) for pod in pods]
    patterns = {t: [each[t] for each in found] for t in NAMESPACE_TYPES}
    usual = [t for t in NAMESPACE_TYPES if sum(p in (ng.WHOLE, ng.OWN, ng.PINNED) for p in patterns[t]) * 2 > len(pods)]
    exceptions = []
    for wanted, verbs, tail in ((ng.HOST, ("uses the host's", "use the host's"), ""), (ng.WHOLE, ("shares", "share"), " too")):
        odd: dict[tuple[str, ...], list[str]] = {}
        for t in NAMESPACE_TYPES:
            who = tuple(pod.name for pod, p in zip(pods, patterns[t], strict=True) if p == wanted)
            if who and (t in usual) == (wanted == ng.HOST):
                odd.setdefault(who, []).append(t)
        for who, types in odd.items():
            subject = f"Pod {who[0]} {verbs[0]}" if len(who) == 1 else f"{len(who)} Pods {verbs[1]}"
            exceptions.append(f"{subject} {words(types)}{tail}")
    rule, link = (f"Each of {len(pods)} Pods has its own {words(usual)}", ", but ") if usual else (f"{len(pods)} Pods", ": ")
    return link.join(filter(None, [rule, "; ".join(exceptions)]))


def _told(each: PodChange, brief: bool = False) -> str:
    clauses = []
    if each.same:
        clauses.append(f"the {words(each.same)} {_noun(each.same)} the same")
    if each.new:
        clauses.append(f"the {words(each.new)} {_noun(each.new)} new")
    fresh: dict[tuple[str, ...], list[str]] = {}
    for name in each.new_processes:
        fresh.setdefault(tuple(t for t in each.renewed.get(name, ()) if t not in each.new), []).append(name)
    for types, names in fresh.items():
        tail = f" with a new {words(types)}" if types and not brief else ""
        clauses.append(f"{words(names)} {'is a new process' if len(names) == 1 else 'are new processes'}{tail}")
    for name, types in each.renewed.items():
        if name in each.same_processes:
            clauses.append(f"{name} moved to another {words(types)}")
    clauses += [f"{words(each.added)} {_be(each.added)} added"] * bool(each.added)
    clauses += [f"{words(each.gone)} {_be(each.gone)} gone"] * bool(each.gone)
    if not brief:
        if each.same_processes:
            noun = "process" if len(each.same_processes) == 1 else "processes"
            clauses.append(f"{words(each.same_processes)} {_be(each.same_processes)} the same {noun}")
        if each.same_address is not None:
            clauses.append(f"the Pod's IP address is {'the same' if each.same_address else 'another'}")
    return "; ".join(clauses) or "no process before or after"


def _noun(types: Sequence[str]) -> str:
    return f"namespace{'s' if len(types) > 1 else ''} {_be(types)}"


def _be(things: Sequence[str]) -> str:
    return "is" if len(things) == 1 else "are"


def _lines(pods: Sequence[PodSnapshot], host: Mapping[str, int]) -> list[str]:
    alike: dict[tuple[str, str], list[str]] = {}
    for pod in pods:
        alike.setdefault(("" if pod.state == "Ready" else f" ({pod.state})", ng.describe(pod, host)), []).append(pod.name)
    lines = []
    for (state, sharing), names in alike.items():
        whose = f"Pod {names[0]}{state}" if len(names) == 1 else f"Pods {words(names)}{state}, in each"
        lines.append(f"Namespaces of {whose}: {sharing}.")
    return lines + _across(pods, host)


def _across(pods: Sequence[PodSnapshot], host: Mapping[str, int]) -> list[str]:
    """Namespaces other than the host's in which several Pods are: unusual, so worth a line."""
    where: dict[tuple[str, int], list[str]] = {}
    for pod in pods:
        for kind, found in ng.groups(pod, host).items():
            for group in found:
                if not group.host:
                    where.setdefault((kind, group.inode), []).append(pod.name)
    together: dict[tuple[str, ...], list[str]] = {}
    for (kind, _), names in where.items():
        if len(names) > 1:
            together.setdefault(tuple(names), []).append(kind)
    return [f"Namespaces across Pods: {words(names)} share {words(types)}." for names, types in together.items()]
