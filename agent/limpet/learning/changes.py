"""Which adaptation a device makes next: of a threshold, of class priors, of offsets. Decides, without I/O.

Each function returns ``None`` if nothing is to be changed, and a step within the limits otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from limpet import beta
from limpet.contracts.adaptation import MOST_CHANNELS, MOST_LABELS
from limpet.learning.accuracy import Counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from limpet.contracts.adaptation import CoverageLimits, OffsetLimits, PriorLimits, ThresholdLimits
    from limpet.learning.accuracy import Judged

LEAST_CHANGE = 0.01
"""Smaller changes of a threshold are not worth one."""
MOST_GAIN = 0.5
"""How far all answers together move a coverage, as a share of how far it is off."""
LEAST_AIM = 0.005
"""Smaller changes of a coverage are not worth one."""
LEAST_FACTOR = 1.1
"""Smaller changes of a prior, as a factor, are not worth one."""
SIGNIFICANT = 4.0
"""Standard errors by which a mean must have moved."""
DOUBT = 0.05
"""How probable it may be that less is right than is wanted, with Jeffreys' prior."""


class Threshold(NamedTuple):
    """A threshold, and why."""

    value: float
    reason: str


def threshold(recent: Sequence[Judged], now: float | None, limits: ThresholdLimits) -> Threshold | None:
    """Return the next threshold: a step towards the lowest one above which enough results are right.

    ``now``: the present threshold, ``None`` if that is unknown. A result counts by its best label, also where the
    model abstained.
    """
    scored = [
        (one.score, one.best == one.truth) for one in recent if one.score is not None and one.best and one.truth
    ]
    if len(scored) < limits.answers:
        return None
    target, counted = _lowest(sorted(scored), limits)
    start = limits.least if now is None else min(max(now, limits.least), limits.most)
    value = round(min(max(target, start - limits.step), start + limits.step), 4)
    if now is not None and abs(value - now) < LEAST_CHANGE:
        return None
    share = counted.share
    before = "" if now is None else f"from {now:.3g} "
    reason = (
        f"{share.right} of the {share.answers} results with feedback above {target:.3g} are right. "
        f"{limits.right:.1%} are wanted. The threshold changes {before}to {value:.3g}"
    )
    return Threshold(value, reason)


