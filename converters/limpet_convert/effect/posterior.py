"""The posterior of an effect: what is known of the difference of two arms' means, after their data.

Windows of a cluster, which is a device or a block of time, depend on each other. So the clusters say how sure the
means are, not the windows. Priors are flat for means, and Jeffreys' for shares.

* Numbers, and shares with many of both outcomes: the difference has Student's t around what was measured. Its
  variance is that between clusters, linearised as for cluster-robust errors.
* Shares with few of one outcome: each arm has a Beta posterior. Its counts are divided by the design effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from limpet_convert.effect.arms import Arms

Verdict: TypeAlias = Literal["higher", "lower", "no_difference", "undecided", "too_few", "not_comparable"]

SEED, DRAWS = 16, 200_000
LEAST_WINDOWS, LEAST_CLUSTERS = 30, 8
"""Measured windows of each arm, and clusters, below which nothing is concluded."""
FEW_OUTCOMES = 20
"""Outcomes of a kind in an arm below which a share has a Beta posterior."""
SURE = 0.95


@dataclass
class Effect:
    """The effect of the new model: its mean less the old one's.

    ``low`` and ``high``: credible interval, 95 %. ``higher``: probability that the effect is above 0. ``needed``:
    how many times the data until the interval is as narrow as ``least``. ``adjusted``: for what devices measured
    before.
    """

    verdict: Verdict
    old: float
    new: float
    effect: float
    low: float
    high: float
    higher: float
    windows: tuple[int, int]
    clusters: int
    adjusted: bool = False
    needed: float | None = None
    reason: str = ""


def effect(arms: Arms, least: float | None = None) -> Effect:
    """Return the posterior of the effect, and what follows from it.

    ``least``: the smallest effect that matters. If the interval is within it, there is no difference that matters.
    """
    known = np.isfinite(arms.values)
    values, new, cluster = arms.values[known], arms.new[known], arms.cluster[known]
    values, adjusted = _adjusted(values, new, cluster, arms.before) if arms.unit == "devices" else (values, False)
    counts = int((~new).sum()), int(new.sum())
    clusters = len(np.unique(cluster))
    old_mean, new_mean = (float(values[arm].mean()) if arm.any() else float("nan") for arm in (~new, new))
    if few := _too_few(arms, counts, clusters):
        none, apart = float("nan"), new_mean - old_mean
        return Effect("too_few", old_mean, new_mean, apart, none, none, none, counts, clusters, reason=few)
    draws = _draws(values, new, cluster)
    low, high = map(float, np.quantile(draws, [(1 - SURE) / 2, (1 + SURE) / 2]))
    mean, higher = float(draws.mean()), float((draws > 0).mean())
    found = Effect("undecided", old_mean, new_mean, mean, low, high, higher, counts, clusters, adjusted)
    found.verdict = _verdict(arms, found, least)
    found.reason = " ".join(f"{problem}." for problem in arms.problems)
    if found.verdict == "undecided":
        size = max(abs(found.effect), 1e-300) if least is None else least
        found.needed = max(1.0, ((found.high - found.low) / 2 / size) ** 2)
    return found


def _too_few(arms: Arms, counts: tuple[int, int], clusters: int) -> str:
    if min(counts) < LEAST_WINDOWS:
        return (
            f"The arms have {counts[0]} and {counts[1]} measured windows; at least {LEAST_WINDOWS} each are needed"
        )
    if clusters < LEAST_CLUSTERS:
        what = "devices" if arms.unit == "devices" else "blocks of time"
        return f"There are {clusters} {what}; at least {LEAST_CLUSTERS} are needed"
    if arms.unit == "devices":
        of_new = len(np.unique(arms.cluster[arms.new & np.isfinite(arms.values)]))
        if min(of_new, clusters - of_new) < 3:
            return f"The arms have {clusters - of_new} and {of_new} devices; at least 3 each are needed"
    return ""


def _verdict(arms: Arms, found: Effect, least: float | None) -> Verdict:
    if arms.problems:
        return "not_comparable"
    if least is not None and -least < found.low and found.high < least:
        return "no_difference"
    if found.low > 0:
        return "higher"
    return "lower" if found.high < 0 else "undecided"


def _draws(values: NDArray[np.float64], new: NDArray[np.bool_], cluster: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return draws of the posterior of the effect. The same data give the same draws."""
    random = np.random.Generator(np.random.PCG64(SEED))
    if np.isin(values, (0.0, 1.0)).all() and _few(values, new):
        shares = [_beta(random, values, arm, cluster) for arm in (~new, new)]
        return shares[1] - shares[0]
    difference, variance, freedom = linearised(values, new, cluster)
    return difference + sqrt(variance) * random.standard_t(freedom, DRAWS)


