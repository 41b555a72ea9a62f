"""A pipeline with a correction: what it changes, what it leaves alone, and what does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from limpet.config import PipelineConfig
from limpet.contracts.adaptation import AdaptOptions, Correction, OffsetLimits, PriorLimits, ThresholdLimits
from limpet.contracts.data import Samples, SampleSpec, Window
from limpet.contracts.fields import WindowSpec
from limpet.contracts.reference import ClassReference, Reference, SliceReference
from limpet.errors import ConfigError
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.learning.changes import Levels
from limpet.learning.expected import Expected
from limpet.models import reference as references
from limpet.wire.records import Figures
from limpet.worker.expectation import expectation
from limpet.worker.levels import ChannelLevels
from support import bundles, models
from support.assigned import single

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("idle", "walk", "fault")
SPEC = SampleSpec((3,), np.dtype(np.float32), ("x", "y", "z"), rate=100.0, live=False)


def classifier(path: Path, **fields: Any) -> Path:
    """Write a bundle whose model's scores are its three inputs."""
    model = models.perceptron(path / "model.tflite", [(np.eye(3), np.zeros(3))])
    members = {"model.tflite": model.read_bytes(), "labels.txt": "\n".join(LABELS).encode()}
    members |= {"reference.json": fields.pop("with_reference")} if "with_reference" in fields else {}
    decoder = {"kind": "classify", "activation": "softmax", "threshold": 0.5, "top_k": 3}
    said = {"model": "model.tflite", "labels": "labels.txt", "decoder": decoder, "name": "c", "version": 1}
    return bundles.bundle(path / "c-1.limpet", members, **{**said, **fields})


def opened(folder: Path, correction: Correction | None = None, **wanted: Any) -> Pipeline:
    assignment = single(folder, PipelineConfig(source="s", model=str(classifier(folder)), **wanted))
    corrected = {"p": replace(assignment.pipelines["p"], correction=correction)}
    return Pipeline(plan_pipeline(replace(assignment, pipelines=corrected), "p", SPEC))


def fed(pipeline: Pipeline, rows: Any) -> list[Any]:
    values = np.asarray(rows, np.float32)
    times = np.arange(len(values), dtype=np.int64) * 10_000_000
    return [result.output for result in pipeline.feed(Samples(values, times, times, 0))]


def softmax(*values: float) -> np.ndarray:
    powers = np.exp(np.array(values))
    return np.asarray(powers / powers.sum())


ROW = (1.0, 0.6, 0.0)
SEEN: Any = None
"""The result of a window: nothing here looks at it."""


def test_a_threshold_takes_the_place_of_the_manifests(tmp_path: Path) -> None:
    with opened(tmp_path) as plain, opened(tmp_path, Correction(number=1, threshold=0.4)) as adapted:
        assert fed(plain, [ROW])[0].abstained
        assert fed(adapted, [ROW])[0].label == "idle"


def test_weights_come_before_the_threshold_and_before_other_stages(tmp_path: Path) -> None:
    correction = Correction(number=2, threshold=0.55, weights={"idle": 0.25, "walk": 1.5, "unknown": 4.0})
    expected = softmax(*ROW) * [0.25, 1.5, 1.0]
    expected /= expected.sum()
    with opened(tmp_path, correction, postprocess=[{"kind": "conformal", "quantile": 0.45}]) as adapted:
        (one,) = fed(adapted, [ROW])
    assert (one.label, one.abstained) == ("walk", False)
    assert [top.label for top in one.top] == ["walk", "fault", "idle"]
    assert [top.score for top in one.top] == pytest.approx(sorted(expected, reverse=True), abs=1e-6)
    assert one.set == ["walk"]  # conformal holds what has at least 0.55


def test_offsets_are_subtracted_before_all_transforms(tmp_path: Path) -> None:
    shifted, offsets = [tuple(x + d for x, d in zip(ROW, (5.0, -2.0, 0.5), strict=True))], [5.0, -2.0, 0.5]
    scaling = [{"kind": "normalise", "std": 2.0}]
    with (
        opened(tmp_path, transforms=scaling) as plain,
        opened(tmp_path, Correction(number=3, offsets=offsets), transforms=scaling) as adapted,
    ):
        assert [one.score for one in fed(adapted, shifted)[0].top] == pytest.approx(
            [one.score for one in fed(plain, [ROW])[0].top], abs=1e-6
        )


