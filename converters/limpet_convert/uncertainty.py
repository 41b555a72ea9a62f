"""What a model's doubts are worth: temperature and conformal quantiles, from windows that it has not seen.

They become tables of the manifest, which is signed. Pure functions of arrays. Figures are cross-validated: the
windows that a figure is measured on are not among those that its parameter is fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from limpet.postprocess import conformal
from limpet.wording import listed
from limpet_convert import calibration

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from limpet.contracts.data import Array, FloatArray
    from limpet.decoders._activation import Activation
    from limpet_convert.project import Bundle, Uncertainty

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 0.99, 0.995)
"""Coverages that quantiles are kept for, as far as there are windows enough: the device may aim at another one."""
BLOCKS = 5
LEAST = 50
"""Windows that a temperature needs."""
DIGITS = 5


@dataclass(frozen=True)
class Fitted:
    """``decoder`` and ``postprocess``: the tables of the bundle, with what was fitted in them.

    ``figures`` are for the manifest and the card. ``notes`` say what was not fitted and why, a sentence each.
    """

    decoder: dict[str, Any]
    postprocess: list[dict[str, Any]]
    figures: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What is true of n windows. ``targets`` ``(n,)`` classes, or ``(n, numbers)``.

    ``runs`` ``(n,)``: windows with the same number follow each other. ``names``: of the numbers of a regression.
    ``occasions`` ``(n,)``: windows with the same number were taken shortly after each other. Default: ``runs``.
    """

    targets: Array
    runs: Array
    names: Sequence[str] = ()
    occasions: Array | None = None

    @property
    def alike(self) -> Array:
        """Windows that are not to be in two folds have the same number, ``(n,)``."""
        return self.runs if self.occasions is None else self.occasions


@dataclass(frozen=True)
class HeldOut:
    """Answers of models like the packaged one, each for windows that it has not learned from.

    ``outputs`` ``(n, numbers)``: as the packaged model would give them.
    """

    outputs: FloatArray
    known: Known


def fit(bundle: Bundle, wanted: Uncertainty, outputs: FloatArray, known: Known) -> Fitted:
    """Return the tables of a bundle with what could be fitted.

    ``outputs`` ``(n, numbers)``: the first output of the packaged model.
    """
    kind = bundle.decoder.get("kind", bundle.task)
    if bundle.task == "classify" and kind in {"classify", "keyword"}:
        return _classes(bundle, wanted, outputs, known)
    if bundle.task == "regress" and kind == "regress":
        return _quantities(bundle, wanted, outputs, known)
    return Fitted(bundle.decoder, bundle.postprocess)


def quantities(bundle: Bundle, outputs: Sequence[tuple[str, int]]) -> list[str]:
    """Return the names that the decoder ``regress`` gives the numbers of outputs, each a name and how many."""
    usual = [name if count == 1 else f"{name}[{number}]" for name, count in outputs for number in range(count)]
    return list(bundle.decoder.get("names") or bundle.labels or usual)


def _classes(bundle: Bundle, wanted: Uncertainty, outputs: FloatArray, known: Known) -> Fitted:
    decoder = dict(bundle.decoder) or {"kind": "classify"}
    activation = decoder.get("activation", "none")
    if outputs.shape[1] < 2 or activation == "sigmoid":
        why = "Nothing was fitted: the model has one score, or classes that do not exclude each other."
        return Fitted(bundle.decoder, bundle.postprocess, notes=[why])
    found = Fitted(decoder, list(bundle.postprocess))
    if lacking := [bundle.labels[place] for place in _lacking(known.targets, len(bundle.labels))]:
        found.notes.append(
            f"data.test has no window of {listed(lacking)}. What was fitted here need not hold for such windows."
        )
    if why := _no_temperature(decoder, wanted, len(known.targets)):
        found.notes.append(why)
    else:
        decoder["temperature"] = calibration.temperature(outputs, known.targets, activation)
        found.figures.update(_calibration(outputs, known, activation, decoder["temperature"]))
    if wanted.intervals and decoder["kind"] == "classify" and not _is_there(bundle, "conformal"):
        heat = float(decoder.get("temperature", 1.0))
        _add_sets(found, wanted, calibration.probabilities(outputs, activation, heat), known)
    if wanted.bayes and not _is_there(bundle, "bayes"):
        found.postprocess.append(_bayes(bundle, known, found.notes))
    return found


