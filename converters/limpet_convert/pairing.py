"""Matches the inputs and outputs of two models: each format names and orders them in its own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limpet_convert.errors import ConvertError
from limpet_convert.layers import distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.contracts.data import Array, TensorSpec


def plain(name: str) -> str:
    """Return a tensor's name without what TensorFlow puts around it: ``x`` for ``serving_default_x:0``."""
    return name.removeprefix("serving_default_").partition(":")[0]


def inputs(first: Sequence[TensorSpec], second: Sequence[TensorSpec]) -> list[int]:
    """Return, for each input of the second model, the number of the first's that it gets.

    By name if all names are the same, else by size if all sizes differ, else by their order. ``ConvertError`` if
    one has more inputs than the other.
    """
    if len(first) != len(second):
        counts = [f"{len(one)} ({', '.join(spec.name for spec in one)})" for one in (first, second)]
        raise ConvertError(
            f"the first model has {counts[0]} inputs and the second {counts[1]}; nothing to compare"
        )
    for key in (lambda spec: plain(spec.name), lambda spec: sorted(n for n in spec.shape if n not in {1, -1})):
        ours, theirs = [key(one) for one in first], [key(one) for one in second]
        if all(ours.count(one) == 1 and theirs.count(one) == 1 for one in ours):
            return [ours.index(one) for one in theirs]
    return list(range(len(first)))


def ordered(ours: Sequence[Array], others: Sequence[Array]) -> list[Array]:
    """Return the others in the order and shapes of ours. ``ConvertError`` where one has no counterpart."""
    found = []
    for number, index in enumerate(outputs(ours, others)):
        if index is None:
            raise ConvertError(
                f"output {number} of the first model has {ours[number][0].size} values; the second model has none"
                f" of that size, only {', '.join(str(list(one.shape[1:])) for one in others)}"
            )
        found.append(others[index].reshape(ours[number].shape))
    return found


def outputs(ours: Sequence[Array], others: Sequence[Array]) -> list[int | None]:
    """Return, for each of our outputs, the number of the nearest other, ``None`` where none has its size.

    The surest pair goes first, so that an output that is nearly constant cannot take what is another's.
    """
    pairs = [
        (distance(np.ravel(one), np.ravel(other)), a, b)
        for a, one in enumerate(ours)
        for b, other in enumerate(others)
        if one.size == other.size
    ]
    found: list[int | None] = [None] * len(ours)
    for _, a, b in sorted(pairs):
        if found[a] is None and b not in found:
            found[a] = b
    return found