def test_what_does_not_fit_is_left_out_with_a_warning(tmp_path: Path) -> None:
    correction = Correction(number=4, weights={"run": 2.0}, offsets=[1.0, 2.0])
    with opened(tmp_path) as plain, opened(tmp_path, correction) as adapted:
        assert fed(adapted, [ROW]) == fed(plain, [ROW])
        found = set(adapted.plan.warnings) - set(plain.plan.warnings)
    assert found == {
        "adaptation 4: offsets of 2 channels do not fit 3",
        "adaptation 4: priors are left out, as the model has none of their classes",
    }


@pytest.mark.parametrize(
    ("adapt", "options", "problem"),
    [
        (
            AdaptOptions(threshold=ThresholdLimits(least=0.1, most=0.9)),
            {"decoder": {"kind": "regress"}},
            "pipelines.p.adapt.threshold: the decoder 'regress' has no threshold",
        ),
        (
            AdaptOptions(priors=PriorLimits()),
            {"decoder": {"kind": "tensor"}},
            "pipelines.p.adapt.priors: the decoder 'tensor' gives no probability of each class",
        ),
        (
            AdaptOptions(priors=PriorLimits()),
            {"postprocess": [{"kind": "bayes", "stay": 0.8}]},
            'adapt.priors: the stage "bayes" has priors of its own',
        ),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_its_key(
    tmp_path: Path, adapt: AdaptOptions, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        opened(tmp_path, adapt=adapt, **options)


def test_pictures_have_no_offsets(tmp_path: Path) -> None:
    wanted = PipelineConfig(
        source="s",
        model=str(classifier(tmp_path)),
        adapt=AdaptOptions(offsets=OffsetLimits()),
        window=WindowSpec(size=1),
        transforms=[{"kind": "resize", "width": 3, "height": 1}],
    )
    spec = SampleSpec((4, 4, 3), np.dtype(np.uint8), rate=10.0, live=False)
    with pytest.raises(ConfigError, match="only samples that are rows of numbers have channels"):
        plan_pipeline(single(tmp_path, wanted), "p", spec)


def test_channel_means_are_those_of_the_samples_and_bad_windows_do_not_count(tmp_path: Path) -> None:
    rows = np.random.default_rng(4).normal((1.0, 5.0, -2.0), 0.5, (200, 3)).astype(np.float32)
    levels = ChannelLevels(3)
    with opened(tmp_path, transforms=[{"kind": "normalise", "mean": 100.0}]) as pipeline:
        pipeline.observe(levels.see)
        fed(pipeline, rows)
    for bad in ((np.nan, 0, 0), (1e30, 0, 0)):
        window = Window(np.zeros((1, 3), np.float32), 0, 0, 0)
        window.samples = np.array([bad])
        levels.see(window, SEEN)
    found = levels.take()
    assert found is not None
    assert found.windows == 200
    assert found.means == pytest.approx(rows.mean(axis=0).tolist(), abs=1e-5)
    assert found.variances == pytest.approx(rows.var(axis=0).tolist(), rel=1e-4)
    assert levels.take() is None


def test_levels_of_any_numbers_can_be_read_again() -> None:
    both = Levels(1, (1e30,), (0.0,)).plus(Levels(1, (-1e30,), (1e30,)))
    assert all(abs(number) <= 1e30 for number in (*both.means, *both.variances))


def test_levels_with_fewer_variances_than_means_are_refused_where_they_are_read() -> None:
    figures = {"levels": [5, [1.0, 2.0], [1.0]]}
    with pytest.raises(msgspec.ValidationError, match="2 means and 1 variances"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(figures), type=Figures)


def test_the_supervisor_gets_to_know_what_the_reference_says(tmp_path: Path) -> None:
    classes = ClassReference(
        labels=list(LABELS), confusion=[[8, 2, 0], [1, 9, 0], [0, 0, 0]], priors=[0.5, 0.5, 0.0]
    )
    member = references.dump(
        Reference(windows=20, classes=classes, slices={"site=north": SliceReference(windows=10, right=9)})
    )
    model = classifier(tmp_path, with_reference=member, reference="reference.json")
    adapt = AdaptOptions(threshold=ThresholdLimits(least=0.1, most=0.9))
    wanted = PipelineConfig(source="s", model=str(model), adapt=adapt)
    plan = plan_pipeline(single(tmp_path, wanted), "p", SPEC)
    assert expectation(plan, wanted.options) == Expected(
        "p",
        "c",
        1,
        accuracy=0.85,
        slices={"site=north": 0.9},
        priors={"idle": 0.5, "walk": 0.5, "fault": 0.0},
        threshold=0.5,
    )


def test_a_bundle_without_a_reference_expects_nothing(tmp_path: Path) -> None:
    wanted = PipelineConfig(source="s", model=str(classifier(tmp_path)))
    assert expectation(plan_pipeline(single(tmp_path, wanted), "p", SPEC), wanted.options) is None
