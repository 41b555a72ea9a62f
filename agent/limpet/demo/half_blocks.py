"""Pictures in a terminal: each character is two pixels, one above the other, in their colours. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.style import Style
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet.demo.truth import Box

BLOCK = "▀"
BOX = (255, 59, 48)


def text(pixels: NDArray[np.uint8], columns: int, rows: int, boxes: Sequence[Box] = ()) -> Text:
    """Draw a picture ``(height, width, 3)`` in RGB, and boxes as fractions of it, within columns and rows."""
    height, width = pixels.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    size = max(1, round(width * scale)), max(2, round(height * scale) // 2 * 2)
    small = np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    for box in boxes:
        outline(small, box)
    drawn = Text(no_wrap=True, end="")
    for upper, lower in zip(small[0::2].tolist(), small[1::2].tolist(), strict=True):
        for above, below in zip(upper, lower, strict=True):
            drawn.append(BLOCK, _style(above, below))
        drawn.append("\n")
    return drawn


def _style(above: Sequence[int], below: Sequence[int]) -> Style:
    (red, green, blue), (r, g, b) = above, below
    return Style.parse(f"rgb({red},{green},{blue}) on rgb({r},{g},{b})")


def outline(pixels: NDArray[np.uint8], box: Box) -> None:
    """Draw a box on a picture, one pixel wide."""
    height, width = pixels.shape[:2]
    left, right = (min(max(round(share * (width - 1)), 0), width - 1) for share in (box[0], box[2]))
    top, bottom = (min(max(round(share * (height - 1)), 0), height - 1) for share in (box[1], box[3]))
    pixels[[top, bottom], left : right + 1] = BOX
    pixels[top : bottom + 1, [left, right]] = BOX
