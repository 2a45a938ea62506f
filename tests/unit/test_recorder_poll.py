"""Where events come from a poll: what stays is tied to its call, however late it was seen and whatever was missed."""

from labkit.kernel import Process, Snapshot
from labkit.kernel.events.poll import differences, watch_by_polling
from labkit.kernel.events.stream import Event
from labkit.recording.flight import Flight
from labkit.recording.recorder import names
from labkit.recording.recorder.causes import join
from labkit.recording.recorder.process_roles import Processes
from tests.unit.flight_of_a_pod import BEFORE, CONTAINERD, SHIM, SOCKET, Machine, hexadecimal, start, stop


def seen_at_once(pids, at, pod="web", shim_argv=None):
    """The events of one look at the end: the shim, now a child of init, and its children, all with their last program."""
    sandbox = hexadecimal(pod)
    argv = {"shim": shim_argv or (SHIM, "-namespace", "k8s.io", "-id", sandbox, "-address", SOCKET), "pause": ("/pause", "-P")}
    for name, pid in sorted(pids.items(), key=lambda each: each[0] != "shim"):
        container = {"shim": "", "pause": sandbox}.get(name, hexadecimal(f"{pod}/{name}"))
        yield Event("fork", at, pid, 1 if name == "shim" else pids["shim"])
        program = argv.get(name, ("/bin/sleep", "1000"))
        yield Event("exec", at, pid, None, argv=program, exe=program[0], cgroup=f"0::/kubepods/podabc/{container}")


def flight(events, machine, before=BEFORE):
    followed = Processes(before, CONTAINERD, SOCKET)
    for event in events:
        followed.feed(event)
    known = names.known(machine.calls, machine.now)
    return Flight(tuple(noted.call for noted in known.calls), join(followed, known, late=True), "poll")


def test_what_stays_is_tied_to_its_call_when_all_else_was_missed():
    machine = Machine()
    pids = start(machine, "web", "main", "side")
    polled = flight(seen_at_once(pids, machine.now + 10**9), machine)
    told = [(p.role, p.name, str(polled.calls[p.call]), p.pod, p.container) for p in polled.processes]
    assert told == [
        ("shim", "shim", "RunPodSandbox", "web", None),
        ("pause", "pause", "RunPodSandbox", "web", None),
        ("application", "sleep 1000", "StartContainer main", "web", "main"),
        ("application", "sleep 1000", "StartContainer side", "web", "side"),
    ]


def test_the_shim_of_another_runtime_is_left_out():
    machine = Machine()
    pids = start(machine, "web", "main")
    foreign = (SHIM, "-namespace", "k8s.io", "-id", hexadecimal("web"), "-address", "/run/other.sock")
    assert flight(seen_at_once(pids, machine.now, shim_argv=foreign), machine).processes == ()


def test_a_second_process_in_a_container_came_by_an_exec():
    machine = Machine()
    pids = start(machine, "web", "main")
    cgroup = f"0::/kubepods/podabc/{hexadecimal('web/main')}"
    late = [
        Event("fork", machine.now, 7000, pids["shim"]),
        Event("exec", machine.now, 7000, None, argv=("sh",), exe="sh", cgroup=cgroup),
    ]
    polled = flight([*seen_at_once(pids, machine.now), *late], machine)
    assert [(p.role, p.call) for p in polled.processes if p.pid == 7000] == [("exec", None)], "no ExecSync was recorded"


def test_ends_belong_to_the_first_call_that_could_be_it():
    machine = Machine()
    pids = start(machine, "web", "main")
    seen = list(seen_at_once(pids, machine.now))
    lived = Machine()
    lived.now = machine.now
    stop(lived, pids, "web", "main")
    lived.calls = [*machine.calls, *lived.calls]
    ends = [Event("exit", lived.now + 10**8, pid, None) for pid in pids.values()]
    before = [*BEFORE]
    argv = {event.pid: (event.argv, event.cgroup) for event in seen if event.kind == "exec"}
    parents = {event.pid: event.ppid for event in seen if event.kind == "fork"}
    for pid, (words, cgroup) in argv.items():
        before.append(Process(pid, parents[pid], words[0], words, "S", 0, 0, 0, (pid,), {}, {"": cgroup[3:]}, ""))
    polled = flight(ends, lived, before)
    by = {p.role: polled.calls[polled.ended_by(p)].method for p in polled.processes if p.to_ns is not None}
    assert by == dict.fromkeys(("shim", "pause", "application"), "StopPodSandbox")


def test_a_zombie_has_ended():
    alive = Process(7, 1, "sleep", ("sleep",), "S", 5, 0, 0, (7,), {}, {}, "/bin/sleep")
    zombie = Process(7, 1, "sleep", (), "Z", 5, 0, 0, (7,), {}, {}, "")

    class Look:
        def __init__(self, at_ns, *processes):
            self.at_ns, self.processes = at_ns, {p.pid: p for p in processes}

    assert [(e.kind, e.pid) for e in differences(Look(1, alive), Look(2, zombie))] == [("exit", 7)]
    assert list(differences(Look(2, zombie), Look(3))) == [] == list(differences(Look(2), Look(3, zombie)))


def looks_of(*looks):
    """A kernel that shows these snapshots one after the other; the last one for ever."""
    snapshots = [Snapshot(at * 10**9, {p.pid: p for p in processes}, {}, ()) for at, processes in enumerate(looks, start=1)]

    class Kernel:
        def snapshot(self, fds=True):
            return snapshots.pop(0) if len(snapshots) > 1 else snapshots[0]

    return Kernel()


def process(pid, ppid, comm, *argv):
    return Process(
        pid, ppid, comm, argv, "S", pid * 10**6, 0, 0, (pid,), {}, {"": f"/kubepods/podabc/{hexadecimal('web')}"}, comm
    )


def test_a_parent_that_ended_while_proc_was_read_is_no_parent():
    """Seen on a busy node: pause was read as a child of `runc create`, which had ended when its own turn came."""
    init, shim = process(1, 0, "init"), process(60, 1, "shim", SHIM)
    early = process(70, 65, "pause", "/pause")
    late = process(70, 60, "pause", "/pause")
    kernel = looks_of([init], [init, shim, early], [init, shim, late])
    with watch_by_polling(kernel, every_s=0.001) as stream:
        events = [next(stream) for _ in range(4)]
    assert [(e.kind, e.pid, e.ppid) for e in events] == [
        ("fork", 60, 1), ("exec", 60, None), ("fork", 70, 60), ("exec", 70, None)
    ]


def test_the_last_look_is_taken_again_where_a_parent_is_missing():
    init, shim = process(1, 0, "init"), process(60, 1, "shim", SHIM)
    kernel = looks_of([init, shim], [init, shim, process(70, 65, "pause")], [init, shim, process(70, 60, "pause")])
    stream = watch_by_polling(kernel, every_s=1000)
    assert [(e.kind, e.ppid) for e in stream.stop()] == [("fork", 60), ("exec", None)]


def test_a_parent_that_is_never_shown_keeps_no_process_back():
    """Where /proc hides other users' processes (hidepid), init is not shown."""
    kernel = looks_of([process(60, 1, "shell")], [process(60, 1, "shell"), process(70, 1, "job"), process(80, 70, "child")])
    stream = watch_by_polling(kernel, every_s=1000)
    assert [(e.pid, e.ppid) for e in stream.stop() if e.kind == "fork"] == [(70, 1), (80, 70)]