def _calibration(outputs: FloatArray, known: Known, activation: Activation, heat: float) -> dict[str, Any]:
    """Return the calibration error before and after, each window at a temperature of the other folds."""
    targets = known.targets
    chances = calibration.probabilities(outputs, activation, 1.0).copy()
    before = calibration.error(chances, targets)
    for rows, others in folds(known.alike):
        if len(rows):
            one = calibration.temperature(outputs[others], targets[others], activation)
            chances[rows] = calibration.probabilities(outputs[rows], activation, one)
    after = calibration.error(chances, targets)
    return {
        "temperature": heat,
        "ece_before": round(before.error, DIGITS),
        "ece": round(after.error, DIGITS),
        "ece_bias": round(after.bias, DIGITS),
    }


def _add_sets(found: Fitted, wanted: Uncertainty, chances: FloatArray, known: Known) -> None:
    unlike = conformal.nonconformity(chances, wanted.method)
    own = unlike[np.arange(len(unlike)), known.targets.astype(int)]
    table, figures = _conformal(wanted, {"": own}, known.alike, found.notes)
    if table is None:
        return
    table["quantile"] = table.pop("quantiles")[""]
    found.postprocess.append(table | ({"method": wanted.method} if wanted.method != "lac" else {}))

    def size(quantile: float, rows: Array) -> float:
        return float(np.maximum((unlike[rows] <= quantile).sum(axis=1), 1).mean())

    found.figures.update(figures | {"mean_set": round(_over_folds(own, known.alike, wanted.coverage, size), 3)})


def _bayes(bundle: Bundle, known: Known, notes: list[str]) -> dict[str, Any]:
    """Return the table of a Bayes filter: how the classes follow each other in the recordings."""
    size, targets = len(bundle.labels), known.targets.astype(int)
    counts = transitions(targets, known.runs, size)
    if not (counts - np.diag(np.diag(counts))).any():
        notes.append(
            "The transitions of the Bayes filter are a guess: no recording of data.test has two classes. Record "
            "some as they follow each other in the field."
        )
    rows = counts + 1 / size
    table: dict[str, Any] = {"kind": "bayes", "transition": [_shares(row) for row in rows]}
    if not len(_lacking(targets, size)):  # A class without a test window was learned all the same.
        shares = np.bincount(targets, minlength=size) + 1 / size
        table["trained"] = dict(zip(bundle.labels, _shares(shares), strict=True))
    window = bundle.window
    if window.size and window.hop and window.hop < window.size:
        table["weight"] = round(window.hop / window.size, DIGITS)  # windows that overlap have the same evidence
    return table


def transitions(targets: Array, runs: Array, size: int) -> NDArray[np.int64]:
    """Return how frequently each class (rows) was followed by each class (columns) in the same run."""
    counts = np.zeros((size, size), np.int64)
    follows = runs[1:] == runs[:-1]
    np.add.at(counts, (targets[:-1][follows], targets[1:][follows]), 1)
    return counts


def _lacking(targets: Array, size: int) -> Array:
    """Return the classes of which there is no window."""
    return np.flatnonzero(np.bincount(targets.astype(int), minlength=size)[:size] == 0)


def _shares(counts: NDArray[Any]) -> list[float]:
    return [round(float(share), DIGITS) for share in counts / counts.sum()]


def _no_temperature(decoder: dict[str, Any], wanted: Uncertainty, windows: int) -> str:
    """Return why no temperature is fitted, empty if it is."""
    if wanted.temperature is False:
        return "uncertainty.temperature is false."
    if "temperature" in decoder:
        return "No temperature was fitted: bundle.decoder has one."
    if windows < LEAST:
        return f"No temperature was fitted: {windows} windows are too few; it needs {LEAST}."
    if wanted.temperature is None and (decoder.get("threshold") is not None or decoder["kind"] == "keyword"):
        return (
            "No temperature was fitted, as it would change what bundle.decoder.threshold means. To fit one, set "
            "uncertainty.temperature = true and choose the threshold again."
        )
    return ""


