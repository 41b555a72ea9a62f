"""Reads the monitor socket of a daemon on this machine, and connects again when the daemon was restarted."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from threading import Event, Thread
from time import sleep
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from limpet.device import directories
from limpet.device.unix_path import reachable
from limpet.errors import LimpetError, UnreadableError
from limpet.untrusted import printable, reading
from limpet.watch.inbox import Received

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from typing_extensions import Self

    from limpet.watch.inbox import Inbox

LARGEST_LINE = 1 << 21
RETRY = 0.25
"""Seconds between two attempts to connect."""
SILENCE = 5.0
"""Seconds without a message after which the daemon is taken to hang: it sends health every second."""
BUSY, PAUSE = 40, 0.05
"""Attempts to connect to a daemon that has not accepted others yet, and the seconds between two of them."""


class _Message(msgspec.Struct):
    """What every message has."""

    device: str


class Line(msgspec.Struct):
    """A line of the socket, see ``limpet.delivery.monitor_socket``."""

    topic: str = ""
    message: msgspec.Raw = msgspec.Raw(b"null")
    missed: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    refused: str = ""


_line = msgspec.json.Decoder(Line)
_message = msgspec.json.Decoder(_Message)


class LocalFeed:
    """Puts what the daemon sends into an inbox, on its own thread, as long as its ``with`` block lasts."""

    def __init__(self, paths: Sequence[Path], file: Path, inbox: Inbox) -> None:
        """Connect. ``paths``: where the socket may be, for the configuration ``file``. ``LimpetError`` if not."""
        self._paths = paths
        self._inbox = inbox
        self._ended = Event()
        self._connection = self._first(file)
        self._thread = Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(2)

    def _first(self, file: Path) -> socket.socket:
        try:
            return _connect(self._paths)
        except PermissionError as error:
            raise LimpetError(
                f"{error.filename}: you may not read it. Run: sudo limpet watch {file}, or join the group of the "
                "service: sudo usermod -aG limpet $USER, and log in again"
            ) from error
        except OSError as error:
            looked = ", ".join(map(str, self._paths))
            raise LimpetError(
                f"no daemon runs with {file} (no monitor socket at {looked}). Run: limpet run {file}"
            ) from error

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._read(self._connection)
                why = "the daemon has stopped"
            except TimeoutError:
                why = f"the daemon has sent nothing for {SILENCE:.0f} s"
            except (OSError, LimpetError) as error:
                why = str(error)
            finally:
                self._connection.close()
            self._inbox.notice = f"{why}; connecting again"
            self._connect_again()

    def _connect_again(self) -> None:
        while not self._ended.wait(RETRY):
            try:
                self._connection = _connect(self._paths)
            except OSError:
                continue
            return

    def _read(self, connection: socket.socket) -> None:
        """Read until the daemon ends the connection. ``LimpetError`` says what is wrong with what it sends."""
        with connection.makefile("rb", buffering=1 << 16) as file:
            while line := file.readline(LARGEST_LINE):
                if not line.endswith(b"\n"):
                    raise UnreadableError(f"a line of the daemon is longer than {LARGEST_LINE} bytes")
                self._take(line)

    def _take(self, line: bytes) -> None:
        found = decode(line)
        self._inbox.notice = ""  # it sends: a daemon that hangs can be connected to
        if found.missed:
            self._inbox.add_missed(found.missed)
        if found.topic:
            with reading("a message of the daemon"):
                device = _message.decode(found.message).device
            self._inbox.put(Received(device, found.topic, bytes(found.message)))


def decode(line: bytes) -> Line:
    """Return a line. ``UnreadableError`` if it is none, another ``LimpetError`` if the daemon refuses to send."""
    with reading("a line of the daemon"):
        found = _line.decode(line)
    if found.refused:
        raise LimpetError(f"the daemon refuses: {printable(found.refused[:200])}")
    return found


def paths(state: Path, file: Path) -> list[Path]:
    """Return where the socket of a daemon with this state directory and configuration file may be.

    A service has a runtime directory, whose name its unit makes from the file's.
    """
    found = [directories.monitor(state), state / directories.MONITOR]
    if file.parent.resolve() == directories.CONFIGURATION:
        name = "limpet" if file.stem == "limpet" else f"limpet-{file.stem}"
        found.append(directories.RUNTIME / name / directories.MONITOR)
    return list(dict.fromkeys(found))


def _connect(candidates: Sequence[Path]) -> socket.socket:
    """Return a connection to the first that answers. ``OSError``: the one that says most about why none does."""
    errors: list[OSError] = []
    for path in candidates:
        try:
            return _connect_to(path)
        except OSError as error:
            error.filename = str(path)
            errors.append(error)
    raise next((error for error in errors if isinstance(error, PermissionError)), errors[0])


def _raise(error: int) -> None:
    if error == errno.EAGAIN:
        raise OSError(error, "the daemon accepts no connection; it may be stopped")
    if error:
        raise OSError(error, os.strerror(error))


def _connect_to(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        with reachable(path) as address:
            for _ in range(BUSY):
                if (error := connection.connect_ex(address)) != errno.EAGAIN:
                    break
                sleep(PAUSE)  # others are waiting to be accepted
        _raise(error)
    except OSError:
        connection.close()
        raise
    connection.settimeout(SILENCE)
    return connection
