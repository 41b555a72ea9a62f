"""Keywords, labels, clusters and tensors with values that were worked out by hand."""

from __future__ import annotations

from math import nan
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import FloatArray, TensorSpec, Window
from limpet.contracts.detected_events import KeywordEvent
from limpet.contracts.outputs import Cluster, Keyword, Labels, ScoredLabel
from limpet.errors import ModelError
from support.stages import decoded, output_spec

FLOAT = np.dtype(np.float32)
STEP = 30_000_000


def opened(kind: str, shape: tuple[int, ...], labels: tuple[str, ...] = (), **options: Any) -> Any:
    module = plugins.load("decoders", kind)
    spec = output_spec([TensorSpec("out", shape, FLOAT)], labels)
    return module.open(msgspec.convert(options, module.Config), spec)


def row(*values: float) -> list[FloatArray]:
    return [np.array([values], np.float32)]


def hear(decoder: Any, scores: list[float], step: int = STEP) -> list[Window]:
    return [decoder(Window(np.zeros(1), at * step, 0, at, outputs=row(score))) for at, score in enumerate(scores)]


def heard(windows: list[Window]) -> list[int]:
    """Return the windows in which a keyword was heard. Each has its event, and the others have none."""
    found = [at for at, window in enumerate(windows) if window.result.keyword]
    assert [at for at, window in enumerate(windows) if window.events] == found
    return found


def test_a_keyword_is_heard_once_when_its_mean_is_above_the_threshold() -> None:
    decoder = opened("keyword", (1, 1), ("hey",), windows=3, threshold=0.6, refractory=0.1)
    windows = hear(decoder, [0, 1, 0.9, 0.5, 1, 1, 1, 0])
    assert heard(windows) == [2]
    assert windows[0].result == Keyword(None, None, {"hey": None})
    assert windows[2].result == Keyword("hey", 0.63333, {"hey": 0.63333})
    assert windows[2].events == [KeywordEvent(label="hey", score=0.63333)]


def test_a_keyword_whose_score_stays_high_is_heard_once_and_again_after_a_pause() -> None:
    decoder = opened("keyword", (1, 1), ("hey",), threshold=0.6, refractory=0.1)  # 0.1 s are 3.3 windows
    assert heard(hear(decoder, [1] * 50 + [0, 0, 1] + [0] * 4 + [1, 0])) == [0, 57]


def test_a_keyword_whose_score_stays_high_hides_no_other_one() -> None:
    decoder = opened("keyword", (1, 2), ("hey", "stop"), threshold=0.6, refractory=0.1)
    scores = [(0.7, 0)] * 10 + [(0.7, 0.9)] * 3
    windows = [
        decoder(Window(np.zeros(1), at * STEP, 0, at, outputs=row(*each))) for at, each in enumerate(scores)
    ]
    assert heard(windows) == [0, 10]
    assert windows[10].result.keyword == "stop"


def test_the_mean_must_be_above_the_threshold_as_in_microwakeword() -> None:
    decoder = opened("keyword", (1, 1), ("hey",), threshold=0.5, refractory=0)
    assert heard(hear(decoder, [0.5, 0.5001])) == [1]


def test_background_is_no_keyword() -> None:
    decoder = opened("keyword", (1, 3), ("_silence_", "yes", "no"), threshold=0.4)
    window = decoder(Window(np.zeros(1), 0, 0, 0, outputs=row(0.9, 0.05, 0.05)))
    assert window.result.scores.keys() == {"yes", "no"}
    assert not window.events


def test_a_score_that_is_no_number_hides_a_keyword_until_it_is_out_of_the_mean() -> None:
    decoder = opened("keyword", (1, 1), ("hey",), windows=2, threshold=0.5, refractory=0)
    assert heard(hear(decoder, [1, nan, 1, 1])) == [3]


def test_after_a_reset_the_pause_is_over() -> None:
    decoder = opened("keyword", (1, 1), ("hey",), threshold=0.5, refractory=60)
    assert heard(hear(decoder, [1, 0, 1])) == [0]
    decoder.reset()
    assert heard(hear(decoder, [1, 1])) == [0]


def test_all_labels_that_score_enough_apply_best_first() -> None:
    decoder = opened("multilabel", (1, 3), ("a", "b", "c"), threshold=0.5, thresholds={"c": 0.2})
    assert decoded(decoder, row(0.6, 0.4, 0.3)) == Labels([ScoredLabel("a", 0.6), ScoredLabel("c", 0.3)], False)
    assert decoded(decoder, row(nan, 0.9, 0.1)) == Labels([ScoredLabel("b", 0.9)], True)
    assert decoded(decoder, row(0, 0, 0)) == Labels([], False)


def test_the_nearest_centre_is_the_cluster_unless_it_is_beyond_its_radius() -> None:
    decoder = opened("cluster", (1, 2), centres=[[0, 0], [3, 4]], labels=["idle", "cut"], radius=[1, 2])
    assert decoded(decoder, row(3, 3)) == Cluster("cut", "cut", 1.0)
    assert decoded(decoder, row(0, 2)) == Cluster(None, "idle", 2.0)
    assert decoded(decoder, row(nan, 2)) == Cluster(None, None, None)


def test_features_are_standardised_before_they_are_compared() -> None:
    decoder = opened("cluster", (1, 2), centres=[[1, 1]], mean=[10, 0], std=[5, 2])
    assert decoded(decoder, row(15, 2)).distance == 0


@given(st.floats(0.01, 1e6))
def test_the_cosine_does_not_depend_on_the_length(length: float) -> None:
    decoder = opened("cluster", (1, 2), centres=[[1, 1], [1, -1]], metric="cosine", radius=0.1)
    assert decoded(decoder, row(length, length)) == Cluster("0", "0", pytest.approx(0, abs=1e-6))


def test_a_vector_of_zeros_is_in_no_cluster_by_its_direction() -> None:
    assert decoded(opened("cluster", (1, 2), centres=[[1, 1]], metric="cosine"), row(0, 0)).label is None


def test_tensors_are_reported_as_they_are_and_what_is_no_number_is_null() -> None:
    found = decoded(opened("tensor", (1, 3)), row(0.5, nan, float("inf")))
    assert msgspec.to_builtins(found) == {
        "tensors": [{"name": "out", "shape": [1, 3], "dtype": "float32", "values": [0.5, None, None]}]
    }


def test_outputs_that_turn_out_too_large_fail_their_window() -> None:
    decoder = opened("tensor", (-1, 3), most=6)
    assert decoded(decoder, [np.zeros((2, 3), np.float32)])
    with pytest.raises(ModelError, match="have 9 numbers, and `most` is 6"):
        decoded(decoder, [np.zeros((3, 3), np.float32)])
