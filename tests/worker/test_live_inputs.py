"""A few values of a source, for people who watch: bounded, copied, and clean."""

from __future__ import annotations

import numpy as np

from limpet.contracts.data import Samples, SampleSpec
from limpet.wire.records import MOST_SHOWN_CHANNELS, MOST_SHOWN_ROWS
from limpet.worker.live_inputs import LiveInputs


def block(*rows: list[float]) -> Samples:
    values = np.array(rows, np.float32)
    times = np.zeros(len(rows), np.int64)
    return Samples(values, times, times, 0)


def test_the_newest_sample_of_a_block_is_kept_as_a_copy() -> None:
    inputs = LiveInputs(SampleSpec((2,), np.dtype(np.float32), ("ax", "a\ny")))
    samples = block([1, 2], [3, 4])
    inputs.see(samples)
    samples.values[:] = 9
    taken = inputs.take()
    assert (taken.channels, taken.shape, taken.rows) == (["ax", "a y"], [2], [[3.0, 4.0]])
    assert taken.rate > 0
    again = inputs.take()
    assert (again.rows, again.rate) == ([], 0.0)


def test_blocks_that_come_quickly_give_few_values_and_are_all_counted() -> None:
    inputs = LiveInputs(SampleSpec((1,), np.dtype(np.float32)))
    for _ in range(1000):
        inputs.see(block([1.0]))
    taken = inputs.take()
    assert 0 < len(taken.rows) <= MOST_SHOWN_ROWS
    assert taken.rate >= 1000 / 60


def test_only_the_first_channels_are_shown() -> None:
    names = tuple(f"c{number}" for number in range(100))
    inputs = LiveInputs(SampleSpec((100,), np.dtype(np.float32), names))
    inputs.see(block(list(range(100))))
    taken = inputs.take()
    assert taken.channels == list(names[:MOST_SHOWN_CHANNELS])
    assert taken.rows == [list(range(MOST_SHOWN_CHANNELS))]


def test_of_pictures_there_is_the_shape_and_the_rate() -> None:
    inputs = LiveInputs(SampleSpec((4, 6, 3), np.dtype(np.uint8)))
    times = np.zeros(2, np.int64)
    inputs.see(Samples(np.zeros((2, 4, 6, 3), np.uint8), times, times, 0))
    taken = inputs.take()
    assert (taken.shape, taken.rows) == ([4, 6, 3], [])
    assert taken.rate > 0
