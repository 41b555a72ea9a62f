"""What the head of a JPEG says: its size. No pixel is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_START, _END = b"\xff\xd8", b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: all SOF markers, for other segments have the numbers between them."""
_ALONE = {0x01, *range(0xD0, 0xD8)}
"""Markers without a segment."""
_SCAN, _STOP = 0xDA, 0xD9
_PADDING = 65_536
"""Bytes behind the picture that a camera may fill with anything."""


def size(data: Buffer) -> tuple[int, int]:
    """Return width and height. ``ValueError``: it is no JPEG, has no such head, or its end is missing."""
    view = memoryview(data).cast("B")
    if bytes(view[:2]) != _START:
        raise ValueError("it is no JPEG")
    if bytes(view[-_PADDING:]).rfind(_END) < 0:
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
            return width, height
        at += 2 + max(2, length)
    raise ValueError("the JPEG has no frame header")
