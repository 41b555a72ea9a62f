"""A mask as run lengths and as PNG."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.outputs import RunLengths

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_COUNTS = 10_000
"""Run lengths of all masks of a result."""
LARGEST_PNG = 48_000
"""Bytes of a PNG."""


def run_lengths(masks: Sequence[NDArray[np.bool_]]) -> list[RunLengths]:
    """Return masks ``(h, w)`` of one size as COCO's uncompressed run lengths.

    If they are more than ``MOST_COUNTS``, those of every other pixel, and so on.
    """
    while True:
        found = [_counts(mask) for mask in masks]
        if sum(len(one.counts) for one in found) <= MOST_COUNTS or min(masks[0].shape) <= 1:
            return found
        masks = [mask[::2, ::2] for mask in masks]


def _counts(mask: NDArray[np.bool_]) -> RunLengths:
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    ends = [0, *changes.tolist(), len(pixels)]
    counts = [end - begin for begin, end in pairwise(ends)]
    if pixels[0]:
        counts.insert(0, 0)
    return RunLengths((mask.shape[0], mask.shape[1]), counts)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a grey picture ``(h, w)`` as PNG; every other pixel of it, and so on, if that is too large."""
    while True:
        data = _png(pixels)
        if len(data) <= LARGEST_PNG or min(pixels.shape) <= 1:
            return data
        pixels = pixels[::2, ::2]


def _png(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # in front of each line is its filter: 0 for none
    lines[:, 1:] = pixels
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
