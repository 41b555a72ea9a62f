"""What a model learned counts only while its inputs mean the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.commands import _channels, _starter
from limpet.config import PipelineConfig
from limpet.contracts.data import SampleSpec
from limpet.contracts.fields import WindowSpec
from limpet.inference.meaning import meaning
from limpet.inference.single import plan_model
from limpet.runtimes import mahalanobis

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = ("ax", "ay", "az")


def planned(folder: Path, channels: tuple[str, ...] = CHANNELS, **options: Any) -> str:
    choice = _channels.window(None, 3, 4)._replace(features=("mean", "std"), shape=(2, 3))
    learning = mahalanobis.Options(shape=[2, 3], windows=100)
    path = folder / "machine-0.limpet"
    path.write_bytes(_starter.packed("machine", channels, choice, learning))
    spec = SampleSpec((4,), np.dtype(np.float32), ("ax", "ay", "az", "other"))
    wanted = PipelineConfig(source="samples", model="", **options)
    return meaning(plan_model(path, spec, ["cpu"], folder, wanted))


def test_the_same_channels_windows_and_transforms_mean_the_same(tmp_path: Path) -> None:
    assert planned(tmp_path) == planned(tmp_path, deadline=5.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ("ax", "ay", "other")},
        {"channels": ("az", "ay", "ax")},
        {"every": 2},
        {"window": WindowSpec(size=8)},
        {"transforms": [{"kind": "statistics", "features": ["mean", "max"]}]},
    ],
)
def test_other_channels_windows_or_transforms_mean_something_else(tmp_path: Path, changes: Any) -> None:
    assert planned(tmp_path, **changes) != planned(tmp_path)
