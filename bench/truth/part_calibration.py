"""Whether models are as sure as they are right, and whether sets and intervals cover what they say.

Five models, each in float and int8. Windows that no model has learned from are split 200 times at random, into one
half to calibrate with and one half to test with.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from limpet.models import bundle as bundles
from limpet.postprocess import conformal
from limpet_convert import calibration, compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODELS = Path(__file__).parents[2] / "build" / "truth" / "models"
CLASSIFIERS = ("telemetry", "imu", "digits", "keywords")
QUANTITIES = ("sensor",)
VARIANTS = ("float", "int8")
SPLITS = 200
NOMINAL = 0.9
COVERAGES = (0.8, 0.9, 0.95)
SECTION = """## Calibration and coverage

Each model is measured in float and int8. Its windows are in no training set. They are split 200 times at random
into halves. Temperature and quantiles come from one half, and the figures from the other. They are means over
the splits. The windows of a recording are in both halves. On new recordings figures may be worse: the last
table shows that.

ECE is the expected calibration error over ten bins with as many windows each. *Bias* is the ECE, on as many
windows, of a model that is exactly as sure as it is right. Chance alone makes the measured ECE that large.

| model | variant | accuracy | temperature | ECE before | ECE after | bias |
| --- | --- | --- | --- | --- | --- | --- |
{calibrated}

The next table has the share of windows whose set or interval holds the truth. Sets may be empty in the rows
`lac` and `aps`, as the theory has them. A device never gives an empty set by default: the best class is then in
it. That is the row `lac, never empty`. It covers more where a model is right more often than the coverage asks
for. *Size* is the mean number of classes at 90 %, or half the width of the interval in standard deviations of
the quantity.

| model | variant | method | at 80 % | at 90 % | at 95 % | size |
| --- | --- | --- | --- | --- | --- | --- |
{covered}

Temperature and quantiles of the bundles come from the calibration part alone. The test part has other
recordings for `imu`, other digits for `digits` and other takes for `keywords`. On it:

| model | variant | ECE | covered at 90 % |
| --- | --- | --- | --- |
{later}

These checks against other packages use one split of each model and variant:

