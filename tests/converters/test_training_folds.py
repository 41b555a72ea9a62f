"""A split is by recording, never by window."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_convert.training import folds, pieces
from limpet_convert.training.pieces import Piece

WINDOWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=60)


@given(WINDOWS)
def test_no_recording_is_in_two_folds_and_every_label_can_be_learned_in_each(
    windows: list[tuple[str, int]],
) -> None:
    labels, groups = [label for label, _ in windows], [group for _, group in windows]
    if folds.single(labels, groups):
        with pytest.raises(ValueError, match="one group only"):
            folds.folds(labels, groups)
        return
    chosen = folds.folds(labels, groups)
    assert set(chosen) == set(groups)  # a recording has one fold, as a key has one value
    assert set(chosen.values()) == set(range(len(set(chosen.values()))))
    where = defaultdict(set)
    for label, group in windows:
        where[label].add(chosen[group])
    assert all(len(found) > 1 for found in where.values())


def test_labels_are_spread_evenly() -> None:
    labels = [label for label in "ab" for _ in range(10)]
    chosen = folds.folds(labels, list(range(20)))
    for fold in range(5):
        held = [labels[group] for group in range(20) if chosen[group] == fold]
        assert sorted(held) == ["a", "a", "b", "b"]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 90)), min_size=1, max_size=6),
    st.integers(2, 6),
    st.integers(0, 10),
)
def test_blocks_of_one_recording_share_no_sample_and_keep_a_gap(
    spans: list[tuple[str, int]], count: int, gap: int
) -> None:
    start, whole = 0, []
    for label, length in spans:
        values = np.arange(start, start + length, dtype=np.float32)[:, np.newaxis]
        whole.append(Piece(values, label, 0, 0))
        start += length
    found = pieces.blocks(whole, count, gap)
    samples = [int(value) for piece in found for value in piece.values[:, 0]]
    assert len(samples) == len(set(samples))
    for one in found:
        for other in found:
            if one.group != other.group and other.values[0, 0] > one.values[-1, 0]:
                between = other.values[0, 0] - one.values[-1, 0]
                same_span = any(one.values[0, 0] in w.values and other.values[0, 0] in w.values for w in whole)
                assert not same_span or between > gap
