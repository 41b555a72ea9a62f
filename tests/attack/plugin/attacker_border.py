"""The worker's end of its channel to the supervisor, found as an intruder finds it: among the open files."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import stat
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from limpet.wire.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIOCOUTQ = termios.TIOCOUTQ
PATIENCE = 3.0
"""Seconds that the supervisor has to read what was written."""


class Border:
    """Writes any bytes to the supervisor. ``target`` is the folder of the daemon's configuration."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.socket, self.supervisor = _channel()
        self._turn = threading.RLock()
        self._take_turns()

    def _take_turns(self) -> None:
        """Have the rest of this worker send whole records, between those of the intruder."""
        original: Callable[..., None] = Channel.send_encoded

        def send(channel: Channel[Any], data: bytes, fds: tuple[int, ...] = ()) -> None:
            with self._turn:
                original(channel, data, fds)

        Channel.send_encoded = send  # type: ignore[method-assign]

    def silence(self) -> None:
        """Let nothing of this worker reach the supervisor any more but what the intruder writes."""
        Channel.send_encoded = lambda *_: None  # type: ignore[method-assign, assignment]

    def write(self, data: bytes) -> None:
        """Write bytes as they are."""
        with self._turn:
            self.socket.sendall(data)

    def record(self, content: Any) -> None:
        """Write something as one record; bytes stand for themselves."""
        payload = content if isinstance(content, bytes) else msgspec.msgpack.encode(content)
        self.write(struct.pack("<I", len(payload)) + payload)

    def record_with(self, content: Any, fds: list[int]) -> None:
        """Write a record with file descriptors."""
        payload = msgspec.msgpack.encode(content)
        data = struct.pack("<I", len(payload)) + payload
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        with self._turn:
            sent = self.socket.sendmsg([data], ancillary)
            self.socket.sendall(data[sent:])

    def read(self, timeout: float) -> tuple[bytes, list[int]]:
        """Read what the supervisor says, before the worker does, with the file descriptors that come along."""
        self.socket.settimeout(timeout)
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 16, 16)
        except (OSError, TimeoutError):
            return b"", []
        finally:
            self.socket.settimeout(None)
        return data, list(fds)

    def unread(self) -> int:
        """Return how many bytes the supervisor has not read yet; 0 proves that all reached it."""
        answer = fcntl.ioctl(self.socket, SIOCOUTQ, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])

    def settle(self) -> int:
        """Wait until the supervisor has read everything, and return how much it has not."""
        until = time.monotonic() + PATIENCE
        while (left := self.unread()) and time.monotonic() < until:
            time.sleep(0.01)
        return left


def _channel() -> tuple[socket.socket, int]:
    """Return the socket whose other end another process made, and that process."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            end = socket.socket(fileno=os.dup(fd))
            peer, _, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            continue
        if end.type == socket.SOCK_STREAM and peer not in (0, os.getpid(), os.getppid()):
            return end, peer
    raise LookupError("no channel among the open files")
