"""Images to the size that a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace

from limpet.contracts.fields import Count
from limpet.contracts.transform import Abilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray, Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(keeps_range=True)
"""Pixels stay between those that they are made from."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Images of another size. The picture is stretched, not cut."""

    height: Count
    """Height in pixels. Example: `96`."""
    width: Count
    """Width in pixels. Example: `96`."""


def open(config: Config, spec: Spec) -> Resize:
    """Prepare for images ``(n, height, width, channels)``. ``ValueError`` for other arrays."""
    if len(spec.shape) != 4 or -1 in spec.shape:
        raise ValueError(f"resize takes images (n, height, width, channels), not {list(spec.shape)}")
    return Resize(spec, config.height, config.width)


class Resize:
    """Images ``(n, height, width, channels)`` of any real dtype to float32 ones; one buffer serves all calls.

    Bilinear with half-pixel centres: pixel i of the result is at (i + 1/2) * old / new - 1/2 of the image. It is
    interpolated between its neighbours there. There is no smoothing beforehand, as in TensorFlow's default, with
    which models are trained.

    Source: TensorFlow Lite's kernel RESIZE_BILINEAR with ``half_pixel_centers``, ``tf.image.resize``.
    """

    def __init__(self, spec: Spec, height: int, width: int) -> None:
        count, old_height, old_width, channels = spec.shape
        self.spec = replace(spec, shape=(count, height, width, channels), dtype=np.dtype(np.float32))
        above, below, down = _neighbours(old_height, height)
        left, right, across = _neighbours(old_width, width)
        # Of every pixel the four neighbours, by position in the image: above left, above right, below left ...
        self._neighbours = (np.stack([above, below])[:, None, :, None] * old_width) + np.stack([left, right])[
            :, None
        ]
        self._down = down[:, None]
        self._across = np.repeat(across, channels)
        self._found = np.empty((*self._neighbours.shape, channels), np.uint8)
        self._work = np.empty((2, 2, height, width * channels), np.float32)
        self._out = np.empty(self.spec.shape, np.float32)

    def __call__(self, window: Window) -> Window:
        """Return the window with its images resized."""
        values = window.values
        if values.dtype != self._found.dtype:
            self._found = np.empty(self._found.shape, values.dtype)
        for image, out in zip(values, self._out, strict=True):
            self._resize(image, out)
        window.values = self._out
        return window

    def reset(self) -> None:
        """Do nothing: nothing is remembered."""

    def _resize(self, image: Array, out: Array) -> None:
        work = self._work
        pixels = image.reshape(-1, image.shape[-1])
        # All positions are inside; with "clip" numpy writes to its target without a copy between.
        pixels.take(self._neighbours, axis=0, out=self._found, mode="clip")
        work[...] = self._found.reshape(work.shape)
        rows = _blend(work[:, 0], work[:, 1], self._across)
        out[...] = _blend(rows[0], rows[1], self._down).reshape(out.shape)


def _neighbours(old: int, new: int) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Return for each new position the old ones before and after it, and how far on the way it is."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    before = np.floor(at).astype(np.intp)
    return before, np.minimum(before + 1, old - 1), (at - before).astype(np.float32)


def _blend(start: FloatArray, end: FloatArray, share: FloatArray) -> FloatArray:
    """Return, in place of ``start``, what is a ``share`` of the way from ``start`` to ``end``."""
    end -= start
    end *= share
    start += end
    return start
