"""State of models, and models with several inputs, in whole pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.config import PipelineConfig
from limpet.contracts.assignment import DelegateTable
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import UnwindowedInput, WindowSpec
from limpet.errors import ModelError
from limpet.inference import batches
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from support import delegate, models
from support.assigned import single
from support.bundles import bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from limpet.inference.plan import PipelinePlan

DATA = Path(__file__).parents[1] / "data" / "models"
ONE = SampleSpec((1,), np.dtype(np.float32), ("x",))
SIX = SampleSpec((6,), np.dtype(np.float32), tuple("abcdef"))


def planned(
    folder: Path,
    model: Path,
    spec: SampleSpec = ONE,
    delegates: dict[str, DelegateTable] | None = None,
    **wanted: Any,
) -> PipelinePlan:
    wanted |= {"delegates": [*delegates]} if delegates else {}
    pipeline = PipelineConfig(source="s", model=str(model), **{"decoder": {"kind": "regress"}, **wanted})
    return plan_pipeline(single(folder, pipeline, delegates=delegates), "p", spec)


def feed(pipeline: Pipeline, rows: Sequence[Any], index: int = 0, *, gap: bool = False) -> list[list[float]]:
    """Return the values of all results of these samples."""
    values = np.array(rows, np.float32).reshape(len(rows), -1)
    stamps = np.arange(index, index + len(rows), dtype=np.int64) * 10_000_000
    return [list(r.output.values.values()) for r in pipeline.feed(Samples(values, stamps, stamps, index, gap))]


WINDOWS = [1] * 4 + [-0.5] * 4 + [1] * 4 + [-0.5] * 4


@pytest.mark.parametrize(
    ("stateful", "last"),
    [(None, [0.995, -0.952, 0.995, -0.952]), (True, [0.995, 0.833, 1.0, 0.983])],
    ids=["by default", "stateful"],
)
def test_windows_of_a_fused_lstm_stand_alone_unless_said_otherwise(
    tmp_path: Path,
    stateful: bool | None,  # noqa: FBT001
    last: list[float],
) -> None:
    plan = planned(tmp_path, DATA / "lstm_cell.tflite", window=WindowSpec(size=4), stateful=stateful)
    with Pipeline(plan) as pipeline:
        np.testing.assert_allclose([values[-1] for values in feed(pipeline, WINDOWS)], last, atol=1e-3)


@pytest.mark.parametrize("name", ["gru", "lstm", "rnn"])
def test_windows_of_unfused_recurrent_layers_stand_alone(tmp_path: Path, name: str) -> None:
    plan = planned(tmp_path, DATA / f"keras_{name}.tflite", window=WindowSpec(size=4))
    assert not plan.state
    with Pipeline(plan) as pipeline:
        first, second, third, fourth = feed(pipeline, WINDOWS)
    assert first == third != second == fourth


def test_a_streaming_model_keeps_its_state_until_a_gap(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 1)
    with Pipeline(planned(tmp_path, model)) as pipeline:
        assert feed(pipeline, [1, 2, 3]) == [[1], [3], [6]]
        assert feed(pipeline, [4], 3) == [[10]]
        assert feed(pipeline, [5, 6], 9, gap=True) == [[5], [11]]


def test_a_streaming_model_forgets_before_each_window_where_that_is_said(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 1)
    with Pipeline(planned(tmp_path, model, stateful=False)) as pipeline:
        assert feed(pipeline, [1, 2, 3]) == [[1], [2], [3]]


def test_a_stateful_keras_layer_keeps_its_state(tmp_path: Path) -> None:
    model, window = DATA / "keras_lstm_stateful.tflite", WindowSpec(size=4)
    with Pipeline(planned(tmp_path, model, window=window)) as pipeline:
        first, _, third, _ = feed(pipeline, WINDOWS)
    assert first != third
    with Pipeline(planned(tmp_path, model, window=window, stateful=False)) as pipeline:
        alone = feed(pipeline, WINDOWS)
    assert alone[0] == alone[2] == first


def test_where_the_file_does_not_show_what_state_is_for_it_is_asked(tmp_path: Path) -> None:
    model = models.svdf(tmp_path / "svdf.tflite")
    with pytest.raises(ModelError, match=r"stateful: missing; the model keeps state \(recurrent ops \(SVDF\)\)"):
        planned(tmp_path, model)
    with Pipeline(planned(tmp_path, model, stateful=True)) as pipeline:
        assert feed(pipeline, [1, 2, 4, 8]) == [[1], [3], [7], [14]]
        assert feed(pipeline, [16], 9, gap=True) == [[16]]
    with Pipeline(planned(tmp_path, model, stateful=False)) as pipeline:
        assert feed(pipeline, [1, 2, 4, 8]) == [[1], [2], [4], [8]]


def test_a_manifest_says_how_long_state_lasts(tmp_path: Path) -> None:
    content = models.svdf(tmp_path / "svdf.tflite").read_bytes()
    for stateful, sums in ((True, [[1], [3]]), (False, [[1], [2]])):
        path = bundle(tmp_path / "svdf-1.limpet", {"model.tflite": content}, name="svdf", stateful=stateful)
        with Pipeline(planned(tmp_path, path)) as pipeline:
            assert feed(pipeline, [1, 2]) == sums


def test_weights_in_variables_are_no_state(tmp_path: Path) -> None:
    assert not planned(tmp_path, models.offset(tmp_path / "offset.tflite", 1)).state


def test_windows_of_a_model_with_state_never_go_side_by_side(tmp_path: Path) -> None:
    plain = planned(tmp_path, models.dense(tmp_path / "dense.tflite", 1, 1, batch=-1))
    stateful = planned(tmp_path, models.dense(tmp_path / "dense.tflite", 1, 1, batch=-1), stateful=True)
    assert batches.suited(plain)
    assert not batches.suited(stateful)


PAIR = {"step": ["x"], "total_in": UnwindowedInput(state="total_out")}


def test_an_output_that_comes_in_again_is_the_state(tmp_path: Path) -> None:
    model = models.pair(tmp_path / "pair.tflite", 1)
    plan = planned(tmp_path, model, inputs=PAIR)
    assert str(plan.state).endswith("handed back: kept from window to window, cleared after a gap")
    with Pipeline(plan) as pipeline:
        assert feed(pipeline, [1, 2, 3]) == [[1], [9], [36]]  # the state itself is no result
        assert feed(pipeline, [2], 9, gap=True) == [[4]]
    with Pipeline(planned(tmp_path, model, inputs=PAIR, stateful=False)) as pipeline:
        assert feed(pipeline, [1, 2, 3]) == [[1], [4], [9]]


@pytest.mark.parametrize(
    ("make", "wanted", "sums"),
    [
        (models.accumulator, {}, [[1], [3], [6]]),
        (models.svdf, {"stateful": True}, [[1], [3], [6]]),
        (models.svdf, {"stateful": False}, [[1], [2], [3]]),
        (models.pair, {"inputs": PAIR}, [[1], [9], [36]]),
    ],
)
def test_the_proof_of_an_accelerator_leaves_no_trace_in_the_state(
    make: Any, wanted: dict[str, Any], sums: list[list[float]], tmp_path: Path
) -> None:
    model = make(tmp_path / "m.tflite") if make is models.svdf else make(tmp_path / "m.tflite", 1)
    spare = {"spare": DelegateTable(kind="external", library=str(delegate.build(tmp_path)))}
    with Pipeline(planned(tmp_path, model, delegates=spare, least_speed=0.0, **wanted)) as pipeline:
        assert pipeline.model.delegate == "spare"
        assert feed(pipeline, [1, 2, 3]) == sums


def test_several_inputs_are_refused_until_each_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as refused:
        planned(tmp_path, DATA / "two.tflite", SIX)
    assert "nothing says what a, b of this model gets. Its inputs are a [1, 3] float32, b [1, 3] float32" in str(
        refused.value
    )
    assert 'inputs = { a = ["a", "b", "c"], b = ["d", "e", "f"] }' in str(refused.value)
    with pytest.raises(ModelError, match="nothing says what b of this model gets"):
        planned(tmp_path, DATA / "two.tflite", SIX, inputs={"a": ["a", "b", "c"]})
    with pytest.raises(ModelError, match=r'total_in = \{ state = "total_out" \}, step = \["x"\]'):
        planned(tmp_path, models.pair(tmp_path / "pair.tflite", 1))


@pytest.mark.parametrize("names", [("a", "b"), ("first", "second")])
def test_each_input_gets_its_own_channels(tmp_path: Path, names: tuple[str, str]) -> None:
    inputs = dict(zip(names, (["c", "b", "a"], ["d", "e", "f"]), strict=True))
    with Pipeline(planned(tmp_path, DATA / "two.tflite", SIX, inputs=inputs)) as pipeline:
        (values,) = feed(pipeline, [[1, 2, 3, 10, 20, 30]])
    assert values == [13, 22, 31, 30, 40, 30]


def test_a_signature_orders_the_inputs(tmp_path: Path) -> None:
    inputs = {"b": ["a", "b", "c"], "a": ["d", "e", "f"]}
    plan = planned(tmp_path, DATA / "two.tflite", SIX, inputs=inputs, runtime={"signature": "serving"})
    assert [one.name for one in plan.inputs] == ["a", "b"]
    with Pipeline(plan) as pipeline:
        (values,) = feed(pipeline, [[1, 2, 3, 10, 20, 30]])
    assert values == [10, 40, 90, 11, 22, 33]


def test_an_input_can_be_a_constant(tmp_path: Path) -> None:
    for constant, wanted in ((2.0, [3, 4, 5, 2, 4, 6]), ([1, 2, 3], [2, 4, 6, 1, 4, 9])):
        inputs = {"a": ["a", "b", "c"], "b": UnwindowedInput(constant=constant)}
        with Pipeline(planned(tmp_path, DATA / "two.tflite", SIX, inputs=inputs)) as pipeline:
            assert feed(pipeline, [[1, 2, 3, 9, 9, 9]]) == [wanted]


def test_a_manifest_says_what_each_input_gets(tmp_path: Path) -> None:
    members = {"model.tflite": models.pair(tmp_path / "pair.tflite", 1).read_bytes()}
    inputs = [
        {"name": "total_in", "shape": [1, 1], "dtype": "float32", "state": "total_out"},
        {"name": "step", "shape": [1, 1], "dtype": "float32", "channels": ["x"]},
    ]
    path = bundle(tmp_path / "pair-1.limpet", members, name="pair", inputs=inputs)
    with Pipeline(planned(tmp_path, path)) as pipeline:
        assert feed(pipeline, [1, 2, 3]) == [[1], [9], [36]]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": ["a", "b", "c"], "q": ["d", "e", "f"]}, r"inputs\.q: .* has no such input \(there are: a, b\)"),
        ({"a": ["a", "b", "z"], "b": ["d", "e", "f"]}, "needs the channels z, and its source has a, b, c"),
        ({"a": ["a", "b", "c"], "b": ["d"]}, r"'second' has shape \[1, 3\], but .* give \[1, 1\]"),
        ({"a": ["a", "b", "c"], "b": UnwindowedInput(state="no")}, r"inputs\.second\.state: no output 'no'"),
        ({"a": ["a", "b", "c"], "b": UnwindowedInput(constant=[1, 2])}, "give one number, or 3 for shape"),
        ({"a": UnwindowedInput(constant=1), "b": UnwindowedInput(constant=2)}, "none of them gets a window"),
    ],
)
def test_inputs_that_cannot_be_are_refused(tmp_path: Path, inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        planned(tmp_path, DATA / "two.tflite", SIX, inputs=inputs)


def test_channels_without_names_cannot_be_chosen(tmp_path: Path) -> None:
    inputs = {"a": ["a", "b", "c"], "b": ["d", "e", "f"]}
    with pytest.raises(ModelError, match="the channels of this source have no names"):
        planned(tmp_path, DATA / "two.tflite", SampleSpec((6,), np.dtype(np.float32)), inputs=inputs)


def test_the_whole_window_can_go_to_several_inputs(tmp_path: Path) -> None:
    spec = SampleSpec((3,), np.dtype(np.float32), tuple("abc"))
    with Pipeline(planned(tmp_path, DATA / "two.tflite", spec, inputs={"a": [], "b": []})) as pipeline:
        assert feed(pipeline, [[1, 2, 3]]) == [[2, 4, 6, 1, 4, 9]]


def test_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    twins = models.times(tmp_path / "m.tflite", names=("x", "x"))
    with pytest.raises(ModelError, match="2 of the model's inputs have the name 'x'; rename them"):
        planned(tmp_path, twins, inputs={"x": ["x"]})
