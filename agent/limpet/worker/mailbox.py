"""Where a source's reader thread leaves blocks of samples for the thread that runs the models."""

from __future__ import annotations

from collections import deque
from threading import Condition
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limpet.contracts.data import Samples


class Mailbox:
    """A bounded queue of sample blocks between two threads.

    Full, it drops the oldest block, as fresh samples of a live sensor are worth more than old ones; with
    ``wait`` (a recording) the writer waits instead. ``dropped`` counts samples.
    """

    def __init__(self, size: int, *, wait: bool) -> None:
        self.dropped = 0
        self._blocks: deque[Samples] = deque()
        self._size = size
        self._wait = wait
        self.closed = False
        self._changed = Condition()

    def put(self, samples: Samples) -> None:
        """Add a block."""
        with self._changed:
            while self._wait and len(self._blocks) >= self._size:
                self._changed.wait()
            if len(self._blocks) >= self._size:
                self.dropped += len(self._blocks.popleft())
                oldest = self._blocks[0] if self._blocks else samples
                oldest.gap = True
            self._blocks.append(samples)
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no block will come any more."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def get(self, timeout: float) -> Samples | None:
        """Take the oldest block; ``None`` if none came in ``timeout`` seconds. ``EOFError`` after the last."""
        with self._changed:
            if not self._blocks and not self.closed:
                self._changed.wait(timeout)
            if self._blocks:
                block = self._blocks.popleft()
                self._changed.notify_all()
                return block
            if self.closed:
                raise EOFError("the source has ended")
            return None

    def __len__(self) -> int:
        return len(self._blocks)
