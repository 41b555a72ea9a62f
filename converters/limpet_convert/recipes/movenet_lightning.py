"""Google's MoveNet Lightning: 17 points of the body of one person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from limpet_convert.recipes import Origin, Recipe, _tfjs

if TYPE_CHECKING:
    from collections.abc import Mapping

_GRAPH = "package/models/movenet-lightning.json"
_WEIGHTS = "package/models/movenet-lightning.bin"
SIDE = 192

RECIPE = Recipe(
    title="Where 17 points of a person's body are (MoveNet Lightning)",
    task="keypoints",
    input="picture, 192 x 192",
    licence="Apache-2.0",
    author="Google, MoveNet, from TensorFlow Hub",
    origin=Origin(
        registry="npm",
        package="@vladmandic/human",
        version="3.3.6",
        archive="425e9c51dbbca0c8934362b170cb0d54c2529c11c654b3c03092b16e9d6ad3f7",
        members={
            _GRAPH: "df8cbde44d00f533ccc4916a7c6ebc17316532fb3fadad114ec667fef22872e9",
            _WEIGHTS: "bf97bc10d9c8a11200b0190ed64ce039b6252f1aff7cb552aca99b3d191c2f34",
        },
        url="https://www.kaggle.com/models/google/movenet",
    ),
    transforms=({"kind": "letterbox", "width": SIDE, "height": SIDE, "fill": 0, "like": "tensorflow"},),
    decoder={"kind": "keypoints", "layout": "movenet", "threshold": 0.2},
    purpose="Follows the pose of one person, for exercise, falls or gestures.",
    limits="One person, whose whole body fills much of the picture.",
    ships=True,
)


def original(files: Mapping[str, bytes]) -> Any:
    """Return the maker's graph as a function of TensorFlow: int32 pixels to ``(1, 1, 17, 3)``: y, x, score."""
    return _tfjs.load(files[_GRAPH], files[_WEIGHTS], "input:0", "Identity:0")


def model(files: Mapping[str, bytes]) -> bytes:
    """Return the model for TFLite, with weights in float16 as in the package. Its input has values 0 to 255."""
    return _tfjs.tflite(original(files))
