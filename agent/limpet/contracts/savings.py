"""What saves runs of a model: the options of a pipeline, and what each saved.

No numpy here: the supervisor reports the figures.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from limpet.contracts.fields import Count, Share

Saver: TypeAlias = Literal["gate", "cache", "cascade", "early_exit"]
MOST_COUNTED = 1 << 53
_Counted = Annotated[int, Meta(ge=0, le=MOST_COUNTED)]


class GateOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``gate`` of a pipeline: the model does not run while its input does not change. Its last outputs stand."""

    tolerance: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """By how much a value of the model's input may differ from the one that the model ran on last. The unit is
    that of the input after the transforms. Example: `8`."""
    share: Share = 0.0
    """Share of the values, 0 to 1, that may differ by more than that. Example: `0.01`."""
    longest: Count = 100
    """Windows in a row without a run of the model, at most."""


class CacheOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``cache`` of a pipeline: the outputs for inputs that come again are kept. The oldest are dropped first."""

    entries: Annotated[int, Meta(ge=1, le=65_536)] = 256
    """Inputs whose outputs are kept, at most."""
    bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 1_000_000
    """Bytes of outputs that are kept, at most."""
    step: Annotated[float, Meta(ge=0, le=1e9)] = 0.0
    """Inputs are the same if all their values are, each rounded to a multiple of this. Default: inputs are the
    same if the model gets the same numbers, as it stores them. Example: `0.01`."""


class CascadeOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``cascade`` of a pipeline: a light model runs first, and the pipeline's own only if that is unsure."""

    model: str
    """Name or file of the light model. Its decoder must give classes, and the same ones. Example:
    `"motion-small"`."""
    margin: Share | None = None
    """The light model is sure if its best probability exceeds the second best by at least this. Default: it is
    sure by `largest_set`. Example: `0.6`."""
    largest_set: Count = 1
    """Classes in a conformal set with which the light model is sure, if there is no `margin`. Its bundle needs a
    `conformal` stage."""


class EarlyExitOptions(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """``early_exit`` of a pipeline: windows come in rounds. Once a class is sure, the rest of it is left out."""

    windows: Annotated[int, Meta(ge=2, le=10_000)]
    """Windows in a round. A gap begins a new one. Example: `8`."""
    confidence: Annotated[float, Meta(gt=0.5, lt=1)] = 0.95
    """Probability of a class, given the windows of a round so far, from which on it is sure."""


class SavingCounts(msgspec.Struct, omit_defaults=True):
    """What one of them did since the figures before. See ``Saving``."""

    windows: _Counted = 0
    spared: _Counted = 0
    saved_ns: _Counted = 0
    cost_ns: _Counted = 0


def added(one: SavingCounts, other: SavingCounts) -> SavingCounts:
    """Return the sum of two. Each count stays within its limit."""
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return SavingCounts(*(min(a + b, MOST_COUNTED) for a, b in pairs))


class Saving(msgspec.Struct, kw_only=True):
    """What a gate, a cache, a cascade or early exit saved since the supervisor started.

    ``windows``: those that it looked at. ``spared``: those for which the model did not run. ``saved_s``: seconds
    that these runs would have taken, as long each as the runs around them. ``cost_s``: seconds that it took
    itself, those of a light model among them.
    """

    windows: int
    spared: int
    saved_s: float
    cost_s: float
