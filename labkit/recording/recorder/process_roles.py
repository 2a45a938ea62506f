"""Follows processes event by event, and decides which role each has.

Roles follow from the tree and the programs, never from times. A fork has its parent's role until it becomes another program:

- containerd: the runtime (also crio). kubelet is never below it, and so left out.
- cni: what the runtime execs with CNI_COMMAND in its environment or from a CNI directory (…/cni/…), and all below that.
- shim: containerd-shim-…, or conmon, which stands in its place with CRI-O.
- runc: runc or crun below runtime or shim, until the process becomes the program that it was made for.
- pause: that program where the container's id is the sandbox's; application otherwise; exec below `runc exec`. These keep their
  role, and give it to all that they fork, whatever they become.
- other: anything else below the runtime, for example an OCI hook: prestart, createRuntime and poststart are runc's own children,
  outside of the container's cgroup; createContainer and startContainer run inside of it, forked by what waits as `runc init` and
  becomes the application later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from labkit.cri.pods import CONTAINER_ID, RUNC
from labkit.kernel import Process
from labkit.kernel.events.stream import Event
from labkit.recording.flight import Exec
from labkit.recording.flight.stages import MAKING, is_runc_init, label, program_of, runc_verb
from labkit.recording.recorder.names import KnownCalls

RUNTIMES = ("containerd", "crio")
INSIDE = ("application", "exec")
CNI_PLUGINS = (
    "bridge",
    "loopback",
    "host-local",
    "portmap",
    "ptp",
    "firewall",
    "bandwidth",
    "tuning",
    "dhcp",
    "macvlan",
    "ipvlan",
)


@dataclass(eq=False)
class Tracked:
    """One process as it is followed. role "" is outside the runtime's tree; argv: of the program that it runs now; own_id: the
    sandbox or container that it names itself; id: that, or its parent's."""

    pid: int
    parent: Tracked | None
    ppid: int
    role: str = ""
    from_ns: int | None = None
    to_ns: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    argv: tuple[str, ...] = ()
    own_id: str = ""
    id: str = ""
    execs: list[Exec] = field(default_factory=list)
    touched: bool = False
    ns_pids: tuple[int, ...] = ()

    def number(self, depth: int) -> int:
        """Its pid in a pid namespace so many levels below the machine's; minus the machine's where that was not read in time."""
        if not depth:
            return self.pid
        return self.ns_pids[depth] if len(self.ns_pids) > depth else -self.pid

    def above(self) -> Iterator[Tracked]:
        """This process, its parent, and so on."""
        each: Tracked | None = self
        while each is not None:
            yield each
            each = each.parent


