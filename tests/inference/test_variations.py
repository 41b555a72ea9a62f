"""Models that also run on variations of each window, and stages that want scores, in a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.adaptation import AdaptOptions, Correction, CoverageLimits
from limpet.contracts.data import Samples, SampleSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.contracts.uncertainty import VariationOptions
from limpet.errors import ConfigError, ModelError
from limpet.inference.beside import Beside
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.variations import VariedModel
from support import bundles, models
from support.assigned import single

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from limpet.contracts.data import Array, TensorSpec

LABELS = ("one", "two", "three")
SPEC = SampleSpec((3,), np.dtype(np.float32), ("x", "y", "z"), rate=100.0, live=False)


class Recorder:
    """A model that gives its input, and remembers what it got."""

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    delegate = "cpu"
    delegate_share = 0.0

    def __init__(self) -> None:
        self.seen: list[Array] = []

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        self.seen.append(inputs[0].copy())
        return [inputs[0]]

    def reset(self) -> None:
        self.seen.clear()

    def absorb(self, byte_values: Any) -> bool:  # noqa: ARG002 - as the contract says
        return False


def ran(values: Array, **options: Any) -> tuple[list[Array], Array]:
    """Return what a model got, and the mean that it gives."""
    model = Recorder()
    (mean,) = VariedModel(model, VariationOptions(**options), None).run([values])
    return model.seen, mean


WINDOW = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_the_mean_is_that_of_the_window_and_its_variations() -> None:
    seen, mean = ran(WINDOW, runs=5, gain=0.2)
    assert [float(one[1, 0]) for one in seen] == pytest.approx([3, 3.3, 2.7, 3.6, 2.4])
    np.testing.assert_allclose(mean, WINDOW, rtol=1e-6)


def test_a_shift_moves_rows_both_ways() -> None:
    seen, _ = ran(WINDOW, runs=3, shift=1)
    assert [one[:, 0].tolist() for one in seen] == [[0, 3, 6, 9], [9, 0, 3, 6], [3, 6, 9, 0]]


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (2, 3, 3)])
def test_a_picture_is_mirrored(shape: tuple[int, ...]) -> None:
    picture = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    seen, _ = ran(picture, runs=2, flip=True)
    np.testing.assert_array_equal(seen[1], picture[..., ::-1, :])
    assert seen[1].dtype == np.uint8


def test_noise_is_the_same_for_each_window_and_as_large_as_said() -> None:
    window = np.random.default_rng(1).normal(5, 2, (400, 3)).astype(np.float32)
    first, _ = ran(window, runs=3, noise=0.1)
    again, _ = ran(window, runs=3, noise=0.1)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first[1] - window).std() == pytest.approx(0.2, rel=0.1)
    assert not np.array_equal(first[1], first[2])


def test_bytes_stay_bytes() -> None:
    seen, _ = ran(np.array([[0, 250, 128]], np.uint8), runs=2, gain=0.5)
    assert seen[1].tolist() == [[0, 255, 192]]


def test_a_model_that_is_too_slow_runs_once() -> None:
    model = Recorder()
    slow = VariedModel(model, VariationOptions(noise=0.1), 1e-12)
    for _ in range(3):
        slow.run([WINDOW])
    assert (len(model.seen), slow.take(), slow.take()) == (3, 3, 0)


def test_variations_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="set noise, gain, shift or flip"):
        VariationOptions(runs=3)


def classifier(path: Path, **fields: Any) -> Path:
    """Write a bundle whose model's scores are its three inputs."""
    model = models.perceptron(path / "model.tflite", [(np.eye(3), np.zeros(3))])
    members = {"model.tflite": model.read_bytes(), "labels.txt": "\n".join(LABELS).encode()}
    decoder = {"kind": "classify", "activation": "softmax"}
    said = {"model": "model.tflite", "labels": "labels.txt", "decoder": decoder, "name": "c", "version": 1}
    return bundles.bundle(path / "c-1.limpet", members, **{**said, **fields})


def opened(folder: Path, model: Path, correction: Correction | None = None, **wanted: Any) -> Pipeline:
    assignment = single(folder, PipelineConfig(source="s", model=str(model), **wanted))
    corrected = {"p": replace(assignment.pipelines["p"], correction=correction)}
    return Pipeline(plan_pipeline(replace(assignment, pipelines=corrected), "p", SPEC))


def fed(pipeline: Pipeline, rows: Any) -> list[Any]:
    values = np.asarray(rows, np.float32)
    times = np.arange(len(values), dtype=np.int64) * 10_000_000
    return [result.output for result in pipeline.feed(Samples(values, times, times, 0))]


def test_a_pipeline_averages_and_counts_its_runs(tmp_path: Path) -> None:
    with opened(tmp_path, classifier(tmp_path), test_time=VariationOptions(gain=0.5, runs=4)) as pipeline:
        pipeline.try_once(noise=True)
        results = fed(pipeline, [[2, 0, 0]] * 10)
        counts = pipeline.certainty.take()
    assert counts is not None
    assert (counts.windows, counts.runs) == (10, 40)
    score = np.exp(2 * (1 + 0.5 / 4)) / (np.exp(2 * (1 + 0.5 / 4)) + 2)
    assert results[0].score == pytest.approx(score, abs=1e-5)
    assert all(result == results[0] for result in results)


def test_a_decoder_whose_outputs_have_no_mean_is_refused(tmp_path: Path) -> None:
    model = classifier(tmp_path, decoder={"kind": "tensor"})
    with pytest.raises(ModelError, match="the decoder 'tensor' gives neither scores of labels nor quantities"):
        opened(tmp_path, model, test_time=VariationOptions(noise=0.1))


