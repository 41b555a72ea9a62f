"""What each decoder makes of its tensors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet.contracts.data import FloatArray, TensorSpec
from limpet.contracts.outputs import Anomaly, Classification, Regression, ScoredLabel
from limpet.decoders import anomaly, classify, regress
from limpet.errors import ModelError
from support.stages import decoded, output_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

scores = st.lists(st.floats(-50, 50, width=32) | st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40)


def row(*values: float) -> FloatArray:
    return np.array([values], np.float32)


def classified(values: Sequence[float], labels: Sequence[str] = (), **options: Any) -> Classification:
    spec = TensorSpec("scores", (1, len(values)), np.dtype(np.float32))
    return decoded(classify.open(classify.Config(**options), output_spec([spec], labels)), [row(*values)])


def test_the_best_class_is_named() -> None:
    assert classified([0.25, 0.5, 0.125], ["rest", "walk", "run"]) == Classification(
        "walk", 0.5, [ScoredLabel("walk", 0.5)], abstained=False
    )


def test_without_labels_a_class_is_called_by_its_number() -> None:
    assert classified([0.1, 0.9]).label == "1"


def test_the_configured_labels_stand_in_for_the_models() -> None:
    spec = TensorSpec("scores", (1, 2), np.dtype(np.float32))
    decoder = classify.open(classify.Config(labels=["no", "yes"]), output_spec([spec], ["x", "y"]))
    assert decoded(decoder, [row(0.1, 0.9)], []).label == "yes"


@pytest.mark.parametrize(("threshold", "label"), [(0.5, "walk"), (0.51, None)])
def test_it_abstains_below_the_threshold_and_still_shows_what_it_saw(threshold: float, label: str | None) -> None:
    found = classified([0.25, 0.5], ["rest", "walk"], threshold=threshold)
    assert found.label == label
    assert found.abstained == (label is None)
    assert found.score == 0.5
    assert found.top == [ScoredLabel("walk", 0.5)]


@given(scores, st.integers(1, 45), st.sampled_from(["none", "softmax", "sigmoid"]))
def test_top_k_is_the_sorted_scores_the_earlier_of_equals_first(
    values: list[float], k: int, activation: str
) -> None:
    found = classified(values, top_k=k, activation=activation)
    order = sorted(range(len(values)), key=lambda index: -values[index])[:k]
    whole = math.fsum(math.exp(value) for value in values)
    wanted = {"none": values, "softmax": [math.exp(value) / whole for value in values]}
    wanted["sigmoid"] = [1 / (1 + math.exp(-value)) for value in values]
    assert [entry.label for entry in found.top] == [str(index) for index in order]
    assert [entry.score for entry in found.top] == pytest.approx(
        [wanted[activation][index] for index in order], rel=1e-4, abs=1e-7
    )
    assert (found.label, found.score) == (found.top[0].label, found.top[0].score)


@pytest.mark.parametrize("activation", ["none", "softmax", "sigmoid"])
def test_huge_logits_overflow_nothing(activation: str) -> None:
    with np.errstate(all="ignore"):  # whether numpy warns is the caller's choice
        found = classified([-3e38, 3e38, 0.0], activation=activation)
    assert found.label == "1"
    assert found.score == (pytest.approx(3e38) if activation == "none" else 1.0)


@pytest.mark.parametrize("top_k", [1, 2])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_name_no_class(bad: float, top_k: int) -> None:
    assert classified([0.1, bad, 0.9], top_k=top_k) == Classification(None, None, [], abstained=True)


def test_a_class_that_is_ruled_out_has_no_score() -> None:
    found = classified([-math.inf, 0.9], top_k=2)
    assert [(entry.label, entry.score) for entry in found.top] == [("1", pytest.approx(0.9)), ("0", None)]


def opened(
    *tensors: tuple[Any, str], labels: Sequence[str] = ("cat", "dog", "bird"), **options: Any
) -> Classification:
    """Classify these outputs, each with its type."""
    outputs = [np.array(values, kind) for values, kind in tensors]
    specs = [TensorSpec(f"out{n}", output.shape, output.dtype) for n, output in enumerate(outputs)]
    return decoded(classify.open(classify.Config(**options), output_spec(specs, labels)), outputs)


@pytest.mark.parametrize("kind", ["int32", "int64", "uint32"])
@pytest.mark.parametrize("index", [2, [2], [[2]]])
def test_the_index_of_a_class_names_it_without_a_score(kind: str, index: Any) -> None:
    assert opened((index, kind)) == Classification("bird", None, [ScoredLabel("bird", None)], abstained=False)


@pytest.mark.parametrize("index", [3, -1, 2**40])
def test_an_index_without_a_class_is_an_error_and_never_another_class(index: int) -> None:
    with pytest.raises(ModelError, match=f"names class {index}, and there are 3 labels"):
        opened(([index], "int64"))


def test_an_index_without_labels_is_called_by_its_number() -> None:
    assert opened(([7], "int64"), labels=[]).label == "7"
    with pytest.raises(ModelError, match="class -1"):
        opened(([-1], "int64"), labels=[])


def test_a_float_index_is_one_if_the_configuration_says_so() -> None:
    assert opened(([1.0], "float32"), output="index").label == "dog"
    for value in (0.5, math.nan, math.inf):
        with pytest.raises(ModelError, match="names class"):
            opened(([value], "float32"), output="index")


def test_a_bool_is_one_of_two_labels() -> None:
    assert [opened(([b], "bool"), labels=["off", "on"]).label for b in (False, True)] == ["off", "on"]


@pytest.mark.parametrize("first", ["scores", "indices"])
def test_scores_that_come_with_indices_are_the_scores_of_these_classes(first: str) -> None:
    pair = [([[0.7, 0.2, 0.1]], "float32"), ([[2, 0, 1]], "int32")]
    found = opened(*(pair if first == "scores" else pair[::-1]), top_k=2)
    assert [(entry.label, entry.score) for entry in found.top] == [
        ("bird", pytest.approx(0.7)),
        ("cat", pytest.approx(0.2)),
    ]
    assert (found.label, found.abstained) == ("bird", False)
    assert opened(*pair, threshold=0.8).label is None
    assert opened(([[math.nan, 0.2, 0.1]], "float32"), ([[2, 0, 1]], "int32")).label is None


def test_an_index_beside_all_scores_leaves_the_label_to_the_scores() -> None:
    found = opened(([1], "int64"), ([[0.1, 0.7, 0.2]], "float32"))
    assert (found.label, found.score) == ("dog", pytest.approx(0.7))


@pytest.mark.parametrize(("score", "label", "best"), [(0.25, "no", 0.75), (0.75, "yes", 0.75), (0.0, "no", 1.0)])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_probability_with_two_labels_is_that_of_the_second(
    score: float, label: str, best: float, shape: tuple[int, ...]
) -> None:
    found = opened((np.full(shape, score), "float32"), labels=["no", "yes"], top_k=2)
    assert (found.label, found.score, found.abstained) == (label, best, False)
    assert {entry.label: entry.score for entry in found.top} == {"no": 1 - score, "yes": score}


def test_one_probability_with_two_labels_abstains_below_the_threshold() -> None:
    found = opened(([0.6], "float32"), labels=["no", "yes"], threshold=0.9)
    assert (found.label, found.score, found.abstained) == (None, pytest.approx(0.6), True)
    assert opened(([math.nan], "float32"), labels=["no", "yes"]) == Classification(None, None, [], abstained=True)


@pytest.mark.parametrize("scale", [1 / 32768, 0.7 / 32768], ids=["of the kernel", "calibrated"])
def test_a_probability_of_16_bits_is_symmetric(scale: float) -> None:
    spec = TensorSpec("out", (1, 1), np.dtype(np.int16), (scale,), (0,))
    decoder = classify.open(classify.Config(labels=["no", "yes"]), output_spec([spec], []))
    assert decoded(decoder, [np.float32([[0.625]])], []).label == "yes"
    assert decoded(decoder, [np.float32([[0.25]])], []).label == "no"
    with pytest.raises(ModelError, match="no probability"):
        decoded(decoder, [np.float32([[-0.5]])], [])


def test_one_logit_with_two_labels_needs_its_activation() -> None:
    assert opened(([-2.0], "float32"), labels=["no", "yes"], activation="sigmoid").label == "no"
    with pytest.raises(ModelError, match=r'no probability; .* activation = "sigmoid"'):
        opened(([-2.0], "float32"), labels=["no", "yes"])


def test_one_score_with_one_label_is_heard_above_its_threshold() -> None:
    assert opened(([0.9], "float32"), labels=["wake"], threshold=0.5).label == "wake"
    assert opened(([0.1], "float32"), labels=["wake"], threshold=0.5).label is None


@pytest.mark.parametrize("kind", ["float16", "float32", "float64"])
def test_floats_of_every_width_are_scores(kind: str) -> None:
    assert opened(([[0.25, 0.5, 0.125]], kind)).label == "dog"
    assert opened(([[-3.0, 9.0, 2.0]], kind), activation="softmax").score == pytest.approx(0.999, abs=1e-3)


def test_integers_are_scores_if_the_configuration_says_so() -> None:
    assert opened(([[1, 200, 3]], "uint8"), output="scores").label == "dog"


def detector(**options: Any) -> anomaly.AnomalyDecoder:
    return anomaly.open(
        anomaly.Config(**options), output_spec([TensorSpec("score", (1, 1), np.dtype(np.float32))], [])
    )


def verdicts(decoder: anomaly.AnomalyDecoder, scores: Sequence[float]) -> str:
    """Feed scores; return a letter for each: anomaly or not."""
    return "".join("A" if decoded(decoder, [row(score)], [row(0.0)]).anomalous else "." for score in scores)


@given(
    st.lists(st.tuples(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32)), min_size=1, max_size=30)
)
def test_the_score_is_the_mean_error(pairs: list[tuple[float, float]]) -> None:
    given_, made = (row(*(pair[side] for pair in pairs)) for side in (0, 1))
    spec = TensorSpec("reconstruction", made.shape, np.dtype(np.float32))
    found = {
        metric: decoded(
            anomaly.open(anomaly.Config(threshold=1, metric=metric), output_spec([spec], [])), [made], [given_]
        ).score
        for metric in ("mse", "mae")
    }
    errors = [abs(a - b) for a, b in pairs]
    assert found["mae"] == pytest.approx(math.fsum(errors) / len(errors), rel=1e-4, abs=1e-5)
    assert found["mse"] == pytest.approx(math.fsum(e * e for e in errors) / len(errors), rel=1e-4, abs=1e-5)


def test_input_and_output_may_differ_in_dimensions_of_one_but_not_in_size() -> None:
    decoder = anomaly.open(
        anomaly.Config(threshold=1), output_spec([TensorSpec("o", (-1, 2, 3), np.dtype(np.float32))], [])
    )
    made = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    assert decoded(decoder, [made], [made.reshape(2, 1, 3) + 2]).score == 4.0
    with pytest.raises(ModelError, match=r"\[1, 3\].*\[1, 2, 3\]"):
        decoded(decoder, [made], [made[:, 0]])


def test_bytes_differ_without_wrapping_around() -> None:
    decoder = anomaly.open(
        anomaly.Config(threshold=1), output_spec([TensorSpec("o", (1, 2), np.dtype(np.uint8))], [])
    )
    assert (
        decoded(decoder, [np.array([[0, 3]], np.uint8)], [np.array([[255, 0]], np.uint8)]).score
        == (255**2 + 9) / 2
    )


def test_an_anomaly_begins_at_the_threshold_and_ends_below_it() -> None:
    assert verdicts(detector(threshold=1.0, metric="output"), [0.9, 1.0, 0.999, 5.0, 0.0]) == ".A.A."


def test_with_a_release_it_ends_below_that() -> None:
    decoder = detector(threshold=1.0, release=0.5, metric="output")
    assert verdicts(decoder, [0.7, 1.0, 0.7, 0.5, 0.49, 0.7, 1.0]) == ".AAA..A"


def test_it_takes_as_many_windows_in_a_row_as_configured() -> None:
    decoder = detector(threshold=1.0, rise=2, fall=3, metric="output")
    assert verdicts(decoder, [2, 0, 2, 2, 0, 0, 2, 0, 0, 0, 0]) == "...AAAAAA.."


def test_nan_says_nothing_and_infinity_is_over_every_threshold() -> None:
    decoder = detector(threshold=1.0, rise=2, fall=2, metric="output")
    assert verdicts(decoder, [2, math.nan, math.inf, math.nan, 0, math.nan, 0]) == "..AAAA."


def test_the_threshold_may_be_set_while_it_runs() -> None:
    decoder = detector(threshold=10.0, release=8.0, metric="output")
    assert verdicts(decoder, [5, 9]) == ".."
    decoder.set_threshold(4.0)
    assert verdicts(decoder, [5, 4, 3.9]) == "AA."
    assert decoded(decoder, [row(0.0)], [row(0.0)]) == Anomaly(anomalous=False, score=0.0, threshold=4.0)


def learning(**options: Any) -> anomaly.AnomalyDecoder:
    specs = [TensorSpec(name, (1,), np.dtype(np.float32)) for name in ("score", "threshold", "learned")]
    return anomaly.open(anomaly.Config(metric="learning", **options), output_spec(specs, []))


def learned(decoder: anomaly.AnomalyDecoder, score: float, threshold: float, share: float) -> Anomaly:
    found: Anomaly = decoded(decoder, [np.array([value], np.float32) for value in (score, threshold, share)])
    return found


def test_there_is_no_anomaly_while_the_model_learns_and_then_its_own_threshold_counts() -> None:
    decoder = learning()
    assert learned(decoder, math.nan, math.nan, 0.0) == Anomaly(
        anomalous=False, score=None, threshold=None, untrained=True, learned=0.0
    )
    assert learned(decoder, 9.0, 2.0, 0.9999) == Anomaly(
        anomalous=False, score=9.0, threshold=2.0, untrained=True, learned=0.999
    )
    assert learned(decoder, 2.0, 2.0, 1.0) == Anomaly(
        anomalous=True, score=2.0, threshold=2.0, untrained=False, learned=1.0
    )
    assert not learned(decoder, 1.5, 2.0, 1.0).anomalous
    assert learned(decoder, 1.5, 1.25, 1.0).anomalous


def test_a_model_that_learns_again_ends_an_anomaly() -> None:
    decoder = learning(fall=5)
    assert learned(decoder, 3.0, 2.0, 1.0).anomalous
    assert not learned(decoder, 3.0, 2.0, 0.5).anomalous
    assert not learned(decoder, 1.0, 2.0, 1.0).anomalous


def test_the_threshold_of_a_person_stays_whatever_the_model_learned() -> None:
    decoder = learning(threshold=5.0)
    assert not learned(decoder, 4.0, 2.0, 1.0).anomalous
    assert learned(decoder, 6.0, 9.0, 1.0).threshold == 5.0
    other = learning()
    other.set_threshold(7.0)
    assert learned(other, 6.0, 2.0, 1.0) == Anomaly(
        anomalous=False, score=6.0, threshold=7.0, untrained=False, learned=1.0
    )


def test_only_a_model_that_learns_needs_no_threshold() -> None:
    with pytest.raises(ValueError, match="threshold is missing"):
        anomaly.Config()
    spec = TensorSpec("score", (1, 1), np.dtype(np.float32))
    with pytest.raises(ValueError, match="one number each"):
        anomaly.open(anomaly.Config(metric="learning"), output_spec([spec], []))


def regressed(outputs: list[FloatArray], labels: Sequence[str] = (), **options: Any) -> Regression:
    specs = [
        TensorSpec(f"out{number}", output.shape, np.dtype(np.float32)) for number, output in enumerate(outputs)
    ]
    return decoded(regress.open(regress.Config(**options), output_spec(specs, labels)), outputs)


def test_values_are_scaled_and_named_with_their_units() -> None:
    found = regressed(
        [row(2.0, 0.5)], names=["temperature", "load"], unit=["°C", ""], scale=[10, 100], offset=[-5.0, 0]
    )
    assert found == Regression({"temperature": 15.0, "load": 50.0}, {"temperature": "°C"}, True, [])


def test_names_come_from_labels_or_from_the_outputs() -> None:
    outputs = [row(1.0), row(2.0, 3.0)]
    assert regressed(outputs, ["a", "b", "c"]).values == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert regressed(outputs, unit="m").units == {"out0": "m", "out1[0]": "m", "out1[1]": "m"}


@pytest.mark.parametrize(("value", "outside"), [(-1.0, []), (3.0, []), (3.001, ["b"]), (-1.001, ["b"])])
def test_a_value_outside_its_range_is_flagged_and_kept(value: float, outside: list[str]) -> None:
    found = regressed([row(0.0, value)], names=["a", "b"], range=[-1, 3])
    assert found.values["b"] == pytest.approx(value)
    assert found.in_range == (not outside)
    assert found.out_of_range == outside


def test_each_value_may_have_its_own_range() -> None:
    assert regressed([row(5.0, 5.0)], names=["a", "b"], range=[[0, 1], [4, 6]]).out_of_range == ["a"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("limits", [[], [0.0, math.inf]])
def test_what_is_no_number_is_null_and_out_of_range(bad: float, limits: list[float]) -> None:
    found = regressed([row(1.0, bad)], names=["a", "b"], range=limits)
    assert found.values == {"a": 1.0, "b": None}
    assert found.out_of_range == ["b"]
    assert not found.in_range