class Processes:
    """Follows processes event by event.

    before: those that were there when the recording began. runtime: the runtime's pid; None takes every containerd and crio.
    address: the runtime's socket; a shim that serves another one is left out, and whatever else is not this node's: what another
    pid namespace has (another kind node), and what the runtime does for others than CRI (Docker, ctr).
    """

    def __init__(self, before: Iterable[Process] = (), runtime: int | None = None, address: str = "") -> None:
        self.all: list[Tracked] = []
        self.sandboxes: set[str] = set()
        self._alive: dict[int, Tracked] = {}
        self._runtime_argv: tuple[str, ...] = ()
        self._address = address
        known = {each.pid: each for each in before}
        own = known.get(runtime or 0)
        self._program = own.comm if own else ""
        self._pid_namespace = own.namespaces.get("pid") if own else None
        self._outer = frozenset(CONTAINER_ID.findall(" ".join(own.cgroups.values()))) if own else frozenset()
        for pid in sorted(known):
            self._found(pid, known, runtime)

    def feed(self, event: Event) -> Tracked | None:
        """Take in the next event; the process that it is about."""
        if event.kind == "fork":
            parent = self._alive.get(event.ppid or 0)
            process = self._add(event.pid, parent, event.ppid or 0, from_ns=event.at_ns)
            if parent:
                process.role, process.argv, process.id = parent.role, parent.argv, parent.id
        elif event.kind == "exec":
            process = self._alive.get(event.pid) or self._add(event.pid, None, 0)
            process.execs.append(Exec(event.at_ns, event.argv))
            self._become(process, event)
        elif event.kind == "exit" and event.pid in self._alive:
            process = self._alive.pop(event.pid)
            process.to_ns, process.exit_code, process.signal = event.at_ns, event.exit_code, event.signal
        else:
            return self._alive.get(event.pid)
        process.touched = True
        process.ns_pids = event.ns_pids or process.ns_pids
        return process

    def role(self, process: Tracked, known: KnownCalls) -> str:
        """Its role. What is known of its id by now decides whether it is the pause or an application."""
        if process.role != "application":
            return process.role
        if process.id in known.containers:
            return "application"
        if process.id in known.sandboxes or process.id in self.sandboxes:
            return "pause"
        return "pause" if not process.id and program_of(process.argv) == "pause" else "application"

    def busy(self) -> bool:
        """Whether a command of runc, the shim or a CNI plugin is at work, or a container's process is between two programs."""
        return any((p.touched and p.role in ("runc", "cni")) or (p.role == "shim" and command(p)) for p in self._alive.values())

    def _add(self, pid: int, parent: Tracked | None, ppid: int, from_ns: int | None = None) -> Tracked:
        if (earlier := self._alive.get(pid)) and earlier.from_ns is not None and from_ns is not None:
            earlier.to_ns = from_ns  # its number is given again, so it has ended: that event was lost
        elif earlier and from_ns is not None:
            self.all.remove(earlier)  # the list of those before was read while this one began
        made = Tracked(pid, parent, ppid, from_ns=from_ns)
        self._alive[pid] = made
        self.all.append(made)
        return made

    def _found(self, pid: int, known: Mapping[int, Process], runtime: int | None) -> Tracked:
        """A process that was there before, its ancestors first."""
        if pid in self._alive:
            return self._alive[pid]
        found = known[pid]
        above = found.ppid if found.ppid in known and found.ppid != pid else None
        process = self._add(pid, None, found.ppid)
        parent = process.parent = self._found(above, known, runtime) if above else None
        argv = process.argv = found.cmdline or (found.comm,)
        process.ns_pids = found.ns_pids
        # The deepest: where the node is a container too, a hierarchy in which Pods have no cgroup names that container alone.
        id = self._cgroup_id(max(found.cgroups.values(), key=len, default=""))
        if pid == runtime or (runtime is None and found.comm in RUNTIMES):
            process.role, self._runtime_argv = "containerd", argv
        elif self._is_own_shim(argv, found.namespaces):
            process.role, process.id = "shim", _id(argv)
            self.sandboxes.add(process.id)
        elif parent and parent.role in ("shim", "runc"):
            inside = "exec" if runc_verb(parent.argv) == "exec" else "application"
            process.role = "runc" if found.comm.startswith(RUNC) else "other" if _waits(parent) else inside
            process.id = (_id(argv) if process.role == "runc" else "") or id or parent.id
        elif parent:
            process.role, process.id = ("" if parent.role == "containerd" else parent.role), parent.id
        return process

    def _is_own_shim(self, argv: tuple[str, ...], namespaces: Mapping[str, int]) -> bool:
        """Whether a process that the runtime is not known to have forked is a shim of its.

        A shim names its runtime's socket; one whose arguments could not be read may be any runtime's. conmon names none, but what
        podman starts names what to run at its end, and crio's does not.
        """
        if not is_shim(argv) or self._is_elsewhere(namespaces):
            return False
        if program_of(argv).startswith("conmon"):
            return self._program in ("", "crio") and "--exit-command" not in argv
        return self._address in ("", _option(argv, "-address")) and is_for_cri(argv)

    def _is_elsewhere(self, namespaces: Mapping[str, int]) -> bool:
        """Whether it is known to be in another pid namespace than the runtime."""
        return self._pid_namespace is not None and namespaces.get("pid", self._pid_namespace) != self._pid_namespace

    def _has_first(self, id: str) -> bool:
        """Whether the container of that id has its first process."""
        return any(p.role == "application" and p.id == id for p in self._alive.values())

    def _become(self, process: Tracked, event: Event) -> None:
        """Another program, which may give another role."""
        before, maker = process.role, _maker(process)
        argv = process.argv = event.argv or (event.exe.removesuffix(" (deleted)") or event.comm,)
        program = program_of(argv)
        if before in INSIDE:
            return
        if not before and not self._is_own_shim(argv, event.namespaces):  # a poll may miss who forked the lasting shim
            if program in RUNTIMES and argv == self._runtime_argv and not self._is_elsewhere(event.namespaces):  # restarted
                process.role = "containerd"
            return
        if before == "containerd" and is_shim(argv) and not is_for_cri(argv):
            process.role = process.id = ""
        elif is_shim(argv):
            process.role, process.own_id = "shim", _id(argv)
            if not label("shim", argv).endswith((" start", " delete")):
                self.sandboxes.add(process.own_id)
        elif is_runc_init(argv) or event.comm.startswith("runc:") or (program in RUNC and not (maker and before == "runc")):
            process.role, process.own_id = "runc", _id(argv)
        elif before == "runc" and (_waits(process.parent) or (maker and self._is_hook(process, maker, event.cgroup))):
            process.role = "other"
        elif before == "runc" and maker:
            process.role = "exec" if runc_verb(maker.argv) == "exec" else "application"
            process.id = process.id or self._cgroup_id(event.cgroup)
        elif before in ("runc", "shim") and (in_cgroup := self._cgroup_id(event.cgroup)):  # a poll may miss the runc that made it
            process.role = "exec" if self._has_first(in_cgroup) else "application"
            process.id = in_cgroup
        elif before == "cni" or (before == "containerd" and (event.cni_command or is_cni(argv, event.exe))):
            process.role, process.own_id = "cni", "".join(CONTAINER_ID.findall(event.container_id))
        else:
            # A word that looks like an id says less than who forked it.
            process.role, process.own_id = "other", "" if process.id else _id(argv)
        process.id = process.own_id or process.id

    def _is_hook(self, process: Tracked, maker: Tracked, cgroup: str) -> bool:
        """Whether what runc forked itself becomes an OCI hook, not the container's program."""
        if cgroup:
            return self._cgroup_id(cgroup) == "" or process.id not in ("", self._cgroup_id(cgroup))
        # What `create` leaves behind becomes its program at `start`: until then whatever becomes one is a hook.
        return runc_verb(maker.argv) == "create" and maker.to_ns is None

    def _cgroup_id(self, cgroup: str) -> str:
        """The container that a cgroup's path names; "" for none but the node's own, where the node is a container itself."""
        ids = [id for id in CONTAINER_ID.findall(cgroup) if id not in self._outer]
        return ids[-1] if ids else ""


