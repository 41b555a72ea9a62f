"""The head of a JPEG: its size, whether the end is there, and how many scans it has."""

from __future__ import annotations

import pytest

from limpet.sources import _jpeg
from support import pictures, videos

PICTURE = videos.jpegs(1, (160, 120))[0]


@pytest.mark.parametrize("behind", [b"", b"\0" * 4000, b"anything" * 100, b"\0" * 500_000])
def test_the_size_is_in_the_head_whatever_is_behind_the_picture(behind: bytes) -> None:
    assert _jpeg.size(PICTURE + behind) == (160, 120)
    assert _jpeg.size(memoryview(PICTURE + behind)) == (160, 120)


def test_a_thumbnail_in_the_head_is_not_taken_for_the_picture() -> None:
    thumbnail = videos.jpegs(1, (32, 16))[0]
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    assert _jpeg.size(PICTURE[:2] + segment + PICTURE[2:]) == (160, 120)


def test_a_camera_cannot_send_a_picture_with_scans_without_end() -> None:
    progressive = pictures.encoded(pictures.pixels(), "JPEG", progressive=True)
    scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    assert _jpeg.size(progressive) == pictures.pixels().shape[1::-1]
    with pytest.raises(ValueError, match="scans"):
        _jpeg.size(progressive[:-2] + scan * 64 + progressive[-2:])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no JPEG"),
        (b"\x89PNG" + PICTURE, "no JPEG"),
        (PICTURE[: len(PICTURE) // 2], "cut short"),
        (PICTURE[: len(PICTURE) // 2] + b"\0" * 100_000, "cut short"),
        (PICTURE[:2] + PICTURE[-2:], "no frame header"),
        (PICTURE[:4] + b"\xff\xff" + PICTURE[6:], "no frame header"),
    ],
)
def test_what_has_no_such_head_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _jpeg.size(data)
