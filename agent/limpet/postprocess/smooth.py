"""Classes over several windows: the mean of their scores, or the class that most windows vote for."""

from __future__ import annotations

from collections import deque
from math import isfinite, isnan
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from limpet.contracts.outputs import Classification, Labels, ScoredLabel
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(takes=(Classification, Labels))

DIGITS = 5


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Over how many windows, and how.

    ``mean``: the score of a label is its mean over the last ``windows``. A label that a window does not report has
    0 there, so have the decoder report all (``top_k``, or a low ``threshold`` of ``multilabel``). ``vote``: the
    score of a label is the share of these windows whose best label it is, or to which it applies.
    """

    windows: Annotated[int, Meta(ge=2, le=1000)]
    """Windows that count, the last ones. Example: `5`."""
    method: Literal["mean", "vote"] = "mean"
    """`"mean"` of the scores, or `"vote"`: share of the windows with that label."""
    threshold: float = 0.5
    """Lowest score of a label. Below it, a classification abstains and a label of `multilabel` does not apply."""

    def __post_init__(self) -> None:
        if isnan(self.threshold):
            raise ValueError("threshold must be a number")


def open(config: Config, spec: Spec) -> Smooth:
    """Prepare to smooth."""
    return Smooth(config, spec)


class Smooth:
    """Keeps the scores of the last windows. A window in which the model gave NaN or infinity does not count."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._threshold = config.threshold
        self._votes = config.method == "vote"
        self._recent: deque[Mapping[str, float]] = deque(maxlen=config.windows)

    def __call__(self, window: Window) -> Window:
        """Return the window with the smoothed result. Of labels that score the same, the latest comes first.

        ``ModelError`` if the result has no classes.
        """
        given: Any = window.result
        if not isinstance(given, Classification | Labels):
            raise ModelError(f"a result with classes was expected, not {type(given).__name__}")
        scores = self._scores(given)
        if scores is not None:
            self._recent.append(scores)
        best = self._best()
        if isinstance(given, Classification):
            window.result = self._classification(best, max(len(given.top), 1))
        else:
            chosen = [label for label in best if (label.score or 0.0) >= self._threshold]
            window.result = Labels(chosen, given.abstained)
        return window

    def reset(self) -> None:
        """Forget the windows so far."""
        self._recent.clear()

    def _scores(self, given: Classification | Labels) -> Mapping[str, float] | None:
        """Return the scores of the labels of a window, ``None`` if the model gave none."""
        if isinstance(given, Labels):
            found = given.labels
            return {one.label: 1.0 if self._votes else _number(one.score) for one in found}
        if self._votes:
            if given.label is None and not given.top:
                return None
            return {} if given.label is None else {given.label: 1.0}
        finite = {one.label: one.score for one in given.top if one.score is not None and isfinite(one.score)}
        return finite or None

    def _best(self) -> list[ScoredLabel]:
        """Return all labels of the last windows with their scores, best first."""
        sums: dict[str, float] = {}
        for scores in reversed(self._recent):
            for label, score in scores.items():
                sums[label] = sums.get(label, 0.0) + score
        count = max(len(self._recent), 1)
        ordered = sorted(sums.items(), key=lambda item: -item[1])
        return [ScoredLabel(label, round(total / count, DIGITS)) for label, total in ordered]

    def _classification(self, best: list[ScoredLabel], most: int) -> Classification:
        if not best:
            return Classification(None, None, [], True)
        score = best[0].score
        abstained = score is None or score < self._threshold
        return Classification(None if abstained else best[0].label, score, best[:most], abstained)


def _number(score: float | None) -> float:
    return score if score is not None and isfinite(score) else 0.0
