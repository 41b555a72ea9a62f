"""Records over a Unix stream socket: four bytes of length, then msgpack."""

from __future__ import annotations

import array
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

R = TypeVar("R")

_LENGTH = struct.Struct("<I")
_CHUNK = 1 << 18
_FDS = array.array("i").itemsize


def _encode_path(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} does not cross a process border")


def _decode_path(kind: type, value: Any) -> Any:
    return kind(value)


class Channel(Generic[R]):
    """One end of a socket pair. Sends any record, receives records of ``kind``."""

    def __init__(self, end: socket.socket, kind: Any) -> None:
        self.socket = end
        self._encoder = msgspec.msgpack.Encoder(enc_hook=_encode_path)
        self._decoder = msgspec.msgpack.Decoder(kind, dec_hook=_decode_path)
        self._buffer = bytearray()
        self.received_fds: list[int] = []

    def fileno(self) -> int:
        """Return the socket's file descriptor, for selectors."""
        return self.socket.fileno()

    def send(self, record: Any, fds: tuple[int, ...] = ()) -> None:
        """Send a record, with file descriptors where given. ``OSError`` if the other end is gone."""
        payload = self._encoder.encode(record)
        data = _LENGTH.pack(len(payload)) + payload
        sent = 0
        if fds:
            sent = socket.send_fds(self.socket, [data], fds)
        self.socket.sendall(data[sent:])

    def receive(self) -> Iterator[R]:
        """Read once and return the records that are complete. ``EOFError`` if the other end is gone.

        Blocks only where the socket does and nothing is there. File descriptors that came along are appended
        to ``received_fds``.
        """
        try:
            data, ancillary, _, _ = self.socket.recvmsg(_CHUNK, socket.CMSG_SPACE(8 * _FDS))
        except BlockingIOError:
            return iter(())
        except ConnectionResetError:
            data, ancillary = b"", []
        if not data:
            raise EOFError("the other end is gone")
        for level, kind, raw in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                self.received_fds.extend(array.array("i", raw[: len(raw) - len(raw) % _FDS]))
        self._buffer += data
        return self._complete()

    def _complete(self) -> Iterator[R]:
        start = 0
        buffer = self._buffer
        records = []
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            end = start + _LENGTH.size + length
            if end > len(buffer):
                break
            records.append(self._decoder.decode(buffer[start + _LENGTH.size : end]))
            start = end
        del buffer[:start]
        return iter(records)

    def close(self) -> None:
        """Close this end."""
        self.socket.close()
