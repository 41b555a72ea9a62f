"""The fork server while it has nothing to do: a program that waits, without numpy and the runtime.

It runs in the fork server's place (``exec``): it has the same process id and is still the parent of the workers.
Once the supervisor writes, the fork server runs in its place again. This program reads nothing: records and file
descriptors from the supervisor wait for the fork server. It only reports which worker has ended.

It imports no other module of Limpet, and few of Python: each would cost memory. ``limpet.fork.server`` starts it.
"""

from __future__ import annotations

import os
import select
import sys

AGAIN = 1000
"""Milliseconds between two attempts to start the fork server."""


def main(supervisor: int, workers: dict[int, int], command: list[str]) -> None:
    """Wait, then run ``command`` with the process ids of the workers that are left as its last argument.

    Returns if the supervisor is gone: the kernel then ends the workers. ``supervisor``: the socket to it.
    ``workers``: process ids by the file descriptors that are readable once a process has ended (``pidfd_open``).
    """
    set_name("limpet-fork")
    poll = select.poll()
    poll.register(supervisor, select.POLLIN)
    for fd in workers:
        os.set_inheritable(fd, False)
        poll.register(fd, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if events.get(supervisor, 0) & (select.POLLHUP | select.POLLERR):
            return
        for fd in workers.keys() & events.keys():
            poll.unregister(fd)
            pid, status = os.waitpid(workers.pop(fd), 0)
            send(supervisor, exited(pid, os.waitstatus_to_exitcode(status)))
        if supervisor not in events:
            continue
        try:
            os.execv(command[0], [*command, ",".join(map(str, workers.values()))])  # noqa: S606 - its own program
        except OSError as error:
            os.write(2, f"limpet-fork: cannot start {command[0]}: {error.strerror}\n".encode())
        select.poll().poll(AGAIN)


def exited(pid: int, status: int) -> bytes:
    """Return the record ``Exited`` as ``limpet.wire.channel`` sends it."""
    record = b"\x83\xa4type\xa6Exited\xa3pid\xce" + pid.to_bytes(4, "big")
    record += b"\xa6status\xd2" + status.to_bytes(4, "big", signed=True)
    return len(record).to_bytes(4, "little") + record


def send(supervisor: int, data: bytes) -> None:
    """Write all to the supervisor. If it is gone, the next wait says so."""
    try:
        while data:
            data = data[os.write(supervisor, data) :]
    except OSError:
        pass


def set_name(name: str) -> None:
    """Set the name that ``ps`` and ``top`` show."""
    try:  # noqa: SIM105 - contextlib and ctypes would cost memory
        os.write(os.open("/proc/self/comm", os.O_WRONLY), name.encode())
    except OSError:
        pass


if __name__ == "__main__":
    pairs = [pair.split(":") for pair in sys.argv[2].split(",") if pair]
    main(int(sys.argv[1]), {int(fd): int(pid) for fd, pid in pairs}, sys.argv[3:])
