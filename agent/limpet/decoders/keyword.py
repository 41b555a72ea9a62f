"""Keywords and wake words in a stream of sound: the mean score over windows, and one event for each word.

Source of the method: microWakeWord, https://github.com/kahrendt/microWakeWord. Scores are averaged over the last
windows, and after a keyword there is a pause.
"""

from __future__ import annotations

from collections import deque
from math import inf, isfinite, isnan
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.decoder import Abilities
from limpet.contracts.detected_events import LONGEST_LABEL, KeywordEvent
from limpet.contracts.outputs import Keyword
from limpet.decoders._activation import Activation, Temperature
from limpet.decoders._scores import activated, names, row_size, shown

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(output=Keyword, reads_inputs=False, threshold=True, scores=True)

BACKGROUND = ("background", "_background_", "noise", "_noise_", "silence", "_silence_", "unknown", "_unknown_")
DIGITS = 5


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """When a keyword counts as heard.

    The score of a keyword is its mean over the last ``windows``. The keyword is heard when that is above
    ``threshold``: once, however long it stays above. Then there is a pause of ``refractory`` seconds.
    """

    labels: list[str] = []
    """Names of the classes, in the order of the model's scores. Default: the model's. Example: `["okay nabu"]`."""
    background: list[str] = msgspec.field(default_factory=lambda: list(BACKGROUND))
    """Labels that are no keywords."""
    threshold: float = 0.5
    """Mean score above which a keyword is heard."""
    windows: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Windows over which scores are averaged. Until there are so many, nothing is heard. Example: `5`."""
    refractory: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    """Seconds after a keyword in which nothing is heard. For the same keyword they begin when its score has
    fallen."""
    activation: Activation = "none"
    """What the model left out: `"softmax"` makes probabilities that add up to 1, `"sigmoid"` makes one of each
    score alone."""
    temperature: Temperature = 1.0
    """Scores are divided by this before the activation: above 1 the model is less sure. Example: `1.7`."""

    def __post_init__(self) -> None:
        if isnan(self.threshold):
            raise ValueError("threshold must be a number")


def open(config: Config, spec: Spec) -> KeywordDecoder:
    """Prepare to listen. ``ValueError`` if the first output is no row of scores, or has no keyword."""
    labels = names("keyword", config.labels or spec.labels, row_size("keyword", spec.outputs))
    keywords = [place for place, label in enumerate(labels) if label not in config.background]
    if not keywords:
        raise ValueError(f"keyword: all labels ({', '.join(labels)}) are background; set `background`")
    return KeywordDecoder(config, labels, keywords, spec)


class KeywordDecoder:
    """Remembers the scores of the last windows, and when a keyword was heard."""

    def __init__(self, config: Config, labels: list[str], keywords: list[int], spec: Spec) -> None:
        self.spec = replace(spec, labels=tuple(labels))
        self._threshold = config.threshold
        self._activation = config.activation
        self._temperature = config.temperature
        self._wants_scores = False
        self._refractory_ns = round(config.refractory * 1e9)
        self._labels = labels
        self._recent = [(place, deque[float](maxlen=config.windows)) for place in keywords]
        self._heard: str | None = None
        self._heard_ns = self._above_ns = 0
        """When a keyword was heard last, and until when its score was high."""
        self._was_high = False
        """Whether it was so in the last window."""

    def __call__(self, window: Window) -> Window:
        """Return the window with the keyword that is recognised in it, and an event for that."""
        probabilities = activated(self._activation, window.outputs[0], self._temperature)
        if self._wants_scores:
            window.scores = shown(probabilities)
        scores = probabilities.tolist()
        means: dict[str, float | None] = {}
        for place, recent in self._recent:
            recent.append(scores[place])
            means[self._labels[place]] = _mean(recent)
        best = next(iter(means)) if len(means) == 1 else max(means, key=lambda label: _order(means[label]))
        score = means[best]
        heard = None
        now = window.taken_ns
        high = self._heard is not None and self._is_high(means[self._heard])
        goes_on = high and (self._was_high or 0 <= now - self._above_ns < self._refractory_ns)
        if goes_on:
            self._above_ns = now
        if score is not None and self._is_high(score) and self._is_ready(best, now, goes_on=goes_on):
            heard = self._heard = best
            self._heard_ns = self._above_ns = now
            high = True
            window.events = [*window.events, KeywordEvent(label=best[:LONGEST_LABEL], score=_bounded(score))]
        self._was_high = high
        window.result = Keyword(heard, _rounded(score), {label: _rounded(mean) for label, mean in means.items()})
        return window

    def reset(self) -> None:
        """Forget the scores so far: they belong to another sound."""
        for _, recent in self._recent:
            recent.clear()
        self._heard, self._was_high = None, False

    def set_threshold(self, value: float) -> None:
        """Hear keywords above another score, from the next window on."""
        self._threshold = value

    def want_scores(self) -> None:
        """Set ``Window.scores`` from now on, ``None`` where one of them is not finite."""
        self._wants_scores = True

    def _is_high(self, mean: float | None) -> bool:
        return mean is not None and mean > self._threshold

    def _is_ready(self, label: str, now_ns: int, *, goes_on: bool) -> bool:
        """Whether the pause after the last keyword is over, or time went back.

        ``goes_on``: whether the last keyword's score has not fallen yet.
        """
        if self._heard is None:
            return True
        if label == self._heard and goes_on:
            return False
        since = self._above_ns if label == self._heard else self._heard_ns
        return not 0 <= now_ns - since < self._refractory_ns


def _order(mean: float | None) -> float:
    return -inf if mean is None else mean


def _mean(recent: deque[float]) -> float | None:
    """Return the mean of the last scores, ``None`` while there are too few or if one of them is not finite."""
    count = len(recent)
    if count < (recent.maxlen or 0):
        return None
    mean = sum(recent) / count
    return mean if isfinite(mean) else None


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, DIGITS)


def _bounded(score: float) -> float:
    return min(max(round(score, DIGITS), 0.0), 1.0)
