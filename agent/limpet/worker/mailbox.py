"""Where a source's reader thread leaves blocks of samples for the thread that runs the models."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.data import Samples


class Mailbox:
    """A queue of sample blocks between two threads, bounded in blocks and in bytes.

    If it is full, it drops the oldest blocks, as fresh samples of a live sensor are worth more than old ones. With
    ``wait`` (a recording) the writer waits instead. The newest block always fits, however large it is. ``dropped``
    counts samples.
    """

    def __init__(self, blocks: int, size: int, *, wait: bool) -> None:
        """``blocks`` and ``size`` in bytes: how much may wait."""
        self.dropped = 0
        self.closed = False
        self._blocks: deque[tuple[Samples, int]] = deque()
        self._bytes = 0
        self._most_blocks = blocks
        self._most_bytes = size
        self._wait = wait
        self._news: Callable[[], None] | None = None
        self._changed = Condition()

    def put(self, samples: Samples) -> None:
        """Add a block."""
        size = samples.nbytes
        with self._changed:
            while self._wait and not self.closed and not self._has_room(size):
                self._changed.wait()
            while not self._has_room(size):
                self._drop_oldest(samples)
            self._blocks.append((samples, size))
            self._bytes += size
            self._changed.notify_all()
            if self._news is not None:
                self._news()

    def _has_room(self, size: int) -> bool:
        return not self._blocks or (
            len(self._blocks) < self._most_blocks and self._bytes + size <= self._most_bytes
        )

    def _drop_oldest(self, newest: Samples) -> None:
        """Drop a block, and mark the one that comes after it."""
        self.dropped += len(self._take())
        following = self._blocks[0][0] if self._blocks else newest
        following.gap = True

    def _take(self) -> Samples:
        block, size = self._blocks.popleft()
        self._bytes -= size
        return block

    def watch(self, news: Callable[[], None] | None) -> None:
        """Call ``news`` with each block that comes, and at the end, for one who waits for other things, too.

        It is called in the writer's thread, and must neither wait nor raise. ``None``: call nothing any more.
        """
        with self._changed:
            self._news = news

    def close(self) -> None:
        """Say that no block will come any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
            if self._news is not None:
                self._news()

    def get(self, timeout: float) -> Samples | None:
        """Take the oldest block; ``None`` if none came in ``timeout`` seconds. ``EOFError`` after the last."""
        with self._changed:
            if not self._blocks and not self.closed:
                self._changed.wait(timeout)
            if self._blocks:
                block = self._take()
                self._changed.notify_all()
                return block
            if self.closed:
                raise EOFError("the source has ended")
            return None

    def __len__(self) -> int:
        """Return how many blocks wait."""
        return len(self._blocks)
