"""Windows are explained as the pipeline would see them alone, and the pipeline does not notice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.commands import _channels, _starter
from limpet.config import PipelineConfig
from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.explanation import Question
from limpet.contracts.fields import WindowSpec
from limpet.contracts.reference import FeatureReference, Reference
from limpet.errors import ModelError
from limpet.explanation.explaining import explain
from limpet.inference.pipeline import Pipeline
from limpet.inference.planning import plan_pipeline
from limpet.inference.probe import Probe, Stretch, Taken, typical_of
from limpet.pictures.frame import as_frames
from limpet.runtimes import mahalanobis
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from pathlib import Path

    from limpet.contracts.explanation import Explanation

THREE = SampleSpec((3,), np.dtype(np.float32), ("ax", "ay", "az"), 10.0)


def opened(folder: Path, model: str, spec: SampleSpec = THREE, **options: Any) -> Pipeline:
    wanted = PipelineConfig(source="s", model=model, **{"window": WindowSpec(size=1), **options})
    return Pipeline(plan_pipeline(single(folder, wanted), "p", spec))


def last_window(pipeline: Pipeline, values: Any) -> Taken:
    """Feed samples, and return the last window that was run."""
    stretch = Stretch(pipeline)
    pipeline.observe(stretch.see)
    stamps = np.arange(len(values), dtype=np.int64)
    list(pipeline.feed(Samples(values, stamps, stamps, 0)))
    pipeline.stop_observing(stretch.see)
    taken = stretch.taken()
    assert taken is not None
    return taken


def explained(probe: Probe, question: Question) -> Explanation:
    asking = explain(probe.subject, question)
    try:
        values = next(asking)
        while True:
            values = asking.send(probe(values))
    except StopIteration as done:
        explanation: Explanation = done.value
        return explanation


def test_each_score_hangs_on_its_own_channel(tmp_path: Path) -> None:
    models.same(tmp_path / "same.tflite", (1, 3), "float32")
    decoder = {"kind": "classify", "labels": ["x", "y", "z"]}
    with opened(tmp_path, "same.tflite", decoder=decoder) as pipeline:
        window = last_window(pipeline, np.array([[0, 0, 1], [0.2, 0.7, 0.1]], np.float32))
        with Probe(pipeline, window) as probe:
            found = explained(probe, Question())
            other = explained(probe, Question(label="x"))
    assert (found.answer, found.label, found.by, found.baseline) == ("y", "y", "channels", "zero")
    assert [(part.name, round(part.value, 4)) for part in found.parts] == [("ax", 0), ("ay", 0.7), ("az", 0)]
    assert found.changes is not None
    assert {change.answer for change in found.changes} == {"x"}
    assert [round(part.value, 4) for part in other.parts] == [0.2, 0, 0]


def test_a_model_with_memory_is_asked_about_windows_that_follow_and_keeps_its_own_memory(tmp_path: Path) -> None:
    """The model adds up its windows. Its answer hangs on all of them, on each as much."""
    models.accumulator(tmp_path / "sum.tflite", 3)
    rows = np.repeat(np.array([[1], [2], [0], [4]], np.float32), 3, axis=1)
    with opened(tmp_path, "sum.tflite", decoder={"kind": "regress"}) as pipeline:
        window = last_window(pipeline, rows)
        assert window.windows == 4
        with Probe(pipeline, window) as probe:
            found = explained(probe, Question(by="times", baseline="zero"))
            probe.see_answer(found.answer)
            assert not probe.notes
        assert found.value == pytest.approx(7)
        assert [part.value for part in found.parts] == pytest.approx([1, 2, 0, 4])
        stamps = np.arange(1, dtype=np.int64)
        (after,) = pipeline.feed(Samples(rows[:1], stamps, stamps, 4))
    assert next(iter(after.output.values.values())) == pytest.approx(8)


def test_windows_that_overlap_are_cut_from_the_stretch_again(tmp_path: Path) -> None:
    models.accumulator(tmp_path / "sum.tflite", 3)
    options: dict[str, Any] = {
        "window": WindowSpec(size=4, hop=2),
        "transforms": [{"kind": "statistics", "features": ["mean"]}],
        "decoder": {"kind": "regress"},
    }
    rows = np.random.default_rng(3).normal(size=(24, 3)).astype(np.float32)
    with opened(tmp_path, "sum.tflite", **options) as pipeline:
        window = last_window(pipeline, rows[:10])
        assert (window.windows, len(window.values)) == (4, 10)
        with Probe(pipeline, window) as probe:
            assert probe(window.values).output == window.result.output
        longest = last_window(pipeline, rows)
        assert longest.windows == 5  # those of a second


def test_bytes_that_the_model_normalises_itself_are_explained_by_pixels(tmp_path: Path) -> None:
    models.conv(tmp_path / "image.tflite", 8, 3)
    spec = SampleSpec((8, 8, 3), np.dtype(np.uint8))
    normalise = {"kind": "normalise", "mean": 127.0, "std": 32.0}
    options: dict[str, Any] = {"transforms": [normalise], "decoder": {"kind": "tensor"}}
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    with opened(tmp_path, "image.tflite", spec, **options) as pipeline:
        window = last_window(pipeline, picture)
        with Probe(pipeline, window) as probe:
            assert probe.subject.picture
            again = probe(probe.subject.values)
            assert again.output == window.result.output
            found = explained(probe, Question(by="pixels"))
    assert (found.shape, len(found.parts), found.method) == ([8, 8], 64, "occlusion")


def test_frames_are_explained_as_the_model_sees_them(tmp_path: Path) -> None:
    models.conv(tmp_path / "image.tflite", 8, 3)
    spec = SampleSpec((-1, -1, 3), np.dtype(np.uint8), frames=True)
    resize = {"kind": "resize", "width": 8, "height": 8}
    crop = {"kind": "crop", "width": 16, "height": 16}
    frames = as_frames(np.random.default_rng(1).integers(0, 256, (1, 32, 16, 3), np.uint8))
    options: dict[str, Any] = {"transforms": [crop, resize], "decoder": {"kind": "tensor"}}
    with opened(tmp_path, "image.tflite", spec, **options) as pipeline:
        window = last_window(pipeline, frames)
        with Probe(pipeline, window) as probe:
            assert probe.subject.values.shape == (1, 8, 8, 3)
            assert probe.subject.cut == (0.0, 0.25, 1.0, 0.75)
            assert probe(probe.subject.values).output == window.result.output


def test_a_model_that_still_learns_is_not_taught_by_changed_windows(tmp_path: Path) -> None:
    learning = mahalanobis.Options(shape=[1, 3], windows=60)
    packed = _starter.packed("machine", ["ax", "ay", "az"], _channels.window(None, 3), learning)
    (tmp_path / "machine-1.limpet").write_bytes(packed)
    rows = np.random.default_rng(2).normal(size=(80, 3)).astype(np.float32)
    rows[-1, 1] = 40
    with opened(tmp_path, str(tmp_path / "machine-1.limpet")) as pipeline:
        assert not pipeline.learn()
        early = last_window(pipeline, rows[:20])
        with pytest.raises(ModelError, match="still learns"):
            Probe(pipeline, early)
        window = last_window(pipeline, rows[20:])
        assert pipeline.learned == 1
        with Probe(pipeline, window) as probe:
            found = explained(probe, Question(invokes=200))
    assert (found.answer, found.label) == ("anomalous", "score")
    assert max(found.parts, key=lambda part: part.value).name == "ay"
    assert found.changes
    assert found.changes[0].parts == ["ay"]
    assert found.changes[0].answer == "normal"


def test_the_reference_says_what_is_typical_of_a_channel() -> None:
    def feature(name: str, middle: float, std: float) -> FeatureReference:
        quantiles = [middle - 1, middle, middle + 1]
        return FeatureReference(name=name, mean=middle, std=std, quantiles=quantiles, effective=10)

    features = [feature("ax.mean", 2, 3), feature("ax.spread", 4, 1), feature("ay.mean", -1, 0.5)]
    found = typical_of(Reference(windows=10, features=features), ["ay", "ax"], 100)
    assert found is not None
    assert found[0].tolist() == [-1, 2]
    assert found[1].tolist() == [0.5, 5]
    one_row = typical_of(Reference(windows=10, features=features), ["ax"], 1)
    assert one_row is not None
    assert one_row[1].tolist() == [3]
    assert typical_of(Reference(windows=10, features=features), ["az"], 1) is None
