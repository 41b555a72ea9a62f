"""Pictures that tests make: of each format, with each trait that a file may have."""

from __future__ import annotations

import io
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from numpy.typing import NDArray


def pixels(number: int = 0, height: int = 8, width: int = 12) -> NDArray[np.uint8]:
    """Return RGB pixels ``(height, width, 3)`` that differ from picture to picture, and from side to side."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([255 * rows / height, 255 * columns / width, 0 * rows + number % 256], axis=2).astype(np.uint8)


def encoded(image: Any, kind: str, **options: Any) -> bytes:
    """Return a file. ``image``: pixels, or a Pillow image. ``kind``: Pillow's name of the format."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def aged(path: Path, data: bytes, seconds: float = 60.0) -> Path:
    """Write a file that was changed some seconds ago last."""
    path.write_bytes(data)
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def fill(folder: Path, count: int, *, damaged: Container[int] = ()) -> None:
    """Write so many pictures into a folder, ``0000.png`` and so on. Some are cut short."""
    for number in range(count):
        data = encoded(pixels(number), "PNG")
        aged(folder / f"{number:04}.png", data[: len(data) // 2] if number in damaged else data)
