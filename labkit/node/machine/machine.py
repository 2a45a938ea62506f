"""qemu: how it is called, what is said to it (QMP), and how a machine is saved and goes on from what was saved.

Its sockets lie in one directory of the owner's, mode 0700. The one thing that listens on a port, on loopback, is the door: it
opens to a word only which the owner tells the machine over the control line, anew at each start. Knowledge: qemu(1); QMP's
schema (migrate, query-migrate, cont); docs/devel/migration.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.node.host.relay_loop import die_with
from labkit.node.machine import hand_over
from labkit.node.machine.guest import ADDRESS, API, API_PORT, DOOR_PORT
from labkit.node.machine.tools import Tools
from labkit.node.registry.registry import free_port
from labkit.util.progress import attempts

MEMORY_MB = 512
TRANSLATED_MB = 224
"""For the code that the emulation has translated: with 96 it translates the same programs again for each Pod."""
BOOT_WITHIN_S = 300.0
RESUME_WITHIN_S = 60.0
PROBE_WITHIN_S = 15.0
COMMAND_LINE = "console=ttyS0 loglevel=3 panic=-1 mitigations=off rcupdate.rcu_expedited=1"
POLL_S = 0.02
CONNECT_WITHIN_S = 10.0
HARD, WINDOW = "-9", "--long=27"
"""zstd(1). What programs have in their memory and what the kernel keeps of their files is much the same, and far apart."""
API_SOCKET = "api.sock"
"""In the machine's directory: where its connections to the Kubernetes API are handed over (`labkit.node.machine.hand_over`)."""
TO_API = f'exec {shlex.quote(sys.executable)} -I -S {shlex.quote(hand_over.__file__)} "$1"\n'
"""A script, so that where Python is makes no other qemu command line, which a saved state would not fit to."""
PORTS_TRIED, PORT_TAKEN = 5, "Could not set up host forwarding rule"
"""A port that was free may be another's before qemu listens on it."""


class MachineError(Exception):
    """The machine cannot run, or ended: what happened, in a sentence."""


@dataclass(frozen=True)
class Disks:
    """The three files that a machine starts from."""

    kernel: Path
    initramfs: Path
    root: Path


