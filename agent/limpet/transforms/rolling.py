"""A few numbers for each sample that describe it and those before it, channel by channel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from msgspec.structs import replace

from limpet.transforms._features import FEATURES, Feature, Features
from limpet.transforms._streaming import Latest, NewRows

if TYPE_CHECKING:
    from limpet.contracts.data import FloatArray, Window
    from limpet.contracts.stage import Spec
    from limpet.transforms._features import Doubles

_MOST = 1 << 24
"""Numbers that the features of one window are made of, at most: about a second."""
_AT_ONCE = 1 << 20
"""Numbers that are copied at once. Each sample is in many spans."""


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Features over the last ``samples`` samples, one row for each sample.

    At the start and after a gap there are fewer samples; the features are those of what is there.
    """

    samples: Annotated[int, Meta(ge=1, le=4096)]
    """Samples that each row describes: the newest and those before it. Example: `50`."""
    features: Annotated[list[Feature], Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["mean", "std", "min", "max", "rms"]
    )
    """Features, in the order in which the model sees them: the first one of all channels, then the next one. The
    transform `statistics` describes them. Example: `["mean", "std"]`."""

    def __post_init__(self) -> None:
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"features has one twice: {self.features}")


def open(config: Config, spec: Spec) -> Rolling:
    """Prepare for arrays ``(samples, channels)`` or ``(samples,)``.

    ``ValueError`` where windows have no steady hop, leave samples out or are too large.
    """
    new = NewRows("rolling", spec)
    if (work := math.prod(spec.shape) * config.samples) > _MOST:
        raise ValueError(
            f"rolling: {config.samples} samples for each of {math.prod(spec.shape)} in a window are {work}; "
            f"the limit is {_MOST}. Take fewer samples or shorter windows, or use statistics"
        )
    return Rolling(config.samples, config.features, new, spec)


class Rolling:
    """Real arrays ``(samples, channels)`` to float32 ``(samples, features * channels)``."""

    def __init__(self, samples: int, features: list[Feature], new: NewRows, spec: Spec) -> None:
        size, channels = spec.shape[0], spec.shape[1] if len(spec.shape) > 1 else 1
        names = tuple(f"{name}_{feature}" for feature in features for name in spec.channels)
        self.spec = replace(
            spec, shape=(size, len(features) * channels), dtype=np.dtype(np.float32), channels=names
        )
        self._features = [FEATURES[feature] for feature in features]
        self._new = new
        self._samples = samples
        self._before = np.empty((0, channels))
        self._latest = Latest(self.spec.shape)

    def __call__(self, window: Window) -> Window:
        """Return the window with the features of each sample. A NaN is in all of them that it is part of."""
        new, fresh = self._new(window.values)
        if fresh:
            self._before = self._before[:0]
        known = np.concatenate([self._before, new.reshape(len(new), -1).astype(np.float64)])
        self._latest.push(self._rows(known, len(self._before)))
        self._before = known[max(len(known) - self._samples + 1, 0) :]
        window.values = self._latest.rows
        return window

    def reset(self) -> None:
        """Forget all earlier samples."""
        self._new.reset()

    def _rows(self, known: Doubles, first: int) -> FloatArray:
        """Return a row for each sample from ``first`` on."""
        rows = np.empty((len(known) - first, self.spec.shape[1]), np.float32)
        full = max(first, self._samples - 1)  # The first sample that has enough of them.
        for at in range(first, min(full, len(known))):
            rows[at - first] = self._of(known[: at + 1].T)
        if full < len(known):
            begin = full - self._samples + 1
            spans = np.lib.stride_tricks.sliding_window_view(known[begin:], self._samples, axis=0)
            step = max(_AT_ONCE // (self._samples * spans.shape[1]), 1)
            for at in range(0, len(spans), step):
                rows[full - first + at : full - first + at + step] = self._of(spans[at : at + step])
        return rows

    def _of(self, samples: Doubles) -> Doubles:
        """Return the features of samples ``(..., channels, n)``, as ``(..., features * channels)``."""
        features = Features(samples)
        return np.concatenate([feature(features) for feature in self._features], axis=-1)
