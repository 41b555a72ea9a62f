"""Two models agree on a number if they differ little beside its spread, and each quantity has its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet_convert import card, compare, regression
from limpet_convert.commands import _shared
from limpet_convert.data import Windows
from limpet_convert.errors import ConvertError
from limpet_convert.project import Bundle, Verify

if TYPE_CHECKING:
    from limpet_convert.compare import Comparison

RANDOM = np.random.default_rng(0)
SPEED = RANDOM.normal(1500, 400, 200)
HEAT = RANDOM.normal(20, 0.5, 200)
NAMES = {"kind": "regress", "names": ["speed", "heat"]}


def compared(exact: Any, other: Any, targets: Any, decoder: dict[str, Any] | None = None) -> Comparison:
    bundle = Bundle(name="m", version=1, task="regress", decoder=decoder or {"kind": "regress"})
    models = [compare.Outputs([np.asarray(one, np.float32)], 100) for one in (exact, other)]
    windows = Windows(np.zeros((len(exact), 1), np.float32), np.asarray(targets), {})
    return compare.judged(compare.compare("int8", *models, windows, bundle), Verify())


def both(speed: Any, heat: Any) -> Any:
    return np.stack([speed, heat], axis=1)


def test_a_quantity_of_a_small_scale_counts_as_much_as_one_of_a_large() -> None:
    other = both(SPEED + 4, HEAT + 0.3)
    found = compared(both(SPEED, HEAT), other, both(SPEED, HEAT), NAMES)
    assert found.quantities["speed"]["agreement"] == 1
    assert found.quantities["speed"]["difference"] == pytest.approx(0.01, rel=0.1)
    assert found.quantities["heat"]["difference"] == pytest.approx(0.6, rel=0.1)
    assert found.agreement == found.quantities["heat"]["agreement"] == 0
    assert found.converted["outputs"]["heat"]["r2"] == pytest.approx(1 - 0.36, abs=0.05)
    assert found.converted["outputs"]["heat"]["nrmse"] == pytest.approx(0.6, rel=0.1)
    assert found.converted["r2"] == pytest.approx(1 - 0.36 / 2, abs=0.05)
    assert not found.converted.keys() & {"mae", "rmse"}  # of 1/min and °C there is no mean
    assert found.failures[-1] == "agreement of heat 0.00%, at least 98.00%"
    assert [text.split(" lost")[0] for text in found.failures[:-1]] == ["r2", "r2 of heat"]


def test_the_mean_of_many_quantities_hides_none_that_is_ruined() -> None:
    exact = RANDOM.normal(size=(100, 200))
    other = exact.copy()
    other[:, 7] = 0
    failures = compared(exact, other, exact).failures
    assert failures[0].startswith("r2 of output[7] lost 100")
    assert len(failures) == 2
    assert failures[1].startswith("agreement of output[7]")


def test_a_float_model_that_hardly_moves_does_not_agree_with_every_other() -> None:
    """Its answers vary by a thousandth of the targets' spread: any model near zero is as close to it."""
    exact = RANDOM.normal(size=(200, 1)) * 0.4
    found = compared(exact, np.zeros((200, 1)), SPEED[:, None])
    assert found.agreement < 0.2
    assert found.quantities["output"]["spread"] == pytest.approx(0.4, rel=0.1)
    assert found.quantities["output"]["difference"] == pytest.approx(1, rel=0.1)


def test_a_model_that_is_wrong_is_called_so_beside_its_agreement() -> None:
    exact = (SPEED - 1500)[::-1, None] * 5
    found = compared(exact, exact, SPEED - 1500)
    assert found.agreement == 1
    assert found.exact["r2"] < -10
    assert "the float model is worse than the mean of the targets (r2 -" in found.notes[0]
    assert found.notes[0].endswith("Check the order of data.targets, and bundle.transforms")


