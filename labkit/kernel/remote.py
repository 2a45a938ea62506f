"""The kernel of a node on which labkit can only run commands: a kind node, a small VM, any machine behind `ssh`.

Each question is one POSIX sh script, since a command through `docker exec` costs some 60 ms whatever it does. What it brings is
the text of /proc, read by the same parsers as here. The node needs sh, head, cat, stat and xargs, those of GNU or of busybox, and
no Python.

How one file is told from the next: many files go through one `head`, which marks no borders, and a border that is made of text
could be in the data too. So the shell renames itself (man 5 proc, /proc/PID/comm) to a name that the kernel's random/uuid made
up, and has its own comm read between two files. That needs no temporary file; a file that is gone leaves its place empty; and
nobody can know the name beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from labkit.kernel.cgroup import CORE_PREFIX, Cgroup, cgroup_directories, cgroup_mounts, parse_procs
from labkit.kernel.model import NAMESPACE_TYPES, Interface, Mount, Process, Snapshot
from labkit.kernel.parse import (
    parse_cgroup,
    parse_ip_address,
    parse_mountinfo,
    parse_namespace_link,
    parse_process,
    parse_unix_sockets,
)
from labkit.kernel.processes import Held
from labkit.kernel.snapshot import assemble

Run = Callable[[Sequence[str]], bytes | str]
"""Runs a command on the node and returns its standard output; raises what it likes where that is impossible."""

_PACKAGES = {"xargs": "findutils", "nsenter": "util-linux", "ip": "iproute2", "ip of iproute2": "iproute2"}


class RemoteKernel:
    """The kernel of a node that can be reached by commands only; the same questions as LocalKernel's, the same answers.

    run: runs a command there, as root if all is to be seen, and returns what it writes: bytes (best, since arguments of processes
    are any bytes), or text decoded as UTF-8 with "surrogateescape" and no line break translated. What it raises comes through.
    pids and paths are those that such a command sees. All methods raise OSError with a sentence where the node lacks a program.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def snapshot(self, fds: bool = True, programs: bool = True) -> Snapshot:
        """Everything the node's kernel shows, by one command, which leaves itself out.

        fds: as in LocalKernel.snapshot; programs are always looked at. Not looked for, unlike there: bind mounts of namespaces
        that only another mount namespace than the node's has. at_ns: the node's CLOCK_MONOTONIC where /proc/timer_list tells it
        (root), else from /proc/uptime, which counts in steps of 10 ms, and suspended time too.
        """
        token, (clock, mountinfo, links, *files) = self._ask(_SNAPSHOT, "fds" if fds else "")
        held: list[Held] = []
        namespaces: dict[str, dict[str, int]] = {}
        exes: dict[str, str] = {}
        for (pid, *place), target in _links(links, token):
            if place[0] == "exe":
                exes[pid] = target
            elif place[0] == "ns":
                namespaces.setdefault(pid, {})[place[1]] = parse_namespace_link(target)[1]
            elif target.partition(":[")[0] in NAMESPACE_TYPES:
                held.append((*parse_namespace_link(target), int(pid), int(place[1])))
        return assemble(_ns(clock), _processes(files, namespaces, exes), parse_mountinfo(mountinfo), fds=held)

    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of the node, those that a command there sees."""
        return parse_mountinfo(self._ask(_MOUNTS)[1][0])

    def interfaces(self, where: int | str) -> tuple[Interface, ...]:
        """The network interfaces of a process's network namespace, or of one bind-mounted at a path of the node. By index.

        The node needs nsenter (util-linux or busybox) and ip (iproute2). Raises ProcessLookupError, FileNotFoundError,
        PermissionError or OSError with a sentence that says what to do.
        """
        answer = self._ask(_INTERFACES, f"/proc/{where}/ns/net" if isinstance(where, int) else where)[1]
        if len(answer) == 1 and answer[0]:
            return tuple(sorted(parse_ip_address(answer[0]), key=lambda interface: interface.index))
        if len(answer) == 1 and isinstance(where, int):
            raise ProcessLookupError(
                f"The node shows no process {where}, or only its remains (a zombie). Take a new snapshot, as root of the node."
            )
        if len(answer) == 1:
            raise FileNotFoundError(f"The node has no {where}. Use a path that Snapshot.namespaces[…].mounts names.")
        reason = answer[-1].strip().partition("\n")[0]
        if "not permitted" in reason or "denied" in reason:
            raise PermissionError(f"The network namespace of {where} may not be entered on the node ({reason}). Be root there.")
        raise OSError(f"The interfaces of {where} could not be listed on the node ({reason}). Use a namespace of type net.")

    def cgroup_mounts(self) -> dict[str, Mount]:
        """Controller list as in Process.cgroups ("" for v2) -> where that hierarchy is mounted on the node."""
        return cgroup_mounts(self.mounts())

    def cgroups(self, pid: int) -> tuple[Cgroup, ...]:
        """The cgroup of a process in each hierarchy, by two commands; each read() and files() of one is another command. Raises
        ProcessLookupError where there is no such process."""
        cgroup, mountinfo = self._ask(_CGROUPS, str(pid))[1]
        if not cgroup:
            raise ProcessLookupError(f"There is no process {pid} on the node. It may have ended: take a new snapshot.")
        paths = parse_cgroup(cgroup)
        directories = cgroup_directories(paths, parse_mountinfo(mountinfo))
        texts = self._files("cgroup.procs", directories.values())
        cgroups = []
        for controllers, directory in directories.items():
            # Every cgroup has this file; where it is not, the directory is gone.
            directory = directory if texts.get(directory) else ""
            procs = texts[directory]["cgroup.procs"] if directory else ""
            pids = () if _is_error(procs) else parse_procs(procs)
            cgroups.append(_RemoteCgroup(controllers, paths[controllers], directory, pids, self._files))
        return tuple(cgroups)

    def unix_listener(self, path: str) -> int | None:
        """The lowest pid that holds the listening Unix socket bound to `path` on the node; None where nobody listens, or it may
        not be seen (needs root)."""
        token, (sockets, links) = self._ask(_SOCKETS)
        inode = parse_unix_sockets(sockets).get(path)
        holders = (int(place[0]) for place, link in _links(links, token) if link == f"socket:[{inode}]")
        return min(holders, default=None)

    def _files(self, patterns: str, directories: Iterable[str]) -> dict[str, dict[str, str]]:
        """Directory -> file name -> text of every file whose name fits one of the shell's patterns; see _is_error."""
        wanted = [directory for directory in dict.fromkeys(directories) if directory]
        chunks = iter(self._ask(_FILES, patterns, *wanted)[1] if wanted else ())
        return {directory: {name: next(chunks).removesuffix("\n") for name in next(chunks).split()} for directory in wanted}

    def _ask(self, script: str, *arguments: str) -> tuple[str, list[str]]:
        answer = self._run(("sh", "-c", script, "labkit", *arguments))
        text = answer.decode(errors="surrogateescape") if isinstance(answer, bytes) else answer
        token, _, rest = text.partition("\n")
        if token.startswith("missing "):
            program = token.removeprefix("missing ")
            package = _PACKAGES.get(program, "coreutils")
            raise OSError(f"The node has no {program}, which labkit needs there. Install it on the node (Debian: {package}).")
        # The first that follows is the shell's comm: only where it is the token, too, does it part the files.
        before, *chunks = rest.split(f"{token}\n") if token else ["no token"]
        if before or not chunks or chunks.pop() != _END:
            raise OSError(
                f"The node did not send all of its /proc (the answer begins with {text[:40]!r}, and ends with {text[-40:]!r}). "
                "Try again, and see that /proc is mounted there, and writable."
            )
        return token, chunks


