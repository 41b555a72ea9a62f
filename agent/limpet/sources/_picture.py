"""Picture files as upright RGB pixels, decoded by Pillow. Files are foreign data: bytes and pixels are bounded."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from limpet.errors import UnreadableError
from limpet.pictures.frame import ArrayFrame
from limpet.sources import _jpeg
from limpet.untrusted import read_file, reading

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
"""What Pillow may try. Its other decoders are never reached: files of other kinds are refused."""
LARGEST = 64 << 20
"""Bytes of a file."""
MOST_PIXELS = 40_000_000
"""Pixels of a picture: 120 MB in memory, and three times that while it is decoded."""
_JPEG = b"\xff\xd8"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""
_SIDEWAYS = (5, 6, 7, 8)


def read(path: Path) -> ArrayFrame:
    """Return a picture as a frame. ``UnreadableError`` says what is wrong, ``OSError`` is as from ``open``."""
    return decode(read_file(path, LARGEST))


def decode(data: bytes) -> ArrayFrame:
    """Return the content of a file as a frame. ``UnreadableError`` if it cannot be decoded or is too large."""
    with reading("the picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(data) as image:
            turn = _UPRIGHT.get(_orientation(image))
            pixels = _rgb(image)
    if turn is not None:
        pixels = np.asarray(Image.fromarray(pixels).transpose(turn))
    return ArrayFrame(pixels)


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a picture when it is upright. Errors as ``read``; the pixels are not decoded."""
    data = read_file(path, LARGEST)
    with reading("the picture"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with _opened(data) as image:
            width, height = image.size
            return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def _opened(data: bytes) -> Image.Image:
    """Read the header of a picture. ``UnreadableError`` if it is no picture, or has too many pixels."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise UnreadableError("it is no JPEG, PNG, BMP, WebP or GIF, or is damaged at its beginning") from error
    except Image.DecompressionBombError as error:
        raise UnreadableError(f"it has more than {MOST_PIXELS:,} pixels") from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise UnreadableError(f"it has {width} x {height} pixels; the limit is {MOST_PIXELS:,}")
    if data.startswith(_JPEG):
        _check_scans(data)
    return image


def _check_scans(data: bytes) -> None:
    """Refuse a picture that keeps a decoder busy for hours."""
    try:
        _jpeg.check_scans(data)
    except ValueError as error:
        raise UnreadableError(str(error)) from error


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 if there is none. Damaged notes of a camera are no damaged picture."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - as ``reading``: decoding can raise anything
        return 1
    return value if isinstance(value, int) else 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return pixels ``(height, width, 3)``. Transparency is left out, as ``convert("RGB")`` does.

    Of 16 bits, the upper 8 are taken.
    """
    if image.mode.startswith("I"):  # a grey PNG with 16 bits
        grey = np.asarray(image)
        bytes_ = (grey.astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(bytes_[:, :, np.newaxis], 3, axis=2)
    return np.asarray(image.convert("RGB"))
