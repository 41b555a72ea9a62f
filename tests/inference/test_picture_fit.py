"""Frames to the size of a model's picture, where nothing says how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from limpet.contracts.data import SampleSpec
from limpet.contracts.fields import TensorInfo
from limpet.inference.picture_fit import picture_transforms
from limpet.models.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

CAMERA = SampleSpec((-1, -1, 3), np.dtype(np.uint8), frames=True)
NORMALISE = {"kind": "normalise", "mean": 127.5, "std": 127.5}
STRETCHED = {"kind": "resize", "height": 96, "width": 128}
BOXED = {"kind": "letterbox", "height": 96, "width": 128}


def fitted(
    *transforms: dict[str, Any], decoder: str = "classify", outputs: int = 1,
    shape: Sequence[int] = (1, 96, 128, 3), spec: SampleSpec = CAMERA,
) -> list[dict[str, Any]]:  # fmt: skip
    manifest = Manifest(
        name="m",
        version=0,
        inputs=[TensorInfo(name="in", shape=list(shape), dtype="float32")],
        outputs=[TensorInfo(name=f"out{n}", shape=[1, 10], dtype="float32") for n in range(outputs)],
        transforms=list(transforms),
    )
    return list(picture_transforms(manifest, decoder, spec))


def test_a_classifier_gets_the_picture_stretched_before_it_is_normalised() -> None:
    assert fitted(NORMALISE) == [STRETCHED, NORMALISE]
    crop = {"kind": "crop", "width": 500, "height": 500}
    assert fitted(crop, NORMALISE) == [crop, STRETCHED, NORMALISE]


@pytest.mark.parametrize(
    ("decoder", "outputs", "added"),
    [
        ("detect", 4, STRETCHED),
        ("detect", 1, BOXED),
        ("detect", 2, BOXED | {"fill": 0}),
        ("keypoints", 1, BOXED),
        ("keypoints", 5, BOXED | {"fill": 0}),
        ("segment", 1, STRETCHED),
    ],
)
def test_heads_without_post_processing_get_a_border(decoder: str, outputs: int, added: dict[str, Any]) -> None:
    assert fitted(NORMALISE, decoder=decoder, outputs=outputs) == [added, NORMALISE]


def test_a_grey_model_gets_grey() -> None:
    assert fitted(shape=(1, 96, 128, 1)) == [STRETCHED, {"kind": "colour", "to": "grey"}]


@pytest.mark.parametrize("kind", ["resize", "letterbox"])
def test_a_size_that_is_given_stays(kind: str) -> None:
    assert fitted({"kind": kind, "height": 9, "width": 9}) == [{"kind": kind, "height": 9, "width": 9}]


@pytest.mark.parametrize("shape", [(1, 96), (1, 96, 128, 7), (1, 3, 96, 128), (1, -1, -1, 3), (8, 96, 128, 3)])
def test_what_takes_no_picture_of_a_fixed_size_stays(shape: tuple[int, ...]) -> None:
    assert fitted(NORMALISE, shape=shape) == [NORMALISE]


def test_numbers_of_a_sensor_stay() -> None:
    sensor = SampleSpec((96, 128, 3), np.dtype(np.uint8))
    assert fitted(NORMALISE, spec=sensor) == [NORMALISE]
