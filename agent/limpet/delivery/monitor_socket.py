"""The monitor socket: a Unix socket over which any number of people read what the bus carries, up to a limit.

Each line is a JSON object. ``{"topic": "result/motion", "message": {...}}`` has a message as it is published below
``limpet/<device>/``. First come the daemon's status and the state of everything. ``{"missed": n}`` says how many
messages this reader missed; the state comes again after it. ``{"refused": "why"}`` is the last line.

The daemon reads nothing from the socket. Who can open the socket's file can watch. A reader that is slow, hangs or
is gone costs its own thread and ``MOST_BYTES``, and holds up nothing else.
"""

from __future__ import annotations

import errno
import logging
import os
import selectors
import socket
import stat
from contextlib import suppress
from select import POLLERR, POLLHUP, POLLOUT, poll
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Literal

import msgspec

from limpet.bucket import Bucket
from limpet.contracts.messages import StatusMessage
from limpet.delivery.monitor import is_result, topic_of
from limpet.device import state_files
from limpet.device.unix_path import reachable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from limpet.contracts.messages import Origin
    from limpet.delivery.monitor import Monitor, Shown, Watch

log = logging.getLogger(__name__)

MODE = 0o660
"""Owner and group, which is the service's. To connect takes the right to write, though nothing is read."""
MOST_READERS = 8
MOST_BYTES = 1 << 18
"""Bytes that may wait for one reader. What comes after that is missed."""
BYTES_PER_SECOND, BYTES_AT_ONCE = 1 << 20, 1 << 20
"""Bytes of results that one reader gets. What is more is missed: making JSON of it takes the daemon's time."""
CONNECTIONS_PER_SECOND, CONNECTIONS_AT_ONCE = 5.0, 16
PAUSE, SHORT_PAUSE = 0.05, 0.005
"""Seconds in which messages gather before they are sent: to a person, and to a program."""
MOST_PROGRAMS = 2
"""Readers that were connected by ``serve``: one, and one before it that is about to end."""
LOOK = 0.25
"""Seconds between two looks at a reader for which there is nothing new."""
STUCK = 30.0
"""Seconds without reading after which a reader is disconnected: its place is another's."""
LEAVING = 1.0
"""Seconds that readers have to take the last messages when the daemon ends."""


class MonitorSocket:
    """Accepts readers, on the thread of ``selector``. Each is served by its own thread.

    If the socket cannot be made, the daemon goes on without it, and the log says why.
    """

    def __init__(self, path: Path, monitor: Monitor, origin: Origin, selector: selectors.BaseSelector) -> None:
        self._path = path
        self._monitor = monitor
        self._origin = origin
        self._selector = selector
        self._connections = Bucket(CONNECTIONS_PER_SECOND, CONNECTIONS_AT_ONCE)
        self._readers: list[_Reader] = []
        self._programs: list[_Reader] = []
        self._paused_until: float | None = None
        self._listener: socket.socket | None = None
        self._inode: tuple[int, int] | None = None

    def open(self) -> None:
        """Begin to listen. A socket that a killed daemon left is replaced; one on which another listens is not."""
        try:
            self._listener = _listen(self._path)
            status = self._path.lstat()
            self._inode = status.st_dev, status.st_ino
        except OSError as error:
            reason = _reason(error)
            log.warning("%s: %s; `limpet watch` cannot show this daemon", self._path, reason)
        else:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def serve(self, connection: socket.socket) -> str:
        """Serve a program of the daemon on this socket, in place of the one before. Return why not, if so."""
        self.tend()
        if len(self._programs) >= MOST_PROGRAMS:
            return "another one watches already"
        for before in self._programs:
            before.leave()
        return self._start(connection, self._programs, SHORT_PAUSE)

    def tend(self) -> None:
        """Accept readers again after a pause, and forget those that are gone."""
        self._readers = [reader for reader in self._readers if reader.thread.is_alive()]
        self._programs = [reader for reader in self._programs if reader.thread.is_alive()]
        if self._listener is not None and self._paused_until is not None and monotonic() >= self._paused_until:
            self._paused_until = None
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def close(self) -> None:
        """Send readers what is left, and delete the socket's file."""
        if self._listener is not None:
            if self._paused_until is None:
                self._selector.unregister(self._listener)
            with suppress(OSError):
                status = self._path.lstat()
                if (status.st_dev, status.st_ino) == self._inode:
                    self._path.unlink()
            self._listener.close()
            self._listener = None
        readers = [*self._readers, *self._programs]
        for reader in readers:
            reader.leave()
        until = monotonic() + LEAVING
        for reader in readers:
            reader.thread.join(max(0.0, until - monotonic()))

    def _accept(self) -> None:
        assert self._listener is not None
        now = monotonic()
        self._connections.spend(1)
        if self._connections.level(now) < 1:
            self._selector.unregister(self._listener)
            self._paused_until = self._connections.full_at(1.0)
        try:
            connection, _ = self._listener.accept()
        except OSError:  # gone already, or no file descriptor is left
            return
        self.tend()
        if len(self._readers) >= MOST_READERS:
            _refuse(connection, f"{MOST_READERS} others watch already, which is the limit")
            return
        if problem := self._start(connection, self._readers, PAUSE):
            _refuse(connection, problem)

    def _start(self, connection: socket.socket, readers: list[_Reader], pause: float) -> str:
        """Serve a connection. Return why that is not possible, if so."""
        watch = self._monitor.watch()
        try:
            readers.append(_Reader(connection, watch, self._origin, pause))
        except RuntimeError:  # a worker may have started all threads that the service may have
            watch.close()
            return "the system lets the daemon start no further thread"
        return ""


