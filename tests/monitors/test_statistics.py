"""The statistics of monitors have the values that SciPy and river have, and their thresholds hold.

``make truth`` compares them with SciPy and river themselves. The numbers here are theirs.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from observations import CONFUSION, RATE, SECOND, blocks, part, reference, windows

from limpet import plugins
from limpet.contracts.monitor import Observed
from limpet.contracts.reference import ClassReference, FeatureReference, Reference
from limpet.monitors import adwin, label_shift, page_hinkley, univariate
from limpet.monitors._effective import autocorrelation_times, cautious_times

if TYPE_CHECKING:
    from limpet.contracts.data import Array


def of_scores(scores: Array) -> Observed:
    count = len(scores)
    return Observed(
        features=np.zeros((count, 0), np.float32),
        scores=np.asarray(scores, np.float32),
        classes=np.full(count, -1, np.int32),
        embeddings=None,
        times_ns=np.arange(count, dtype=np.int64) * SECOND,
    )


def of_features(features: Array) -> Observed:
    made = of_scores(np.full(len(features), np.nan))
    made.features = np.asarray(features, np.float32)
    return made


def of_classes(classes: Array) -> Observed:
    made = of_scores(np.full(len(classes), np.nan))
    made.classes = np.asarray(classes, np.int32)
    return made


def autoregressive(seed: int, count: int, memory: float) -> Array:
    noise = np.random.default_rng(seed).normal(size=count)
    values = np.zeros(count)
    for place in range(1, count):
        values[place] = memory * values[place - 1] + noise[place]
    return values


def test_an_autoregressive_series_has_the_time_that_theory_says() -> None:
    series = np.stack(
        [autoregressive(seed, 20_000, memory) for seed, memory in enumerate((0.0, 0.5, 0.8))], axis=1
    )
    assert autocorrelation_times(series) == pytest.approx([1, 3, 9], rel=0.15)


def test_few_windows_count_less_the_more_alike_they_are() -> None:
    series = np.stack([autoregressive(1, 500, 0.0), autoregressive(2, 500, 0.8), np.ones(500)], axis=1)
    times, cautious = autocorrelation_times(series), cautious_times(series)
    assert (cautious > times).all()
    assert cautious[1] / times[1] > cautious[0] / times[0]
    assert times[2] == 1
    assert autocorrelation_times(np.zeros((1, 2))).tolist() == [1, 1]


def test_a_series_with_numbers_missing_has_a_time() -> None:
    series = autoregressive(3, 5000, 0.5)
    series[::100] = np.nan
    assert autocorrelation_times(series[:, None])[0] == pytest.approx(3, rel=0.3)


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    random = np.random.default_rng(5)
    before = random.integers(0, 16, 400)
    now = np.minimum(random.integers(0, 16, 64) + (random.random(64) < 0.5) * 3, 15)
    shares = [float((before <= edge).mean()) for edge in range(15)]
    feature = FeatureReference(
        name="a", mean=7.5, std=4.6, quantiles=[0.0, *(float(edge) for edge in range(15)), 15.0], effective=400
    )
    thresholds = {"spans": [64], "chances": [0.1], "limits": [[1.0]], "shares": [shares]}
    monitor = univariate.open(univariate.Config(least=0), Reference(windows=400, features=[feature]), thresholds)
    monitor.see(of_features(now[:, None]))
    assert monitor.level == pytest.approx(0.173125)  # scipy.stats.ks_2samp(before, now).statistic


def test_a_small_change_is_found_by_a_longer_span_and_named_first() -> None:
    seen = windows(1, 10_000)
    monitor = open_monitor("univariate", seen)
    changed = windows(2, 3072)
    changed.features[:, 2] += 0.5
    alarms = [monitor.see(block) for block in blocks(changed, 64)]
    first = next(place for place, alarm in enumerate(alarms) if alarm)
    assert 1 < first < 40
    alarm = alarms[first]
    assert alarm
    assert alarm.moved[0].name == "c"
    assert alarm.moved[0].now - alarm.moved[0].before == pytest.approx(0.5, abs=0.15)
    assert 0 < alarm.p_value < 1e-6


def open_monitor(kind: str, seen: Observed, allowed: float = 1e-8, **options: Any) -> Any:
    module = plugins.load("monitors", kind)
    config = module.Config(**options)
    known = reference(seen)
    return module.open(config, known, module.calibrate(config, seen, known, allowed))


@pytest.mark.parametrize("kind", ["univariate", "multivariate", "label_shift", "page_hinkley", "adwin"])
def test_an_alarm_says_since_when_and_ends_once(kind: str) -> None:
    observed = windows(3, 12_800)
    observed.features[3200:6400] += 2
    observed.scores[3200:6400] *= 0.8
    observed.classes[3200:6400] = np.where(np.arange(3200) % 3, 2, 0)
    assert observed.embeddings is not None
    observed.embeddings[3200:6400] += 2
    monitor = open_monitor(kind, windows(1, 8000))
    alarms = [monitor.see(block) for block in blocks(observed, 64)]
    held = np.array([alarm is not None for alarm in alarms])
    changes = np.flatnonzero(np.diff(held)) + 1
    assert len(changes) == 2
    assert 50 <= changes[0] < 70
    assert 100 < changes[1] < 170
    alarm = alarms[changes[0]]
    assert alarm
    assert abs(alarm.since_ns - observed.times_ns[3200]) <= 256 * SECOND / RATE
    assert not alarm.fault


def test_shares_are_compared_by_the_likelihood_ratio() -> None:
    classes = ClassReference(labels=["a", "b"], confusion=[[90, 0], [0, 310]], priors=[0.225, 0.775])
    thresholds = {"spans": [64], "said": [90.0, 310.0, 0.0], "times": [1.0, 1.0, 1.0], "exponents": [1.0]}
    monitor = label_shift.open(label_shift.Config(least=0), Reference(windows=400, classes=classes), thresholds)
    monitor.see(of_classes(np.repeat([0, 1], [20, 44])))
    # Half of scipy.stats.chi2_contingency([[20, 44], [90, 310]], correction=False, lambda_="log-likelihood")
    assert monitor.level**2 == pytest.approx(2.2148409600108163 / 2)


def test_the_true_priors_are_estimated_from_what_a_model_that_errs_says() -> None:
    monitor = open_monitor("label_shift", windows(1, 8000))
    changed = windows(2, 2560, priors=np.array([0.2, 0.2, 0.6]))
    said = np.bincount(changed.classes, minlength=3) / 2560
    for block in blocks(changed, 64):
        alarm = monitor.see(block)
    assert alarm
    now = {moved.name: moved.now for moved in alarm.moved}
    assert now["run"] == pytest.approx(0.6, abs=0.08)
    assert abs(np.linalg.solve(CONFUSION.T, said)[2] - 0.6) < abs(said[2] - 0.6)


@pytest.mark.parametrize(("start", "found"), [(1, 1083), (2, 1083), (3, 1083), (4, None)])
def test_adwin_finds_the_change_that_river_finds(start: int, found: int | None) -> None:
    """``river.drift.ADWIN(delta=0.002, clock=1)`` finds it at the same window."""
    place = np.arange(2000)
    numbers = np.modf((place + 1) * 0.6180339887498949 * start)[0]
    if start < 4:
        numbers = np.where(place < 1000, numbers * 0.8, 0.2 + numbers * 0.8)
    window = adwin.AdaptiveWindow(0.002, unit=1)
    cuts = (window.add(numbers[at : at + 1], numbers[at : at + 1], place[at : at + 1]) for at in range(2000))
    assert next((at for at, cut in enumerate(cuts) if cut), None) == found


def test_adwin_keeps_few_numbers_of_a_long_stream() -> None:
    monitor = open_monitor("adwin", windows(1, 4000))
    sizes = []
    for seed in range(4):
        for _ in range(4):
            assert monitor.see(windows(seed + 2, 4096)) is None
        sizes.append(len(pickle.dumps(monitor)))
    assert sizes[-1] < sizes[0] + 1000


def test_the_adjustment_coefficient_solves_its_equation() -> None:
    for variance, slack in ((1 / 12, 0.05), (0.25, 0.02), (1e-6, 0.05), (0.01, 0.4)):
        root = page_hinkley.adjustment_coefficient(variance, slack)
        assert variance * (np.expm1(root) - root) == pytest.approx(slack * root, rel=1e-3)


def test_page_hinkley_raises_no_more_false_alarms_than_allowed() -> None:
    random = np.random.default_rng(6)
    seen = of_scores(random.beta(8, 2, 20_000))
    seen.features, seen.embeddings = np.zeros((20_000, 1), np.float32), random.normal(size=(20_000, 2))
    monitor = open_monitor("page_hinkley", seen, allowed=1e-3)
    alarms = 0
    for _ in range(100):
        monitor.reset()
        alarms += monitor.see(of_scores(random.beta(8, 2, 400))) is not None
    assert alarms <= 40  # of 40,000 windows


def test_scores_that_all_are_equal_can_be_watched() -> None:
    seen = of_scores(np.ones(2000))
    seen.features, seen.embeddings = (
        np.zeros((2000, 1), np.float32),
        np.random.default_rng(1).normal(size=(2000, 2)),
    )
    monitor = open_monitor("page_hinkley", seen)
    assert monitor.see(of_scores(np.ones(500))) is None
    assert monitor.see(of_scores(np.full(500, 0.5))) is not None


def test_windows_without_a_score_are_left_out() -> None:
    for kind in ("page_hinkley", "adwin"):
        monitor = open_monitor(kind, windows(1, 4000))
        assert monitor.see(of_scores(np.full(500, np.nan))) is None
        assert monitor.level == 0


def test_spread_that_grows_is_found_though_the_mean_stays() -> None:
    monitor = open_monitor("multivariate", windows(1, 8000))
    changed = windows(2, 1280)
    assert changed.embeddings is not None
    changed.embeddings *= 2
    alarm = monitor.see(changed)
    assert alarm
    (moved,) = alarm.moved
    assert moved.now == pytest.approx(2 * moved.before, rel=0.1)


def test_the_discrepancy_is_that_of_a_gaussian_kernel() -> None:
    seen = windows(1, 8000)
    monitor = open_monitor("multivariate", seen, least=1.0)  # the level is then the discrepancy
    changed = part(windows(2, 64), 0, 64)
    assert changed.embeddings is not None
    assert seen.embeddings is not None
    changed.embeddings += 1.5
    monitor.see(changed)
    some = seen.embeddings[:500]

    def kernel(first: Array, second: Array) -> float:
        squared = ((first[:, None] - second) ** 2).sum(axis=2)
        return float(np.exp(-squared / (2 * first.shape[1])).mean())

    exact = (
        kernel(some, some) - 2 * kernel(some, changed.embeddings) + kernel(changed.embeddings, changed.embeddings)
    )
    assert monitor.level**2 == pytest.approx(exact, rel=0.35)


@pytest.mark.parametrize("kind", ["univariate", "multivariate", "page_hinkley"])
def test_a_reference_of_too_few_windows_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="too few"):
        open_monitor(kind, windows(1, 12))