@dataclass(frozen=True)
class _RemoteCgroup(Cgroup):
    """A Cgroup whose files are on the node. ask: RemoteKernel._files."""

    ask: Callable[[str, Iterable[str]], dict[str, dict[str, str]]] = field(repr=False, compare=False)

    def read(self, file: str) -> str:
        texts = self.ask(f"*.* {file}", [self.directory]).get(self.directory, {})
        if file not in texts:
            raise self.without(file, texts)
        if _is_error(texts[file]):
            raise OSError(f"{file} of cgroup {self.path} cannot be read on the node ({texts[file].removeprefix('cat: ')}).")
        return texts[file]

    def files(self) -> dict[str, str]:
        return _of_controllers(self.ask("*.*", [self.directory]).get(self.directory, {}))


def _of_controllers(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: texts[name] for name in sorted(texts) if not name.startswith(CORE_PREFIX) and not _is_error(texts[name])}


def _is_error(text: str) -> bool:
    """Whether it is what cat says of a file that it cannot read (write-only, or of a feature that is off)."""
    return text.startswith("cat: ")


def _ns(clock: str) -> int:
    now, _, uptime = clock.partition(" ")
    return int(now) if now else int(float(uptime) * 1e9)


def _links(text: str, token: str) -> Iterator[tuple[list[str], str]]:
    """(["1", "ns", "net"], "net:[4026531840]") of each line of the script's `stat`; those that could not be read are left out."""
    for record in text.split(f"{token} ")[1:]:
        name, arrow, target = record.removesuffix("\n").partition(" -> ")
        if arrow:
            # busybox puts both into quotes, always; GNU neither, as it is told to.
            quoted = name.startswith("'")
            yield name.strip("'").split("/"), target[1:-1] if quoted else target