class _Reader:
    """Serves one connection on its own thread."""

    def __init__(self, connection: socket.socket, watch: Watch, origin: Origin, pause: float) -> None:
        self._connection = connection
        self._pause = pause
        self._watch = watch
        self._origin = origin
        self._leaving = Event()
        self._queue = _Queue(watch)
        self.thread = Thread(target=self._run, name="monitor", daemon=True)
        self.thread.start()

    def leave(self) -> None:
        """Have the thread send what it can at once, and end."""
        self._leaving.set()
        self._watch.wake()

    def _run(self) -> None:
        try:
            with self._connection:
                self._serve()
        except OSError:
            pass  # the reader is gone
        except Exception:
            log.exception("a bug in the monitor; a reader is disconnected")
        finally:
            self._watch.close()

    def _serve(self) -> None:
        connection, queue = self._connection, self._queue
        connection.setblocking(False)
        connection.shutdown(socket.SHUT_RD)
        queue.put("status", self._status("online"))
        look = poll()
        look.register(connection, POLLOUT)
        moved = monotonic()
        while not self._leaving.is_set() and monotonic() < moved + STUCK:
            queue.fill(self._watch.read(), monotonic())
            if queue.send_to(connection) or queue.empty:
                moved = monotonic()
            if queue.empty:
                self._watch.wait(LOOK)
                self._leaving.wait(self._pause)
            else:
                look.poll(LOOK * 1000)
            if any(event & (POLLHUP | POLLERR) for _, event in look.poll(0)):
                return
        queue.fill(self._watch.read(), monotonic())
        queue.put("status", self._status("offline"))
        queue.send_to(connection)

    def _status(self, status: Literal["online", "offline"]) -> StatusMessage:
        origin = self._origin
        return StatusMessage(device=origin.device, boot=origin.boot, version=origin.version, status=status)


class _Queue:
    """Lines that wait for a reader, within limits."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._encode = msgspec.json.Encoder().encode
        self._bucket = Bucket(BYTES_PER_SECOND, BYTES_AT_ONCE)
        self._lines = bytearray()
        self._missed = 0
        self._state_is_due = False

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._lines

    def fill(self, messages: Iterable[Shown], now: float) -> None:
        """Add messages, or count them as missed. Count and state are sent as soon as there is room again."""
        self._missed += self._watch.newly_missed()
        again = (self._missed > 0 or self._state_is_due) and len(self._lines) < MOST_BYTES // 2
        if again and self._missed:
            missed, self._missed = self._missed, 0
            self._lines += self._encode({"missed": missed}) + b"\n"
        for message in messages:
            self._missed += not self._add(message, now)
        if again:
            added = [self._add(message, now) for message in self._watch.state()]
            self._state_is_due = not all(added)

    def _add(self, message: Shown, now: float) -> bool:
        """Add a message if there is room. Return whether there was."""
        result = is_result(message)
        if len(self._lines) >= MOST_BYTES or (result and self._bucket.level(now) <= 0):
            return False
        size = self.put(topic_of(message), message)
        if result:
            self._bucket.spend(size)
        return True

    def put(self, topic: str, message: Shown | StatusMessage) -> int:
        """Add a message. Return how many bytes it takes."""
        try:
            line = self._encode({"topic": topic, "message": message}) + b"\n"
        except (TypeError, ValueError, OverflowError, RecursionError):  # the reporters say that it is lost
            return 0
        self._lines += line
        return len(line)

    def send_to(self, connection: socket.socket) -> bool:
        """Send what can be sent at once. Return whether that was anything. ``OSError`` if the reader is gone."""
        if not self._lines:
            return False
        try:
            sent = connection.send(self._lines, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        del self._lines[:sent]
        return True


def _listen(path: Path) -> socket.socket:
    """Return a socket that listens at a path. ``OSError`` if another daemon does, or if that cannot be done."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(listener.fileno(), MODE)  # before it has a name: it is never open to others
        with reachable(path) as address:
            _make_room(path, address)
            listener.bind(address)
        path.chmod(MODE)  # the umask took something away
        listener.listen(MOST_READERS)
    except OSError:
        listener.close()
        raise
    return listener


def _make_room(path: Path, address: str) -> None:
    """Delete a socket on which no process listens, and set aside what is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        state_files.set_aside(path)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(address)
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # it listens, and is busy
    raise OSError(errno.EADDRINUSE, "another daemon uses this socket")


def _refuse(connection: socket.socket, why: str) -> None:
    with connection, suppress(OSError):
        connection.setblocking(False)
        connection.send(msgspec.json.encode({"refused": why}) + b"\n", socket.MSG_NOSIGNAL)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
