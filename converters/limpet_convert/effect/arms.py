"""Which windows or devices were drawn for the new model, and whether both arms are alike apart from the model.

Arms are compared as they were drawn, not as they ran: what a device did to an arm must not choose its windows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from math import erfc, sqrt
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from limpet.worker.shadow_turns import in_share
from limpet_convert.errors import ConvertError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limpet_convert.effect.results import Measured

Unit: TypeAlias = Literal["windows", "devices"]

SUSPICIOUS = 1e-3
"""Probability below which numbers of windows or devices are not those of the draw."""
MOST_OTHER = 0.05
"""Share of an arm that may have run the other model before a note says so."""
MOST_APART = 0.25
"""Standard deviations by which the means of both arms may differ before the experiment."""
BLOCKS = 40
"""Blocks of time, over all devices, that windows are put into. Windows of one may depend on each other."""


@dataclass
class Arms:
    """The windows of an experiment.

    ``values`` float64 ``(n,)``, ``new`` bool ``(n,)``: drawn for the new model. ``cluster`` ``(n,)``: number of
    the device or block of time. ``before``: what each cluster measured before, NaN if that is unknown.
    ``problems`` make the arms not comparable, ``notes`` do not.
    """

    unit: Unit
    values: NDArray[np.float64]
    new: NDArray[np.bool_]
    cluster: NDArray[np.intp]
    before: NDArray[np.float64]
    devices: int
    other_model: tuple[float, float] = (0.0, 0.0)
    """Share of the old and of the new arm that ran the other arm's model."""
    mismatch: float | None = None
    """Probability of numbers as uneven as these, if they were drawn as said."""
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def drawn(device: str, rollout: str, share: float) -> bool:
    """Whether a rollout draws a device for the new model. The answer is always the same."""
    digest = sha256(f"{rollout}\0{device}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def draw(windows: Sequence[Measured], old: str, new: str, share: float | None, rollout: str) -> Arms:
    """Return the arms. ``old`` and ``new`` are models, ``NAME@VERSION``. ``ConvertError`` if there is no arm.

    With ``rollout``, devices were drawn for it. With ``share`` alone, windows on each device were. Without both,
    nothing shows how arms were drawn.
    """
    ours = sorted((one for one in windows if one.model in {old, new}), key=lambda one: (one.device, one.time))
    for model in (old, new):
        if not any(one.model == model for one in ours):
            there = ", ".join(sorted({one.model for one in windows})[:8]) or "none"
            raise ConvertError(f"no result is of {model}; there are results of {there}")
    if rollout:
        return _of_devices(ours, new, share if share is not None else 0.5, rollout)
    if share is not None or _mixed(ours):
        return _of_windows(ours, old, new, share)
    return _of_devices(ours, new, None, "")


def _mixed(windows: Sequence[Measured]) -> bool:
    """Whether most devices ran both models."""
    models: dict[str, set[str]] = {}
    for one in windows:
        models.setdefault(one.device, set()).add(one.model)
    return sum(len(found) > 1 for found in models.values()) * 2 > len(models)


# --- windows of each device


def _of_windows(windows: Sequence[Measured], old: str, new: str, share: float | None) -> Arms:
    inside = [one for device in _by_device(windows) for one in _during(device, new)]
    if not inside:
        raise ConvertError(f"no device ran {old} and {new} at the same time; only then are windows drawn")
    as_run = np.array([one.model == new for one in inside])
    as_drawn = as_run if share is None else np.array([in_share(one.sample, share) for one in inside])
    if as_drawn.all() or not as_drawn.any():
        raise ConvertError(f"share {share}: it draws all windows for one model; check --share")
    arms = Arms("windows", _values(inside), as_drawn, *_blocks(inside), len({one.device for one in inside}))
    arms.other_model = float(as_run[~as_drawn].mean()), float((~as_run[as_drawn]).mean())
    if share is None:
        arms.problems.append(
            f"Nothing shows how windows were drawn for {old} and {new}. Give the request's `share` with --share"
        )
        return arms
    _check_numbers(arms, share)
    _check_hours(arms, inside)
    if max(arms.other_model) > MOST_OTHER:
        arms.notes.append(
            f"{arms.other_model[1]:.1%} of the new arm have a result of the old model, as the new one was late or "
            f"failed; {arms.other_model[0]:.1%} the other way. The effect is that of the draw, and so smaller"
        )
    return arms


def _by_device(windows: Sequence[Measured]) -> list[list[Measured]]:
    found: dict[str, list[Measured]] = {}
    for one in windows:
        found.setdefault(one.device, []).append(one)
    return list(found.values())


def _during(windows: Sequence[Measured], new: str) -> Sequence[Measured]:
    """Return a device's windows from the first result of the new model until only one of both models ran."""
    of_new = [place for place, one in enumerate(windows) if one.model == new]
    of_old = [place for place, one in enumerate(windows) if one.model != new]
    if not of_new or not of_old:
        return []
    return windows[of_new[0] : min(of_new[-1], of_old[-1]) + 1]


def _blocks(windows: Sequence[Measured]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Cut each device's windows, which are in the order of time, into blocks of the same number."""
    devices = _by_device(windows)
    each = max(4, -(-BLOCKS // len(devices)))
    cluster, first = [], 0
    for own in devices:
        count = min(each, len(own))
        cluster.append(first + np.arange(len(own)) * count // len(own))
        first += count
    return np.concatenate(cluster), np.full(first, np.nan)


def _check_numbers(arms: Arms, share: float) -> None:
    """See whether the arms have as many windows as the draw gives them."""
    count, of_new = len(arms.new), int(arms.new.sum())
    arms.mismatch = _chance(of_new, count, share)
    if arms.mismatch < SUSPICIOUS:
        arms.problems.append(
            f"{of_new / count:.1%} of the {arms.unit} are in the new arm, and {share:.1%} were to be. Results of "
            "one arm are missing more often"
        )
    known = np.isfinite(arms.values)
    if not known.all():
        shares = known[~arms.new].mean(), known[arms.new].mean()
        pooled = known.mean()
        spread = sqrt(pooled * (1 - pooled) * (1 / max(1, (~arms.new).sum()) + 1 / max(1, of_new)))
        if spread > 0 and erfc(abs(shares[0] - shares[1]) / spread / sqrt(2)) < SUSPICIOUS:
            arms.problems.append(
                f"{shares[0]:.1%} of the old arm are measured, and {shares[1]:.1%} of the new one. What was "
                "measured depends on the model"
            )


def _check_hours(arms: Arms, windows: Sequence[Measured]) -> None:
    """See whether both arms have the same hours of the day."""
    angle = 2 * np.pi * np.array([one.time % 86_400 for one in windows]) / 86_400
    for wave in (np.sin(angle), np.cos(angle)):
        spread = wave.std()
        if spread > 0 and abs(wave[arms.new].mean() - wave[~arms.new].mean()) > MOST_APART * spread:
            arms.problems.append("The arms have windows at different hours of the day")
            return


# --- whole devices


def _of_devices(windows: Sequence[Measured], new: str, share: float | None, rollout: str) -> Arms:
    begin = min(one.time for one in windows if one.model == new)
    devices = _by_device(windows)
    inside = [[one for one in own if one.time >= begin] for own in devices]
    earlier = [[one for one in own if one.time < begin] for own in devices]
    kept = [place for place, own in enumerate(inside) if own]
    most_new = [2 * sum(one.model == new for one in inside[place]) > len(inside[place]) for place in kept]
    names = [devices[place][0].device for place in kept]
    as_drawn = [drawn(name, rollout, share) for name in names] if share is not None else most_new
    if all(as_drawn) or not any(as_drawn):
        raise ConvertError("all devices are in one arm; the other one has no results")
    flat = [one for place in kept for one in inside[place]]
    cluster = np.repeat(np.arange(len(kept)), [len(inside[place]) for place in kept])
    before = np.array([_mean(earlier[place]) for place in kept])
    arms = Arms("devices", _values(flat), np.array(as_drawn)[cluster], cluster, before, len(kept))
    of_new = np.array(as_drawn)
    other = np.array(most_new) != of_new
    arms.other_model = float(other[~of_new].mean()), float(other[of_new].mean())
    if share is None:
        arms.problems.append(
            "Nothing shows how devices were drawn. Give the rollout's name and share with --rollout"
        )
    else:
        arms.mismatch = _chance(int(of_new.sum()), len(of_new), share)
        if arms.mismatch < SUSPICIOUS:
            arms.problems.append(
                f"{of_new.mean():.1%} of the devices are in the new arm, and {share:.1%} were to be"
            )
        if max(arms.other_model) > MOST_OTHER:
            arms.notes.append(
                f"{other.mean():.1%} of the devices ran the other arm's model. The effect is the draw's"
            )
    _check_before(arms, of_new)
    return arms


def _check_before(arms: Arms, of_new: NDArray[np.bool_]) -> None:
    """See whether the devices of both arms measured the same before."""
    known = np.isfinite(arms.before)
    if not known.all():
        arms.notes.append(f"{(~known).sum()} devices have no results from before, so nothing is adjusted for that")
        return
    spread = arms.before.std()
    apart = abs(arms.before[of_new].mean() - arms.before[~of_new].mean())
    if spread > 0 and apart > MOST_APART * spread:
        arms.notes.append(f"Before, the arms were already {apart / spread:.2g} standard deviations apart")


def _values(windows: Sequence[Measured]) -> NDArray[np.float64]:
    return np.array([np.nan if one.value is None else one.value for one in windows], np.float64)


def _mean(windows: Sequence[Measured]) -> float:
    known = [one.value for one in windows if one.value is not None]
    return float(np.mean(known)) if known else float("nan")


def _chance(of_new: int, count: int, share: float) -> float:
    """Return how probable numbers at least as uneven are, by the normal approximation of the binomial."""
    spread = sqrt(count * share * (1 - share))
    return erfc(abs(of_new - count * share) / spread / sqrt(2)) if spread else 1.0
