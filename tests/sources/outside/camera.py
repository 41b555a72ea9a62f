"""A camera that is not there: a bright square moves over its frames. A source of a third party, in one file.

As a driver of V4L2 does, it writes to a few buffers of its own, and hands them out without a copy.
"""

from __future__ import annotations

import mmap
import time
import weakref
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from limpet.contracts.data import Samples, SampleSpec, empty_samples
from limpet.contracts.needs import Needs

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

SHAPE = (24, 32, 3)


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``rate``: frames a second. ``buffers``: how many the driver has. ``torn``: each so many frames is torn."""

    rate: float = 30.0
    buffers: int = 4
    torn: int = 7


def needs(config: Config) -> Needs:  # noqa: ARG001 - a real one returns its device
    """Return nothing: the frames are made up."""
    return Needs()


def describe(config: Config) -> SampleSpec:
    """Return that samples are uint8 (height, width, 3), of which the latest wins."""
    return SampleSpec(SHAPE, np.dtype(np.uint8), rate=config.rate, queue=1)


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:  # noqa: A001
    """Start the camera. Frames are dropped as ``torn``, or as ``no_buffer`` while all buffers are out."""
    yield _frames(config, dropped, Buffers(config.buffers))


def _frames(config: Config, dropped: Counter[str], buffers: Buffers) -> Iterator[Samples]:
    index, gap = 0, False
    while True:
        time.sleep(1 / config.rate)
        frame = buffers.take()
        if frame is None or index % config.torn == config.torn - 1:
            dropped["no_buffer" if frame is None else "torn"] += 1
            yield empty_samples(describe(config), index + 1)
            gap = True
        else:
            frame[...] = 16
            frame[index % 20 : index % 20 + 4, :4] = 255
            # A view of its own: nothing here may keep the buffer.
            yield Samples(
                frame[np.newaxis], np.array([time.monotonic_ns()]), np.array([time.time_ns()]), index, gap
            )
            gap = False
        del frame  # or it would keep its buffer
        index += 1


class Buffers:
    """The driver's memory. A buffer comes back when nothing refers to its array or to a view of it any more."""

    def __init__(self, count: int) -> None:
        self._free = deque(mmap.mmap(-1, int(np.prod(SHAPE))) for _ in range(count))

    def take(self) -> np.ndarray[Any, Any] | None:
        """Return a buffer to write a frame to, ``None`` while all are out."""
        if not self._free:
            return None
        memory = self._free.popleft()
        array: np.ndarray[Any, Any] = np.frombuffer(memory, np.uint8)
        weakref.finalize(array, self._free.append, memory).atexit = False
        return array.reshape(SHAPE)

    def __len__(self) -> int:
        """Return how many are not out."""
        return len(self._free)
