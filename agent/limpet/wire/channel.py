"""Records over a Unix stream socket: four bytes of length, then msgpack.

The other end may be a process that an attacker controls. So the size of a record and the number of file
descriptors are limited. Every fault of an incoming record raises the same error, ``UnreadableError``.
"""

from __future__ import annotations

import array
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from limpet.errors import UnreadableError
from limpet.untrusted import reading
from limpet.wire.stream import LENGTH, framed

if TYPE_CHECKING:
    from collections.abc import Iterator

R = TypeVar("R")

LARGEST = 1 << 24
"""Bytes of a record from a process that is trusted, unless its reader says otherwise."""
CHUNK = 1 << 16
"""Bytes of one read. A larger buffer would be mapped and unmapped for each, as malloc does above 128 KiB."""
_FDS = array.array("i").itemsize
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def _encode_path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not cross a process border")


def _decode_path(kind: type, value: Any) -> Any:
    return kind(value)


class Channel(Generic[R]):
    """One end of a socket pair. Sends any record, receives records of ``kind``.

    ``largest``: bytes of a record that is received. ``fds``: file descriptors that may wait in ``received_fds``.
    ``chunk``: bytes that ``receive`` reads at once.
    """

    def __init__(
        self, end: socket.socket, kind: Any, *, largest: int = LARGEST, fds: int = 0, chunk: int = CHUNK
    ) -> None:
        self.socket = end
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_decode_path)
        self._buffer = bytearray()
        self._largest = largest
        self._fds = fds
        self._chunk = chunk
        self.received_fds: list[int] = []
        self.received_bytes = 0
        """Bytes received since the start."""

    def fileno(self) -> int:
        """Return the socket's file descriptor, for selectors."""
        return self.socket.fileno()

    @property
    def drained(self) -> bool:
        """Whether all that was received was taken: no part of a record is left, and no file descriptor."""
        return not self._buffer and not self.received_fds

    def encode(self, record: Any) -> bytes:
        """Return a record as ``send_encoded`` takes it."""
        return framed(self._encoder.encode(record))

    def send(self, record: Any, fds: tuple[int, ...] = ()) -> None:
        """Send a record, with file descriptors where given. ``OSError`` if the other end is gone."""
        self.send_encoded(self.encode(record), fds)

    def send_encoded(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send what ``encode`` returned."""
        sent = socket.send_fds(self.socket, [data], fds) if fds else 0
        if rest := data[sent:]:  # The other end may be gone already, which an empty rest need not know.
            self.socket.sendall(rest)

    def receive(self) -> Iterator[R]:
        """Read once, and return the records that are complete. ``EOFError`` if the other end is gone.

        Blocks only where the socket does and nothing is there. File descriptors that came along are appended
        to ``received_fds``. ``UnreadableError`` from here or from the iterator says what is wrong with what came:
        then nothing of this channel can be read any more.
        """
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(
                self._chunk, socket.CMSG_SPACE(self._fds * _FDS) if self._fds else 0, _CLOSED_ON_EXEC
            )
        except BlockingIOError:
            return iter(())
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        self._take_fds(ancillary)
        if flags & socket.MSG_CTRUNC or len(self.received_fds) > self._fds:
            self._close_fds()
            raise UnreadableError(f"more than {self._fds} file descriptors came")
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data
        self.received_bytes += len(data)
        return self._complete()

    def _take_fds(self, ancillary: list[tuple[int, int, bytes]]) -> None:
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.received_fds.extend(array.array("i", raw[: len(raw) - len(raw) % _FDS]))

    def _close_fds(self) -> None:
        while self.received_fds:
            os.close(self.received_fds.pop())

    def _complete(self) -> Iterator[R]:
        start = 0
        buffer = self._buffer
        try:
            while len(buffer) - start >= LENGTH.size:
                (length,) = LENGTH.unpack_from(buffer, start)
                if length > self._largest:
                    raise UnreadableError(f"a record of {length} bytes; the limit is {self._largest}")
                end = start + LENGTH.size + length
                if end > len(buffer):
                    break
                data = bytes(memoryview(buffer)[start + LENGTH.size : end])
                start = end
                with reading("a record"):
                    record = self._decoder.decode(data)
                yield record
        finally:
            del buffer[:start]

    def close(self) -> None:
        """Close this end, and file descriptors that were not taken."""
        self._close_fds()
        self.socket.close()
