"""Shares of the classes that the model says, and which shares of true classes would explain them.

A class is compared with the reference by the likelihood ratio of two samples. The threshold is Chernoff's bound,
which holds for any number of windows, with Bonferroni's correction.

Black-box shift estimation (Lipton, Wang and Smola 2018) solves the reference's confusion for the priors of the
true classes. It assumes that each class still looks as it did.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from limpet.contracts.drift import MOST_MOVED, Moved
from limpet.contracts.monitor import Abilities
from limpet.contracts.reference import MOST_CLASSES
from limpet.monitors._effective import cautious_times
from limpet.monitors._limits import END, check_length, read_thresholds
from limpet.monitors._spans import MOST_SPANS, SpanLengths, Spans, Verdict, check_spans, span_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet.contracts.monitor import Observed
    from limpet.contracts.reference import ClassReference, Reference

ABILITIES = Abilities(needs=("classes",))

ABSTAINED = "abstained"
_WORST_CONDITION = 1e3
"""Of a confusion matrix that is solved. Beyond it, errors of the shares grow too much."""
_TWO_SIDES = 2 * math.log(2)

_Count = Annotated[float, Meta(ge=0, le=1e15)]
_Time = Annotated[float, Meta(ge=1, le=1e9)]
_Exponent = Annotated[float, Meta(gt=0, le=1e6)]


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Options of the monitor ``label_shift``."""

    least: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """Smallest difference of a class's share that is worth an alarm."""


class _Thresholds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``said``: windows of the reference by the class that the model said; the last are those where it abstained.

    ``times``: of each of these classes, the autocorrelation time in windows. ``exponents``: of each span, the log
    likelihood ratio at which an alarm begins.
    """

    spans: SpanLengths
    said: Annotated[list[_Count], Meta(max_length=MOST_CLASSES + 1)]
    times: Annotated[list[_Time], Meta(max_length=MOST_CLASSES + 1)]
    exponents: Annotated[list[_Exponent], Meta(max_length=MOST_SPANS)]


def calibrate(config: Config, observed: Observed, reference: Reference, allowed: float) -> dict[str, Any]:
    """Return the likelihood ratio at which all classes together raise ``allowed`` alarms a window.

    ``ValueError`` if the model does not say classes.
    """
    del config
    count = len(_classes(reference).labels)
    if len(observed) == 0:
        raise ValueError("the reference has no windows")
    indicators = _indicators(observed.classes, count)
    times = cautious_times(indicators)
    spans = span_lengths(times[indicators.any(axis=0)])
    return {
        "spans": spans,
        "said": indicators.sum(axis=0).astype(float).tolist(),
        "times": np.round(times, 3).tolist(),
        "exponents": [round(_exponent(allowed * span / len(spans) / (count + 1)), 4) for span in spans],
    }


def open(config: Config, reference: Reference, thresholds: dict[str, Any]) -> Spans:
    """Prepare to count classes. ``ValueError`` if the thresholds do not fit the reference."""
    classes = _classes(reference)
    read = read_thresholds("label_shift", _Thresholds, thresholds)
    check_length("label_shift", "said", len(read.said), len(classes.labels) + 1)
    check_length("label_shift", "times", len(read.times), len(classes.labels) + 1)
    check_length("label_shift", "exponents", len(read.exponents), len(read.spans))
    check_spans("label_shift", read.spans)
    if sum(read.said) < 1:
        raise ValueError("the reference's thresholds of label_shift: said has no windows")
    return Spans(read.spans, _Shares(classes, read, config.least))


def _classes(reference: Reference) -> ClassReference:
    if reference.classes is None or not reference.classes.labels:
        raise ValueError("the reference has no classes")
    return reference.classes


def _indicators(classes: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Return ones at the class of each window, ``(n, count + 1)``. A class that there is not is the last one."""
    known = np.where((classes >= 0) & (classes < count), classes, count)
    return np.eye(count + 1)[known]


