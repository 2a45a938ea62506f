"""A virtual machine under Debian's cloud kernel, which runs one command from an initramfs and ends with it.

qemu and the kernel come from Debian's packages, unpacked beside the system. In software emulation, since a /dev/kvm may be there
and not work, it boots in three seconds.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labkit.node.packages.programs import ensure_programs
from tests.standin.packages import bring, cache

END = "labkit-end-of-input"
"""A serial line has no end: this one ends the command's input."""
RUN = "labkit-run"

INIT = f"""#!/bin/busybox sh
export PATH=/bin
mkdir -p /proc /sys /dev /tmp
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>/dev/null
stty raw -echo
while read -r line; do
    case $line in
    {END}) break ;;
    {RUN}) sh /workload </dev/null >/dev/null & ;;
    *) echo "$line" ;;
    esac
done | {{ . /command; }}
poweroff -f
"""
PIPE = f'{{ cat; echo {END}; }} | exec "$@"'


def popen(argv: Sequence[str], directory: Path, workload: str) -> subprocess.Popen[str]:
    """Boot, and run `argv` there as root with this process's stdin and stdout. The line RUN starts the shell script `workload`
    beside it. `directory`: for the files of this one machine."""
    qemu, kernel = bring("qemu", ("qemu-system-x86",)).root, bring("cloud-kernel", ("linux-image-cloud-amd64",)).root
    data = [word for name in ("qemu", "seabios") for word in ("-L", str(qemu / "usr/share" / name))]

    command = [
        str(qemu / "usr/bin/qemu-system-x86_64"), *data, "-accel", "tcg", "-nodefaults", "-display", "none",
        "-no-reboot", "-smp", "2", "-m", "512", "-serial", "stdio",
        "-kernel", str(next(kernel.glob("boot/vmlinuz-*"))), "-initrd", str(initramfs(argv, directory, workload)),
        "-append", "quiet panic=-1 console=ttyS1",
    ]
    libraries = os.pathsep.join(map(str, bring("qemu", ("qemu-system-x86",)).library_path))
    return subprocess.Popen(
        ["sh", "-c", PIPE, "sh", *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="surrogateescape",
        env={**os.environ, "LD_LIBRARY_PATH": libraries}, start_new_session=True,
    )


def initramfs(argv: Sequence[str], directory: Path, workload: str) -> Path:
    """busybox under the name of each of its commands, and the scripts, as the kernel unpacks it (its initramfs.txt)."""
    root, busybox = directory / "root", ensure_programs(cache().parent).busybox
    (root / "bin").mkdir(parents=True)
    shutil.copy2(busybox, root / "bin/busybox")
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    (root / "command").write_text(shlex.join(argv))
    (root / "workload").write_text(workload)
    archive = directory / "initramfs"
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with archive.open("wb") as file:
        subprocess.run([busybox, "cpio", "-o", "-H", "newc"], input=names.encode(), stdout=file, cwd=root, check=True)
    return archive