def is_shim(argv: tuple[str, ...]) -> bool:
    return program_of(argv).startswith(("containerd-shim", "conmon"))


def is_for_cri(argv: tuple[str, ...]) -> bool:
    """Whether a shim of containerd has a container of CRI's, not one of Docker's or ctr's (containerd's namespaces)."""
    return _option(argv, "-namespace") in ("", "k8s.io")


def is_cni(argv: tuple[str, ...], exe: str = "") -> bool:
    """Whether a child of the runtime is a CNI plugin."""
    return "/cni/" in f"{argv[0] if argv else ''} {exe}" or program_of(argv) in CNI_PLUGINS


def command(process: Tracked) -> str:
    return label("shim", process.argv).partition(" ")[2] if process.role == "shim" else runc_verb(process.argv)


def _maker(process: Tracked) -> Tracked | None:
    """The runc command above a process that makes containers' processes."""
    return next((each for each in process.above() if each is not process and _makes(each)), None)


def _makes(process: Tracked) -> bool:
    """Whether it is such a command itself, not one that this has forked."""
    started = bool(process.execs) or process.from_ns is None
    return process.role == "runc" and started and runc_verb(process.argv) in MAKING


def _waits(process: Tracked | None) -> bool:
    """Whether it waits as `runc init` to become a container's program. What only forks that one, as crun's does, has ended."""
    return bool(process and process.role == "runc" and process.to_ns is None and not _makes(process))


def _id(argv: tuple[str, ...]) -> str:
    """The id that a command line names: an option's (`-id`, conmon's `-c`), else the last."""
    named = _option(argv, "-id") or _option(argv, "-c") or _option(argv, "--cid")
    found = CONTAINER_ID.findall(named) or CONTAINER_ID.findall(" ".join(argv))
    return found[-1] if found else ""


def _option(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1] if name in argv[:-1] else ""