def _exponent(chance: float) -> float:
    """Return the log likelihood ratio that two samples of one share reach with at most this chance.

    Each sample's own has a chance of at most 2 exp(-t) (Chernoff). That of the sum is 4 exp(-t) (1 + t - 2 ln 2).
    """
    exponent = 10.0
    for _ in range(100):
        exponent = math.log(4 / min(chance, 0.5)) + math.log(1 + exponent - _TWO_SIDES)
    return exponent


class _Shares:
    """The shares of the classes over a span."""

    def __init__(self, classes: ClassReference, thresholds: _Thresholds, least: float) -> None:
        self._labels = [*classes.labels, ABSTAINED]
        self._said = np.array(thresholds.said)
        self._shares = self._said / self._said.sum()
        self._times = np.array(thresholds.times)
        self._spans = thresholds.spans
        self._exponents = thresholds.exponents
        self._least = least
        self._priors = _PriorEstimate(classes)

    def sums(self, observed: Observed) -> NDArray[np.float64]:
        """Return how often the model says each class, and how often it abstains."""
        count = len(self._labels) - 1
        known = np.where((observed.classes >= 0) & (observed.classes < count), observed.classes, count)
        return np.bincount(known, minlength=count + 1).astype(np.float64)

    def judge(self, index: int, means: NDArray[np.float64]) -> Verdict:
        """Compare the shares with the reference's."""
        exponents = log_likelihood_ratio(
            means, self._spans[index] / self._times, self._shares, self._said.sum() / self._times
        )
        ratios = np.sqrt(exponents / self._exponents[index])
        ratios = np.where(np.abs(means - self._shares) >= self._least, ratios, np.minimum(ratios, END / 2))
        most = float(ratios.max())
        worst = float(exponents.max())
        p_value = len(self._labels) * 4 * math.exp(-min(worst, 700.0)) * max(1 + worst - _TWO_SIDES, 1)
        moved = self._moved(means) if most >= END else []
        return Verdict(most, moved, min(p_value, 1.0))

    def _moved(self, shares: NDArray[np.float64]) -> list[Moved]:
        """Return the true classes whose estimated shares moved most; those said if they cannot be estimated."""
        now = self._priors.of(shares[:-1])
        before = self._priors.before
        if now is None:
            now, before = shares, self._shares
        order = np.argsort(-np.abs(now - before))[:MOST_MOVED]
        return [
            Moved(name=self._labels[place][:96], before=float(before[place]), now=float(now[place]))
            for place in order
            if abs(now[place] - before[place]) >= self._least / 2
        ]


class _PriorEstimate:
    """Priors of the true classes from the shares of the classes that the model says."""

    def __init__(self, classes: ClassReference) -> None:
        count = len(classes.labels)
        self.before = np.array(classes.priors, np.float64)
        confusion = np.array(classes.confusion, np.float64)
        self._inverse: NDArray[np.float64] | None = None
        if confusion.shape != (count, count) or self.before.shape != (count,) or not confusion.sum(axis=1).all():
            return
        said_of_true = (confusion / confusion.sum(axis=1, keepdims=True)).T
        if np.linalg.cond(said_of_true) < _WORST_CONDITION:
            self._inverse = np.linalg.inv(said_of_true)

    def of(self, said: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return the priors, ``None`` if the confusion does not determine them."""
        if self._inverse is None or not said.sum():
            return None
        priors = np.maximum(self._inverse @ (said / said.sum()), 0)
        total = float(priors.sum())
        return priors / total if total > 0 else None


def log_likelihood_ratio(
    first: NDArray[np.float64],
    windows: NDArray[np.float64],
    second: NDArray[np.float64],
    others: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return how much better two shares explain two samples than one share: half of the statistic G.

    ``first`` of so many independent ``windows``, and ``second`` of so many ``others``.
    """
    pooled = (first * windows + second * others) / (windows + others)
    return windows * _divergence(first, pooled) + others * _divergence(second, pooled)


def _divergence(share: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the divergence of Kullback and Leibler of two shares of yes and no."""
    return _term(share, expected) + _term(1 - share, 1 - expected)


def _term(share: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    some = (share > 0) & (expected > 0)
    return np.where(some, share * np.log(np.where(some, share, 1) / np.where(some, expected, 1)), 0.0)
