"""The two images of the course, made offline from static programs of this machine.

The pause image holds catatonit, whose -P mode is a pause process that also reaps orphans (as Kubernetes' own pause.c
does); the application image holds busybox with a link for each of its applets.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from labkit.node.registry.oci import Entry, Image, image, layer
from labkit.util.showable import Absent

PAUSE = "registry.lab/pause:1"
BUSYBOX = "registry.lab/busybox:1"
IMAGES = {"busybox": BUSYBOX, "pause": PAUSE, "private": f"private.{BUSYBOX}"}
"""As `node.images` has them: short name → reference."""

PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
GROUP = "root:x:0:\nnobody:x:65534:\n"
INDEX_HTML = "<!doctype html>\n<title>busybox</title>\n<p>It works: this page comes from a container.</p>\n"


class Images(dict[str, str]):
    """The course's images: short name → reference."""

    def __missing__(self, name: str) -> str:
        raise Absent(f"The course has no image {name!r}; it has {', '.join(self)}.")


def course_images(*, catatonit: Path, busybox: Path) -> tuple[Image, Image]:
    """All that the course's Pods run. Raises as the two below."""
    return pause_image(catatonit), busybox_image(busybox)


def pause_image(catatonit: Path, reference: str = PAUSE) -> Image:
    """The image that every sandbox starts first. `catatonit`: a static program. Raises OSError if it cannot be read."""
    return image(reference, [layer([Entry("pause", catatonit.read_bytes())])], {"Entrypoint": ["/pause", "-P"]})


def busybox_image(busybox: Path, reference: str = BUSYBOX, architecture: str | None = None) -> Image:
    """A small userland in three layers: shell, httpd (document root /var/www), nslookup, wget, … `busybox`: a static program.

    Runs it once to ask for its applets. `architecture`: what the image says that it is for, if not for this machine. Raises
    OSError or subprocess.CalledProcessError if it cannot be read or run.
    """
    programs = [
        Entry("bin/busybox", busybox.read_bytes()),
        *(Entry(path, target="/bin/busybox") for path in applets(busybox) if path != "bin/busybox"),
    ]
    system = [
        *(Entry(directory) for directory in ("dev", "proc", "sys", "run")),
        Entry("tmp", mode=0o1777),
        Entry("root", mode=0o700),
        *(Entry(path, text.encode(), mode=0o644) for path, text in {"etc/passwd": PASSWD, "etc/group": GROUP}.items()),
    ]
    page = [Entry("var/www/index.html", INDEX_HTML.encode(), mode=0o644)]
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    history = ["busybox and its applets", "users and directories", "a web page"]
    built = [layer(entries) for entries in (programs, system, page)]
    return image(reference, built, {"Env": environment, "Cmd": ["sh"]}, architecture, history=history)


def applets(busybox: Path) -> tuple[str, ...]:
    """Where each applet belongs, without the leading slash ("bin/sh", "usr/bin/wget"), as busybox says, sorted."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, encoding="utf-8", errors="replace", check=True).stdout
    return tuple(sorted(line for line in listed.split("\n") if line))