def _lowest(scored: Sequence[tuple[float, bool]], limits: ThresholdLimits) -> tuple[float, Counted]:
    """Return the lowest threshold above which enough is right; the highest one allowed if there is none."""
    steps = 50
    for number in range(steps + 1):
        value = limits.least + (limits.most - limits.least) * number / steps
        above = [right for score, right in scored if score >= value]
        right = sum(above)
        doubt = beta.cdf(limits.right, right + 0.5, len(above) - right + 0.5)
        if len(above) >= max(limits.answers // 5, 5) and doubt <= DOUBT:
            return value, Counted(len(above), right)
    above = [right for score, right in scored if score >= limits.most]
    return limits.most, Counted(len(above), sum(above))


class Aim(NamedTuple):
    """The coverage to aim at, and why."""

    value: float
    reason: str


def aim(recent: Sequence[Judged], now: float | None, since: float, limits: CoverageLimits) -> Aim | None:
    """Return the next coverage to aim at, by adaptive conformal inference on the results made after ``since``.

    Each set or interval that misses the truth raises it, each that holds the truth lowers it. Many answers at once
    move it less each, as they were all made with the same one. ``now``: the one that is aimed at, ``None`` if that
    is the stated one. Results that were kept for a reason do not count.
    """
    found = [one.held for one in recent if one.held is not None and not one.chosen and one.time > since]
    if len(found) < limits.answers:
        return None
    start = limits.coverage if now is None else now
    value, rate = start, min(limits.rate, MOST_GAIN / len(found))
    for held in found:
        value = min(max(value + rate * (limits.coverage - held), limits.least), limits.most)
    value = round(value, 4)
    if abs(value - start) < LEAST_AIM:
        return None
    return Aim(
        value,
        f"{sum(found)} of {len(found)} sets or intervals with feedback hold the truth. {limits.coverage:.1%} are "
        f"wanted. The coverage that is aimed at changes from {start:.3g} to {value:.3g}",
    )


class Priors(NamedTuple):
    """What the probability of each label is multiplied by, and why."""

    weights: dict[str, float]
    reason: str


def priors(
    truths: Mapping[str, int], reference: Mapping[str, float], now: Mapping[str, float], limits: PriorLimits
) -> Priors | None:
    """Return how class priors here differ from the reference's.

    ``truths``: how often each label was true. The estimate is the mean of a Dirichlet distribution whose prior is
    the reference, worth ``limits.answers`` answers. ``now``: the weights in force.
    """
    counted = {label: count for label, count in truths.items() if label in reference}
    total = sum(counted.values())
    if total < limits.answers or len(reference) > MOST_LABELS:
        return None
    strength = float(limits.answers)
    weights = {}
    for label, prior in reference.items():
        if prior <= 0:
            continue
        here = (counted.get(label, 0) + strength * prior) / (total + strength)
        weights[label] = round(min(max(here / prior, 1 / limits.most), limits.most), 4)
    changes = {label: weight / now.get(label, 1.0) for label, weight in weights.items()}
    if all(1 / LEAST_FACTOR < change < LEAST_FACTOR for change in changes.values()):
        return None
    moved = max(changes, key=lambda label: max(changes[label], 1 / changes[label]))
    share = counted.get(moved, 0) / total
    return Priors(
        weights,
        f"{share:.1%} of {total} windows with feedback are {moved!r}. In the reference it is "
        f"{reference[moved]:.1%}. Its probability is multiplied by {weights[moved]:.3g}",
    )


_Count = Annotated[int, Meta(ge=0, le=1 << 53)]
LARGEST = 1e30
"""Largest mean and variance."""
_Real = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
_Reals = Annotated[tuple[_Real, ...], Meta(max_length=MOST_CHANNELS)]


class Levels(msgspec.Struct, array_like=True, frozen=True):
    """Channel means of some windows: their number, and per channel the mean and the variance of the means."""

    windows: _Count = 0
    means: _Reals = ()
    variances: _Reals = ()

    def __post_init__(self) -> None:
        if len(self.means) != len(self.variances):
            raise ValueError(f"there are {len(self.means)} means and {len(self.variances)} variances")

    def plus(self, other: Levels) -> Levels:
        """Return the levels of both. If the number of channels differs, those of ``other`` alone."""
        total = self.windows + other.windows
        if len(self.means) != len(other.means) or not self.windows or not total:
            return other
        share = other.windows / total
        pairs = list(zip(self.means, other.means, self.variances, other.variances, strict=True))
        means = tuple(a + (b - a) * share for a, b, _, _ in pairs)
        spread = (u + (v - u) * share + (b - a) ** 2 * share * (1 - share) for a, b, u, v in pairs)
        variances = tuple(min(max(one, 0.0), LARGEST) for one in spread)
        return Levels(min(total, 1 << 53), means, variances)


class Offsets(NamedTuple):
    """What is subtracted from each channel, and why."""

    values: list[float]
    reason: str


def offsets(
    base: Levels, before: Levels, latest: Levels, now: Sequence[float], limits: OffsetLimits
) -> Offsets | None:
    """Return the next offsets. ``base``: the first windows. ``before`` and ``latest``: the last two periods.

    A channel is followed if its mean moved since the first windows by more than chance. From one period to the
    next it may move by ``limits.step``. What moves faster is for monitors and for people.
    """
    count = len(base.means)
    if not count or not len(before.means) == len(latest.means) == count or latest.windows < limits.windows:
        return None
    present = list(now) if len(now) == count else [0.0] * count
    shrink = (1 / max(base.windows, 1) + 1 / latest.windows) ** 0.5
    values = []
    for n, start in enumerate(present):
        deviation = _deviation(base, n)
        one = _Channel(base.means[n], deviation, before.means[n], latest.means[n], deviation * shrink)
        values.append(_followed(one, start, limits))
    moved = [n for n in range(count) if values[n] != present[n]]
    if not moved:
        return None
    first = max(moved, key=lambda n: abs(values[n] - present[n]) / _deviation(base, n))
    return Offsets(
        values,
        f"The mean of channel {first} moved slowly from {base.means[first]:.4g} to {latest.means[first]:.4g}; "
        f"{values[first]:.4g} is subtracted from it. {len(moved)} of {count} channels are followed",
    )


class _Channel(NamedTuple):
    """The means of one channel in three periods. ``error``: standard error of the difference of two."""

    base: float
    deviation: float
    before: float
    latest: float
    error: float


def _followed(one: _Channel, present: float, limits: OffsetLimits) -> float:
    """Return the next offset of a channel."""
    step, most = limits.step * one.deviation, limits.most * one.deviation
    if one.deviation <= 0 or abs(one.latest - one.before) > step:
        return present
    target = min(max(one.latest - one.base, -most), most)
    change = min(max(target - present, -step), step)
    return round(present + change, 9) if abs(target - present) > SIGNIFICANT * one.error else present


def _deviation(base: Levels, n: int) -> float:
    return max(base.variances[n], 0.0) ** 0.5 if n < len(base.variances) else 0.0