def _quantities(bundle: Bundle, wanted: Uncertainty, outputs: FloatArray, known: Known) -> Fitted:
    notes: list[str] = []
    if not wanted.intervals or _is_there(bundle, "conformal", "kalman"):
        return Fitted(bundle.decoder, bundle.postprocess)
    if len(known.names) > conformal.MOST_QUANTITIES:
        most = conformal.MOST_QUANTITIES
        notes.append(f"The model gives {len(known.names)} numbers. Intervals are for at most {most}.")
        return Fitted(bundle.decoder, bundle.postprocess, notes=notes)
    scale = np.ravel(bundle.decoder.get("scale", 1.0)).astype(float)
    away = np.abs(outputs.astype(np.float64) - known.targets.reshape(outputs.shape)) * np.abs(scale)
    table, figures = _conformal(
        wanted, {name: away[:, n] for n, name in enumerate(known.names)}, known.alike, notes
    )
    if table is None:
        return Fitted(bundle.decoder, bundle.postprocess, notes=notes)
    level = table["levels"].index(wanted.coverage) if "levels" in table else None
    figures["half_width"] = {
        name: reach if level is None else reach[level] for name, reach in table["quantiles"].items()
    }
    return Fitted(bundle.decoder, [*bundle.postprocess, table], figures, notes)


def _conformal(
    wanted: Uncertainty, unlike: dict[str, NDArray[np.float64]], runs: Array, notes: list[str]
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the table of ``conformal`` and its figures; ``None`` and a note if there are too few windows."""
    every = next(iter(unlike.values()))
    try:
        levels = sorted({wanted.coverage, *(level for level in LEVELS if _feasible(level, len(every)))})
        quantiles = {
            name: [_rounded_up(conformal.quantile(one, level)) for level in levels] for name, one in unlike.items()
        }
    except ValueError as error:
        notes.append(f"No sets or intervals were fitted: {error}.")
        return None, {}
    if not any(_feasible(wanted.coverage, len(others)) for rows, others in folds(runs) if len(rows)):
        notes.append(
            f"No sets or intervals were fitted: {len(every)} windows are too few to measure what sets of "
            f"{wanted.coverage:.0%} cover."
        )
        return None, {}

    def covered(quantile: float, rows: Array) -> float:
        return float((every[rows] <= quantile).mean())

    table = {"kind": "conformal", "coverage": wanted.coverage, "levels": levels, "quantiles": quantiles}
    return table, {
        "coverage": wanted.coverage,
        "measured_coverage": round(_over_folds(every, runs, wanted.coverage, covered), 4),
    }


def _feasible(level: float, windows: int) -> bool:
    return ceil(round((windows + 1) * level, 9)) <= windows


def _rounded_up(value: float) -> float:
    """Return six digits of a quantile, never less than it: ties would fall out of the set."""
    short = float(f"{value:.6g}")
    return short if short >= value else float(f"{value * (1 + 2e-6):.6g}")


def folds(runs: Array) -> list[tuple[Array, Array]]:
    """Return rows and all others, ``BLOCKS`` times. Whole recordings stay together, as their windows are alike.

    ``runs`` ``(n,)``: the recording or the occasion of each window. If there are few, blocks of windows that
    follow each other.
    """
    numbers, places = np.unique(runs, return_inverse=True)
    if len(numbers) < 2 * BLOCKS:
        return _parts(np.arange(len(runs)) * BLOCKS // len(runs))
    return _parts(np.random.default_rng(0).permutation(len(numbers))[places] % BLOCKS)


def _parts(fold: Array) -> list[tuple[Array, Array]]:
    return [(np.flatnonzero(fold == number), np.flatnonzero(fold != number)) for number in range(BLOCKS)]


def _over_folds(
    own: NDArray[np.float64], runs: Array, coverage: float, measure: Callable[[float, Array], float]
) -> float:
    """Return the mean of a measure over all windows, each with the quantile of the other folds."""
    found = [
        (measure(conformal.quantile(own[others], coverage), rows), len(rows))
        for rows, others in folds(runs)
        if len(rows) and _feasible(coverage, len(others))
    ]
    return sum(value * count for value, count in found) / sum(count for _, count in found)


def _is_there(bundle: Bundle, *kinds: str) -> bool:
    return any(table.get("kind") in kinds for table in bundle.postprocess)