class Machine:
    """One running qemu. `door` is (port on loopback, word). Every method raises MachineError when qemu has ended."""

    def __init__(self, tools: Tools, disks: Disks, directory: Path, accelerator: str, *, incoming: Path | None = None) -> None:
        """Start qemu: a boot, or with `incoming`, a saved state, what comes in from it. `directory`: for its sockets."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory.chmod(0o700)
        self.directory, self.tools = directory, tools
        self.output = directory / "qemu.log"
        (directory / "to-api").write_text(TO_API)
        for _ in range(PORTS_TRIED):
            self.door = (free_port(), secrets.token_hex(16))
            self._start(disks, accelerator, incoming)
            with contextlib.suppress(MachineError):
                self.ask("query-status")
                return
            if PORT_TAKEN not in self.output.read_text(errors="replace"):
                return  # whoever asks the machine next hears how it ended

    def _start(self, disks: Disks, accelerator: str, incoming: Path | None) -> None:
        tools, argv = self.tools, command(self.tools, disks, self.directory, accelerator, self.door[0])
        if incoming:
            argv += ["-incoming", f"exec:exec {shlex.quote(str(tools.zstd))} -dcq {WINDOW} {shlex.quote(str(incoming))}"]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=tools.environment(), cwd="/",
                start_new_session=True, umask=0o077, preexec_fn=functools.partial(die_with, os.getpid()),
            )

    def wait_for_state(self) -> None:
        """Until the saved state has come in; then let the machine go on."""
        self._until(lambda: self.ask("query-status")["status"] not in ("inmigrate", "finish-migrate"), RESUME_WITHIN_S)
        self.ask("cont")

    def let_in(self, within_s: float) -> None:
        """Wait until the machine reads its control line; tell it the time and the door's word."""
        mark = secrets.token_hex(8)
        with self._speaking("control.sock") as line:
            output, left = b"", attempts(within_s, 0.0)
            while mark.encode() not in output:
                self._check(next(left))
                with contextlib.suppress(TimeoutError):  # a machine that does not read yet: what waits for it is enough
                    line.sendall(f"\necho {mark[:8]}''{mark[8:]}\n".encode())
                output += received(line, 0.5)
            self._tell(line, f"(umask 077; echo {self.door[1]} >/run/door/token); {set_clock()}")

    def tell(self, words: str, within_s: float = 20.0) -> None:
        """Run shell words over the control line and wait until they are done."""
        with self._speaking("control.sock") as line:
            self._tell(line, words, within_s)

    def save(self, path: Path) -> None:
        """Stop the machine and write its state, compressed, whole or not at all; the machine is then of no further use."""
        partial = path.with_name(f".{path.name}.new")
        try:
            self.ask("stop")
            self.ask("migrate-set-parameters", {"max-bandwidth": 1 << 40})
            compress = f"{shlex.quote(str(self.tools.zstd))} -q {HARD} {WINDOW}"
            self.ask("migrate", {"uri": f"exec:exec {compress} >{shlex.quote(str(partial))}"})
            self._until(lambda: self.ask("query-migrate").get("status") in ("completed", "failed", "cancelled"), BOOT_WITHIN_S)
            status = self.ask("query-migrate")
            if status.get("status") != "completed":
                free = shutil.disk_usage(path.parent).free >> 20
                why = status.get("error-desc", status.get("status"))
                raise MachineError(f"qemu could not save the machine in {path.parent}, where {free} MB are free ({why}).")
            self.quit()
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def quit(self) -> None:
        """End qemu. Idempotent."""
        if self.process.poll() is None:
            with contextlib.suppress(MachineError):
                self.ask("quit")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5.0)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for name in ("qmp.sock", "control.sock", "console.sock"):
            (self.directory / name).unlink(missing_ok=True)

    def ended(self) -> str:
        """How qemu ended, in a sentence; "" while it runs."""
        code = self.process.poll()
        if code is None:
            return ""
        words = [line for line in self.output.read_text(errors="replace").splitlines() if line.strip()]
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"qemu ended {how}" + (f": {words[-1]}" if words and code > 0 else ".")

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """One QMP command; what it returns."""
        with self._speaking("qmp.sock") as monitor, monitor.makefile("rw") as lines:
            lines.readline()
            for words in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": dict(arguments or {})}):
                lines.write(json.dumps(words) + "\n")
                lines.flush()
                answer: dict[str, Any] = {}
                while not answer.keys() & {"return", "error"}:
                    line = lines.readline()
                    if not line:
                        if command == "quit":
                            return {}
                        raise MachineError(self.ended() or "qemu closed its monitor.")
                    answer = json.loads(line)
                if "error" in answer:
                    raise MachineError(f"qemu refused {words['execute']}: {answer['error'].get('desc')}")
        return answer["return"]

    @contextlib.contextmanager
    def _speaking(self, name: str) -> Iterator[socket.socket]:
        """A connection to one of qemu's sockets. One that breaks, or is silent for long, is a MachineError."""
        with contextlib.closing(self._connect(name)) as connection:
            try:
                yield connection
            except (OSError, ValueError) as error:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1.0)  # a socket may be closed a moment before its process has ended
                raise MachineError(self.ended() or f"The machine does not answer ({error}).") from None

    def _tell(self, line: socket.socket, words: str, within_s: float = 20.0) -> None:
        mark = secrets.token_hex(8)
        # The mark is written so that an echo of the line is no answer.
        line.sendall(f"{words}; echo {mark[:8]}''{mark[8:]}\n".encode())
        output, left = b"", attempts(within_s, 0.0)
        while mark.encode() not in output:
            self._check(next(left))
            output += received(line, 0.5)

    def _connect(self, name: str) -> socket.socket:
        for left in attempts(CONNECT_WITHIN_S, POLL_S):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(30.0)
            try:
                connection.connect(str(self.directory / name))
                return connection
            except OSError:
                connection.close()
                self._check(left)
        raise AssertionError  # the last look has raised

    def _until(self, done: Callable[[], bool], within_s: float) -> None:
        for left in attempts(within_s, POLL_S):
            if done():
                return
            self._check(left)

    def _check(self, left_s: float) -> None:
        if words := self.ended():
            raise MachineError(words)
        if not left_s:
            raise MachineError("The machine does not answer in time.")


