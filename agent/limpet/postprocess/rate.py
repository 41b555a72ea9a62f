"""How often a class comes, with what is known of it: a beta distribution that each window updates.

Hits and misses of a Bernoulli variable update a beta prior; a posterior of one window is the prior of the next.
"""

from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from limpet import beta
from limpet.contracts.fields import Positive, Share
from limpet.contracts.outputs import Anomaly, Classification, Labels, Rate
from limpet.contracts.postprocess import Abilities
from limpet.errors import ModelError

if TYPE_CHECKING:
    from limpet.contracts.data import Window
    from limpet.contracts.stage import Spec

ABILITIES = Abilities(takes=(Classification, Anomaly, Labels), outlives_gaps=True)

DIGITS = 6
_FEW = 50
"""Windows up to which every one changes the interval much."""
_UPDATE_NS = 1_000_000_000


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which windows are counted, and for how long."""

    labels: Annotated[list[str], Meta(max_length=1000)] = []
    """Labels that are counted. Default: anomalies. Example: `["defect"]`."""
    hits: Annotated[float, Meta(gt=0, le=1e9)] = 0.5
    """Hits that are assumed before the first window. Default: Jeffreys' prior. Example: `2`."""
    misses: Annotated[float, Meta(gt=0, le=1e9)] = 0.5
    """Misses that are assumed before the first window. Default: Jeffreys' prior. Example: `98`."""
    memory: Positive | None = None
    """Seconds after which a window counts only 37 % of a new one. Default: it counts forever. Example: `3600`."""
    credibility: Annotated[float, Meta(gt=0, lt=1)] = 0.95
    """Probability that the rate is in the interval."""
    limit: Share | None = None
    """A rate that should not be exceeded: `exceeds` is the probability that it is. Default: none. Example:
    `0.02`."""


def open(config: Config, spec: Spec) -> RateStage:
    """Prepare. ``ValueError`` if the decoder gives no such label."""
    unknown = [label for label in config.labels if spec.labels and label not in spec.labels]
    if unknown:
        raise ValueError(f"labels has {unknown[0]!r}, which is no label of the model")
    return RateStage(config, spec)


class RateStage:
    """Keeps hits and misses. A window that abstains counts as neither."""

    def __init__(self, config: Config, spec: Spec) -> None:
        self.spec = spec
        self._config = config
        self._labels = frozenset(config.labels)
        self._hits = self._misses = 0.0
        self._last_ns: int | None = None
        self._rate: Rate | None = None
        self._updated_ns = 0

    def __call__(self, window: Window) -> Window:
        """Return the window with the rate so far. ``ModelError`` if the result has nothing to count."""
        given: Any = window.result
        if not isinstance(given, Classification | Anomaly | Labels):
            raise ModelError(f"a result with classes or anomalies was expected, not {type(given).__name__}")
        hit = self._is_hit(given)
        self._forget(window.taken_ns)
        if hit is not None:
            self._hits += hit
            self._misses += not hit
        if self._rate is None or self._windows < _FEW or abs(window.taken_ns - self._updated_ns) >= _UPDATE_NS:
            self._rate, self._updated_ns = self._found(), window.taken_ns
        window.result = replace(given, rate=self._rate)
        return window

    def reset(self) -> None:
        """Forget all windows."""
        self._hits = self._misses = 0.0
        self._last_ns = self._rate = None

    @property
    def _windows(self) -> float:
        return self._hits + self._misses

    def _forget(self, now_ns: int) -> None:
        """Have what was counted count less."""
        if self._config.memory is not None and self._last_ns is not None:
            kept = exp(-max(now_ns - self._last_ns, 0) / 1e9 / self._config.memory)
            self._hits *= kept
            self._misses *= kept
        self._last_ns = now_ns

    def _is_hit(self, given: Classification | Anomaly | Labels) -> bool | None:
        """Return whether a window counts as a hit, ``None`` if it counts as nothing."""
        if isinstance(given, Anomaly):
            return None if given.score is None or given.untrained else given.anomalous
        if isinstance(given, Labels):
            return any(one.label in self._labels for one in given.labels) or (None if given.abstained else False)
        return None if given.abstained else given.label in self._labels

    def _found(self) -> Rate:
        a, b = self._hits + self._config.hits, self._misses + self._config.misses
        tail = (1 - self._config.credibility) / 2
        limit = self._config.limit
        return Rate(
            share=round(a / (a + b), DIGITS),
            low=round(beta.quantile(tail, a, b), DIGITS),
            high=round(beta.quantile(1 - tail, a, b), DIGITS),
            windows=round(self._windows, 3),
            exceeds=None if limit is None else round(1 - beta.cdf(limit, a, b), DIGITS),
        )
