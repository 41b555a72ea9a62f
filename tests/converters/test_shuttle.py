"""The parts of the training script that need no TensorFlow."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet_convert import metrics, shuttle

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray

HEADER = "f1,f2,f3,f4,f5,f6,f7,f8,f9,anomaly"
LINES = [HEADER, "50,21,77,0,28,0,27,48,22,1", "53,0,82,0,52,-5,29,30,2,0", "37,0,76,0,28,18,40,48,8,0"]

scored = st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2).filter(
    lambda pairs: 0 < sum(anomalous for _, anomalous in pairs) < len(pairs)
)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[FloatArray, shuttle.Bools]:
    score, anomalous = zip(*pairs, strict=True)
    return np.array(score, np.float32), np.array(anomalous)


def test_rows_are_read_with_their_labels() -> None:
    rows = shuttle.read(LINES)
    assert rows.values[1].tolist() == [53, 0, 82, 0, 52, -5, 29, 30, 2]
    assert rows.anomalous.tolist() == [True, False, False]
    assert rows.normal().values.tolist() == rows.values[1:].tolist()


@pytest.mark.parametrize("line", ["1,2,3", "1,2,3,4,5,6,7,8,9,2", "1,2,3,4,5,6,7,8,9,x"])
def test_other_tables_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"shuttle|invalid"):
        shuttle.read([HEADER, line])


def test_each_row_is_in_one_part_by_its_values_alone() -> None:
    values = np.random.default_rng(1).integers(-99, 99, (4000, 9)).astype(float)
    parts = np.array([shuttle.part_of(row) for row in values])
    shares = [(parts == part).mean() for part in ("training", "validation", "test")]
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    assert [shuttle.part_of(row) for row in values[::-1]] == parts[::-1].tolist()


def test_scaling_makes_ordinary_values_standard_and_clips_the_rest() -> None:
    values = np.array([[0.0, 100.0], [2.0, 300.0]])
    mean, std = shuttle.scaling(values)
    assert (mean, std) == ([1, 200], [1, 100])
    normal = shuttle.normalise(np.array([[2, 200], [-9999, 9999]]), mean, std, 4.0)
    assert normal.dtype == np.float32
    assert normal.tolist() == [[1, 0], [-4, 4]]


def test_a_score_is_the_mean_squared_error_of_a_row() -> None:
    score = shuttle.scores(np.zeros((2, 2), np.float32), np.array([[1, 3], [0, 0]], np.float32))
    assert score.tolist() == [5, 0]


def test_a_threshold_lies_between_what_it_parts() -> None:
    assert (
        shuttle.threshold(np.array([0.1, 0.2, 0.9, 0.4], np.float32), np.array([False, False, True, True])) == 0.3
    )


@given(scored)
def test_no_threshold_is_better(pairs: list[tuple[int, bool]]) -> None:
    score, anomalous = arrays(pairs)
    found = metrics.anomaly(score, anomalous, shuttle.threshold(score, anomalous))["f1"]
    assert found >= max(metrics.anomaly(score, anomalous, limit)["f1"] for limit in set(score.tolist())) - 1e-9


def test_an_excerpt_is_the_rows_again() -> None:
    rows = shuttle.read(LINES)
    text = gzip.decompress(shuttle.excerpt(rows)).decode().splitlines()
    assert text[0] == "f1,f2,f3,f4,f5,f6,f7,f8,f9,label"
    assert text[1:] == LINES[1:]
    assert shuttle.excerpt(rows) == shuttle.excerpt(rows)