def command(tools: Tools, disks: Disks, directory: Path, accelerator: str, port: int) -> list[str]:
    """qemu's argv. The devices are part of what a saved state fits to (`fits`)."""
    data = [word for path in tools.data for word in ("-L", str(path))]
    sockets = [
        word
        for name in ("qmp", "console", "control")
        for word in ("-chardev", f"socket,id={name},path={directory}/{name}.sock,server=on,wait=off")
    ]
    to_api = f"/bin/sh {shlex.quote(f'{directory}/to-api')} {shlex.quote(f'{directory}/{API_SOCKET}')}"
    user = f"user,id=net,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-{ADDRESS}:{DOOR_PORT}"
    user += f",guestfwd=tcp:{API}:{API_PORT}-cmd:{to_api.replace(',', ',,')}"
    return [
        str(tools.qemu), *data, *accelerated(accelerator), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
        "-name", "labkit", "-m", str(MEMORY_MB), "-smp", "1", "-rtc", "base=utc,clock=host",
        "-kernel", str(disks.kernel), "-initrd", str(disks.initramfs), "-append", COMMAND_LINE,
        "-drive", f"id=root,file={disks.root},format=raw,if=none,readonly=on",
        "-device", "virtio-blk-pci,drive=root", "-netdev", user, "-device", "virtio-net-pci,netdev=net,romfile=",
        *sockets, "-mon", "chardev=qmp,mode=control", "-serial", "chardev:console", "-serial", "chardev:control",
    ]


def accelerated(accelerator: str) -> list[str]:
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", f"tcg,tb-size={TRANSLATED_MB}", "-cpu", "max"]


def fits(tools: Tools, accelerator: str) -> str:
    """A name for everything that a saved state depends on beside the disks: qemu's version, the devices, the processor."""
    version = subprocess.run(
        [tools.qemu, "--version"], capture_output=True, encoding="utf-8", errors="replace", env=tools.environment(), check=False
    ).stdout.partition("\n")[0]
    nothing = Path()
    devices = command(Tools(nothing, nothing, nothing, "", ()), Disks(nothing, nothing, nothing), nothing, accelerator, 0)
    processor = processor_model() if accelerator == "kvm" else ""
    return hashlib.sha256("\n".join([version, *devices, processor]).encode()).hexdigest()[:12]


def processor_model() -> str:
    with open("/proc/cpuinfo") as lines:
        return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "microcode"))}))


def accelerator(tools: Tools) -> str:
    """ "kvm" where it works, else "tcg", qemu's emulation in software. LABKIT_VM_ACCEL decides without trying.

    /dev/kvm may be there, may open, and yet run nothing: so a disk's first sector is run that ends the machine with a code.
    """
    if chosen := os.environ.get("LABKIT_VM_ACCEL"):
        return chosen
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    program = b"\xb0\x10\xe6\xf4\xf4"  # mov al, 16; out 0xf4, al; hlt: qemu's isa-debug-exit ends with 2 × 16 + 1
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(program.ljust(510, b"\0") + b"\x55\xaa")
        disk.flush()
        data = [word for path in tools.data for word in ("-L", str(path))]
        argv = [
            str(tools.qemu), *data, *accelerated("kvm"), "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
            "-m", "32", "-drive", f"file={disk.name},format=raw,if=ide", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        ]
        with contextlib.suppress(subprocess.TimeoutExpired):
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, env=tools.environment(), timeout=PROBE_WITHIN_S, check=False
            )
            return "kvm" if done.returncode == 33 else "tcg"
    return "tcg"


def set_clock() -> str:
    """Shell words that set the machine's clock to this one's."""
    return f"/bin/date -s @{time.time():.6f} >/dev/null"


def received(line: socket.socket, within_s: float) -> bytes:
    line.settimeout(within_s)
    try:
        return line.recv(65536)
    except TimeoutError:
        return b""
