"""The member ``reference`` of a bundle: what a model saw when it was verified, and what follows for the field.

``limpet-convert`` writes it and the manifest names it. It is JSON. The device compares what it sees with it.
No numpy here: the supervisor may read it, too.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from limpet.contracts.drift import MOST_EDGES, MOST_FEATURES, FeatureName

FORMAT = 1
LARGEST_REFERENCE = 1 << 20
"""Bytes of the member."""
MOST_CLASSES = 1000
MOST_DIMENSIONS = 32
"""Of the projection that embeddings are compared in."""

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
_Row = Annotated[list[Number], Meta(max_length=MOST_CLASSES)]
_Projected = Annotated[list[Number], Meta(max_length=MOST_DIMENSIONS)]
_Count = Annotated[int, Meta(ge=0, le=1 << 53)]
_Counts = Annotated[list[_Count], Meta(max_length=MOST_CLASSES)]


class FeatureReference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One number of each window, such as the mean of a channel, over the reference's windows.

    ``quantiles``: those at 0, 1/n, ..., 1 in rising order. ``effective``: of so many independent windows the
    reference's windows are worth, as windows that follow each other are alike.
    """

    name: FeatureName
    channel: Annotated[str, Meta(max_length=64)] = ""
    unit: Annotated[str, Meta(max_length=32)] = ""
    mean: Number
    std: Annotated[float, Meta(ge=0, le=1e300)]
    quantiles: Annotated[list[Number], Meta(min_length=2, max_length=MOST_EDGES)]
    effective: Annotated[float, Meta(ge=1)]


class EmbeddingReference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The embeddings or features in a random projection. ``seed`` gives it; ``of``: how many numbers it projects.

    ``mean`` is that of the projected windows, ``precision`` the inverse of their covariance, row by row.
    """

    seed: _Count
    of: Annotated[int, Meta(ge=1, le=1 << 20)]
    mean: _Projected
    precision: Annotated[list[_Projected], Meta(max_length=MOST_DIMENSIONS)]


class ClassReference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a classifier said. ``confusion``: windows by true class (rows) and said class (columns).

    ``priors``: share of each true class.
    """

    labels: Annotated[list[Annotated[str, Meta(max_length=128)]], Meta(max_length=MOST_CLASSES)]
    confusion: Annotated[
        list[Annotated[list[_Count], Meta(max_length=MOST_CLASSES)]], Meta(max_length=MOST_CLASSES)
    ]
    priors: _Row


class SliceReference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One group of the reference's windows: how many, and how many of them the model had right."""

    windows: _Count
    right: _Count


class Reference(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The member. ``windows`` of the data it was made from; ``rate``: windows a second, ``None`` if unknown.

    ``features`` are those of ``limpet.inference.window_features``. ``score``: the best class's probability, an
    anomaly's score or the first quantity. ``thresholds``: by the kind of monitor, as its own ``calibrate``
    returned it. ``false_alarms``: how many all monitors together may raise in a month of 26 million windows.
    ``slices``: by the name of the group.
    """

    format: Annotated[int, Meta(ge=1)] = FORMAT
    windows: _Count
    rate: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    features: Annotated[list[FeatureReference], Meta(max_length=MOST_FEATURES)] = []
    score: FeatureReference | None = None
    embedding: EmbeddingReference | None = None
    classes: ClassReference | None = None
    thresholds: Annotated[dict[str, dict[str, Any]], Meta(max_length=32)] = {}
    false_alarms: Annotated[float, Meta(gt=0, le=1e6)] = 1.0
    slices: Annotated[dict[Annotated[str, Meta(max_length=64)], SliceReference], Meta(max_length=256)] = {}
