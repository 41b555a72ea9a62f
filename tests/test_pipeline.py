"""What a pipeline does to be fast changes nothing of what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.config import Config, Device, PipelineConfig
from limpet.inference.pipeline import Pipeline
from limpet.inference.plan import plan_pipeline
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