def _few(values: NDArray[np.float64], new: NDArray[np.bool_]) -> bool:
    sums = [(values[arm].sum(), len(values[arm])) for arm in (new, ~new)]
    return any(min(one, count - one) < FEW_OUTCOMES for one, count in sums)


def linearised(
    values: NDArray[np.float64], new: NDArray[np.bool_], cluster: NDArray[np.intp]
) -> tuple[float, float, int]:
    """Return the difference of the means, its variance between clusters, and the degrees of freedom."""
    _, place = np.unique(cluster, return_inverse=True)
    count = int(place.max()) + 1
    parts = [_part(values, arm, place, count) for arm in (~new, new)]
    difference = float(values[new].mean() - values[~new].mean())
    inside = [np.bincount(place[arm], minlength=count) > 0 for arm in (~new, new)]
    if not (inside[0] & inside[1]).any():
        sizes = [int(one.sum()) for one in inside]
        variance = sum(size / (size - 1) * float((part**2).sum()) for size, part in zip(sizes, parts, strict=True))
        return difference, variance, min(sizes) - 1
    apart = parts[1] - parts[0]
    return difference, count / (count - 1) * float((apart**2).sum()), count - 1


def _part(
    values: NDArray[np.float64], arm: NDArray[np.bool_], place: NDArray[np.intp], count: int
) -> NDArray[np.float64]:
    """Return what each cluster adds to the error of an arm's mean, ``(clusters,)``."""
    own = values[arm]
    return np.bincount(place[arm], own - own.mean(), minlength=count) / len(own)


def _beta(
    random: np.random.Generator, values: NDArray[np.float64], arm: NDArray[np.bool_], cluster: NDArray[np.intp]
) -> NDArray[np.float64]:
    own = values[arm]
    count, ones = len(own), float(own.sum())
    _, place = np.unique(cluster[arm], return_inverse=True)
    share = (ones + 0.5) / (count + 1)
    clusters = int(place.max()) + 1
    between = float((np.bincount(place, own - own.mean()) ** 2).sum()) / count**2 * clusters / max(1, clusters - 1)
    design = max(1.0, between / (share * (1 - share) / count))
    return random.beta(0.5 + ones / design, 0.5 + (count - ones) / design, DRAWS)


def _adjusted(
    values: NDArray[np.float64], new: NDArray[np.bool_], cluster: NDArray[np.intp], before: NDArray[np.float64]
) -> tuple[NDArray[np.float64], bool]:
    """Take off what each device already measured before, as far as that predicts what it measures now (CUPED).

    Source: A. Deng and others, Improving the Sensitivity of Online Controlled Experiments, WSDM 2013.
    """
    if not np.isfinite(before).all() or len(before) < LEAST_CLUSTERS or before.std() == 0:
        return values, False
    centre = before - before.mean()
    now = np.array(
        [values[cluster == one].mean() if (cluster == one).any() else np.nan for one in range(len(before))]
    )
    of_new = np.array([new[cluster == one].any() for one in range(len(before))])
    known = np.isfinite(now)
    for arm in (of_new & known, ~of_new & known):
        now[arm] -= now[arm].mean()
    inside = centre.copy()
    for arm in (of_new & known, ~of_new & known):
        inside[arm] -= inside[arm].mean()
    power = float((inside[known] ** 2).sum())
    slope = float((now[known] * inside[known]).sum()) / power if power > 0 else 0.0
    return values - slope * centre[cluster], slope != 0
