"""Pieces to windows and features, by the agent's own code, and the numbers that ``normalise`` gets."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.contracts.data import Samples, SampleSpec, Window
from limpet.contracts.stage import Spec
from limpet.inference.resolving import resolve_transforms
from limpet.inference.stages import Transforms
from limpet.inference.window import Windower
from limpet.transforms import normalise
from limpet_convert.data import transformed
from limpet_convert.training.proposals import CLIP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, FloatArray
    from limpet.contracts.fields import WindowSpec
    from limpet_convert.training.pieces import Piece

LARGEST = 64 << 20
"""Bytes of all windows of one setting."""
MOST = 40_000
_SMALL = 1e-6
"""Share of a mean below which a standard deviation is rounding."""


@dataclass(frozen=True)
class Windows:
    """``values``: float32 ``(n, rows, channels)`` behind the transforms. ``piece``: ``(n,)``, where each is from.

    ``target``: float32 ``(n,)``, the mean of the channel to predict over each window, where there is one.
    """

    values: FloatArray
    piece: Array
    target: FloatArray | None

    def __len__(self) -> int:
        return len(self.values)


def cut(
    pieces: Sequence[Piece], window: WindowSpec, transforms: Sequence[dict[str, Any]], rate: float | None
) -> Windows:
    """Return the windows of all pieces. Where there would be too many, only every second, third ... is used."""
    channels = pieces[0].values.shape[1]
    spec = SampleSpec((channels,), np.dtype(np.float32), rate=rate)
    plugins = resolve_transforms(list(transforms), "transforms", Path())
    size, hop = window.size or 1, window.hop or window.size or 1
    count = sum(max(0, len(piece.values) - size) // hop + 1 for piece in pieces if len(piece.values) >= size)
    elements = math.prod(Transforms(plugins, Windower(window, spec).spec).spec.shape)
    every = max(1, -(-count // MOST), -(-count * elements * 4 // LARGEST))
    values: list[Array] = []
    owners: list[int] = []
    targets: list[float] = []
    number = 0
    for position, piece in enumerate(pieces):
        windower = Windower(window, spec)
        stages = Transforms(plugins, windower.spec).take()
        for ordinal, found in enumerate(windower.push(_samples(piece.values))):
            number += 1
            features = transformed(found, stages)  # Also of windows that are left out: stages may have memory.
            if number % every:
                continue
            values.append(features)
            owners.append(position)
            if piece.target is not None:
                targets.append(float(piece.target[ordinal * hop : ordinal * hop + size].mean()))
    stacked = np.stack(values) if values else np.zeros((0, size, channels), np.float32)
    if stacked.ndim == 2:
        stacked = stacked[:, np.newaxis, :]
    wanted = None if pieces[0].target is None else np.array(targets, np.float32)
    return Windows(stacked, np.array(owners, np.int64), wanted)


def _samples(values: FloatArray) -> Samples:
    stamps = np.arange(len(values), dtype=np.int64)
    return Samples(values, stamps, stamps, 0)


def normaliser(values: FloatArray, *, by_channel: bool) -> dict[str, Any]:
    """Return the transform ``normalise`` for such windows: one mean for each channel, or for each element.

    What never changes is divided by 1.
    """
    axes = (0, 1) if by_channel else (0,)
    mean, std = values.mean(axis=axes, dtype=np.float64), values.std(axis=axes, dtype=np.float64)
    std = np.where(std > _SMALL * np.maximum(np.abs(mean), 1e-3), std, 1.0)
    numbers = [[float(f"{one:.6g}") for one in np.ravel(found)] for found in (mean, std)]
    return {"kind": "normalise", "mean": numbers[0], "std": numbers[1], "clip": CLIP}


def normalised(values: FloatArray, transform: dict[str, Any]) -> FloatArray:
    """Return windows ``(n, rows, channels)`` behind ``normalise``, as the device computes them."""
    config = normalise.Config(mean=transform["mean"], std=transform["std"], clip=transform["clip"])
    if not len(values):
        return values
    stage = normalise.open(config, Spec(shape=values.shape[1:], dtype=np.dtype(np.float32)))
    found = np.empty_like(values)
    for number, one in enumerate(values):
        found[number] = stage(Window(one, 0, 0, 0)).values
    return found
