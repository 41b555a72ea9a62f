"""What a model keeps from one run to the next, as its file shows it, and what the runtime makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limpet.runtimes import tflite
from limpet.runtimes.litert import bindings
from support import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from limpet.contracts.model_facts import ModelFacts

DATA = Path(__file__).parents[1] / "data" / "models"
MODELS: dict[str, Callable[[Path], Path]] = {
    "dense": models.dense,
    "weights in variables": models.offset,
    "unfused gru": lambda _: DATA / "keras_gru.tflite",
    "unfused lstm": lambda _: DATA / "keras_lstm.tflite",
    "unfused rnn": lambda _: DATA / "keras_rnn.tflite",
    "fused lstm": lambda _: DATA / "lstm_cell.tflite",
    "svdf": models.svdf,
    "variables": models.accumulator,
    "stateful lstm": lambda _: DATA / "keras_lstm_stateful.tflite",
}


def described(path: Path) -> ModelFacts:
    return tflite.describe(path, tflite.Config())


@pytest.mark.parametrize(
    ("name", "state", "stateful"),
    [
        ("dense", "", False),
        ("weights in variables", "", False),
        ("unfused gru", "", False),
        ("unfused lstm", "", False),
        ("unfused rnn", "", False),
        ("fused lstm", "recurrent ops (UNIDIRECTIONAL_SEQUENCE_LSTM)", False),
        ("svdf", "recurrent ops (SVDF)", None),
        ("variables", "variables (handle)", True),
        ("stateful lstm", "variables (sequential_4/lstm_2/rnn_state, sequential_4/lstm_2/rnn_state_1)", True),
    ],
)
def test_state_is_found_in_the_file(name: str, state: str, stateful: bool | None, tmp_path: Path) -> None:  # noqa: FBT001
    facts = described(MODELS[name](tmp_path / "model.tflite"))
    assert (facts.state, facts.stateful) == (state, stateful)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_remembers_just_where_the_file_shows_state(name: str, tmp_path: Path) -> None:
    path = MODELS[name](tmp_path / "model.tflite")
    with tflite.open(path, tflite.Config()) as model:
        one, other = (bindings.noise(model.inputs, seed) for seed in (0, 1))

        def outputs() -> list[bytes]:
            return [output.tobytes() for output in model.run(one)]

        fresh = outputs()
        model.run(other)
        assert (outputs() != fresh) == bool(described(path).state)
        for _ in range(2):
            model.run(other)
            model.reset()
            assert outputs() == fresh


def test_outputs_that_come_in_again_are_found_by_name(tmp_path: Path) -> None:
    assert described(models.pair(tmp_path / "model.tflite")).pairs == {"total_in": "total_out"}
    assert described(models.two(tmp_path / "model.tflite")).pairs == {}
    assert described(models.accumulator(tmp_path / "model.tflite")).pairs == {}


def test_a_signature_gives_names_and_order(tmp_path: Path) -> None:
    path = models.two(tmp_path / "model.tflite")
    facts = described(path)
    assert [tensor.name for tensor in facts.inputs + facts.outputs] == ["first", "second", "sum", "product"]
    assert {name: facts.aliases[name] for name in "ab"} == {"a": "first", "b": "second"}
    facts = tflite.describe(path, tflite.Config(signature="serving"))
    assert [tensor.name for tensor in facts.inputs + facts.outputs] == ["a", "b", "product", "sum"]