def test_stages_that_want_scores_get_them_one_by_one_and_in_batches(tmp_path: Path) -> None:
    stages = [{"kind": "conformal", "quantile": 0.8}, {"kind": "bayes", "stay": 0.8}]
    rows = np.random.default_rng(2).normal(0, 2, (100, 3))
    model = classifier(tmp_path)
    with (
        opened(tmp_path, model, postprocess=stages) as together,
        opened(tmp_path, model, postprocess=stages) as alone,
    ):
        many = fed(together, rows)
        few = [output for row in rows for output in fed(alone, [row])]
    scores = np.exp(rows) / np.exp(rows).sum(axis=1, keepdims=True)
    held = [{label for label, share in zip(LABELS, row, strict=True) if share >= 0.2} for row in scores]
    assert [set(one.set) for one in many] == held
    assert [set(one.set) for one in few] == held
    assert all(sum(one.posterior.values()) == pytest.approx(1, abs=1e-4) for one in many)


LEVELS = {"kind": "conformal", "levels": [0.8, 0.9, 0.95], "quantile": [0.7, 0.8, 0.95]}


@pytest.mark.parametrize(("aim", "held"), [(None, 1), (0.95, 3), (0.99, 3), (0.1, 1)])
def test_an_adaptation_has_sets_aim_at_another_coverage(tmp_path: Path, aim: float | None, held: int) -> None:
    model = classifier(tmp_path, postprocess=[LEVELS])
    with opened(tmp_path, model, Correction(number=1, aim=aim)) as pipeline:
        (result,) = fed(pipeline, [[2.0, 0.2, 0.0]])
    assert len(result.set) == held


def test_a_coverage_can_only_be_adapted_where_a_stage_has_levels(tmp_path: Path) -> None:
    adapt = AdaptOptions(coverage=CoverageLimits(least=0.8, most=0.95))
    opened(tmp_path, classifier(tmp_path), adapt=adapt, postprocess=[LEVELS]).close()
    with pytest.raises(ConfigError, match='no stage "conformal" has `levels`'):
        opened(tmp_path, classifier(tmp_path), adapt=adapt, postprocess=[{"kind": "conformal", "quantile": 0.8}])


ROOM = SampleSpec((4,), np.dtype(np.float32), ("x", "door", "y", "z"), rate=100.0, live=False)
OPEN = {"one": 0.01, "two": 0.01, "three": 0.98}


@pytest.mark.parametrize(
    "window", [WindowSpec(size=1), WindowSpec(size=1, hop=1), WindowSpec(seconds=0.01, size=1)]
)
@pytest.mark.parametrize("block", [1, 7, 100])
def test_priors_follow_a_channel_that_the_model_does_not_take(
    tmp_path: Path, window: WindowSpec, block: int
) -> None:
    tensor = {"name": "input", "shape": [1, 3], "dtype": "float32", "channels": ["x", "y", "z"]}
    stage = {"kind": "bayes", "stay": 0.0, "when": [{"channel": "door", "above": 0.5, "priors": OPEN}]}
    model = classifier(tmp_path, inputs=[tensor], postprocess=[stage])
    wanted = PipelineConfig(source="s", model=str(model), window=window)
    door = np.arange(100) // 10 % 2
    rows = np.column_stack([np.zeros(100), door, np.zeros(100), np.zeros(100)]).astype(np.float32)
    times = np.arange(100, dtype=np.int64) * 10_000_000
    with Pipeline(plan_pipeline(single(tmp_path, wanted), "p", ROOM)) as pipeline:
        labels = {
            result.sample: result.output.label
            for start in range(0, 100, block)
            for part in [slice(start, start + block)]
            for result in pipeline.feed(Samples(rows[part], times[part], times[part], start))
        }
    assert len(labels) >= 98
    assert {sample: label == "three" for sample, label in labels.items()} == {
        sample: bool(door[sample]) for sample in labels
    }


def test_the_mean_of_a_channel_is_that_of_the_window() -> None:
    beside = Beside([1], WindowSpec(size=4, hop=2))
    values = np.array([[9, number] for number in range(10)], np.float32)
    values[5, 1] = np.nan
    times = np.arange(10, dtype=np.int64)
    beside.see(Samples(values[:3], times[:3], times[:3], 0))
    beside.see(Samples(values[3:], times[3:], times[3:], 3))
    windows = [Window(values, end, 0, end) for end in (3, 5, 7, 9)]
    means = [window.beside for window in beside.with_means(iter(windows))]
    np.testing.assert_allclose(np.concatenate(means), [1.5, 3, 17 / 3, 7.5])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("decoder", "stage", "reason"),
    [
        ({"kind": "classify", "output": "index"}, {"kind": "bayes", "stay": 0.8}, "no score of each class"),
        ({"kind": "tensor"}, {"kind": "conformal", "quantile": 0.8}, "takes Classification or Regression"),
        ({"kind": "classify"}, {"kind": "bayes", "stay": 0.8, "priors": {"one": 1.0}}, "no share of 'two'"),
        (
            {"kind": "classify"},
            {"kind": "bayes", "stay": 0.8, "when": [{"channel": "w", "above": 1, "priors": {"one": 1.0}}]},
            "the channel 'w'",
        ),
    ],
)
def test_a_stage_that_cannot_work_is_refused_before_data_flow(
    tmp_path: Path, decoder: dict[str, Any], stage: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Exception, match=reason):
        opened(tmp_path, classifier(tmp_path), decoder=decoder, postprocess=[stage])
