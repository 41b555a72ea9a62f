from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from limpet.contracts.data import Window
from limpet.contracts.outputs import Anomaly, Classification, Labels, Rate, ScoredLabel
from limpet.contracts.stage import Spec
from limpet.postprocess import rate

SECOND = 1_000_000_000
SPEC = Spec(shape=(1, 2), dtype=np.dtype(np.float32), labels=("good", "defect"))
GOOD = Classification("good", 0.9, [ScoredLabel("good", 0.9)], False)
DEFECT = Classification("defect", 0.9, [ScoredLabel("defect", 0.9)], False)
UNSURE = Classification(None, 0.5, [ScoredLabel("good", 0.5)], True)


def through(results: list[Any], seconds: float = 1.0, spec: Spec = SPEC, **options: Any) -> list[Rate]:
    stage = rate.open(msgspec.convert(options, rate.Config), spec)
    windows = [
        Window(np.zeros(2), round(step * seconds * SECOND), 0, 0, result=one) for step, one in enumerate(results)
    ]
    return [stage(window).result.rate for window in windows]


def test_share_and_interval_are_those_of_the_beta_distribution() -> None:
    *_, found = through([GOOD] * 17 + [DEFECT] * 3, labels=["defect"], limit=0.1)
    # scipy.stats.beta(3.5, 17.5): mean, ppf(0.025), ppf(0.975), sf(0.1)
    assert found == Rate(share=0.166667, low=0.044131, high=0.348578, windows=20, exceeds=0.786269)


def test_a_prior_counts_as_windows_that_were_seen() -> None:
    (found,) = through([GOOD], labels=["defect"], hits=2, misses=97, credibility=0.9)
    assert found.share == 0.02
    assert found.low < 0.02 < found.high


def test_windows_that_abstain_do_not_count() -> None:
    assert through([GOOD, UNSURE, UNSURE], labels=["defect"])[-1].windows == 1


def test_old_windows_are_forgotten() -> None:
    kept = through([DEFECT] * 30 + [GOOD] * 60, labels=["defect"])[-1]
    forgot = through([DEFECT] * 30 + [GOOD] * 60, labels=["defect"], memory=10)[-1]
    assert kept.share == pytest.approx(30.5 / 91, abs=1e-5)
    assert forgot.share < 0.06
    assert forgot.windows == pytest.approx(1 / (1 - np.exp(-0.1)), abs=0.01)


def test_anomalies_are_counted_and_windows_without_a_score_are_not() -> None:
    results = [Anomaly(True, 2.0, 1.0), Anomaly(False, 0.1, 1.0), Anomaly(False, None, 1.0)]
    assert through(results, spec=Spec(shape=(1, 2), dtype=np.dtype(np.float32)))[-1].windows == 2
    learning = [Anomaly(False, 0.1, None, untrained=True)] * 3
    assert through(learning)[-1].windows == 0


def test_a_label_that_applies_is_a_hit_whatever_else_does() -> None:
    both = Labels([ScoredLabel("good", 0.9), ScoredLabel("defect", 0.6)], False)
    found = through([both, Labels([], False), Labels([], True)], labels=["defect"])[-1]
    assert (found.share, found.windows) == (0.5, 2)


def test_a_label_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="labels has 'bad'"):
        through([], labels=["bad"])