def test_a_small_quantity_that_drowns_in_the_scale_of_a_large_one_is_named() -> None:
    exact = both(SPEED, HEAT)
    step = 12.0  # of int8, for the range of the speeds
    found = compared(exact, np.round(exact / step) * step, exact, NAMES)
    assert found.failures
    assert found.notes[0].startswith("heat: its spread is 0.5")
    assert "and that of speed is 3" in found.notes[0]
    assert "Train on numbers of one spread and set decoder.scale" in found.notes[0]
    assert compared(exact, exact, exact, NAMES).notes == []
    alike = both(SPEED, SPEED[::-1])
    assert compared(alike, np.round(alike / 100) * 100, alike, NAMES).notes == []


def test_few_of_many_notes_are_shown() -> None:
    exact = RANDOM.normal(size=(50, 20))
    notes = compared(exact, exact, -exact).notes
    assert len(notes) == 4
    assert notes[-1] == "17 other quantities have such notes, too"


def test_targets_in_another_unit_are_recognised() -> None:
    note = compared(HEAT[:, None], HEAT[:, None], HEAT * 9 / 5 + 32).notes[0]
    assert "but follows them. Compare the unit of data.targets with that of the model's output" in note


def test_a_constant_answer_agrees_within_a_hundredth_of_its_value() -> None:
    constant = np.full(200, 20.0)
    near = compared(both(SPEED, constant), both(SPEED, constant + 0.19), both(SPEED, constant), NAMES)
    far = compared(both(SPEED, constant), both(SPEED, constant + 0.21), both(SPEED, constant), NAMES)
    assert (near.agreement, far.agreement) == (1, 0)
    assert near.converted["outputs"]["heat"]["r2"] is None
    assert near.converted["r2"] == pytest.approx(1)
    assert near.notes == ["heat: all its targets are the same, so it has no r2"]
    assert near.failures == []
    dead = compared(both(SPEED, constant), both(SPEED, constant), both(SPEED, HEAT), NAMES)
    assert "heat: the float model gives 20 for every window" in dead.notes[0]


def test_targets_that_are_all_the_same_prove_nothing() -> None:
    with pytest.raises(ConvertError, match=r"all 200 windows have the same target \(20\). Verify with windows"):
        compared(HEAT[:, None], HEAT[:, None], np.full(200, 20.0))


def test_a_number_that_is_none_agrees_with_none() -> None:
    other = both(SPEED, HEAT)
    other[:20, 1] = np.nan
    found = compared(both(SPEED, HEAT), other, both(SPEED, HEAT), NAMES)
    assert found.quantities["heat"]["agreement"] == 0.9
    assert [text.split()[0] for text in found.failures] == ["r2", "r2", "agreement"]


def test_all_outputs_of_a_model_are_compared_as_the_decoder_reads_them() -> None:
    bundle = Bundle(name="m", version=1, task="regress")
    exact, other = ([SPEED[:, None], both(HEAT, HEAT + moved)] for moved in (0.0, 1.0))
    models = [compare.Outputs([one.astype(np.float32) for one in some], 100) for some in (exact, other)]
    windows = Windows(np.zeros((200, 1), np.float32), np.stack([SPEED, HEAT, HEAT], axis=1), {})
    found = compare.compare("int8", *models, windows, bundle)
    assert {name: one["agreement"] for name, one in found.quantities.items()} == {
        "output 0": 1,
        "output 1[0]": 1,
        "output 1[1]": 0,
    }


def test_targets_may_be_those_of_the_first_output_alone() -> None:
    bundle = Bundle(name="m", version=1, task="regress")
    models = [compare.Outputs([SPEED[:, None].astype(np.float32), both(HEAT, HEAT)], 100) for _ in range(2)]
    found = compare.compare("int8", *models, Windows(np.zeros((200, 1), np.float32), SPEED, {}), bundle)
    assert list(found.quantities) == ["output"]
    assert found.converted["r2"] == pytest.approx(1)


