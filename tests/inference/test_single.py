"""Which samples a model is taken to be made for, where no source says it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from limpet.inference.single import likely_samples
from limpet.models.manifest import Manifest, parse

FEATURES = {"name": "features", "shape": [1, 3, 40], "dtype": "int8"}
WAKE_WORD: dict[str, Any] = {
    "name": "word",
    "version": 1,
    "rate": 16000,
    "window": {"size": 800, "hop": 480},
    "inputs": [FEATURES],
}


def manifest(**changes: Any) -> Manifest:
    return parse(msgspec.json.encode(WAKE_WORD | changes))


@pytest.mark.parametrize("kind", ["micro_frontend", "log_mel", "mfcc", "spectrogram"])
def test_features_of_sound_are_made_of_one_channel(kind: str) -> None:
    spec = likely_samples(manifest(transforms=[{"kind": kind}]))
    assert (spec.shape, spec.rate, spec.channels) == ((1,), 16000, ())
