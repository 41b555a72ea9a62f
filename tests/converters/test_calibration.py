"""Temperature and calibration error, against what is known of made-up models."""

from __future__ import annotations

import numpy as np
import pytest

from limpet_convert import calibration


def drawn(n: int, heat: float, seed: int = 1, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of a model that is right when it is divided by ``heat``, and the classes drawn so."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (n, classes))
    return (logits * heat).astype(np.float32), (logits + random.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_the_temperature_that_a_model_lacks_is_found(heat: float) -> None:
    scores, targets = drawn(8_000, heat)
    assert calibration.temperature(scores, targets, "softmax") == pytest.approx(heat, rel=0.05)


def test_probabilities_get_the_temperature_that_their_logits_would_get() -> None:
    scores, targets = drawn(5_000, 2.0)
    chances = calibration.probabilities(scores, "softmax", 1.0)
    by_logits = calibration.temperature(scores, targets, "softmax")
    assert calibration.temperature(chances, targets, "none") == pytest.approx(by_logits, rel=0.02)


def test_a_temperature_makes_the_error_as_small_as_chance_has_it() -> None:
    scores, targets = drawn(8_000, 2.5)
    before = calibration.error(calibration.probabilities(scores, "softmax", 1.0), targets)
    found = calibration.temperature(scores, targets, "softmax")
    after = calibration.error(calibration.probabilities(scores, "softmax", found), targets)
    assert before.error > 0.05
    assert after.error < 2 * after.bias < 0.02


def test_a_model_without_an_error_keeps_some_doubt() -> None:
    """Without Platt's targets its temperature would fall to the lowest that is tried."""
    targets = np.arange(300) % 3
    scores = np.eye(3, dtype=np.float32)[targets] * 8
    found = calibration.temperature(scores, targets, "softmax")
    assert calibration.LOWEST * 2 < found < 2
    chances = calibration.probabilities(scores, "softmax", found)
    assert 0.98 < float(chances.max()) < 1


def test_a_temperature_changes_no_answer() -> None:
    scores, _ = drawn(500, 1.0)
    chances = calibration.probabilities(scores, "softmax", 3.0)
    assert (chances.argmax(axis=1) == scores.argmax(axis=1)).all()
    assert chances.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_the_calibration_error_is_the_mean_distance_over_bins_of_equal_mass() -> None:
    sure = np.repeat([0.6, 0.9], 50)
    chances = np.stack([sure, 1 - sure], axis=1).astype(np.float32)
    targets = np.concatenate(
        [np.arange(50) % 2, np.zeros(50, int)]
    )  # right in half of the first, all of the others
    found = calibration.error(chances, targets)
    assert found.error == pytest.approx((0.1 + 0.1) / 2, abs=1e-6)
    assert 0 < found.bias < 0.2