def test_a_picture_is_one_quantity() -> None:
    picture = RANDOM.normal(size=(10, 8, 8))
    found = compared(picture, picture + 0.05, picture.reshape(10, -1), {"kind": "tensor"})
    assert list(found.quantities) == ["output"]
    assert found.agreement == 1
    assert found.quantities["output"]["difference"] == pytest.approx(0.05, rel=0.15)


def test_every_place_that_shows_the_agreement_names_the_quantity() -> None:
    found = compared(both(SPEED, HEAT), both(SPEED + 4, HEAT + 0.3), both(SPEED, HEAT), NAMES)
    assert next(_shared.comparison_lines([found])).endswith("agreement 0.00% (heat)")
    within = "differ by at most 10% of its spread on"
    said = f"Of 2 quantities, heat agrees least: both answers {within} 0.00% of the windows"
    assert card.agreed(found) == said
    lines = regression.rows(found.exact, found.converted, found.quantities)
    assert lines[0].startswith("| quantity | r2 float | r2 | RMSE |")
    assert lines[3].startswith("| heat | 1.0000 | 0.")
    same = compared(both(SPEED, HEAT), both(SPEED, HEAT), both(SPEED, HEAT), NAMES)
    assert next(_shared.comparison_lines([same])).endswith("agreement 100.00%")
    assert card.agreed(same) == f"Both answers of each of 2 quantities {within} 100.00% of the windows"
    alone = compared(HEAT[:, None], HEAT[:, None], HEAT)
    assert next(_shared.comparison_lines([alone])).endswith("agreement 100.00%")
    assert card.agreed(alone) == f"Both answers {within} 100.00% of the windows"
    assert regression.rows(alone.exact, alone.converted, alone.quantities) == []


def test_models_that_say_one_thing_only_agree_without_proof() -> None:
    classify = Bundle(name="m", version=1, task="classify", labels=["a", "b"])
    anomaly = Bundle(name="m", version=1, task="anomaly", decoder={"kind": "anomaly", "threshold": 1.0})
    windows = Windows(np.zeros((4, 1), np.float32), np.array([0, 1, 0, 1]), {})
    same = compare.Outputs([np.array([[0.9, 0.1]] * 4, np.float32)], 100)
    low = compare.Outputs([np.array([[0.1], [0.2], [0.3], [0.4]], np.float32)], 100)
    notes = compare.compare("int8", same, same, windows, classify).notes
    assert notes[0].startswith("both models say 'a' for every window, so agreement says nothing")
    turned = compare.Outputs([same.values[0][:, ::-1]], 100)
    notes = compare.compare("int8", same, turned, windows, classify).notes
    assert notes[0].startswith("the float model says 'a' for every window. Compare bundle.transforms with")
    right = compare.Outputs([np.array([[0.9, 0.1], [0.1, 0.9]] * 2, np.float32)], 100)
    assert compare.compare("int8", right, same, windows, classify).notes == []
    notes = compare.compare("int8", low, low, windows, anomaly).notes
    assert notes[0].startswith("every score is below decoder.threshold = 1, so agreement says nothing. ")
    assert notes[0].endswith("The float model's scores are 0.1 to 0.4")
    high = compare.Outputs([np.array([[0.1], [2.0], [0.3], [2.0]], np.float32)], 100)
    assert compare.compare("int8", high, high, windows, anomaly).notes == []


def test_of_many_quantities_that_lost_those_that_lost_most_are_named() -> None:
    rng = np.random.default_rng(3)
    exact = rng.normal(size=(50, 200))
    broken = exact + rng.normal(size=(50, 200)) * np.linspace(0.2, 2, 200)
    said = compared(exact, broken, exact).failures
    named = [text for text in said if text.startswith("r2 of output[")]
    assert len(named) == compare.SHOWN_LOSSES
    assert all("[1" in text for text in named), "the noise grows with the number"
    assert "r2 of 197 more, which lost less than these" in said
