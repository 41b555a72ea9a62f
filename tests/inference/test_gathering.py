"""Blocks of numbers of a real pipeline's windows: the same however windows come, and in the reference's units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limpet.contracts.data import Samples, SampleSpec
from limpet.contracts.outputs import Classification, Detections, Regression
from limpet.contracts.reference import FeatureReference
from limpet.inference.gathering import BLOCK, Embeddings, Gathered, Gathering, label_of, score_of
from limpet.inference.pipeline import Pipeline
from limpet.inference.single import plan_model
from limpet.pictures.frame import frames_of_noise

DEMO = Path(__file__).parents[2] / "agent/limpet/demo_data"


def gathered(pipeline: Pipeline, values: np.ndarray, block: int) -> list[Gathered]:
    gathering = Gathering(pipeline, pipeline.plan.bundle.labels)
    taken: list[Gathered] = []

    def take() -> None:
        found = gathering.take()
        taken.append(Gathered(*(array.copy() for array in found)))

    pipeline.observe(gathering.see)
    stamps = np.arange(len(values)) * 1_000_000
    for begin in range(0, len(values), block):
        part = slice(begin, begin + block)
        for _ in pipeline.feed(Samples(values[part], stamps[part], stamps[part], begin)):
            if gathering.full:
                take()
    take()
    return taken


def joined(blocks: list[Gathered]) -> Gathered:
    return Gathered(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))


def test_windows_side_by_side_give_the_same_numbers_as_one_by_one(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(40, 30, (300, 9)).astype(np.float32)
    found = []
    for block in (1, 100):
        with Pipeline(plan_model(DEMO / "shuttle-1.limpet", None, ["cpu"], tmp_path)) as pipeline:
            found.append(joined(gathered(pipeline, values, block)))
    one_by_one, together = found
    np.testing.assert_allclose(one_by_one.features, values, rtol=1e-6)
    for alone, beside in zip(one_by_one, together, strict=True):
        np.testing.assert_allclose(alone, beside, rtol=1e-4)
    assert one_by_one.times_ns.tolist() == [n * 1_000_000 for n in range(300)]


def test_the_pictures_of_a_camera_are_looked_at_as_the_model_gets_them(tmp_path: Path) -> None:
    spec = SampleSpec((-1, -1, 3), np.dtype(np.uint8), frames=True)
    frames = frames_of_noise((BLOCK + 6, 64, 96, 3), np.random.default_rng(0))
    with Pipeline(plan_model(DEMO / "face-detection-1.limpet", spec, ["cpu"], tmp_path)) as pipeline:
        blocks = gathered(pipeline, frames, 1)
    assert [len(block.features) for block in blocks] == [BLOCK, 6]
    found = joined(blocks).features
    # The model takes -1 to 1. The border around the picture is black.
    assert np.all((found[:, 0] > -0.5) & (found[:, 0] < 0))
    assert np.all(found[:, 1] > 0.3)


def test_an_embedding_has_features_in_standard_deviations_beside_the_outputs() -> None:
    reference = [
        FeatureReference(name="x.mean", mean=10, std=2, quantiles=[0, 20], effective=9),
        FeatureReference(name="y.mean", mean=1, std=0, quantiles=[1, 1], effective=9),
    ]
    embeddings = Embeddings(reference, 2, whole=False)
    features = np.array([[12, 5], [1e9, 1]], np.float32)
    outputs = np.array([[0.25, 0.75], [np.nan, 1]], np.float32)
    assert embeddings.of == embeddings.projection.dimensions == 4
    assert embeddings(features, outputs).tolist() == [[1, 0, 0.25, 0.75], [8, 0, 0, 1]]
    assert Embeddings(reference, 2, whole=True)(features, outputs).tolist() == [[0.25, 0.75], [0, 1]]
    with pytest.raises(ValueError, match="nothing to project"):
        Embeddings([], 0, whole=False)


def test_a_result_is_watched_by_its_score_and_its_class() -> None:
    sure = Classification("walk", 0.9, [], abstained=False)
    unsure = Classification(None, None, [], abstained=True)
    assert (score_of(sure), label_of(sure)) == (0.9, "walk")
    assert np.isnan(score_of(unsure))
    assert label_of(unsure) is None
    assert score_of(Regression({"t": 3.5, "p": 1.0}, {}, in_range=True, out_of_range=[])) == 3.5
    assert np.isnan(score_of(Detections([], {})))
    assert np.isnan(score_of({"anything": 1}))
