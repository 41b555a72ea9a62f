"""The queue between a source's thread and the models: bounded, in order, the newest first to be kept."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet.contracts.data import Samples
from limpet.worker.mailbox import Mailbox

STAMPS = 16
"""Bytes of the two stamps of a sample."""


def block(index: int, count: int = 1, width: int = 1) -> Samples:
    stamps: np.ndarray[Any, Any] = np.zeros(count, np.int64)
    return Samples(np.zeros((count, width), np.uint8), stamps, stamps, index)


puts = st.tuples(st.integers(1, 5), st.integers(0, 300))
"""How many samples, and how many bytes each."""


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(1, 2000), st.lists(puts | st.none(), max_size=60))
def test_it_is_bounded_keeps_order_and_counts_each_sample_that_it_drops(
    blocks: int, size: int, steps: list[tuple[int, int] | None]
) -> None:
    mailbox = Mailbox(blocks, size, wait=False)
    index, expected, lost = 0, 0, 0
    for step in [*steps, *[None] * blocks]:
        if step is not None:
            newest = block(index, *step)
            mailbox.put(newest)
            index += len(newest)
            assert len(mailbox) <= blocks
            assert len(mailbox) == 1 or mailbox.waiting_bytes <= size
        elif (taken := mailbox.get(0)) is not None:
            assert taken.index >= expected
            assert taken.gap == (taken.index > expected)
            lost += taken.index - expected
            expected = taken.index + len(taken)
            assert lost <= mailbox.dropped
    assert expected == index  # the newest block is never dropped
    assert mailbox.dropped == lost
    assert (len(mailbox), mailbox.waiting_bytes) == (0, 0)


def test_of_frames_the_latest_wins() -> None:
    mailbox = Mailbox(1, 1 << 30, wait=False)
    for index in range(5):
        mailbox.put(block(index, width=1 << 20))
    latest = mailbox.get(0)
    assert latest is not None
    assert (latest.index, latest.gap, mailbox.dropped) == (4, True, 4)
    assert mailbox.get(0) is None


def test_a_frame_larger_than_the_bound_passes_and_the_others_go() -> None:
    mailbox = Mailbox(64, 1000, wait=False)
    for index in range(3):
        mailbox.put(block(index, width=400))
    assert (len(mailbox), mailbox.dropped) == (2, 1)
    mailbox.put(block(3, width=5000))
    assert (len(mailbox), mailbox.dropped, mailbox.waiting_bytes) == (1, 3, 5000 + STAMPS)


@pytest.mark.parametrize(("blocks", "size"), [(2, 1 << 20), (64, 150)])
def test_a_recording_waits_and_loses_nothing(blocks: int, size: int) -> None:
    mailbox = Mailbox(blocks, size, wait=True)

    def write() -> None:
        for index in range(200):
            mailbox.put(block(index, width=50))
        mailbox.close()

    writer = threading.Thread(target=write)
    writer.start()
    most = 0
    for index in range(200):
        taken = None
        while taken is None:
            most = max(most, len(mailbox))
            taken = mailbox.get(1)
        assert (taken.index, taken.gap) == (index, False)
    writer.join()
    with pytest.raises(EOFError):
        mailbox.get(0)
    assert most <= 2
    assert mailbox.dropped == 0
