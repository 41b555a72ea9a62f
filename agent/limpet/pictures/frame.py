"""Frames in memory: a decoded picture, an array of a program, or a window that is made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet.contracts.frame import FrameForm
from limpet.pictures.rendering import renderer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array
    from limpet.contracts.frame import Developer, View

UNKNOWN = (1080, 1920)
"""Height and width of a frame that is made up for a source whose frames may have any size."""


class ArrayFrame:
    """A frame of uint8 pixels ``(height, width, 3)`` in RGB, or grey ones ``(height, width)`` or with a 1 behind.

    The array must not change any more.
    """

    __slots__ = ("form", "nbytes", "pixels")

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        """Take the array as it is. ``ValueError`` if it is no such picture."""
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] not in {1, 3} or not pixels.size:
            raise ValueError(
                f"a frame is uint8 pixels (height, width, 3) or (height, width), not {pixels.dtype} "
                f"{list(pixels.shape)}"
            )
        height, width, channels = pixels.shape
        self.pixels = pixels
        self.form = FrameForm(width, height, "gray" if channels == 1 else "rgb24")
        self.nbytes = int(pixels.nbytes)

    def developer(self, view: View) -> Developer:
        """Prepare to develop frames of this form. ``ValueError`` if they do not have the part."""
        render = renderer(view, self.pixels.shape, self.pixels.dtype)

        coloured = self.pixels.shape[2] == 1 and view.colour != "grey"

        def develop(frame: ArrayFrame) -> Array:
            picture = render(frame.pixels)
            return np.repeat(picture, 3, axis=2) if coloured else picture

        return develop


def frames_of_zeros(shape: Sequence[int]) -> Array:
    """Return black frames for an array of objects, ``(n,)``, of ``shape`` ``(n, height, width, 3)``.

    A size of -1 becomes that of ``UNKNOWN``.
    """
    return as_frames(np.zeros(_closed(shape), np.uint8))


def frames_of_noise(shape: Sequence[int], random: np.random.Generator) -> Array:
    """Return frames of noise; see ``frames_of_zeros``."""
    return as_frames(random.integers(0, 256, _closed(shape), np.uint8))


def _closed(shape: Sequence[int]) -> tuple[int, ...]:
    count, height, width = (
        there if there != -1 else default for there, default in zip(shape[:3], (1, *UNKNOWN), strict=True)
    )
    return count, height, width, 3


def as_frames(pictures: NDArray[np.uint8]) -> Array:
    """Return pictures ``(n, height, width, 3)`` as an array of frames, ``(n,)``, which share their memory."""
    frames = np.empty(len(pictures), object)
    frames[:] = [ArrayFrame(picture) for picture in pictures]
    return frames
