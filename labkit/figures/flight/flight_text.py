"""What a flight timeline says in words: its title, and the alternative text that names every call, role and process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from labkit.figures.flight.rows import Family, in_order, is_asking
from labkit.figures.namespaces.groups import words
from labkit.figures.pods.process_tree import natural
from labkit.recording.flight.stages import brief

if TYPE_CHECKING:
    from labkit.recording.flight import Call, Flight, FlightProcess

NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
SIGNALS = {1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 6: "SIGABRT", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 15: "SIGTERM"}
LONGEST = 40
"""So many lines of calls a Pod."""
CAMEL_CASE = re.compile(r"[A-Z][a-z]+[A-Z]")
EXACT = ("proc-connector", "tracefs")
SOURCES = {"poll": "polling /proc", "proc-connector": "the proc connector", "tracefs": "tracefs", "log": "containerd's log"}


def count(number: int, noun: str, many: str = "") -> str:
    """ "six calls", "one call", "19 processes"."""
    numeral = NUMBERS[number] if number < len(NUMBERS) else str(number)
    return f"{numeral} {noun if number == 1 else many or noun + 's'}"


def capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def ending(process: FlightProcess) -> str:
    """How a process ended where that is worth a word: "exit 1", "SIGKILL", else ""."""
    if process.signal:
        return SIGNALS.get(process.signal, f"signal {process.signal}")
    return f"exit {process.exit_code}" if process.exit_code else ""


def precision(flight: Flight) -> str:
    """What the figure must say of its own precision; "" where calls and processes are exact and complete."""
    sentences = []
    if not flight.source and flight.calls:
        sentences.append("No process events: only the calls were recorded")
    elif flight.source not in EXACT and flight.processes:
        source = SOURCES.get(flight.source, flight.source or "an unknown source")
        sentences.append(f"Recorded by {source}" + (f": {flight.precision}" if flight.precision else ""))
    if any(call.source == "log" for call in flight.calls):
        sentences.append("Calls read from containerd's log")
    if flight.lost and not any("dropped" in note for note in flight.notes):
        sentences.append(f"{flight.lost} events lost" if flight.lost > 1 else "1 event lost")
    sentences += [note.rstrip(".") for note in flight.notes]
    return "; ".join(sentences)


def headline(family: Family, processes: Sequence[FlightProcess], calls: Sequence[Call], brief: bool = False) -> str:
    """The title: how many calls did what, how many processes started for it, how many stay.

    `brief`: without the number of those that started, of which a poll misses some, and some versions of a runtime need more.
    """
    acting = [call for call in calls if not is_asking(call)]
    born = [p for p in processes if p.from_ns is not None and (p.call is not None or not calls)]
    if not calls and not processes:
        return "Nothing was recorded: no call and no process"
    if not calls:
        started = f"{capital(count(len(born), 'process', 'processes'))} without a recorded call; {_stay(born)}"
        return started if brief else _without_calls(processes, born)
    subject = count(len(acting or calls), "call")
    verb = f"{_deed(acting, len(acting or calls) == 1)}" if acting else "only ask" + ("s" if len(calls) == 1 else "")
    if len({call.method for call in acting}) == 1:
        subject = f"{count(len(acting), acting[0].method + ' call')}" if len(acting) > 1 else acting[0].method
    results = [_born(born)]
    ended = _ended(family, processes, calls)
    if brief:
        results = [] if ended and all(p.to_ns is not None for p in born) else [_staying(born)]
    if ended:
        noun = ("process" if len(ended) == 1 else "processes") if not results else "one" if len(ended) == 1 else "ones"
        results.append(f"{len(ended)} older {noun} {'ends' if len(ended) == 1 else 'end'}")
    return capital(f"{subject} {verb}; {'; '.join(results)}" if verb else f"{subject}: {'; '.join(results)}")


def _without_calls(processes: Sequence[FlightProcess], born: Sequence[FlightProcess]) -> str:
    """Every process counts: those that began, and the older ones that ended or live on."""
    ended = sum(p.from_ns is None and p.to_ns is not None for p in processes)
    living = sum(p.from_ns is None and p.to_ns is None for p in processes)
    clauses = [f"Without a recorded call {count(len(born), 'process starts', 'processes start')}, {_stay(born)}" if born else ""]
    clauses.append(f"{ended} older {'one ends' if ended == 1 else 'ones end'}" if ended else "")
    clauses.append(f"{living} older {'one lives on' if living == 1 else 'ones live on'}" if living else "")
    return capital("; ".join(filter(None, clauses)))


def _ended(family: Family, processes: Sequence[FlightProcess], calls: Sequence[Call]) -> list[FlightProcess]:
    """What lived before, belongs to a Pod that the calls are about, and ended."""
    ours = {call.pod for call in calls if not is_asking(call)} | {None}
    return [p for p in processes if p.from_ns is None and p.to_ns is not None and family.pod(p) in ours]


def _numeral(number: int) -> str:
    return "no" if number == 0 else str(number)


def _born(born: Sequence[FlightProcess]) -> str:
    if not born:
        return "no process starts"
    start = "1 process starts" if len(born) == 1 else f"{len(born)} processes start"
    if any(p.to_ns is None for p in born):
        return f"{start}, {_stay(born)}"
    return start + (" and ends" if len(born) == 1 else " and end")


def _stay(born: Sequence[FlightProcess]) -> str:
    staying = sum(p.to_ns is None for p in born)
    return "none stays" if not staying else "1 stays" if staying == 1 else f"{staying} stay"


def _staying(born: Sequence[FlightProcess]) -> str:
    staying = sum(p.to_ns is None for p in born)
    return f"{_numeral(staying)} {'process stays' if staying == 1 else 'processes stay' if staying else 'process stays'}"


def _deed(acting: Sequence[Call], single: bool) -> str:
    """What the calls do, from their methods: "start a Pod of two containers", "end 40 Pods"; "" where they do several things."""
    methods = [call.method for call in acting]
    deeds = {"RunPodSandbox": "start", "StopPodSandbox": "end", "RemovePodSandbox": "end"}
    verbs = list(dict.fromkeys(deeds[method] for method in methods if method in deeds))
    if not verbs:
        return ""
    verb = " and ".join(f"{each}s" if single else each for each in verbs)
    named = "RunPodSandbox" if "start" in verbs else "StopPodSandbox" if "StopPodSandbox" in methods else "RemovePodSandbox"
    pods = max(1, len({call.pod for call in acting if call.method == named and call.pod}))
    inside = {(c.pod, c.container) for c in acting if c.container and c.method != "ExecSync"}
    of = ""
    if inside and len(inside) % pods == 0:
        each = len(inside) // pods
        of = f" of {count(each, 'container')}" + (" each" if pods > 1 else "")
    return f"{verb} {'a Pod' if pods == 1 else f'{pods} Pods'}{of}"


def alternative_text(flight: Flight, family: Family, processes: Sequence[FlightProcess], calls: Sequence[int], title: str) -> str:
    """The figure in words: what it is about, then each Pod's calls in order, each with the processes that it left behind, and
    after "On the way:" those that lived for a moment, each after its parent. Pods of which this is the same are told once.

    No pid and no time. What comes before "On the way:" is the same for every source of events and every version of a runtime.
    """
    lines = [f"Flight timeline: {title if CAMEL_CASE.match(title) else title[:1].lower() + title[1:]}."]
    how_exact = precision(flight).rstrip(".")
    if how_exact:
        lines[0] += f" {how_exact}."
    chosen = {id(p) for p in processes}
    pods: dict[str, list[str]] = {}
    members: dict[int, list[FlightProcess]] = {}
    for process in processes:
        if process.call is not None and process.from_ns is not None:
            members.setdefault(process.call, []).append(process)
    asked: dict[str, int] = {}
    names = {flight.calls[index].pod for index in calls} - {None, ""}
    alone = next(iter(names)) if len(names) == 1 else ""  # one Pod: what names none, as PullImage may, is part of its story
    for index in calls:
        call = flight.calls[index]
        if is_asking(call) and index not in members and call.code in ("", "OK"):
            asked[call.method] = asked.get(call.method, 0) + 1
        else:
            pods.setdefault(call.pod or alone or "", []).append(_sentence(call, family, members.get(index, []), chosen))
    alike: dict[tuple[str, ...], list[str]] = {}
    for pod, sentences in sorted(pods.items(), key=lambda each: natural(each[0])):
        alike.setdefault(tuple(s.replace(pod, "…") if pod else s for s in sentences), []).append(pod)
    for same in alike.values():
        heading = [] if same == [""] else [f"Pod{'s' * (len(same) > 1)} {words(same)}:"]
        lines += heading + list(_numbered(pods[same[0]]))
    if asked:
        lines.append(f"Only asking: {words(f'{m} × {n}' if n > 1 else m for m, n in sorted(asked.items()))}.")
    lines += _others(flight, family, processes)
    return "\n".join(lines)


def _numbered(sentences: Sequence[str]) -> Iterable[str]:
    """The sentences with their numbers; runs of the same as one; of more than LONGEST runs the last are counted."""
    number, runs = 1, 0
    for sentence, run in groupby(sentences):
        many = len(list(run))
        if runs == LONGEST:
            yield f"and {len(sentences) - number + 1} more calls."
            return
        yield f"{number}. {sentence}" if many == 1 else f"{number}.–{number + many - 1}. {many} × {sentence}"
        number, runs = number + many, runs + 1


def _others(flight: Flight, family: Family, processes: Sequence[FlightProcess]) -> Iterable[str]:
    alone = [p for p in processes if p.call is None and p.from_ns is not None]
    ended = [p for p in processes if p.from_ns is None and p.to_ns is not None]
    if alone:
        yield f"Caused by no recorded call: {words(_counted(_named(p) for p in family.within(alone)), 30)}."
    if ended:
        by_pod = sorted(in_order(ended), key=lambda p: (natural(family.pod(p) or ""), p.role == "shim"))
        yield f"Alive before, ended here: {words(_counted(_named(p) for p in by_pod), 30)}."


def _counted(names: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [name if number == 1 else f"{number} × {name}" for name, number in counts.items()]


def _sentence(call: Call, family: Family, members: Sequence[FlightProcess], chosen: set[int]) -> str:
    name = f"{call.method} {call.container}" if call.container else call.method
    name += f" ({call.code})" if call.code not in ("", "OK") else ""
    ordered = family.within(members)
    left = [_named(p) for p in ordered if p.to_ns is None]
    verb = "stay" if len(left) > 1 else "stays"
    steps = []
    for process in ordered:
        parent = family.parent(process)
        then = family.origin(process)
        origin = f"{brief(then.name)} → " if then is not None and id(parent) in chosen else ""
        steps.append(f"{origin}{_named(process)}")
    rest = words(_counted(left)) if left else "no process"
    return f"{name}: {rest} {verb}. On the way: {'; '.join(_counted(steps)) or 'none'}."


def _named(process: FlightProcess) -> str:
    name = brief(process.name)
    text = name if process.role in name.split() else f"{name} ({process.role})"
    return text + (f" {'by' if process.signal else 'with'} {ending(process)}" if ending(process) else "")
