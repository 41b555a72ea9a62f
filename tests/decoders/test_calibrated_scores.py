"""Temperatures: what they do to probabilities, in numbers that were worked out otherwise."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import plugins
from limpet.contracts.data import TensorSpec, Window
from limpet.decoders._activation import calibrated
from limpet.errors import ModelError
from support.stages import output_spec, window

FLOAT = np.dtype(np.float32)
LOGITS = (2.0, 1.0, -1.0)
AT_ONE = (0.7053845, 0.2594965, 0.0351190)
AT_TWO = (0.5465494, 0.3314989, 0.1219517)
"""softmax(logits) and softmax(logits / 2), as SciPy 1.17 gives them."""


def through(kind: str, outputs: Any, labels: tuple[str, ...], **options: Any) -> Window:
    module = plugins.load("decoders", kind)
    values = np.array([outputs], np.float32)
    decoder = module.open(
        msgspec.convert(options, module.Config), output_spec([TensorSpec("out", values.shape, FLOAT)], labels)
    )
    decoder.want_scores()
    found: Window = decoder(window(values, outputs=[values]))
    return found


@pytest.mark.parametrize("kind", ["classify", "keyword"])
@pytest.mark.parametrize(("temperature", "expected"), [(1, AT_ONE), (2, AT_TWO)])
def test_logits_are_divided_by_the_temperature(kind: str, temperature: float, expected: tuple[float, ...]) -> None:
    found = through(kind, LOGITS, ("a", "b", "c"), activation="softmax", temperature=temperature)
    np.testing.assert_allclose(found.scores, expected, atol=1e-6)  # type: ignore[arg-type]
    assert found.result.score == pytest.approx(expected[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["classify", "keyword"])
def test_probabilities_of_a_model_that_ends_in_softmax_are_changed_in_the_same_way(kind: str) -> None:
    found = through(kind, AT_ONE, ("a", "b", "c"), temperature=2)
    np.testing.assert_allclose(found.scores, AT_TWO, atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(("activation", "output"), [("sigmoid", 2.0), ("none", 0.8807971)])
def test_a_single_probability_is_pulled_towards_a_half(activation: str, output: float) -> None:
    found = through("classify", [output], ("no", "yes"), activation=activation, temperature=2)
    assert (found.result.label, found.result.score) == ("yes", pytest.approx(0.7310586, abs=1e-6))
    np.testing.assert_allclose(found.scores, [0.2689414, 0.7310586], atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(("activation", "output"), [("sigmoid", (2.0, -2.0)), ("none", (0.8807971, 0.1192029))])
def test_labels_that_do_not_exclude_each_other_are_changed_each_alone(
    activation: str, output: tuple[float, float]
) -> None:
    found = through("multilabel", output, ("a", "b"), activation=activation, temperature=2)
    np.testing.assert_allclose(found.scores, [0.7310586, 0.2689414], atol=1e-6)  # type: ignore[arg-type]


def test_a_probability_of_0_has_a_finite_logarithm() -> None:
    found = through("classify", (1.0, 0.0), ("a", "b"), temperature=2)
    np.testing.assert_allclose(found.scores, [0.999001, 0.000999], atol=1e-6)  # type: ignore[arg-type]


def test_scores_that_are_no_probabilities_need_an_activation_beside_a_temperature() -> None:
    with pytest.raises(ModelError, match='set activation = "softmax"'):
        through("classify", LOGITS, ("a", "b", "c"), temperature=2)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=9),
    st.floats(0.05, 20),
    st.sampled_from(["none", "softmax", "sigmoid"]),
)
@settings(max_examples=50)
def test_a_temperature_keeps_the_order_of_the_classes(values: Any, temperature: float, activation: Any) -> None:
    scores = np.array(values, np.float32)
    if activation == "none":
        scores = np.abs(scores) / max(float(np.abs(scores).sum()), 1.0)
    after = calibrated(scores, activation, temperature)
    assert np.isfinite(after).all()
    order = scores.argsort(kind="stable")  # not of the probabilities: several may be rounded to 1
    assert (np.diff(after[order]) >= -1e-6).all()
