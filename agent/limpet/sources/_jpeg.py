"""Size and scans of a JPEG. No pixel is decoded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: all SOF markers, for other segments have the numbers between them."""
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a segment."""
_SCAN, _STOP = 0xDA, 0xD9
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
MOST_SCANS = 64
"""Scans of a picture. For each, a decoder goes through all pixels, even if it has only a few bytes."""
_MARKER = re.compile(rb"\xff+([^\x00\x01\xd0-\xd7\xff])", re.DOTALL)
_PADDING = 65_536
"""Bytes behind the picture that a camera may fill with anything. Zeros may be more: some fill the whole buffer."""


def _without_zeros(view: memoryview) -> bytes:
    return b"" if view[-1] else bytes(view).rstrip(b"\0")


def size(data: Buffer) -> tuple[int, int]:
    """Return width and height.

    ``ValueError``: it is no JPEG, has no such head, its end is missing, or it is progressive with too many scans.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:2]) != _START:
        raise ValueError("it is no JPEG")
    if _END not in bytes(view[-_PADDING:]) and _END not in _without_zeros(view)[-_PADDING:]:
        raise ValueError("the JPEG is cut short")
    at = 2
    while at + 4 <= len(view):
        if view[at] != 0xFF:
            break
        marker = view[at + 1]
        if marker in _ALONE or marker == 0xFF:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in {_SCAN, _STOP}:
            break
        length = int.from_bytes(view[at + 2 : at + 4], "big")
        if marker in _FRAMES and at + 9 <= len(view):
            height, width = (int.from_bytes(view[place : place + 2], "big") for place in (at + 5, at + 7))
            if not (width and height):
                break
            if marker in _PROGRESSIVE:
                check_scans(view)
            return width, height
        at += 2 + max(2, length)
    raise ValueError("the JPEG has no frame header")


def check_scans(data: Buffer) -> None:
    """Raise ``ValueError`` if there are more than ``MOST_SCANS`` scans up to the end of the picture."""
    view = memoryview(data).cast("B")
    at, scans = 2, 0
    while (found := _MARKER.search(view, at)) is not None and found[1][0] != _STOP:
        if found[1][0] == _SCAN:
            scans += 1
            if scans > MOST_SCANS:
                raise ValueError(f"it has more than {MOST_SCANS} scans")
        at = found.end() + max(2, int.from_bytes(view[found.end() : found.end() + 2], "big"))