def _processes(
    files: Sequence[str], namespaces: Mapping[str, Mapping[str, int]], programs: Mapping[str, str]
) -> Iterator[Process]:
    """files: stat, status, cmdline, cgroup of each process in turn."""
    cgroups: dict[str, Mapping[str, str]] = {}
    for stat, status, cmdline, cgroup in zip(*[iter(files)] * 4, strict=True):
        # cgroup was read last: the process existed while all else was.
        if stat and status and cgroup:
            if cgroup not in cgroups:
                cgroups[cgroup] = MappingProxyType(parse_cgroup(cgroup))
            pid = stat.partition(" ")[0]
            yield parse_process(stat, status, cgroups[cgroup], cmdline, namespaces.get(pid, {}), programs.get(pid, ""))


# The scripts. `read`, `printf`, `echo` and patterns are the shell's own work: no helper of it is in the list of processes.

_END = "end\n"


def _script(programs: str, body: str) -> str:
    return f"""
exec 2>/dev/null
export LC_ALL=C QUOTING_STYLE=literal
for program in head {programs}; do
  command -v "$program" >&2 || {{ echo "missing $program"; exit 0; }}
  [ "$program" = ip ] && case $(ip -V 2>&1) in *iproute2*) ;; *) echo "missing ip of iproute2"; exit 0;; esac
done
whole() {{ head -q -c 99999999 "$@"; }}
next() {{ echo "$token"; }}
token= now= uptime=
cd /proc
read -r token <sys/kernel/random/uuid
token=${{token%-*-*-*}}
printf %s "$token" >$$/comm
next
whole $$/comm
{body}
echo end
"""


_MOUNTS = _script("", "whole self/mountinfo; next")

_CGROUPS = _script("", 'whole "$1/cgroup"; next; whole self/mountinfo; next')

# Namespaces before stat, so that a process which has given them up is known to be a zombie.
_SNAPSHOT = _script("stat xargs", f"""
fds=$1
set -- [0-9]*
{{ read -r _; read -r _; read -r _ _ now _; }} <timer_list
read -r uptime _ <uptime
echo "$now $uptime"; next
whole self/mountinfo; next
for pid; do
  [ "$pid" = $$ ] && continue
  echo {" ".join(f"$pid/ns/{type}" for type in NAMESPACE_TYPES)} "$pid/exe"
  [ "$fds" ] && echo "$pid"/fd/*
done | xargs stat -c "$token %N"; next
for pid; do
  [ "$pid" = $$ ] || echo "$pid/stat $$/comm $pid/status $$/comm $pid/cmdline $$/comm $pid/cgroup $$/comm"
done | xargs head -q -c 99999999
""")

_SOCKETS = _script("stat xargs", """
whole net/unix; next
for pid in [0-9]*; do echo "$pid"/fd/*; done | xargs stat -c "$token %N"; next
""")

_INTERFACES = _script("nsenter ip", """
if [ -e "$1" ]; then
  nsenter --net="$1" ip -j -d address || { next; nsenter --net="$1" ip -j -d address 2>&1; }
fi
next
""")

_FILES = _script("cat", """
patterns=$1; shift
for directory; do
  names= paths=
  cd "$directory" && for file in $patterns; do
    [ -f "$file" ] && names="$names $file" paths="$paths $file /proc/$$/comm"
  done
  echo "$names"; next
  [ "$names" ] && cat $paths 2>&1
done
""")
