"""A Bayes filter over the windows of a classifier: the posterior of one window is the prior of the next.

It is the forward filter of a hidden Markov model (Rabiner, 1989). The classes follow each other by a transition
matrix, and the model's scores are the evidence of each window.
"""

from __future__ import annotations

from time import localtime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.contracts.fields import Positive, Share
from limpet.contracts.outputs import Classification, ScoredLabel
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError
from limpet.postprocess import _chain
from limpet.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec


DIGITS = 5
MOST_CLASSES = 256
MOST_STEPS = 1 << 20
"""Steps after which nothing is left of a posterior."""
_LEAST = 1e-4
"""Least probability that a model can give a class: it may be sure, and wrong."""

_Row = Annotated[list[Share], Meta(max_length=MOST_CLASSES)]
Shares = Annotated[dict[str, Share], Meta(max_length=MOST_CLASSES)]
Hour = Annotated[int, Meta(ge=0, le=24)]


class When(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Other shares of the classes, in some hours or by the mean of a channel over the window."""

    priors: Shares
    """Share of each class then. Example: `{ idle = 0.9, walk = 0.1 }`."""
    hours: Annotated[list[Hour], Meta(min_length=2, max_length=2)] | None = None
    """From which hour to before which one, in the device's time zone. Example: `[22, 6]`."""
    channel: str = ""
    """Channel of the source. Default: none. Example: `"speed"`."""
    above: float | None = None
    """The channel's mean is above this. Example: `3.0`."""
    below: float | None = None
    """The channel's mean is below this. Example: `0.5`."""

    def __post_init__(self) -> None:
        if self.hours is None and not self.channel:
            raise ValueError("set hours or channel")
        if bool(self.channel) == (self.above is None and self.below is None):
            raise ValueError("channel goes with above or below")


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the classes follow each other, and how frequent they are."""

    transition: Annotated[list[_Row], Meta(max_length=MOST_CLASSES)] = []
    """Probability of each class in the next step (columns) after each class (rows), in the order of the labels.
    Example: `[[0.95, 0.05], [0.1, 0.9]]`."""
    stay: Share | None = None
    """In place of `transition`: probability that the class stays. Otherwise the next one is drawn from `priors`.
    Example: `0.95`."""
    seconds: Positive | None = None
    """Seconds of one step. Default: from one window to the next. Example: `0.5`."""
    priors: Shares = {}
    """Share of each class in the field. Default: what follows from `transition`, else equal. Example: `{ idle =
    0.7, walk = 0.3 }`."""
    trained: Shares = {}
    """Share of each class in the data that the model was trained on. Default: equal. Example: `{ idle = 0.5,
    walk = 0.5 }`."""
    weight: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """How much a window's evidence counts: below 1 for windows that overlap, or that make the same error for long.
    Example: `0.5`."""
    threshold: Share | None = None
    """Lowest posterior that gives a label. Below it, the result abstains. Default: every posterior gives one.
    Example: `0.8`."""
    most: Annotated[int, Meta(ge=1, le=MOST_CLASSES)] = 20
    """How many classes are in `posterior`, most probable first."""
    when: Annotated[list[When], Meta(max_length=32)] = []
    """Other priors in some hours, or by another channel. The first that applies counts. Example: `[{ hours = [22,
    6], priors = { idle = 0.95, walk = 0.05 } }]`."""

    def __post_init__(self) -> None:
        if bool(self.transition) == (self.stay is not None):
            raise ValueError("set transition or stay")


def _channels(config: Config) -> list[str]:
    return [one.channel for one in config.when if one.channel]


ABILITIES = Abilities(
    takes=(Classification,), gives=Classification, wants=("scores",), outlives_gaps=True, channels=_channels
)


def open(config: Config, spec: Spec) -> Bayes:
    """Prepare. ``ValueError`` if matrix or shares do not fit the labels, or there is no such channel."""
    labels = spec.labels
    if not 2 <= len(labels) <= MOST_CLASSES:
        raise ValueError(f"bayes takes 2 to {MOST_CLASSES} labels, and the model has {len(labels)}")
    for one in config.when:
        if one.channel and one.channel not in (*spec.samples, *spec.beside):
            there = listed(spec.samples) if spec.samples else "none with a name"
            raise ValueError(
                f"when has the channel {one.channel!r}, which the source does not have; the model takes {there}"
            )
    return Bayes(config, spec)


class Bayes:
    """Keeps the probability of each class. A gap only makes it less sure: time goes on in it."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        size = len(spec.labels)
        equal = np.full(size, 1 / size)
        given = _chain.shares(config.priors, spec.labels, "priors") if config.priors else None
        if config.stay is None:
            transition = _chain.matrix(config.transition, size)
            self._priors = _chain.stationary(transition) if given is None else given
        else:
            self._priors = equal if given is None else given
            transition = _chain.staying(config.stay, self._priors)
        trained = _chain.shares(config.trained, spec.labels, "trained") if config.trained else equal
        self._log_trained = np.log(trained)
        self._usual = (self._priors, transition)
        self._others = [
            (_condition(one, spec), (then, _chain.conditioned(transition, self._priors, then)))
            for one in config.when
            for then in [_chain.shares(one.priors, spec.labels, "when.priors")]
        ]
        self._weight = config.weight
        self._threshold = config.threshold
        self._most = min(config.most, size)
        seconds = config.seconds or (1 / spec.rate if spec.rate else None)
        self._step_ns = None if seconds is None else seconds * 1e9
        self._belief: NDArray[np.float64] | None = None
        self._stepped_ns = 0.0

    def __call__(self, window: Window) -> Window:
        """Return the window with the posterior and its most probable class.

        Where the model gave NaN or infinity, it is what follows from the windows before. ``ModelError`` if the
        result has no classes.
        """
        given: Any = window.result
        if not isinstance(given, Classification):
            raise ModelError(f"a result with classes was expected, not {type(given).__name__}")
        prior = self._predicted(window)
        scores = window.scores
        posterior = prior if scores is None or not np.isfinite(scores).all() else self._corrected(prior, scores)
        self._belief = posterior
        window.result = self._classification(given, posterior)
        return window

    def reset(self) -> None:
        """Forget all windows."""
        self._belief = None

    def _predicted(self, window: Window) -> NDArray[np.float64]:
        """Return how probable each class is before this window's evidence."""
        priors, transition = next((then for applies, then in self._others if applies(window)), self._usual)
        if self._belief is None:
            self._stepped_ns = window.taken_ns
            return priors
        steps = self._steps(window.taken_ns)
        if steps > MOST_STEPS:
            return priors
        if steps > 1:
            transition = np.linalg.matrix_power(transition, steps)
        return self._belief @ transition if steps else self._belief

    def _steps(self, now_ns: int) -> int:
        """Return how many steps were since the last one."""
        if self._step_ns is None:
            return 1
        steps = round((now_ns - self._stepped_ns) / self._step_ns)
        if steps < 0:  # The clock was set back, or another recording began.
            self._stepped_ns = now_ns
            return 1
        self._stepped_ns += steps * self._step_ns
        return steps

    def _corrected(self, prior: NDArray[np.float64], scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the posterior. The scores have the shares of the training data in them: these are taken off."""
        evidence = np.log(np.clip(scores, _LEAST, 1).astype(np.float64)) - self._log_trained
        power = np.log(np.maximum(prior, 1e-300)) + self._weight * evidence
        power -= power.max()
        found = np.exp(power)
        return np.asarray(found / found.sum())

    def _classification(self, given: Classification, posterior: NDArray[np.float64]) -> Classification:
        order = (-posterior).argsort(kind="stable")[: max(self._most, len(given.top))]
        ranked = [
            ScoredLabel(self.spec.labels[place], round(share, DIGITS))
            for place, share in zip(order.tolist(), posterior[order].tolist(), strict=True)
        ]
        best = ranked[0]
        abstained = self._threshold is not None and (best.score or 0.0) < self._threshold
        return replace(
            given,
            label=None if abstained else best.label,
            score=best.score,
            top=ranked[: max(len(given.top), 1)],
            abstained=abstained,
            posterior={one.label: one.score or 0.0 for one in ranked[: self._most]},
        )


def _condition(when: When, spec: Spec) -> Callable[[Window], bool]:
    """Return what says whether other priors apply to a window."""
    mean_of = _mean_of(when.channel, spec) if when.channel else None

    def applies(window: Window) -> bool:
        if when.hours is not None and not _within(localtime(window.wall_ns / 1e9).tm_hour, *when.hours):
            return False
        if mean_of is None:
            return True
        mean = mean_of(window)
        # A mean that is not known, or NaN, is neither above nor below.
        return (
            mean is not None
            and (when.above is None or mean > when.above)
            and (when.below is None or mean < when.below)
        )

    return applies


def _mean_of(channel: str, spec: Spec) -> Callable[[Window], float | None]:
    """Return what gives the mean of a channel over a window, ``None`` where that is not known."""
    if channel in spec.samples:
        column = spec.samples.index(channel)
        return lambda window: None if window.samples is None else float(window.samples[..., column].mean())
    place = spec.beside.index(channel)
    return lambda window: None if window.beside is None else float(window.beside[place])


def _within(hour: int, first: int, end: int) -> bool:
    return first <= hour < end if first < end else hour >= first or hour < end
