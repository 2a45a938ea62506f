"""A process that reads the kernel's proc connector, and tells only what concerns some processes and all that they start.
`labkit.kernel.events.below` starts and ends it.

It knows no more of a process than the kernel's message, and never reads /proc: what other programs of the machine start costs
next to nothing. Standard library only and run by its path, as `connector_process`.
"""

from __future__ import annotations

import errno
import marshal
import os
import select
import socket
import sys
import time

TYPE_CHECKING = False  # see connector_process
if TYPE_CHECKING or __name__ != "__main__":
    from labkit.kernel.events import connector_socket
else:
    sys.path.append(os.path.dirname(__file__))
    import connector_socket

GATHER_S = 0.02
"""Messages seldom come alone, and to be woken for each costs more than to read it."""
LOST = "More process events happened than could be read in time.", ""
MESSAGE_BYTES = 1 << 20


def main() -> int:
    """stdin is a SOCK_SEQPACKET socket. Sends ("ready", ()) or ("refused", why). It is sent the pids, and then sends ("events",
    [(word, ns, pid, parent's pid or None), …]), or ("refused", why) before it ends. It ends when stdin is closed."""
    channel = socket.socket(fileno=0)
    try:
        connector_socket.check_namespaces()
        connector = connector_socket.listen()
    except connector_socket.ConnectorRefused as error:
        return refuse(channel, error.args)
    channel.send(marshal.dumps(("ready", ())))
    wanted = Descendants(marshal.loads(channel.recv(MESSAGE_BYTES) or marshal.dumps([])))
    waiting = select.poll()
    for each in (connector, channel):
        waiting.register(each, select.POLLIN)
    try:
        while not any(fd == channel.fileno() for fd, _ in waiting.poll()):
            time.sleep(GATHER_S)
            if events := read(connector, wanted):
                channel.send(marshal.dumps(("events", events)))
    except (BrokenPipeError, ConnectionResetError):
        return 1
    except OSError as error:
        if error.errno != errno.ENOBUFS:
            raise
        return refuse(channel, LOST)
    finally:
        connector.send(connector_socket.request(connector_socket.PROC_CN_MCAST_IGNORE, 0))  # see connector_process
    return 0


def refuse(channel: socket.socket, why: tuple) -> int:
    channel.send(marshal.dumps(("refused", why)))
    return 1


def read(connector: socket.socket, wanted: Descendants) -> list[tuple]:
    """What is wanted, of all messages that wait."""
    found = []
    buffer = bytearray(4096)
    try:
        while True:
            connector.recv_into(buffer)
            _, _, what, _, at_ns, task, pid, third, fourth = connector_socket.MESSAGE.unpack_from(buffer)
            if event := wanted.event(what, at_ns, task, pid, third, fourth):
                found.append(event)
    except BlockingIOError:
        return found


class Descendants:
    """Some processes and all that they start."""

    def __init__(self, pids: list[int]) -> None:
        self.pids = set(pids)

    def event(self, what: int, at_ns: int, task: int, pid: int, third: int, fourth: int) -> tuple | None:
        """A message of the kernel's as an event, None where it is of others, or of a thread. third, fourth: of a fork, the
        child's thread and process."""
        if what == connector_socket.FORK and third == fourth:
            if pid not in self.pids:
                self.pids.discard(fourth)  # the pid of one that has ended, given again
                return None
            self.pids.add(fourth)
            return "fork", at_ns, fourth, pid
        if task == pid and pid in self.pids:
            if what == connector_socket.EXEC:
                return "exec", at_ns, pid, None
            if what == connector_socket.EXIT:  # it stays among them: a thread of it may still start others
                return "exit", at_ns, pid, None
        return None


if __name__ == "__main__":
    sys.exit(main())
