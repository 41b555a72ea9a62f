"""What a pipeline does to be fast changes nothing of what it says, and no window is lost or wrong in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.config import Config, Device, PipelineConfig
from limpet.errors import ModelError
from limpet.inference import batches
from limpet.inference.pipeline import Pipeline
from limpet.inference.plan import PipelinePlan, plan_pipeline
from limpet.inference.window import Windower
from limpet.processes.asked import answer
from limpet.records import Answered, Ask, Capture, SetThreshold
from limpet.types import Samples, SampleSpec
from support import models

if TYPE_CHECKING:
    from pathlib import Path

SPEC = SampleSpec((8, 8, 3), np.dtype(np.uint8))


def pipeline(tmp_path: Path, decoder: str, transform: dict[str, object]) -> Pipeline:
    models.conv(tmp_path / "image.tflite", 8, 3)
    wanted = PipelineConfig(
        source="camera", model="image.tflite", transforms=[transform], decoder={"kind": decoder, "threshold": 1.0}
    )
    if decoder != "anomaly":
        wanted.decoder = {"kind": decoder}
    config = Config(tmp_path, Device(id="d", state=tmp_path / "state"), {}, {"p": wanted}, {})
    return Pipeline(plan_pipeline(config, "p", SPEC))


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
        assert bool(fast._transforms) == isinstance(normalise["mean"], list)
        (transform,) = plain._transforms
        wanted = [plain.model.run((transform(image[None]),))[0].ravel().tolist() for image in images().values]
    assert said == wanted


def planned(tmp_path: Path, model: Path, spec: SampleSpec, **wanted: Any) -> PipelinePlan:
    """Return the plan of a pipeline for a bare model."""
    pipeline = PipelineConfig(source="s", model=str(model), **{"decoder": {"kind": "regress"}, **wanted})
    config = Config(tmp_path, Device(id="d", state=tmp_path / "state"), {}, {"p": pipeline}, {})
    return plan_pipeline(config, "p", spec)


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
    assert batches.suited(plan, Windower(plan.window, plan.spec))
    errors: list[ModelError] = []
    with Pipeline(plan) as pipeline:
        results = list(pipeline.feed(block([0.9] * 30 + [7] + [0.1] * 100), errors.append))
    assert [result.sample for result in results] == [*range(30), *range(31, 131)]
    assert len(errors) == 1


def test_the_threshold_can_be_set_while_captures_are_pending(tmp_path: Path) -> None:
    model = models.dense(tmp_path / "m.tflite", 1, 1, int8=False)
    decoder = {"kind": "anomaly", "threshold": 5.0, "metric": "output"}
    answers: list[Answered] = []
    with Pipeline(planned(tmp_path, model, ONE, decoder=decoder)) as pipeline:
        pipelines = {"p": pipeline}
        for ask in (Ask(1, Capture("p")), Ask(2, SetThreshold("p", 0.5)), Ask(3, Capture("p"))):
            answer(ask, pipelines, answers.append)
        assert [(said.number, said.error) for said in answers] == [(2, "")]
        first, second = pipeline.feed(block([0.75, 0.25]))
    assert (first.output.anomalous, second.output.anomalous) == (True, False)
    assert first.output.threshold == 0.5
    assert [said.number for said in answers] == [2, 1, 3]
    for said in answers[1:]:
        assert said.result["inputs"][0]["values"] == [[0.75]]


def test_a_capture_of_an_image_has_the_values_that_the_model_sees(tmp_path: Path) -> None:
    table: dict[str, object] = {"kind": "normalise", "mean": 127.0, "std": 32.0}
    answers: list[Answered] = []
    with pipeline(tmp_path, "regress", table) as fast:
        answer(Ask(1, Capture("p")), {"p": fast}, answers.append)
        list(fast.feed(images()))
        assert not fast._transforms
    np.testing.assert_array_equal(
        np.array(answers[0].result["inputs"][0]["values"], np.float32),
        (images().values[:1].astype(np.float32) - 127) / 32,
    )