* crepes: {crepes:.4%} of its sets and intervals are the same.
* MAPIE: {mapie:.4%} of its sets are the same.
* SciPy's bounded minimisation: its temperatures differ by at most {scipy:.3%}.
* scikit-learn's `calibration_curve` by quantiles: its ECE differs by at most {sklearn:.4f}.
"""


class Pool(NamedTuple):
    """Outputs ``(n, numbers)`` of one variant, and targets ``(n,)``. ``known``: those of the calibration part."""

    outputs: NDArray[np.float32]
    targets: NDArray[Any]
    known: int


def measure() -> tuple[dict[str, Any], str]:
    """Return the figures, and the section of the page."""
    coverage: dict[str, dict[str, float]] = {}
    calibrated: list[str] = []
    covered: list[str] = []
    later: list[str] = []
    worst, peers = 0.0, {"crepes": 1.0, "mapie": 1.0, "scipy": 0.0, "sklearn": 0.0}
    for name in (*CLASSIFIERS, *QUANTITIES):
        errors = []
        for variant in VARIANTS:
            pool = _pool(name, variant)
            random = np.random.default_rng(16)
            halves = [np.array_split(random.permutation(len(pool.targets)), 2) for _ in range(SPLITS)]
            if name in CLASSIFIERS:
                found = _classes(pool, halves)
                worst = max(worst, found.ece)
                calibrated.append(
                    f"| {name} | {variant} | {found.accuracy:.4f} | {found.temperature:.3f} | {found.before:.4f} "
                    f"| {found.ece:.4f} | {found.bias:.4f} |"
                )
                covered += _rows(name, variant, found.coverage, found.size)
                errors += [abs(found.coverage["lac", NOMINAL] - NOMINAL)]
                _compare_classes(pool, halves[0], peers)
            else:
                means, width = _quantities(pool, halves)
                covered += _rows(name, variant, means, width)
                errors += [abs(means["interval", NOMINAL] - NOMINAL)]
                _compare_quantities(pool, halves[0], peers)
            later.append(_on_the_test_part(name, variant, pool))
        coverage[name] = {"error_points": round(100 * max(errors), 3)}
    figures = {
        "coverage": coverage,
        "ece": round(worst, 4),
        "coverage_splits": SPLITS,
        "sets_equal_to_crepes": round(peers["crepes"], 6),
        "sets_equal_to_mapie": round(peers["mapie"], 6),
    }
    tables = {"calibrated": calibrated, "covered": covered, "later": later}
    texts = {name: "\n".join(rows) for name, rows in tables.items()}
    return figures, SECTION.format(**texts, **peers)


class Classes(NamedTuple):
    """Means over the splits. ``coverage``: by method and nominal coverage. ``size``: by method, at ``NOMINAL``."""

    accuracy: float
    temperature: float
    before: float
    ece: float
    bias: float
    coverage: dict[tuple[str, float], float]
    size: dict[str, float]


def _pool(name: str, variant: str) -> Pool:
    with np.load(MODELS / name / "data.npz") as arrays:
        parts = [(arrays[f"{part}_inputs"], arrays[f"{part}_targets"]) for part in ("calibration", "test")]
    path = MODELS / name / f"{variant}.tflite"
    outputs = [compare.run(path, inputs).values[0].reshape(len(inputs), -1) for inputs, _ in parts]
    return Pool(np.concatenate(outputs), np.concatenate([targets for _, targets in parts]), len(outputs[0]))


def _classes(pool: Pool, halves: list[list[NDArray[np.intp]]]) -> Classes:
    found: dict[str, list[float]] = {key: [] for key in ("temperature", "before", "ece", "bias")}
    covered: dict[tuple[str, float], list[float]] = {}
    sizes: dict[str, list[float]] = {}
    rows = np.arange(len(pool.targets))
    raw = calibration.probabilities(pool.outputs, "softmax", 1.0)
    random = np.random.default_rng(17)
    for one, other in halves:
        heat = calibration.temperature(pool.outputs[one], pool.targets[one], "softmax")
        chances = calibration.probabilities(pool.outputs, "softmax", heat)
        after = calibration.error(chances[other], pool.targets[other], draws=10)
        found["temperature"].append(heat)
        found["before"].append(calibration.error(raw[other], pool.targets[other], draws=1).error)
        found["ece"].append(after.error)
        found["bias"].append(after.bias)
        uniform = random.random(len(rows))
        for label, method, chance in (("lac", "lac", None), ("aps", "aps", None), ("aps, random", "aps", uniform)):
            unlike = conformal.nonconformity(chances, method, chance)
            own = unlike[rows, pool.targets]
            for nominal in COVERAGES:
                limit = conformal.quantile(own[one], nominal)
                covered.setdefault((label, nominal), []).append(float((own[other] <= limit).mean()))
                inside = unlike[other] <= limit
                if nominal == NOMINAL:
                    sizes.setdefault(label, []).append(float(inside.sum(axis=1).mean()))
                if label == "lac":
                    inside[np.arange(len(other)), chances[other].argmax(axis=1)] = True
                    held = inside[np.arange(len(other)), pool.targets[other]]
                    covered.setdefault(("lac, never empty", nominal), []).append(float(held.mean()))
                    if nominal == NOMINAL:
                        sizes.setdefault("lac, never empty", []).append(float(inside.sum(axis=1).mean()))
    means = {key: float(np.mean(values)) for key, values in found.items()}
    return Classes(
        accuracy=float((raw.argmax(axis=1) == pool.targets).mean()),
        coverage={key: float(np.mean(values)) for key, values in covered.items()},
        size={key: float(np.mean(values)) for key, values in sizes.items()},
        **means,
    )


def _quantities(
    pool: Pool, halves: list[list[NDArray[np.intp]]]
) -> tuple[dict[tuple[str, float], float], dict[str, float]]:
    away = np.abs(pool.outputs[:, 0].astype(np.float64) - pool.targets)
    covered = {
        ("interval", nominal): float(
            np.mean([(away[other] <= conformal.quantile(away[one], nominal)).mean() for one, other in halves])
        )
        for nominal in COVERAGES
    }
    width = float(np.mean([conformal.quantile(away[one], NOMINAL) for one, _ in halves]))
    return covered, {"interval": width}


def _rows(name: str, variant: str, covered: dict[tuple[str, float], float], sizes: dict[str, float]) -> list[str]:
    lines = []
    for method, size in sizes.items():
        cells = " | ".join(f"{covered[method, nominal]:.2%}" for nominal in COVERAGES)
        lines.append(f"| {name} | {variant} | {method} | {cells} | {size:.3f} |")
    return lines


def _on_the_test_part(name: str, variant: str, pool: Pool) -> str:
    """Return a row with what the parameters of the calibration part are worth on the test part."""
    one, other = slice(0, pool.known), slice(pool.known, None)
    if name in QUANTITIES:
        away = np.abs(pool.outputs[:, 0].astype(np.float64) - pool.targets)
        covered = float((away[other] <= conformal.quantile(away[one], NOMINAL)).mean())
        return f"| {name} | {variant} |  | {covered:.2%} |"
    heat = calibration.temperature(pool.outputs[one], pool.targets[one], "softmax")
    if variant == "int8":
        _refuse_other_temperature(name, heat)
    chances = calibration.probabilities(pool.outputs, "softmax", heat)
    own = conformal.nonconformity(chances, "lac")[np.arange(len(pool.targets)), pool.targets]
    covered = float((own[other] <= conformal.quantile(own[one], NOMINAL)).mean())
    error = calibration.error(chances[other], pool.targets[other]).error
    return f"| {name} | {variant} | {error:.4f} | {covered:.2%} |"


def _refuse_other_temperature(name: str, heat: float) -> None:
    """Raise ``ValueError`` unless the bundle has the temperature that is measured here."""
    has = bundles.manifest_of(MODELS / name / f"{name}-1.limpet").decoder["temperature"]
    if abs(has - heat) > 0.001 * heat:
        raise ValueError(f"{name}: the bundle has the temperature {has}, but it should be {heat}")


def _compare_classes(pool: Pool, halves: list[NDArray[np.intp]], peers: dict[str, float]) -> None:
    from crepes import ConformalClassifier
    from mapie.classification import SplitConformalClassifier
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax
    from sklearn.calibration import calibration_curve

    one, other = halves
    rows, classes = np.arange(len(one)), pool.outputs.shape[1]
    heat = calibration.temperature(pool.outputs[one], pool.targets[one], "softmax")
    doubt = 1 / (len(one) + 2)
    weights = np.full((len(one), classes), doubt / (classes - 1))
    weights[rows, pool.targets[one]] = 1 - doubt
    logits = pool.outputs[one].astype(np.float64)
    best = minimize_scalar(
        lambda t: -(weights * log_softmax(logits / np.exp(t), axis=1)).sum(), bounds=(-3, 3), method="bounded"
    )
    peers["scipy"] = max(peers["scipy"], abs(float(np.exp(best.x)) / heat - 1))

    chances = calibration.probabilities(pool.outputs, "softmax", heat).astype(np.float64)
    unlike = conformal.nonconformity(chances, "lac")
    ours = unlike[other] <= conformal.quantile(unlike[one][rows, pool.targets[one]], NOMINAL)
    crepes = ConformalClassifier()
    crepes.fit(unlike[one][rows, pool.targets[one]])
    theirs = crepes.predict_set(unlike[other], confidence=NOMINAL, smoothing=False)
    peers["crepes"] = min(peers["crepes"], float((theirs.astype(bool) == ours).all(axis=1).mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mapie = SplitConformalClassifier(_Chances(classes), NOMINAL, "lac", prefit=True)
        mapie.conformalize(chances[one], pool.targets[one])
        _, sets = mapie.predict_set(chances[other])
    peers["mapie"] = min(peers["mapie"], float((sets[:, :, 0] == ours).all(axis=1).mean()))

    sure, right = chances[other].max(axis=1), chances[other].argmax(axis=1) == pool.targets[other]
    share, mean = calibration_curve(right, sure, n_bins=calibration.BINS, strategy="quantile")
    edges = np.quantile(sure, np.linspace(0, 1, calibration.BINS + 1))
    counts = np.bincount(np.searchsorted(edges[1:-1], sure), minlength=calibration.BINS)
    theirs_ece = float((np.abs(share - mean) * counts[counts > 0]).sum() / len(sure))
    ours_ece = calibration.error(chances[other].astype(np.float32), pool.targets[other]).error
    peers["sklearn"] = max(peers["sklearn"], abs(theirs_ece - ours_ece))


def _compare_quantities(pool: Pool, halves: list[NDArray[np.intp]], peers: dict[str, float]) -> None:
    from crepes import ConformalRegressor

    one, other = halves
    values = pool.outputs[:, 0].astype(np.float64)
    reach = conformal.quantile(np.abs(values[one] - pool.targets[one]), NOMINAL)
    crepes = ConformalRegressor()
    crepes.fit(pool.targets[one] - values[one])
    theirs = crepes.predict_int(values[other], confidence=NOMINAL)
    ours = np.stack([values[other] - reach, values[other] + reach], axis=1)
    peers["crepes"] = min(peers["crepes"], float(np.isclose(theirs, ours, atol=1e-9).all(axis=1).mean()))


class _Chances:
    """An estimator of scikit-learn's form whose probabilities are its input."""

    def __init__(self, classes: int) -> None:
        self.classes_ = np.arange(classes)
        self.n_features_in_ = classes
        self.is_fitted_ = True

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, inputs: NDArray[np.float64], targets: NDArray[np.int64]) -> _Chances:  # noqa: ARG002
        """Do nothing."""
        return self

    def predict_proba(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities."""
        return inputs

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the best class."""
        return np.asarray(inputs.argmax(axis=1))
