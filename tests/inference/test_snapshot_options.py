"""Which pipelines may publish pictures of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from limpet.config import PipelineConfig
from limpet.contracts.assignment import SnapshotOptions
from limpet.contracts.data import SampleSpec
from limpet.errors import ConfigError
from limpet.inference.planning import plan_pipeline
from support import models
from support.assigned import single

if TYPE_CHECKING:
    from pathlib import Path

ROWS = SampleSpec((3,), np.dtype(np.float32))
FRAMES = SampleSpec((4, 4, 3), np.dtype(np.uint8), frames=True)


def test_pictures_need_a_source_of_pictures(tmp_path: Path) -> None:
    models.dense(tmp_path / "m.tflite", 3, 3)
    wanted = PipelineConfig(
        source="s",
        model=str(tmp_path / "m.tflite"),
        decoder={"kind": "regress"},
        snapshots=SnapshotOptions(),
        transforms=[],
    )
    with pytest.raises(ConfigError, match=r"pipelines.p.snapshots: the source 's' gives no pictures"):
        plan_pipeline(single(tmp_path, wanted), "p", ROWS)
    wanted.transforms = [{"kind": "resize", "width": 1, "height": 1}, {"kind": "normalise"}]
    assert plan_pipeline(single(tmp_path, wanted), "p", FRAMES).spec.frames
