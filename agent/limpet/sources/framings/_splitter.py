"""Cutting a stream of bytes at a delimiter, in bounded memory."""

from __future__ import annotations


class BadFrameError(Exception):
    """A frame that cannot be read; its argument is the cause to count."""


class Splitter:
    """Cuts a stream at a delimiter and never keeps more than ``limit`` bytes.

    What comes out does not depend on how the stream was cut into pieces before.
    """

    def __init__(self, delimiter: bytes, limit: int) -> None:
        self._delimiter = delimiter
        self._limit = limit
        self._tail = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the frames that ended in ``data``, ``None`` in the place of one longer than ``limit``."""
        data = self._tail + data
        frames: list[bytes | None] = [*data.split(self._delimiter)]
        tail = frames.pop() or b""
        if len(data) > self._limit:
            frames = [frame if frame is not None and len(frame) <= self._limit else None for frame in frames]
        if self._skipping and frames:
            del frames[0]
            self._skipping = False
        elif self._skipping:
            tail = b""
        if len(tail) > self._limit:
            frames.append(None)
            self._skipping = True
            tail = b""
        self._tail = tail
        return frames
