"""The queue between a source's thread and the models: bounded, in order, the newest first to be kept."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import Samples
from limpet.worker.mailbox import Mailbox

STAMPS = 16
"""Bytes of the two stamps of a sample."""


def block(index: int, count: int = 1, width: int = 1) -> Samples:
    stamps: np.ndarray[Any, Any] = np.zeros(count, np.int64)
    return Samples(np.zeros((count, width), np.uint8), stamps, stamps, index)


def nbytes(samples: Samples) -> int:
    return samples.values.nbytes + STAMPS * len(samples)


puts = st.tuples(st.integers(1, 5), st.integers(0, 300))
"""How many samples, and how many bytes each."""


@given(st.integers(1, 5), st.integers(1, 2000), st.lists(puts | st.none(), max_size=60))
def test_it_is_bounded_keeps_order_and_marks_gaps(
    blocks: int, size: int, steps: list[tuple[int, int] | None]
) -> None:
    mailbox = Mailbox(blocks, size, wait=False)
    index, expected = 0, 0
    waiting: list[Samples] = []
    for step in [*steps, *[None] * blocks]:
        if step is not None:
            waiting.append(block(index, *step))
            mailbox.put(waiting[-1])
            index += len(waiting[-1])
            while len(waiting) > 1 and (len(waiting) > blocks or sum(map(nbytes, waiting)) > size):
                del waiting[0]
            assert len(mailbox) == len(waiting)
        elif waiting:
            taken = mailbox.get(0)
            assert taken is waiting.pop(0)
            assert taken.gap == (taken.index > expected)
            expected = taken.index + len(taken)
        else:
            assert mailbox.get(0) is None
    assert expected == index  # the newest block is never dropped
    assert len(mailbox) == 0


@given(st.integers(1, 5), st.integers(1, 2000), st.lists(puts, max_size=30))
def test_each_sample_is_taken_or_counted_as_dropped(blocks: int, size: int, sizes: list[tuple[int, int]]) -> None:
    mailbox = Mailbox(blocks, size, wait=False)
    for one in sizes:
        mailbox.put(block(0, *one))
    left = [mailbox.get(0) for _ in range(len(mailbox))]
    assert mailbox.dropped + sum(len(one) for one in left if one is not None) == sum(count for count, _ in sizes)


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
    assert (len(mailbox), mailbox.dropped) == (1, 3)


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


def test_one_who_waits_for_other_things_too_is_called_for_each_block_and_at_the_end() -> None:
    mailbox, calls = Mailbox(4, 1 << 20, wait=False), list[int]()
    mailbox.watch(lambda: calls.append(len(mailbox)))
    mailbox.put(block(0))
    mailbox.put(block(1))
    assert calls == [1, 2]
    mailbox.watch(None)
    mailbox.put(block(2))
    assert calls == [1, 2]
    mailbox.watch(lambda: calls.append(-1))
    mailbox.close()
    assert calls == [1, 2, -1]
