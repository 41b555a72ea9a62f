"""What ``limpet-convert`` fits on test windows, and whether a device makes of it what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from limpet.contracts.data import TensorSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.contracts.stage import Spec
from limpet.decoders import classify
from limpet.postprocess import bayes, conformal
from limpet_convert import uncertainty
from limpet_convert.project import Bundle, Uncertainty
from limpet_convert.uncertainty import Fitted, Known

LABELS = ["a", "b", "c"]


def bundle(**fields: Any) -> Bundle:
    basis: dict[str, Any] = {"name": "m", "version": 1, "task": "classify", "labels": LABELS}
    return Bundle(**basis | {"decoder": {"kind": "classify", "activation": "softmax"}} | fields)


def classes(n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (n, 3))
    return (logits * 2).astype(np.float32), (logits + random.gumbel(size=logits.shape)).argmax(axis=1)


def known(targets: np.ndarray, runs: np.ndarray | None = None, *names: str) -> Known:
    return Known(targets, np.arange(len(targets)) // 10 if runs is None else runs, names)


def fitted(n: int = 4000, wanted: Uncertainty | None = None, **fields: Any) -> Fitted:
    outputs, targets = classes(n)
    return uncertainty.fit(bundle(**fields), wanted or Uncertainty(), outputs, known(targets))


def on_device(found: Fitted, outputs: np.ndarray) -> list[Any]:
    """Return the results that a device makes of the outputs."""
    spec = Spec(
        shape=(1, 3),
        dtype=np.dtype(np.float32),
        outputs=(TensorSpec("out", (1, 3), np.dtype(np.float32)),),
        labels=tuple(LABELS),
    )
    options = {key: value for key, value in found.decoder.items() if key != "kind"}
    decoder = classify.open(classify.Config(**options), spec)
    decoder.want_scores()
    table = {key: value for key, value in found.postprocess[-1].items() if key != "kind"}
    stage = conformal.open(conformal.Config(**table), decoder.spec)
    made = []
    for number, output in enumerate(outputs):
        window = Window(np.zeros((1, 3), np.float32), 0, 0, number)
        window.outputs = [output]
        made.append(stage(decoder(window)).result)
    return made


def test_a_device_is_as_sure_and_covers_as_much_as_was_measured() -> None:
    found = fitted()
    assert found.decoder["temperature"] == pytest.approx(2, rel=0.06)
    assert found.figures["ece"] < found.figures["ece_before"]
    outputs, targets = classes(3000, seed=2)
    results = on_device(found, outputs)
    covered = np.mean([LABELS[true] in one.set for one, true in zip(results, targets, strict=True)])
    assert covered == pytest.approx(0.9, abs=0.02)
    assert np.mean([len(one.set) for one in results]) == pytest.approx(found.figures["mean_set"], rel=0.05)
    sure = np.mean([one.score for one in results])
    right = np.mean([one.label == LABELS[true] for one, true in zip(results, targets, strict=True)])
    assert sure == pytest.approx(right, abs=0.02)


def test_aps_sets_cover_as_much() -> None:
    found = fitted(wanted=Uncertainty(method="aps", coverage=0.8))
    outputs, targets = classes(3000, seed=2)
    results = on_device(found, outputs)
    covered = np.mean([LABELS[true] in one.set for one, true in zip(results, targets, strict=True)])
    assert found.postprocess[-1]["method"] == "aps"
    assert 0.78 < covered < 0.9


def test_a_threshold_keeps_its_meaning() -> None:
    decoder = {"kind": "classify", "activation": "softmax", "threshold": 0.7}
    found = fitted(decoder=decoder)
    assert found.decoder == decoder
    assert "what bundle.decoder.threshold means" in found.notes[0]
    assert "temperature" in fitted(decoder=decoder, wanted=Uncertainty(temperature=True)).decoder


def test_what_the_project_says_itself_stays() -> None:
    stages = [{"kind": "conformal", "quantile": 0.5}]
    found = fitted(decoder={"kind": "classify", "activation": "softmax", "temperature": 1.5}, postprocess=stages)
    assert found.decoder["temperature"] == 1.5
    assert found.postprocess == stages
    off = fitted(wanted=Uncertainty(temperature=False, intervals=False))
    assert (off.decoder, off.postprocess, off.figures) == (bundle().decoder, [], {})


@pytest.mark.parametrize("decoder", [{"kind": "classify", "activation": "sigmoid"}])
def test_classes_that_do_not_exclude_each_other_get_nothing(decoder: dict[str, Any]) -> None:
    found = fitted(decoder=decoder)
    assert found.decoder == decoder
    assert "do not exclude each other" in found.notes[0]


def test_too_few_windows_are_named() -> None:
    found = fitted(8)
    assert found.postprocess == []
    assert [note for note in found.notes if note.startswith("No ")] == [
        "No temperature was fitted: 8 windows are too few; it needs 50.",
        "No sets or intervals were fitted: 8 windows are too few for a coverage of 0.9; at least 9 are needed.",
    ]


def test_a_coverage_that_no_part_of_the_windows_can_measure_is_not_claimed() -> None:
    found = fitted(10)
    assert found.postprocess == []
    why = "No sets or intervals were fitted: 10 windows are too few to measure what sets of 90% cover."
    assert why in found.notes


def test_intervals_are_in_the_unit_of_the_decoder() -> None:
    random = np.random.default_rng(3)
    targets = random.normal(size=(2000, 2))
    outputs = (targets + random.normal(size=targets.shape) * [0.1, 1.0]).astype(np.float32)
    decoder = {"kind": "regress", "names": ["x", "y"], "scale": [1.0, 10.0]}
    whole = bundle(task="regress", labels=[], decoder=decoder)
    found = uncertainty.fit(whole, Uncertainty(), outputs, known(targets, None, "x", "y"))
    assert found.figures["half_width"] == pytest.approx({"x": 0.1645, "y": 16.45}, rel=0.1)
    assert found.figures["measured_coverage"] == pytest.approx(0.9, abs=0.01)
    conformal.Config(**{key: value for key, value in found.postprocess[0].items() if key != "kind"})


def test_names_of_quantities_are_those_that_the_decoder_gives() -> None:
    assert uncertainty.quantities(bundle(decoder={"kind": "regress"}, labels=[]), [("out", 1)]) == ["out"]
    assert uncertainty.quantities(bundle(decoder={"kind": "regress"}, labels=[]), [("out", 2)]) == [
        "out[0]",
        "out[1]",
    ]


def test_a_class_without_a_test_window_is_named_and_not_taken_for_a_rare_one() -> None:
    outputs, targets = classes(4000)
    some = targets != 2
    whole = Uncertainty(bayes=True)
    without = uncertainty.fit(bundle(), whole, outputs[some], known(targets[some]))
    assert without.notes[0].startswith("data.test has no window of c.")
    assert "trained" not in without.postprocess[-1]
    found = uncertainty.fit(bundle(), whole, outputs, known(targets))
    assert not any("no window" in note for note in found.notes)
    assert found.postprocess[-1]["trained"].keys() == set(LABELS)


def test_a_bayes_filter_gets_the_transitions_of_the_recordings() -> None:
    targets = np.array([0] * 10 + [1] * 10 + [2] * 10)
    runs = np.array([0] * 20 + [1] * 10)
    assert uncertainty.transitions(targets, runs, 3).tolist() == [[9, 1, 0], [0, 9, 0], [0, 0, 9]]
    outputs = np.eye(3, dtype=np.float32)[targets]
    whole = bundle(window=WindowSpec(size=10, hop=5))
    found = uncertainty.fit(whole, Uncertainty(bayes=True), outputs, Known(targets, runs))
    table = {key: value for key, value in found.postprocess[-1].items() if key != "kind"}
    assert table["weight"] == 0.5
    assert table["transition"][0][1] > table["transition"][0][2] > 0
    spec = Spec(shape=(1, 3), dtype=np.dtype(np.float32), labels=tuple(LABELS))
    bayes.open(bayes.Config(**table), spec)
    assert not any("guess" in note for note in found.notes)
    alone = uncertainty.fit(whole, Uncertainty(bayes=True), outputs, Known(targets, targets))
    assert any("guess: no recording of data.test has two classes" in note for note in alone.notes)


def test_windows_of_one_recording_are_in_one_fold() -> None:
    runs = np.repeat(np.arange(12), 7)
    for rows, others in uncertainty.folds(runs):
        assert not set(runs[rows]) & set(runs[others])
        assert len(rows) + len(others) == len(runs)
    together = np.concatenate([rows for rows, _ in uncertainty.folds(np.zeros(50, int))])
    assert together.tolist() == list(range(50))


def test_more_quantities_than_can_have_intervals_are_packaged_without() -> None:
    count = conformal.MOST_QUANTITIES + 1
    whole = bundle(task="regress", labels=[], decoder={"kind": "regress"})
    truth = np.random.default_rng(0).normal(size=(40, count)).astype(np.float32)
    names = tuple(f"output[{n}]" for n in range(count))
    found = uncertainty.fit(whole, Uncertainty(), truth + 0.1, Known(truth, np.arange(40), names))
    assert found.postprocess == whole.postprocess
    assert found.notes == ["The model gives 257 numbers. Intervals are for at most 256."]
