"""MediaPipe's selfie segmentation: which part of a picture shows a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.converters import _tflite_ops
from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite"

RECIPE = Recipe(
    title="Which part of a picture shows a person (MediaPipe selfie segmentation)",
    task="segment",
    input="picture, 256 x 256",
    licence="Apache-2.0",
    author="Google, MediaPipe",
    origin=Origin(
        registry="pypi",
        package="mediapipe",
        version="0.10.21",
        archive="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        members={_FILE: "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c"},
        url="https://ai.google.dev/edge/mediapipe/solutions/vision/image_segmenter",
    ),
    labels=("person",),
    transforms=(
        {"kind": "resize", "width": 256, "height": 256, "like": "opencv"},
        {"kind": "normalise", "mean": 0.0, "std": 255.0},
    ),
    decoder={"kind": "segment", "form": "rle"},
    purpose="Separates a person from the background.",
    limits="One or two persons within 2 m, facing the camera.",
    ships=True,
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's model with TFLite's own transposed convolution in place of MediaPipe's."""
    return _tflite_ops.replaced(files[_FILE])
