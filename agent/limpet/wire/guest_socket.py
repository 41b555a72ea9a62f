"""One gateway at the other end of a socket, as a process with a model sees it. Nothing here ever waits.

The gateway may have been taken over. Whatever it sends that it may not send is ``UnreadableError``, and ends this
socket alone.
"""

from __future__ import annotations

import mmap
import os
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from limpet.errors import UnreadableError
from limpet.wire.channel import Channel
from limpet.wire.guest_records import LARGEST, LARGEST_MEMORY, Attach, Infer, Inferred, Refused, Serving, ToGuest
from limpet.wire.memory_file import sealed

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

CHUNK = 1 << 13
"""Bytes that are read at once: more requests than may wait, and a flood takes little of the pipelines' time."""


class Wanted(NamedTuple):
    """A request, the memory that it is about, and when it came, by ``perf_counter``."""

    infer: Infer
    memory: mmap.mmap
    since: float


class GuestSocket:
    """A socket to the gateway. Answers wait until ``flush``, so that several of them wake it once."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._channel: Channel[ToGuest] = Channel(end, ToGuest, largest=LARGEST, fds=1, chunk=CHUNK)
        self._memory: mmap.mmap | None = None
        self._answers: list[bytes] = []

    def fileno(self) -> int:
        """Return the file descriptor, for selectors."""
        return self._channel.fileno()

    def begin(self, record: Serving | Refused) -> None:
        """Send the first record. ``OSError`` if the gateway is gone or does not read."""
        self._channel.send(record)

    def receive(self) -> Iterator[Wanted]:
        """Read once, and return the requests. ``EOFError`` if the gateway is gone, ``UnreadableError``."""
        now = perf_counter()
        for record in self._channel.receive():
            if isinstance(record, Attach):
                self._memory = self._mapped(record)
            elif self._memory is None:
                raise UnreadableError("a request came before the memory")
            else:
                yield Wanted(record, self._memory, now)

    def answer(self, inferred: Inferred) -> None:
        """Have an answer sent with the next ``flush``."""
        self._answers.append(self._channel.encode(inferred))

    def flush(self) -> None:
        """Send the answers. ``OSError`` if the gateway is gone or does not read: then this socket is over."""
        if self._answers:
            data, self._answers = b"".join(self._answers), []
            self._channel.send_encoded(data)

    def close(self) -> None:
        """Close it."""
        self._channel.close()
        self._memory = None

    def _mapped(self, attach: Attach) -> mmap.mmap:
        if not self._channel.received_fds:
            raise UnreadableError("no memory came along")
        fd = self._channel.received_fds.pop()
        try:
            size = os.fstat(fd).st_size
            if not 0 < size <= LARGEST_MEMORY or size != attach.size:
                raise UnreadableError(f"memory of {size} bytes came")
            if not sealed(fd):
                raise UnreadableError("memory came that could be taken away")
            return mmap.mmap(fd, size)
        except (OSError, ValueError) as error:
            raise UnreadableError(f"memory came that cannot be used: {error}") from error
        finally:
            os.close(fd)
