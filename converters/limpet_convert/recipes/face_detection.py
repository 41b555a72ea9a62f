"""MediaPipe's face detector for short range (BlazeFace): where faces are, up to 2 m from the camera."""

from __future__ import annotations

from typing import TYPE_CHECKING

from limpet_convert.recipes import Origin, Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

_FILE = "mediapipe/modules/face_detection/face_detection_short_range.tflite"
SIDE = 128
"""MediaPipe takes a pixel at the corner of each cell, and smooths nothing: `nearest` is what it does."""

RECIPE = Recipe(
    title="Where faces are, up to 2 m away (MediaPipe BlazeFace)",
    task="detect",
    input="picture, 128 x 128",
    licence="Apache-2.0",
    author="Google, MediaPipe",
    origin=Origin(
        registry="pypi",
        package="mediapipe",
        version="0.10.21",
        archive="05dc4a9e593655a79558d05d6227d31018c2537a4bd3362b51e230cf22aecfe3",
        members={_FILE: "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8"},
        url="https://ai.google.dev/edge/mediapipe/solutions/vision/face_detector",
    ),
    labels=("face",),
    transforms=(
        {"kind": "letterbox", "width": SIDE, "height": SIDE, "fill": 0, "method": "nearest", "like": "opencv"},
        {"kind": "normalise", "mean": 127.5, "std": 127.5},
    ),
    decoder={"kind": "detect", "layout": "mediapipe"},
    purpose="Finds faces, for counting people or for blurring them. It does not say whose face it is.",
    limits="Faces that look at the camera, within about 2 m. Not for identifying people.",
    ships=True,
)


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the maker's file. The decoder has its anchors."""
    return files[_FILE]
