"""What every framing must do with any bytes at all, third parties' too."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import plugins
from limpet.sources.framings import cobs

if TYPE_CHECKING:
    from limpet.contracts.data import Rows

CHANNELS = ("ax", "ay")
Encoder = Callable[[int, int, int], bytes]

FRAMES: dict[str, tuple[dict[str, Any], Encoder]] = {
    "csv": (
        {"fields": ["sequence", "time_us", "ax", "ay"], "sequence_modulo": 256},
        lambda n, x, y: b"%d,%d,%d,%d\r\n" % (n % 256, n * 1000, x, y),
    ),
    "json": (
        {"sequence_modulo": 256},
        lambda n, x, y: json.dumps({"sequence": n % 256, "time_us": n * 1000, "ax": x, "ay": y}).encode() + b"\n",
    ),
    "cobs": ({}, lambda n, x, y: cobs.encode(np.array([[x, y]], np.int16), n, n * 1000)),
}
"""A configuration of each kind with counters, and how a board would send one sample."""

kinds = pytest.mark.parametrize("kind", plugins.names("framings"))
int16 = st.integers(-32768, 32767)


def opened(kind: str) -> tuple[plugins.Framing, Counter[str]]:
    dropped: Counter[str] = Counter()
    module: plugins.FramingPlugin = plugins.load("framings", kind)
    return module.open(module.Config(**FRAMES[kind][0]), CHANNELS, dropped), dropped


def read(kind: str, *pieces: bytes) -> tuple[list[Any], Counter[str]]:
    """Return each row with its gap and counters, and what was dropped."""
    framing, dropped = opened(kind)
    rows = [row for piece in pieces for row in listed(framing.feed(piece))]
    return rows, dropped


def listed(rows: Rows) -> list[Any]:
    count = len(rows.values)
    assert rows.values.dtype == np.float64
    assert rows.values.shape == (count, len(CHANNELS))
    assert rows.gap.dtype == np.bool_
    for counter in (rows.sequence, rows.time_us):
        assert counter is None or (counter.dtype == np.int64 and counter.shape == (count,))
    none = [None] * count
    sequence = none if rows.sequence is None else rows.sequence.tolist()
    time_us = none if rows.time_us is None else rows.time_us.tolist()
    values = [[str(number) for number in row] for row in rows.values.tolist()]  # so that nan equals nan
    return list(zip(values, rows.gap.tolist(), sequence, time_us, strict=True))


@st.composite
def streams(draw: st.DrawFn, kind: str) -> bytes:
    """Frames, damaged frames and anything else, in any order."""
    encode = FRAMES[kind][1]
    frame = st.builds(encode, st.integers(0, 70000), int16, int16)
    cut = st.builds(lambda f, a, b: f[a:b], frame, st.integers(0, 8), st.integers(0, 30))
    ends = st.sampled_from([b"\n", b"\0", b"\r\n", b"#", b"nan,inf\n", b'{"ax":1,"ay":null}\n', b"[" * 50])
    return b"".join(draw(st.lists(st.one_of(frame, frame, cut, ends, st.binary(max_size=40)), max_size=25)))


@kinds
def test_a_sequence_number_has_more_than_one_value(kind: str) -> None:
    framing, _ = opened(kind)
    assert framing.modulo is None or framing.modulo > 1


@kinds
@given(data=st.data())
def test_how_the_stream_is_cut_does_not_matter(kind: str, data: st.DataObject) -> None:
    stream = data.draw(streams(kind))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = read(kind, stream)
    assert read(kind, *pieces) == whole
    assert read(kind, *(stream[i : i + 1] for i in range(len(stream)))) == whole


@kinds
@given(data=st.data())
def test_garbage_hides_no_more_than_the_frames_it_touches(kind: str, data: st.DataObject) -> None:
    encode = FRAMES[kind][1]
    garbage = data.draw(st.binary(max_size=200))
    frames = [encode(n, n, -n) for n in range(300, 310)]
    rows, dropped = read(kind, garbage, *frames)
    expected = [[str(float(n)), str(float(-n))] for n in range(300, 310)]
    assert [row[0] for row in rows][-9:] == expected[-9:]
    assert all(count > 0 for count in dropped.values())


@kinds
def test_it_keeps_no_more_than_a_frame(kind: str) -> None:
    framing, dropped = opened(kind)
    framing.feed(b"x" * 4096)
    tracemalloc.start()
    try:
        for _ in range(1000):
            framing.feed(b"x" * 4096)
        assert tracemalloc.get_traced_memory()[0] < 64_000
    finally:
        tracemalloc.stop()
    assert dropped == {"overlong": 1}


@kinds
def test_after_an_overlong_frame_the_next_is_read_and_marked(kind: str) -> None:
    encode = FRAMES[kind][1]
    end = encode(1, 1, 1)[-1:]
    rows, dropped = read(kind, end, encode(1, 1, 1), b"x" * 100_000 + end, encode(3, 3, 3), encode(4, 4, 4))
    assert [(row[0][0], row[1]) for row in rows] == [("1.0", False), ("3.0", True), ("4.0", False)]
    assert dropped == {"overlong": 1}


@kinds
def test_counters_are_those_that_the_board_sent(kind: str) -> None:
    encode = FRAMES[kind][1]
    end = encode(1, 1, 1)[-1:]
    framing, dropped = opened(kind)
    rows = framing.feed(end + encode(254, 0, 0) + encode(255, 0, 0) + encode(256, 0, 0))
    assert rows.sequence is not None
    assert rows.time_us is not None
    assert rows.sequence.tolist() == [n % (framing.modulo or 0) for n in (254, 255, 256)]
    assert rows.time_us.tolist() == [254_000, 255_000, 256_000]
    assert not dropped


@kinds
def test_the_rest_of_a_frame_at_the_start_is_partial(kind: str) -> None:
    encode = FRAMES[kind][1]
    rows, dropped = read(kind, encode(1, 12345, 1)[4:], encode(2, 2, 2), encode(3, 3, 3))
    assert [row[0][0] for row in rows] == ["2.0", "3.0"]
    assert dropped == {"partial": 1}


@kinds
def test_half_a_frame_is_counted_and_marks_the_next(kind: str) -> None:
    encode = FRAMES[kind][1]
    whole, end = encode(2, 300, 300), encode(1, 1, 1)[-1:]
    for length in range(2, len(whole.rstrip(b"\r\n\0"))):
        rows, dropped = read(kind, encode(0, 0, 0), encode(1, 1, 1), whole[:length] + end, encode(3, 3, 3))
        if dropped.total() - dropped["partial"] == 0:
            assert kind == "csv"  # without a checksum "2,2000,300,30" is as good as "2,2000,300,300"
            continue
        assert (rows[-1][0][0], rows[-1][1]) == ("3.0", True), length
        assert set(dropped) <= {"malformed", "crc", "fields", "partial"}


LINES = {
    "csv": st.lists(st.sampled_from([*"12,,,.-+_ \t#;e/x", "nan", "\x1b[0m", "1,2", "3,4,5,6"]), max_size=8),
    "json": st.lists(st.sampled_from([*'{}[]":,1. ', '"ax"', '"ay":1', '{"ax":1,"ay":2}', "[1,2]"]), max_size=8),
}
FIRST = {"csv": "\n1,2,3,4\n", "json": '{"ax":0,"ay":0,"sequence":1,"time_us":2}\n'}


@pytest.mark.parametrize("kind", sorted(LINES))
@given(st.data())
def test_an_ordinary_line_is_read_as_with_a_closer_look(kind: str, data: st.DataObject) -> None:
    """A byte order mark has a framing look closer; ordinary lines are read without that."""
    lines = ["".join(parts).strip(" \t") for parts in data.draw(st.lists(LINES[kind], max_size=12))]
    quick = read(kind, *(f"{line}\n".encode() for line in [FIRST[kind], *lines]))
    closer = read(kind, *(f"\ufeff{line}\n".encode() for line in [FIRST[kind], *lines]))
    assert quick == closer
