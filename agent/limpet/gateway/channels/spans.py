"""Which parts of a memory are in use. Decides, without I/O."""

from __future__ import annotations

from typing import NamedTuple

from limpet.wire.guest_records import ALIGN


def aligned(size: int) -> int:
    """Return the bytes that something of this size takes."""
    return -(-size // ALIGN) * ALIGN


class Span(NamedTuple):
    """A part of the memory, in bytes."""

    offset: int
    size: int


class Spans:
    """Gives out parts of a memory of ``size`` bytes, at the lowest offset, so that the rest is never touched."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._used: list[Span] = []

    def __bool__(self) -> bool:
        """Whether something is in use."""
        return bool(self._used)

    def take(self, size: int) -> Span | None:
        """Return a free part, ``None`` if there is none of this size now."""
        size = max(aligned(size), ALIGN)
        begin = 0
        for index, span in enumerate(self._used):
            if span.offset - begin >= size:
                return self._put(index, Span(begin, size))
            begin = span.offset + span.size
        return self._put(len(self._used), Span(begin, size)) if self.size - begin >= size else None

    def give_back(self, span: Span) -> None:
        """Take back what ``take`` returned. Nothing happens the second time."""
        self._used = [used for used in self._used if used is not span]

    def _put(self, index: int, span: Span) -> Span:
        self._used.insert(index, span)
        return span
