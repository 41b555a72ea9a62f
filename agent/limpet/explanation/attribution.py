"""How much each part of a window contributes to a value: Shapley values, occlusion and RISE.

Each method is a generator. It yields which share of each part to show, float64 ``(parts,)`` from 0 to 1, and is
sent the value of that window. So the caller, who runs the model, decides when. Random choices come from a fixed
seed: the same question gets the same answer.

Sources: S. M. Lundberg and S.-I. Lee, A Unified Approach to Interpreting Model Predictions, NeurIPS 2017;
R. Mitchell and others, Sampling Permutations for Shapley Value Estimation, JMLR 2022 (antithetic permutations);
M. D. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014 (occlusion);
V. Petsiuk, A. Das and K. Saenko, RISE, BMVC 2018.
"""

from __future__ import annotations

from math import factorial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from numpy.typing import NDArray

    Asking: TypeAlias = Generator[NDArray[np.float64], float, "Attribution"]

SEED = 20_240_607
"""Of all random choices."""
_COARSE = 7
"""Rows and columns of the coarse masks that RISE smooths over pixels."""


class TooFewError(ValueError):
    """A method needs more invokes than there are."""


class Attribution(NamedTuple):
    """What each part contributes, float64 ``(parts,)``, and the standard errors where they are known."""

    values: NDArray[np.float64]
    errors: NDArray[np.float64] | None
    exact: bool


def occlusion(parts: int, whole: float) -> Asking:
    """Hide one part at a time. A part contributes by how much the value sinks then. ``parts`` invokes."""
    sinks = np.empty(parts)
    for part in range(parts):
        share = np.ones(parts)
        share[part] = 0.0
        sinks[part] = whole - (yield share)
    return Attribution(sinks, None, True)


def shapley(parts: int, whole: float, hidden: float, invokes: int) -> Asking:
    """Return Shapley values, which add up to ``whole - hidden``.

    They are exact if ``2 ** parts`` runs, with those of the whole and of the hidden window, are within
    ``invokes``. Otherwise they are means over random orders in which the parts are shown, each with its reverse.
    ``TooFewError`` if there are too few invokes for a single pair.
    """
    if parts < 63 and 1 << parts <= invokes:
        return (yield from _exact(parts, whole, hidden))
    pairs = (invokes - 2) // (2 * (parts - 1))
    if pairs < 1:
        raise TooFewError(f"Shapley values of {parts} parts need at least {2 * parts} invokes")
    return (yield from _sampled(parts, whole, hidden, pairs))


def _exact(parts: int, whole: float, hidden: float) -> Asking:
    size = 1 << parts
    value = np.empty(size)
    value[0], value[-1] = hidden, whole
    for shown in range(1, size - 1):
        value[shown] = yield _bits(shown, parts)
    coalitions = np.arange(size)
    counts = np.array([int(shown).bit_count() for shown in coalitions])
    weights = np.array([_weight(count, parts) for count in range(parts)])
    values = np.empty(parts)
    for part in range(parts):
        without = coalitions[coalitions >> part & 1 == 0]
        values[part] = (weights[counts[without]] * (value[without | 1 << part] - value[without])).sum()
    return Attribution(values, None, True)


def _weight(shown: int, parts: int) -> float:
    """Return the share of all orders in which exactly these ``shown`` parts come before a part."""
    return factorial(shown) * factorial(parts - shown - 1) / factorial(parts)


def _bits(number: int, parts: int) -> NDArray[np.float64]:
    return (number >> np.arange(parts) & 1).astype(np.float64)


def _sampled(parts: int, whole: float, hidden: float, pairs: int) -> Asking:
    random = np.random.Generator(np.random.PCG64(SEED))
    means = np.empty((pairs, parts))
    for pair in range(pairs):
        order = random.random(parts).argsort(kind="stable")
        forward = yield from _marginal(order, whole, hidden)
        backward = yield from _marginal(order[::-1], whole, hidden)
        means[pair] = (forward + backward) / 2
    errors = means.std(0, ddof=1) / np.sqrt(pairs) if pairs > 1 else None
    return Attribution(means.mean(0), errors, False)


def _marginal(
    order: NDArray[np.intp], whole: float, hidden: float
) -> Generator[NDArray[np.float64], float, NDArray[np.float64]]:
    """Show the parts one after the other; return what each of them adds, by its number."""
    share, added, before = np.zeros(len(order)), np.empty(len(order)), hidden
    for part in order[:-1]:
        share[part] = 1.0
        after = yield share.copy()
        added[part], before = after - before, after
    added[order[-1]] = whole - before
    return added


def rise(shape: Sequence[int], invokes: int, *, smooth: bool) -> Asking:
    """Show random halves of the parts. A part contributes by how the value depends on whether it is shown.

    That is the slope of the value over the part's share. If parts are shown or hidden as a whole, it is the mean
    value with the part less the mean value without it. ``smooth``: the parts are tiles of a picture, and the masks
    are smooth. ``TooFewError`` if there are too few invokes.
    """
    parts = int(np.prod(shape))
    if invokes < 16:
        raise TooFewError("RISE needs at least 18 invokes")
    random = np.random.Generator(np.random.PCG64(SEED))
    shares, values = np.empty((invokes, parts)), np.empty(invokes)
    for number in range(invokes):
        shares[number] = _smooth_mask(random, shape) if smooth else random.random(parts) < 0.5
        values[number] = yield shares[number]
    centred = shares - shares.mean(0)
    spread = np.maximum((centred**2).sum(0), 1e-12)
    slopes = centred.T @ (values - values.mean()) / spread
    rest = values.var() * invokes - slopes**2 * spread  # of each part's own line
    errors = np.sqrt(np.maximum(rest, 0) / (invokes - 2) / spread)
    return Attribution(slopes, errors, False)


def _smooth_mask(random: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float64]:
    """Return coarse random squares, enlarged by linear interpolation and shifted, ``(parts,)``."""
    coarse = (random.random((_COARSE + 1, _COARSE + 1)) < 0.5).astype(np.float64)
    shift = random.random(2)
    down = np.minimum((np.arange(shape[0]) + 0.5) / shape[0] * (_COARSE - 1) + shift[0], _COARSE)
    across = np.minimum((np.arange(shape[1]) + 0.5) / shape[1] * (_COARSE - 1) + shift[1], _COARSE)
    rows = _between(coarse, down)
    mask: NDArray[np.float64] = _between(rows.T, across).T.ravel()
    return mask


def _between(values: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rows at places between whole numbers, interpolated."""
    low = np.minimum(places.astype(int), len(values) - 2)
    share = (places - low)[:, None]
    between: NDArray[np.float64] = values[low] * (1 - share) + values[low + 1] * share
    return between
