"""The binary frame, and its description in docs/reference/serial-frame.md."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from cobs import cobs as stuffing
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limpet.sources.framings import cobs

if TYPE_CHECKING:
    from limpet.contracts.data import Array
    from limpet.contracts.framing import Framing

DOC = Path(__file__).parents[2] / "docs" / "reference" / "serial-frame.md"
ONE = np.array([[1, 2]], np.int16)


def opened(channels: int = 2) -> tuple[Framing, Counter[str]]:
    dropped: Counter[str] = Counter()
    return cobs.open(cobs.Config(), [f"c{n}" for n in range(channels)], dropped), dropped


def wire(body: bytes) -> bytes:
    return bytes(stuffing.encode(body + cobs.CRC.pack(cobs.crc(body)))) + b"\0"


def from_doc(block: str) -> bytes:
    match = re.search(rf"```text {block}\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert match, block
    return bytes.fromhex(match[1])


def test_the_documented_example_is_what_it_says() -> None:
    framing, dropped = opened(3)
    frame = from_doc("frame")
    assert stuffing.decode(frame[:-1]) == from_doc("payload")
    rows = framing.feed(frame)
    assert rows.values.tolist() == [[0, -1, 1000], [1, 2, -1000]]
    assert rows.sequence is not None
    assert rows.time_us is not None
    assert rows.sequence.tolist() == [65535, 0]
    assert rows.time_us.tolist() == [1_000_000, 1_000_000]
    assert not dropped
    assert cobs.encode(np.array([[0, -1, 1000], [1, 2, -1000]], np.int16), 65535, 1_000_000) == frame


def test_the_checksum_has_the_documented_check_value() -> None:
    assert cobs.crc(b"123456789") == 0x29B1
    assert "**0x29B1**" in DOC.read_text()


shapes = st.tuples(st.integers(1, 255), st.integers(1, 7))


@given(
    values=st.one_of(*(arrays.arrays(dtype, shapes) for dtype in (np.int16, np.int32, np.float32))),
    sequence=st.integers(0, 65535),
    time_us=st.integers(0, 2**32 - 1),
)
def test_what_is_encoded_is_read(values: Array, sequence: int, time_us: int) -> None:
    framing, dropped = opened(values.shape[1])
    frame = cobs.encode(values, sequence, time_us)
    assert frame.index(0) == len(frame) - 1
    rows = framing.feed(frame)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(rows.values, values.astype(np.float64))
    assert rows.sequence is not None
    assert rows.time_us is not None
    assert rows.sequence.tolist() == [(sequence + n) % 65536 for n in range(len(values))]
    assert rows.time_us[0] == time_us
    assert not dropped


@given(flip=st.integers(0, 23 * 8 - 1))
def test_a_flipped_bit_never_passes(flip: int) -> None:
    framing, dropped = opened()
    good = cobs.encode(np.array([[100, -200], [300, -400], [500, 600]], np.int16), 5, 99)
    bad = bytearray(good)
    bad[flip // 8] ^= 1 << flip % 8
    rows = framing.feed(good + bytes(bad) + b"\0" + cobs.encode(ONE, 11, 100))
    assert rows.values[:3].tolist() == [[100, -200], [300, -400], [500, 600]]
    assert rows.values[3:].tolist() == [[1, 2]]
    assert dropped.total() >= 1
    assert set(dropped) <= {"crc", "malformed"}


@pytest.mark.parametrize(
    ("frame", "cause"),
    [
        (wire(cobs.HEADER.pack(0x21, 2, 1, 0) + b"abcd"), "malformed"),
        (wire(cobs.HEADER.pack(0x14, 2, 1, 0) + b"abcd"), "malformed"),
        (wire(cobs.HEADER.pack(0x11, 2, 1, 0) + b"abc"), "malformed"),
        (wire(cobs.HEADER.pack(0x11, 2, 1, 0)), "malformed"),
        (wire(b"abcd"), "malformed"),
        (wire(cobs.HEADER.pack(0x11, 2, 1, 0) + b"abcd" * 256), "malformed"),
        (b"\x05abc\0", "malformed"),
        (cobs.encode(np.array([[1, 2, 3]], np.int16), 1, 0), "fields"),
        (stuffing.encode(cobs.HEADER.pack(0x11, 2, 1, 0) + b"abcd" + b"ef") + b"\0", "crc"),
        (b"x" * 3000 + b"\0", "overlong"),
    ],
)
def test_frames_that_are_refused(frame: bytes, cause: str) -> None:
    framing, dropped = opened()
    rows = framing.feed(cobs.encode(ONE, 0, 0) + frame + cobs.encode(ONE, 2, 0))
    assert rows.gap.tolist() == [False, True]
    assert dropped == {cause: 1}


def test_the_longest_frame_is_read() -> None:
    framing, dropped = opened()
    values = np.full((255, 2), 0x01010101, np.int32)
    assert len(framing.feed(cobs.encode(values, 0, 0)).values) == 255
    assert not dropped


def test_a_frame_that_came_twice_is_counted_by_its_samples() -> None:
    framing, dropped = opened()
    twice = cobs.encode(np.array([[1, 2], [3, 4]], np.int16), 8, 80)
    rows = framing.feed(twice + twice + cobs.encode(ONE, 10, 100))
    assert len(rows.values) == 3
    assert dropped == {"duplicate": 2}


def test_times_within_a_frame_come_from_the_frames_before() -> None:
    framing, _ = opened()
    ten = np.zeros((10, 2), np.int16)
    ones = [cobs.encode(ten, n, (n * 1000 - 20_000) % 2**32) for n in (0, 10, 20)]
    late = cobs.encode(ten, 40, 77_000)  # a frame is missing before it: that says nothing about the step
    rows = framing.feed(b"".join([*ones, late]))
    assert rows.time_us is not None
    times = (rows.time_us + 20_000) % 2**32
    assert times.tolist() == [0] * 10 + list(range(10_000, 30_000, 1000)) + list(range(97_000, 107_000, 1000))


@pytest.mark.parametrize(
    "values",
    [np.zeros((1, 2)), np.zeros((0, 2), np.int16), np.zeros((256, 2), np.int16), np.zeros((1, 256), np.int32)],
)
def test_what_has_no_frame_is_not_encoded(values: Array) -> None:
    with pytest.raises(ValueError, match="no frame for"):
        cobs.encode(values, 0, 0)


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 255"):
        opened(256)
