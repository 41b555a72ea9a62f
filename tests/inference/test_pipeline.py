"""What a pipeline does to be fast changes nothing of what it says, and no window is lost or wrong in silence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.assignment import PipelineOptions
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.errors import ModelError
from limpet.inference import batches
from limpet.inference.input_fit import columns
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.models import bundle
from limpet.transforms import resize
from limpet.wire.records import Answered, Ask, Capture, SetThreshold
from limpet.worker.commands import answer
from limpet.worker.explanations import Explanations
from limpet.worker.running import RunningPipeline
from limpet.worker.snapshots import Snapshots
from support import models
from support.assigned import single
from support.bundles import bundle as write_bundle
from support.stages import transformed, window_spec

if TYPE_CHECKING:
    from limpet.inference.plan import PipelinePlan

SPEC = SampleSpec((8, 8, 3), np.dtype(np.uint8))


def pipeline(tmp_path: Path, decoder: str, transform: dict[str, object]) -> Pipeline:
    models.conv(tmp_path / "image.tflite", 8, 3)
    wanted = PipelineConfig(
        source="camera", model="image.tflite", transforms=[transform], decoder={"kind": decoder, "threshold": 1.0}
    )
    if decoder != "anomaly":
        wanted.decoder = {"kind": decoder}
    return Pipeline(plan_pipeline(single(tmp_path, wanted), "p", SPEC))


def images() -> Samples:
    values = np.random.default_rng(0).integers(0, 256, (5, *SPEC.shape), np.uint8)
    stamps = np.arange(5, dtype=np.int64)
    return Samples(values, stamps, stamps, 0)


@pytest.mark.parametrize(
    "normalise",
    [
        {"mean": 127.0, "std": 32.0},
        {"mean": 100.0, "std": 40.0, "clip": 2.0},
        {"mean": [100.0, 120.0, 140.0], "std": 40.0},
    ],
    ids=["scalar", "clipped", "per channel"],
)
def test_normalised_bytes_are_stored_as_if_normalised_first(tmp_path: Path, normalise: dict[str, object]) -> None:
    table = {"kind": "normalise", **normalise}
    with pipeline(tmp_path, "regress", table) as fast, pipeline(tmp_path, "anomaly", table) as plain:
        said = [list(result.output.values.values()) for result in fast.feed(images())]
        assert bool(fast.graph.transforms) == isinstance(normalise["mean"], list)
        (transform,) = plain.graph.transforms
        seen = (transformed(transform, image[None]) for image in images().values)
        wanted = [plain.model.run((values,))[0].ravel().tolist() for values in seen]
    assert said == wanted


def planned(tmp_path: Path, model: Path, spec: SampleSpec, **wanted: Any) -> PipelinePlan:
    """Return the plan of a pipeline for a bare model."""
    pipeline = PipelineConfig(source="s", model=str(model), **{"decoder": {"kind": "regress"}, **wanted})
    return plan_pipeline(single(tmp_path, pipeline), "p", spec)


def block(values: Any, index: int = 0, *, gap: bool = False) -> Samples:
    """Return samples of one channel, float32 unless they are an array."""
    array = values if isinstance(values, np.ndarray) else np.array(values, np.float32)[:, None]
    stamps = np.arange(index, index + len(array), dtype=np.int64) * 10_000_000
    return Samples(array, stamps, stamps, index, gap)


ONE = SampleSpec((1,), np.dtype(np.float32), ("x",))


@pytest.mark.parametrize(("every", "sums"), [(1, [1, 3, 6, 100, 300]), (2, [1, 4, 200]), (3, [1, 100])])
def test_a_gap_before_a_skipped_window_resets_a_model_with_state(
    tmp_path: Path, every: int, sums: list[int]
) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 1)
    with Pipeline(planned(tmp_path, model, ONE, every=every)) as pipeline:
        results = [*pipeline.feed(block([1, 2, 3])), *pipeline.feed(block([100, 200], 5, gap=True))]
    assert [next(iter(result.output.values.values())) for result in results] == sums


def test_leaving_windows_out_of_a_model_with_state_is_warned_of(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "sum.tflite", 1)
    (warning,) = planned(tmp_path, model, ONE, every=2).warnings
    assert "remembers windows, and every = 2" in warning
    assert planned(tmp_path, model, ONE).warnings == ()


def test_a_window_that_fails_costs_no_other(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "logit.tflite", 1, 1, int8=False)
    decoder = {"kind": "classify", "labels": ["no", "yes"]}
    errors: list[ModelError] = []
    with Pipeline(planned(tmp_path, model, ONE, decoder=decoder)) as pipeline:
        results = list(pipeline.feed(block([0.9, 7, 0.1, -3, 0.8]), errors.append))
        assert [result.output.label for result in results] == ["yes", "no", "yes"]
        assert [result.sample for result in results] == [0, 2, 4]
        assert ["7" in str(error) or "-3" in str(error) for error in errors] == [True, True]
        with pytest.raises(ModelError, match="no probability"):
            list(pipeline.feed(block([7], 5)))


def test_a_window_that_fails_in_a_batch_costs_no_other(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "logit.tflite", 1, 1, int8=False, batch=-1)
    decoder = {"kind": "classify", "labels": ["no", "yes"]}
    plan = planned(tmp_path, model, ONE, decoder=decoder)
    assert batches.suited(plan)
    errors: list[ModelError] = []
    with Pipeline(plan) as pipeline:
        results = list(pipeline.feed(block([0.9] * 30 + [7] + [0.1] * 100), errors.append))
    assert [result.sample for result in results] == [*range(30), *range(31, 131)]
    assert len(errors) == 1


def no_snapshots() -> Snapshots:
    sent: list[Any] = []
    return Snapshots(sent.append)


def test_the_threshold_can_be_set_while_captures_are_pending(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 1, 1, int8=False)
    decoder = {"kind": "anomaly", "threshold": 5.0, "metric": "output"}
    answers: list[Answered] = []
    with Pipeline(planned(tmp_path, model, ONE, decoder=decoder)) as pipeline:
        pipelines = {"p": RunningPipeline(pipeline, PipelineOptions(), 0)}
        for ask in (Ask(1, Capture("p")), Ask(2, SetThreshold("p", 0.5)), Ask(3, Capture("p"))):
            answer(ask, pipelines, no_snapshots(), Explanations(answers.append), answers.append)
        assert [(said.number, said.error) for said in answers] == [(2, "")]
        first, second = pipeline.feed(block([0.75, 0.25]))
    assert (first.output.anomalous, second.output.anomalous) == (True, False)
    assert first.output.threshold == 0.5
    assert [said.number for said in answers] == [2, 1, 3]
    for said in answers[1:]:
        assert said.result.inputs[0].values == [0.75]


def test_a_capture_of_an_image_has_the_values_that_the_model_sees(tmp_path: Path) -> None:
    table: dict[str, object] = {"kind": "normalise", "mean": 127.0, "std": 32.0}
    answers: list[Answered] = []
    with pipeline(tmp_path, "regress", table) as fast:
        running = {"p": RunningPipeline(fast, PipelineOptions(), 0)}
        answer(Ask(1, Capture("p")), running, no_snapshots(), Explanations(answers.append), answers.append)
        list(fast.feed(images()))
        assert not fast.graph.transforms
    np.testing.assert_array_equal(
        np.array(answers[0].result.inputs[0].values, np.float32),
        ((images().values[:1].astype(np.float32) - 127) / 32).ravel(),
    )


IMAGE = SampleSpec((8, 8, 3), np.dtype(np.uint8))
BIG_IMAGE = SampleSpec((16, 12, 3), np.dtype(np.uint8))
RESIZE = {"kind": "resize", "height": 8, "width": 8}


def plain(tmp_path: Path, dtype: str) -> Path:
    """Return a model that gives its image back, of a type without quantization."""
    return models.same(tmp_path / f"{dtype}.tflite", (1, 8, 8, 3), dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_pixels_reach_an_input_without_quantization_as_they_are(tmp_path: Path, dtype: str) -> None:
    model = plain(tmp_path, dtype)
    with Pipeline(planned(tmp_path, model, IMAGE)) as pipeline:
        (result,) = pipeline.feed(block(images().values[:1]))
    assert list(result.output.values.values()) == images().values[0].ravel().tolist()


def test_resized_pixels_are_rounded_for_an_input_without_quantization(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (1, *BIG_IMAGE.shape), np.uint8)
    model = plain(tmp_path, "uint8")
    with Pipeline(planned(tmp_path, model, BIG_IMAGE, transforms=[RESIZE])) as pipeline:
        (result,) = pipeline.feed(block(values))
    opened = resize.open(resize.Config(height=8, width=8), window_spec(BIG_IMAGE, values.shape))
    exact = transformed(opened, values)
    assert list(result.output.values.values()) == np.rint(exact).ravel().tolist()


@pytest.mark.parametrize(
    ("dtype", "transforms", "says"),
    [
        ("uint8", [{"kind": "normalise", "std": 255}], "takes uint8 as it is.*'normalise' gives. Remove"),
        ("int32", [RESIZE, {"kind": "normalise"}], "takes int32 as it is.*'normalise' gives. Remove"),
        ("int8", [], "takes int8 as it is, without quantization, and the source gives uint8"),
        ("bool", [{"kind": "normalise"}], "takes bool as it is"),
    ],
)
def test_what_an_input_cannot_take_is_refused_before_data_flows(
    tmp_path: Path, dtype: str, transforms: list[dict[str, object]], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        planned(tmp_path, plain(tmp_path, dtype), IMAGE, transforms=transforms)


def test_text_and_outputs_that_no_decoder_reads_are_refused_before_data_flows(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no source gives|text"):
        planned(tmp_path, models.text(tmp_path / "text.tflite"), SampleSpec((2,), np.dtype(np.float32)))
    model = models.dense(tmp_path / "m.tflite", 3, 2)
    with pytest.raises(ModelError, match="They differ in size"):
        planned(
            tmp_path, model, SampleSpec((3,), np.dtype(np.float32)), decoder={"kind": "anomaly", "threshold": 1.0}
        )
    indices = models.same(tmp_path / "indices.tflite", (1, 3), "int32")
    with pytest.raises(ModelError, match="that are not quantized; set output"):
        planned(tmp_path, indices, SampleSpec((3,), np.dtype(np.int32)), decoder={"kind": "classify"})


@pytest.mark.parametrize(
    ("scale", "zero_point"), [(1 / 255, 0), (1 / 128, 128), (0.012566016986966133, 131), (1.0, 0), (2 / 255, 127)]
)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 255.0), (127.5, 127.5), (127.0, 128.0)])
def test_bytes_of_an_image_reach_a_uint8_input_unchanged_whatever_the_metadata_has(
    tmp_path: Path, scale: float, zero_point: int, mean: float, std: float
) -> None:
    model = models.same(
        tmp_path / "image.tflite",
        (1, 8, 8, 4),
        "uint8",
        scale=scale,
        zero_point=zero_point,
        metadata={"TFLITE_METADATA": models.tflite_metadata(mean, std, labels=False)},
    )
    every = np.arange(256, dtype=np.uint8).reshape(1, 8, 8, 4)
    spec = SampleSpec((8, 8, 4), np.dtype(np.uint8))
    resized = {"transforms": [{**RESIZE}, *manifest_transforms(model, tmp_path)]}
    for wanted in ({}, resized):
        with Pipeline(planned(tmp_path, model, spec, **wanted)) as pipeline:
            (result,) = pipeline.feed(block(every))
        stored = np.array(list(result.output.values.values())) / scale + zero_point
        np.testing.assert_allclose(stored, every.ravel(), atol=1e-3)


def manifest_transforms(model: Path, tmp_path: Path) -> list[dict[str, Any]]:
    return bundle.load(model, tmp_path / "cache").manifest.transforms


def test_metadata_normalises_images_for_float_inputs(tmp_path: Path) -> None:
    metadata = {"TFLITE_METADATA": models.tflite_metadata(127.0, 128.0, labels=False)}
    model = models.same(tmp_path / "image.tflite", (1, 8, 8, 3), "float32", metadata=metadata)
    with Pipeline(planned(tmp_path, model, IMAGE)) as pipeline:
        (result,) = pipeline.feed(block(images().values[:1]))
    wanted = (images().values[0].astype(np.float32).ravel() - 127) / 128
    np.testing.assert_allclose(list(result.output.values.values()), wanted, rtol=1e-6)


def test_transforms_that_replace_the_models_own_normalisation_are_warned_of(tmp_path: Path) -> None:
    metadata = {"TFLITE_METADATA": models.tflite_metadata(127.0, 128.0, labels=False)}
    model = models.same(tmp_path / "image.tflite", (1, 8, 8, 3), "float32", metadata=metadata)
    (warning,) = planned(tmp_path, model, BIG_IMAGE, transforms=[RESIZE]).warnings
    assert "replaces the model's own, and leaves out its 'normalise' (mean, std)" in warning
    own = {"kind": "normalise", "mean": 127.0, "std": 128.0}
    assert planned(tmp_path, model, BIG_IMAGE, transforms=[RESIZE, own]).warnings == ()
    assert planned(tmp_path, model, IMAGE).warnings == ()


def test_a_decoder_that_leaves_out_keys_of_the_models_own_is_warned_of(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 1, 1, int8=False)
    own = {"kind": "regress", "names": ["level"], "unit": "mm"}
    bundled = write_bundle(
        tmp_path / "m-1.limpet",
        {"model.tflite": model.read_bytes()},
        window={"size": 1},
        decoder=own,
        inputs=[{"name": "input", "shape": [1, 1], "dtype": "float32"}],
    )
    spec = SampleSpec((1,), np.dtype(np.float32))
    (warning,) = planned(tmp_path, bundled, spec, decoder={"kind": "regress", "names": ["depth"]}).warnings
    assert "decoder replaces the model's own, and leaves out its unit;" in warning
    assert planned(tmp_path, bundled, spec, decoder=own).warnings == ()
    assert planned(tmp_path, bundled, spec, decoder={"kind": "tensor"}).warnings == ()


def made_for(tmp_path: Path, rate: float) -> Path:
    model = models.dense(tmp_path / "m.tflite", 1, 1, int8=False)
    return write_bundle(
        tmp_path / "m-1.limpet",
        {"model.tflite": model.read_bytes()},
        rate=rate,
        window={"size": 1},
        decoder={"kind": "regress"},
        inputs=[{"name": "input", "shape": [1, 1], "dtype": "float32"}],
    )


def test_a_model_for_another_rate_is_refused_with_the_way_out(tmp_path: Path) -> None:
    model = made_for(tmp_path, 100.0)
    with pytest.raises(ModelError, match=r"made for 100 samples a second.*give 50; .*seconds = 0.01, size = 1"):
        planned(tmp_path, model, replace(ONE, rate=50.0))
    for rate in (None, 100.0, 96.0, 104.0):
        planned(tmp_path, model, replace(ONE, rate=rate))
    planned(tmp_path, model, replace(ONE, rate=50.0), rate_tolerance=0.5)
    planned(tmp_path, model, replace(ONE, rate=50.0), window=WindowSpec(seconds=0.01, size=1))


def test_a_channel_that_a_source_has_twice_is_refused() -> None:
    with pytest.raises(ModelError, match="more than one of that name"):
        columns(["x"], ("x", "x"))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_samples_that_are_no_numbers_reach_no_window_and_are_counted(tmp_path: Path, bad: float) -> None:
    model = models.dense(tmp_path / "m.tflite", 2, 2)
    with Pipeline(planned(tmp_path, model, ONE, window=WindowSpec(size=2))) as pipeline:
        results = list(pipeline.feed(block([1, 2, 3, bad, 4, 5, bad, bad])))
        assert [result.sample for result in results] == [1, 5]
        assert list(pipeline.feed(block([bad], 8))) == []
        results = list(pipeline.feed(block([6, 7], 9)))
        assert [list(result.output.values.values()) for result in results] == [[6.0, 7.0]]
        assert pipeline.discarded() == 5


def test_an_index_without_dimensions_is_read_after_each_run(tmp_path: Path) -> None:
    model = Path(__file__).parents[1] / "data" / "models" / "argmax_scalar.tflite"  # of three scores
    spec = SampleSpec((3,), np.dtype(np.float32))
    decoder = {"kind": "classify", "labels": ["x", "y", "z"]}
    with Pipeline(planned(tmp_path, model, spec, decoder=decoder)) as pipeline:
        results = list(pipeline.feed(block(np.array([[0, 5, 1], [7, 0, 1], [0, -9, 3]], np.float32))))
    assert [result.output.label for result in results] == ["y", "x", "z"]


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_what_transforms_make_infinite_reaches_no_model(tmp_path: Path, dtype: str) -> None:
    model = models.dense(tmp_path / "m.tflite", 1, 1, int8=dtype == "int8")
    transforms = [{"kind": "normalise", "std": 1e-3}]
    failures: list[ModelError] = []
    with Pipeline(planned(tmp_path, model, ONE, transforms=transforms)) as pipeline, np.errstate(all="ignore"):
        results = list(pipeline.feed(block([1e-3, 3e38, -3e38, 2e-3]), failures.append))
    assert [result.sample for result in results] == [0, 3]
    assert [str(failure) for failure in failures] == [str(failures[0])] * 2
    assert "NaN or infinity" in str(failures[0])


def test_what_resampling_makes_infinite_reaches_no_model(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 3, 3)
    window = WindowSpec(seconds=0.03, size=3)
    failures: list[ModelError] = []
    with Pipeline(planned(tmp_path, model, ONE, window=window)) as pipeline, np.errstate(all="ignore"):
        far = replace(block([3e38, -3e38] * 4), monotonic_ns=np.arange(8, dtype=np.int64) * 7_000_000)
        assert list(pipeline.feed(far, failures.append)) == []
    assert failures


def test_a_window_that_a_model_with_state_does_not_see_is_a_gap(tmp_path: Path) -> None:
    model = models.accumulator(tmp_path / "m.tflite", 1)
    transforms = [{"kind": "normalise", "std": 1e-3}]
    failures: list[ModelError] = []
    with Pipeline(planned(tmp_path, model, ONE, transforms=transforms)) as pipeline, np.errstate(all="ignore"):
        results = list(pipeline.feed(block([1, 2, 3e38, 4, 5]), failures.append))
    sums = [value for result in results for value in result.output.values.values()]
    assert sums == pytest.approx([1000, 3000, 4000, 9000])
    assert len(failures) == 1
