"""The log lines of all processes of a daemon, for those who watch it: one socket, which the supervisor reads.

All processes inherit the end that they write to. The kernel says which process wrote a line. If the supervisor
reads too late, lines are dropped: nothing waits for it. The journal or standard error has all lines.
"""

from __future__ import annotations

import array
import logging
import os
import socket
import struct
import sys
from typing import NamedTuple

from limpet.errors import UnreadableError

_ENVIRONMENT = "LIMPET_LOG_SOCKET"
"""Has the number of the file descriptor that log lines are written to."""
LARGEST = 4096
"""Bytes of a line."""
_CREDENTIALS = struct.Struct("3i")
_PASS_CREDENTIALS = 16
"""SO_PASSCRED of Linux. The kernel then says who sent what."""
_state: dict[str, socket.socket] = {}
"""The supervisor's end, if this process is the supervisor. As logging itself, there is one in a process."""


class RawLine(NamedTuple):
    """A line of another process. ``pid`` is from the kernel; the process itself says the rest."""

    pid: int
    level: int
    logger: str
    text: str


def create() -> None:
    """Make the socket. Processes that are started after this write to it. Not all systems have such a socket."""
    if sys.platform != "linux":
        return
    _state["reader"], writer = pair()
    writer.set_inheritable(True)
    os.environ[_ENVIRONMENT] = str(writer.detach())


def pair() -> tuple[socket.socket, socket.socket]:
    """Return the end to read from, and the one to write to."""
    reading, writing = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reading.setsockopt(socket.SOL_SOCKET, _PASS_CREDENTIALS, 1)
    reading.setblocking(False)
    return reading, writing


def reader() -> socket.socket | None:
    """Return the end to read from, ``None`` if there is no such socket."""
    return _state.get("reader")


def close_reader() -> None:
    """Close the end to read from, in a process that is not the supervisor."""
    if reading := _state.pop("reader", None):
        reading.close()


def close() -> None:
    """Close both ends, in the process that made them."""
    close_reader()
    if writer := os.environ.pop(_ENVIRONMENT, ""):
        os.close(int(writer))


def receive(end: socket.socket) -> RawLine | None:
    """Return the next line, ``None`` if there is none now. Never blocks.

    ``UnreadableError`` for what is no line. ``EOFError`` if nothing can come any more.
    """
    try:
        data, ancillary, flags, _ = end.recvmsg(LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
    except BlockingIOError:
        return None
    pid = 0
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            pid = _CREDENTIALS.unpack(content)[0]
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            _close_all(content)
    if not pid:
        raise EOFError("the socket for log lines was shut down")
    number, *rest = data.split(b"\n", 2)
    if flags & socket.MSG_TRUNC or len(rest) != 2 or not (number.isdigit() and len(number) < 4):
        raise UnreadableError(f"the process {pid} sent what is no log line")
    logger, text = (part.decode("utf-8", "replace") for part in rest)
    return RawLine(pid, int(number), logger, text)


def _close_all(content: bytes) -> None:
    fds = array.array("i")
    fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    for fd in fds:
        os.close(fd)


class LogSocketHandler(logging.Handler):
    """Writes lines to the socket. It works in forked processes, and in those that may open nothing any more."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._socket = socket.socket(fileno=os.dup(fd))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless the supervisor reads none now."""
        try:
            self._socket.send(encode(record), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass
        except Exception:  # noqa: BLE001 - arguments that do not fit the text, which the other handler reports
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()


def encode(record: logging.LogRecord) -> bytes:
    """Return a line as ``receive`` reads it."""
    text = record.getMessage()
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        text += f": {type(error).__name__}: {error}"
    return f"{record.levelno}\n{record.name}\n{text}".encode("utf-8", "replace")[:LARGEST]


def handler() -> LogSocketHandler | None:
    """Return a handler for this process, ``None`` if it has no such socket."""
    fd = os.environ.get(_ENVIRONMENT, "")
    try:
        return LogSocketHandler(int(fd)) if fd else None
    except (ValueError, OSError):
        return None
