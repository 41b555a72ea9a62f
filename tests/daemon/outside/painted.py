"""A camera whose frames are all of one colour, (n, 2 * n, 7) for frame n; ``larger`` from one of them on."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from limpet.contracts.data import Samples, SampleSpec, frame_samples
from limpet.pictures.frame import ArrayFrame

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``frames``: how many there are. ``larger``: the first one that is larger than those before."""

    frames: int = 8
    larger: int = 8


def describe(config: Config) -> SampleSpec:
    """Return that samples are frames, of one size unless that changes."""
    shape = (24, 32, 3) if config.larger >= config.frames else (-1, -1, 3)
    return SampleSpec(shape, np.dtype(np.uint8), live=False, queue=1, frames=True)


@contextmanager
def open(config: Config, dropped: Counter[str]) -> Iterator[Iterator[Samples]]:  # noqa: A001, ARG001
    """Start the camera. It drops nothing."""
    yield map(_frame, range(config.frames), [config.larger] * config.frames)


def _frame(number: int, larger: int) -> Samples:
    size = (24, 32) if number < larger else (48, 64)
    pixels = np.empty((*size, 3), np.uint8)
    pixels[...] = number, 2 * number, 7
    return frame_samples(ArrayFrame(pixels), time.monotonic_ns(), time.time_ns(), number)
