"""limpet_frame.h, compiled for this machine, against the agent's own encoder and decoder."""

from __future__ import annotations

import re
import struct
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.sources.framings import cobs
from support.sensor_nodes import HOST, Encoder, compile_for_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from limpet.contracts.data import Array

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "serial-frame.md"
INT16, INT32, FLOAT32 = np.dtype("<i2"), np.dtype("<i4"), np.dtype("<f4")


@pytest.fixture(scope="module", params=["c99", "c++11"])
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encoder]:
    folder = tmp_path_factory.mktemp("frames")
    source = HOST / "frames.c"
    if request.param == "c++11":
        source = folder / "frames.cpp"
        source.write_text((HOST / "frames.c").read_text())
    made = Encoder(compile_for_host(source, folder / "frames"))
    yield made
    assert made.close() == 0


@st.composite
def frames(draw: st.DrawFn) -> tuple[Array, int, int]:
    """Values of any type and bit pattern; lengths around those where COBS begins a new block."""
    dtype = draw(st.sampled_from([INT16, INT32, FLOAT32]))
    channels = draw(st.integers(1, 8) | st.integers(1, 255))
    samples = draw(st.integers(1, 20))
    size = channels * samples * dtype.itemsize
    if draw(st.booleans()):
        data = draw(st.binary(min_size=size, max_size=size))
    else:
        data = bytes([draw(st.sampled_from([0, 1, 255]))]) * size
    values = np.frombuffer(data, dtype).reshape(samples, channels)
    return values, draw(st.integers(0, 65535)), draw(st.integers(0, 2**32 - 1))


@settings(max_examples=100)
@given(frame=frames())
def test_same_bytes_as_the_agent(encoder: Encoder, frame: tuple[Array, int, int]) -> None:
    assert encoder.encode(*frame) == cobs.encode(*frame)


@settings(max_examples=50)
@given(frame=frames())
def test_the_agent_reads_it(encoder: Encoder, frame: tuple[Array, int, int]) -> None:
    values, sequence, time_us = frame
    dropped: Counter[str] = Counter()
    channels = [f"c{i}" for i in range(values.shape[1])]
    rows = cobs.open(cobs.Config(), channels, dropped).feed(b"\0" + encoder.encode(*frame))
    assert not dropped
    with np.errstate(invalid="ignore"):  # a signalling NaN is among what floats can be
        np.testing.assert_array_equal(rows.values, values.astype(np.float64))
    assert rows.sequence is not None
    assert int(rows.sequence[0]) == sequence
    assert rows.time_us is not None
    assert int(rows.time_us[0]) == time_us


def test_the_documents_example(encoder: Encoder) -> None:
    wire = re.search(r"```text frame\n(.*?)\n```", DOCUMENT.read_text())
    assert wire
    values = np.array([[0, -1, 1000], [1, 2, -1000]], np.int16)
    assert encoder.encode(values, 65535, 1_000_000) == bytes.fromhex(wire[1])


@pytest.mark.parametrize("samples", [1, 255])
def test_as_many_samples_as_a_frame_may_have(encoder: Encoder, samples: int) -> None:
    values = np.arange(samples * 2, dtype=np.int32).reshape(samples, 2)
    assert encoder.encode(values, 0, 0) == cobs.encode(values, 0, 0)


def test_more_samples_are_refused(encoder: Encoder) -> None:
    assert encoder.encode(np.zeros((256, 2), np.int16), 0, 0) == b""


@pytest.mark.parametrize(("count", "channels"), [(4, 3), (0, 3), (3, 0)])
def test_what_is_no_whole_sample_is_refused(encoder: Encoder, count: int, channels: int) -> None:
    head = struct.pack("=BBHI", 0x11, channels, 0, 0)
    assert encoder.ask(head, bytes(2 * count), count) == b""
    assert encoder.ask(struct.pack("=BBHI", 0x11, 3, 0, 0), bytes(6), 3) == cobs.encode(
        np.zeros((1, 3), np.int16), 0, 0
    )


@pytest.mark.parametrize("dtype", [INT16, INT32, FLOAT32])
@pytest.mark.parametrize("fill", [0, 1])
def test_the_buffer_that_the_header_asks_for_is_enough_and_no_smaller_one_is_overrun(
    encoder: Encoder, dtype: np.dtype[Any], fill: int
) -> None:
    values = np.full((50, 6), fill, dtype)
    payload = 10 + values.nbytes
    whole = cobs.encode(values, 1, 1)
    assert encoder.encode(values, 1, 1, payload + payload // 254 + 2) == whole
    assert encoder.encode(values, 1, 1, len(whole)) == whole
    for capacity in (0, 1, 7, len(whole) // 2, len(whole) - 1):
        assert encoder.encode(values, 1, 1, capacity) == b""
