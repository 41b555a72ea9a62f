from __future__ import annotations

from typing import Any

import numpy as np

from limpet.contracts.data import Window
from limpet.contracts.outputs import Anomaly, Classification, Regression, ScoredLabel
from limpet.contracts.uncertainty import Uncertainties
from limpet.inference.certainty import Certainty


def made(window: Window, decoded: int) -> Any:
    return window.result, decoded


def counted(output: type, results: list[Any]) -> Uncertainties | None:
    certainty = Certainty()
    make = certainty.counting(output, made)
    for result in results:
        assert make(Window(np.zeros(1), 0, 0, 0, result=result), 7) == (result, 7)
    taken = certainty.take()
    assert certainty.take() is None
    return taken


def test_results_that_abstain_and_sets_by_their_size_are_counted() -> None:
    top = [ScoredLabel("a", 0.5)]
    results = [
        Classification("a", 0.5, top, False, set=["a"]),
        Classification(None, 0.5, top, True, set=["a", "b"]),
        Classification("a", 0.5, top, False, set=[str(number) for number in range(30)]),
        Classification(None, None, [], True),
    ]
    assert counted(Classification, results) == Uncertainties(4, 2, {1: 1, 2: 1, 10: 1})


def test_a_regression_with_a_wide_interval_abstains() -> None:
    sure = Regression({"a": 1.0}, {}, in_range=True, out_of_range=[])
    unsure = Regression({"a": 1.0}, {}, in_range=True, out_of_range=[], abstained=True)
    assert counted(Regression, [sure, unsure]) == Uncertainties(2, 1)


def test_results_that_cannot_abstain_are_not_counted() -> None:
    assert counted(Anomaly, [Anomaly(False, 0.1, 1.0)]) is None
