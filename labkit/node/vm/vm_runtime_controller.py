"""What a virtual machine's owner does to the containerd in it when it is asked (see `labkit.node.lab.runtime_controller`)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

from labkit.cri import CriError
from labkit.node.host import containerd_setup
from labkit.node.host.services import weighty
from labkit.node.lab.runtime_controller import RuntimeController
from labkit.node.machine import guest
from labkit.node.packages.releases import Release
from labkit.node.state import status
from labkit.node.vm import run, vm_releases
from labkit.node.vm.vm_home import MachinePaths
from labkit.util.errors import NodeError
from labkit.util.progress import attempts

log = logging.getLogger("labkit")

READY_WITHIN_S, ANSWER_WITHIN_S = 300.0, 10.0
END_WITHIN_S, PUT_WITHIN_S = 20.0, 120.0
SPARE_MB = 64
"""Of the machine's memory, for its Pods, beside a containerd that is put into it."""
POLL_S = 0.1
TIDY_EVERY_S = 10.0

END = f"""
[ -p {guest.AWAY} ] || mkfifo -m 600 {guest.AWAY}
read -r pid <{guest.CONTAINERD_PID} && kill -$1 $pid || exit 0
tries=0
while [ -d /proc/$pid ]; do
    tries=$((tries + 1)); [ $tries -ne 100 ] || kill -KILL $pid
    usleep 100000
done
"""
BEGIN = f"""
rm -f {guest.CONTAINERD_PID}
[ ! -p {guest.AWAY} ] || {{ mv {guest.AWAY} {guest.AWAY}.over; : <>{guest.AWAY}.over; rm {guest.AWAY}.over; }}
"""
"""Opened for both directions, a FIFO lets go who waits for a writer, and does not wait for a reader (man 7 fifo)."""
ORPHANS = """
cd /run/runc/k8s.io 2>/dev/null || exit 0
for id in *; do
    [ -f $id/state.json ] || continue
    [ -d /run/containerd/io.containerd.runtime.v2.task/k8s.io/$id ] || { echo $id; continue; }
    read -r state <$id/state.json
    pid=${state#*'"init_process_pid":'}; pid=${pid%%[!0-9]*}
    read -r stat <"/proc/$pid/stat" && stat=${stat##*) ? } && read -r parent <"/proc/${stat%% *}/comm" || continue
    case $parent in containerd-shim*) ;; *) echo $id ;; esac
done 2>/dev/null
true
"""
"""Containers that runc knows and that have no bundle, or whose process is no child of a shim."""
DELETE = "for id; do runc --root /run/runc/k8s.io delete --force $id; done; true"
ROOM = "while read -r name kb _; do [ $name != MemAvailable: ] || echo $kb; done </proc/meminfo"
PUT = "rm -rf $1; mkdir -p $1/lib && tar -x -C $1"
CHOOSE = f"if [ $# = 0 ]; then rm -f {guest.CHOSEN}; else ln -sfn $1 {guest.CHOSEN}; fi"
FORGET = f'cd {guest.RELEASES} && for each in [0-9]*; do [ $each = "$1" ] || rm -rf $each; done; true'


class VmRuntimeController(RuntimeController):
    """For a virtual machine that runs."""

    def __init__(self, places: MachinePaths) -> None:
        super().__init__(places.home)
        self.places, self.away = places, False
        self.orphans: set[str] = set()
        self.next_look = 0.0

    def replace(self, say: Callable[[str], None], version: str, lesson: str = "") -> dict[str, object]:
        try:
            return super().replace(say, version, lesson)
        finally:
            self.sh(FORGET, self.chosen().version)  # they lie in the machine's memory

    def collect_garbage(self) -> None:
        """Remove, where containerd runs, the containers whose shim is gone and which containerd has not removed itself.

        It does not where `runc delete` takes it too long, and containerd 2 forgets them (its issue 10727;
        `labkit.node.lab.garbage_collection`).
        """
        if self.away or time.monotonic() < self.next_look:
            return
        self.next_look = time.monotonic() + TIDY_EVERY_S
        try:
            before, self.orphans = self.orphans, set(self.sh(ORPHANS).split())
            if lasting := sorted(before & self.orphans):
                self.sh(DELETE, *lasting, timeout=END_WITHIN_S)
                log.warning("removed leftover containers that belong to no Pod: %s", ", ".join(id[:13] for id in lasting))
        except NodeError as error:
            log.warning("garbage collection failed: %s", error)

    def here(self) -> Sequence[Release]:
        return vm_releases.here(self.places)

    def held(self) -> bool:
        return self.away

    def runs(self) -> bool:
        return not self.away

    def pid(self) -> int | None:
        return None if self.away else run.containerd_pid(self.places.door)

    def processes(self) -> dict[str, int]:
        return dict(status.read(self.home).get("processes", {}))

    def runtime(self) -> dict[str, str]:
        try:
            return containerd_setup.runtime_version(self.places.relay(), ANSWER_WITHIN_S)
        except CriError as error:
            raise NodeError(f"containerd does not say its version ({error.message}).", "`labkit status` says more.") from None

    def end(self, *, by_kill: bool = False) -> None:
        self.sh(END, "KILL" if by_kill else "TERM", timeout=END_WITHIN_S)
        self.away = True

    def begin(self) -> None:
        self.sh(BEGIN)
        self.away = False
        self.wait_ready()

    def install(self, release: Release, say: Callable[[str], None]) -> None:
        if release.default:
            return
        need = sum(os.path.getsize(path) for _, path in vm_releases.contents(release)) >> 20
        room = int(self.sh(ROOM)) >> 10
        if room < need + SPARE_MB:
            raise NodeError(
                f"containerd {release.version} takes {need} MB of the machine's memory, of which {room} MB are free.",
                "Remove Pods that you no longer need, or start the machine again: `labkit down`, `labkit up`.",
            )
        say(f"putting containerd {release.version} into the machine ({need} MB)")
        self.sh(PUT, str(vm_releases.directory(release)), stdin=vm_releases.packed(release), timeout=PUT_WITHIN_S)

    def switch_to(self, release: Release) -> None:
        self.sh(CHOOSE, *([] if release.default else [release.version]))
        self.begin()

    def wait_ready(self) -> None:
        """Until it answers; one that ended meanwhile (it is started again) is an error with its last words. Raises NodeError."""
        first = None
        for left in attempts(READY_WITHIN_S, POLL_S):
            try:
                return containerd_setup.answer(self.places.relay(), ANSWER_WITHIN_S)
            except (CriError, NodeError) as error:
                now = run.containerd_pid(self.places.door)
                first = first or now
                if first != now or not left:
                    how = "ended while it started" if first != now else f"did not answer within {READY_WITHIN_S:.0f} s"
                    words = weighty(self.sh(f"tail -n 40 {guest.CONTAINERD_LOG}"))
                    raise NodeError(f"containerd {how}: {words}", "`labkit vm console` is at the machine.") from error

    def sh(self, script: str, *arguments: str, stdin: bytes | None = None, timeout: float = 30.0) -> str:
        return run.run(self.places.door, ["sh", "-c", script, "sh", *arguments], stdin, timeout).decode(errors="replace")
